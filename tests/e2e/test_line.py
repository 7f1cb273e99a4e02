"""protocol = line: a heartbeat that only its operator knows, between the lines of two programs that talk."""

import random
import threading
import time

import harness
import pytest

PING, PONG = b"PING\n", b"PONG 1\n"
HELLO, ALIVE = b"hb?\r\n", b"alive\r\n"
ASKING = {"protocol": "line", "heartbeat": "10ms",
          "backend__heartbeat_send": r"PING\n", "backend__heartbeat_expect": r"PONG 1\n",
          "client__heartbeat_send": r"hb?\r\n", "client__heartbeat_expect": "alive"}
# Lines that are nearly an answer, or nearly a heartbeat; and one that spans many reads.
TRICKY = [b"PONG\n", b"PONG 12\n", b"alive!\n", b"alive and well\r\n", b"\n", b"PING \n", b"x" * 200_000 + b"\n", b"al\n"]


class Talker(threading.Thread):
    """One end: sends its lines in random pieces, keeps what it gets, and answers the heartbeat that it knows."""

    def __init__(self, peer, lines, heartbeat, answer, seed):
        super().__init__(daemon=True)
        self.peer, self.lines, self.heartbeat, self.answer = peer, lines, heartbeat, answer
        self.random = random.Random(seed)
        self.got, self.heartbeats, self.error = b"", 0, None
        self.lock = threading.Lock()	# a line of ours and an answer do not mix

    def run(self):
        reader = threading.Thread(target=self.read, daemon=True)
        reader.start()
        try:
            for line in self.lines:
                with self.lock:
                    while line:
                        n = self.random.choice([1, 3, 1000, len(line)])
                        self.peer.sock.sendall(line[:n])
                        line = line[n:]
                time.sleep(self.random.choice([0, 0, 0.03]))
        except OSError as error:
            self.error = error
        reader.join(30 * harness.SLOW)

    def read(self):
        held = b""
        while data := self.peer.sock.recv(65536):
            held += data
            while b"\n" in held:
                line, held = held.split(b"\n", 1)
                line += b"\n"
                if line == self.heartbeat:
                    self.heartbeats += 1
                    with self.lock:
                        self.peer.sock.sendall(self.answer)
                    continue
                self.got += line
                if line == b"bye\n":
                    return
        self.got += held


def test_two_programs_talk_and_see_nothing(stent, raw_backend):
    s = stent.route(raw_backend.text, **ASKING)
    pick = random.Random(7)
    lines = [[pick.choice(TRICKY) for _ in range(150)] + [b"bye\n"] for _ in range(2)]
    with s.connect() as near, raw_backend.accept() as far:
        client = Talker(near, lines[0], HELLO, ALIVE, 1)
        backend = Talker(far, lines[1], PING, PONG, 2)
        for talker in (client, backend):
            talker.peer.sock.settimeout(30 * harness.SLOW)
            talker.start()
        for talker in (client, backend):
            talker.join(60 * harness.SLOW)
            assert not talker.is_alive() and talker.error is None
        assert client.got == b"".join(lines[1])
        assert backend.got == b"".join(lines[0])
        assert client.heartbeats > 10 and backend.heartbeats > 10
    end = s.flow_end()
    assert end["protocol"] == "line"
    assert end["client_replies"] > 10 and end["backend_replies"] > 10


def test_no_heartbeat_inside_a_line(stent, raw_backend):
    s = stent.route(raw_backend.text, protocol="line", heartbeat="10ms", backend__heartbeat_send=r"# still here\n")
    with s.connect() as client, raw_backend.accept() as backend:
        client.send_all(b"half a li")
        while (got := backend.recv_exact(9)) != b"half a li":		# a heartbeat may come before it
            assert got == b"# still h" and backend.recv_exact(4) == b"ere\n"
        backend.expect_quiet(0.15)
        client.send_all(b"ne\n")
        assert backend.recv_exact(3 + 13 * 3) == b"ne\n" + b"# still here\n" * 3


def test_a_program_that_hangs_is_found(stent, raw_backend):
    s = stent.route(raw_backend.text, **{**ASKING, "client__heartbeat": "off", "heartbeat_timeout": "100ms"})
    with s.connect() as client, raw_backend.accept() as backend:
        assert backend.recv_exact(len(PING)) == PING
        backend.send_all(PONG)			# only a peer that has replied before can miss a reply
        began = time.monotonic()
        assert s.flow_end()["reason"] == "backend-heartbeat-timeout"
        assert time.monotonic() - began < (0.01 + 3 * 0.1 + 1) * harness.SLOW
        client.expect_reset()


def test_a_program_that_answers_lives(stent, raw_backend):
    s = stent.route(raw_backend.text, **{**ASKING, "client__heartbeat": "off", "heartbeat_timeout": "100ms"})
    with s.connect() as client, raw_backend.accept() as backend:
        for _ in range(20):
            assert backend.recv_exact(len(PING)) == PING
            backend.send_all(PONG)
        client.expect_quiet(0.1)
        backend.send_all(PONG + b"done\n")	# the second may be of nobody's asking
        assert client.recv_exact(5) in (b"done\n", PONG[:5])


@pytest.mark.parametrize("heartbeat", ["10ms", "auto"])
def test_starttls_is_left_alone(stent, raw_backend, heartbeat):
    s = stent.route(raw_backend.text, **{**ASKING, "heartbeat": heartbeat})
    with s.connect() as client, raw_backend.accept() as backend:
        client.send_all(b"STARTTLS\n\x16\x03\x01\0\5hello")
        if heartbeat != "auto":		# replies of both are due: no passthrough before they have come
            backend.send_all(PONG * 200)
            client.send_all(b"\n" + ALIVE * 200)
        assert s.next_event("protocol passthrough")["reason"] == "TLS"
