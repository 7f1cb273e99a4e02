"""
Cancel requests for clients that died, on connections of their own: how many at once, and who waits for them. The
backend is a PostgreSQL server in so far as it lets in whoever comes, and closes nothing by itself.
"""

import signal
import struct
import threading

import harness
import pytest
from pgwire import Raw, message, query

AT_ONCE = 64			# RELAY_CANCELS
CANCEL = 80877102
LOGIN = message(b"R", bytes(4)) + message(b"K", struct.pack(">II", 4242, 7)) + message(b"Z", b"I")


class Server(harness.RawBackend):
    def __init__(self):
        super().__init__(backlog=1024)
        self.sessions, self.cancels = [], []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            head = sock.recv(1000)
            if struct.unpack(">I", head[4:8])[0] == CANCEL:
                self.cancels.append(sock)
                continue
            self.sessions.append(sock)
            sock.sendall(LOGIN)

    def close_cancels(self):
        """Those that are there: others may come for their places."""
        now, self.cancels = self.cancels, []
        for sock in now:
            sock.close()

    def close(self):
        self.close_cancels()
        for sock in self.sessions:
            sock.close()
        super().close()


@pytest.fixture
def server():
    with Server() as server:
        yield server


def die_at_work(s, server, n=1):
    """So many clients that reset while their queries run."""
    clients = [Raw(s.port) for _ in range(n)]
    for c in clients:
        c.until(b"Z")
        c.send(query("select pg_sleep(99)"))
    for sock in server.sessions[-n:]:
        assert sock.recv(100)
    for c in clients:
        harness.Peer(c.sock).reset()
    for _ in clients:
        s.flow_end(reason="client-reset")


def test_no_more_than_some_are_under_way_and_the_rest_wait(stent, server):
    s = stent.route(server.text, protocol="postgres")
    before = s.fds()
    die_at_work(s, server, AT_ONCE + 10)
    harness.wait_for(lambda: len(server.cancels) == AT_ONCE, what="the cancel requests")
    assert s.fds() == before + AT_ONCE
    server.close_cancels()
    harness.wait_for(lambda: len(server.cancels) == 10, what="those that waited")
    server.close_cancels()
    harness.wait_for(lambda: s.fds() == before, what="the end of all")


def test_a_drain_waits_for_one(stent, server):
    s = stent.route(server.text, protocol="postgres", settings={"drain_timeout": "20s"})
    die_at_work(s, server)
    harness.wait_for(lambda: server.cancels, what="the cancel request")
    s.signal(signal.SIGTERM)
    s.wait_logged("draining: no new clients; 0 flows")
    server.cancels[0].settimeout(0.2)
    with pytest.raises(TimeoutError):
        server.cancels[0].recv(1)	# it stays open
    assert s.process.poll() is None
    server.close_cancels()
    assert s.process.wait(5 * harness.SLOW) == 0


def test_one_finds_its_way_through_a_chain_of_routes(stent, server):
    ports = [harness.free_port() for _ in range(2)]
    s = stent(f"[route a]\nlisten = 127.0.0.1:{ports[0]}\nbackend = 127.0.0.1:{ports[1]}\nprotocol = postgres\n"
              f"[route b]\nlisten = 127.0.0.1:{ports[1]}\nbackend = {server.text}\nprotocol = tcp\n")
    client = Raw(ports[0])
    client.until(b"Z")
    client.send(query("select pg_sleep(99)"))
    assert server.sessions[0].recv(100)
    harness.Peer(client.sock).reset()
    harness.wait_for(lambda: server.cancels, what="the cancel request")
    server.close_cancels()
