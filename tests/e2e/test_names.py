"""
Backends by name: a name server of our own on loopback, which answers, changes
its mind, falls silent, or says that there is no such name. stent runs under a
private mount of /etc/resolv.conf, so that the machine's own stays as it is.
"""

import socket
import struct
import threading
import time

import harness
import pytest

pytestmark = pytest.mark.lab

A, SERVFAIL, NXDOMAIN = 1, 2, 3
AGE = 0.3			# lookup_age, in seconds
PATIENCE = 0.2			# of a flow with an answer, when old addresses are there (src/net/resolve.c)


class NameServer:
    """Answers questions for IPv4 addresses from `names`; others have none. `silent` and `error` are for the test to set."""

    def __init__(self, directory, **names):
        self.names = {f"{name}.test": address for name, address in names.items()}
        self.silent, self.error = False, 0
        self.asked = []			# names, one an IPv4 question
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((harness.HOST, 0))
        resolv = directory / "resolv.conf"
        resolv.write_text(f"nameserver {harness.HOST}:{self.sock.getsockname()[1]}\n")
        self.prefix = ("unshare", "-m", "bash", "-c", f'mount --bind {resolv} /etc/resolv.conf && exec "$@"', "bash")
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            query, client = self.sock.recvfrom(600)
            if not query:
                return
            labels, i = [], 12
            while query[i]:
                labels.append(query[i + 1:i + 1 + query[i]].decode())
                i += 1 + query[i]
            name, (kind,) = ".".join(labels), struct.unpack(">H", query[i + 1:i + 3])
            if kind == A:
                self.asked.append(name)
            if self.silent:
                continue
            address = self.names.get(name)
            error = self.error or (0 if address else NXDOMAIN)
            answer = b"\xc0\x0c" + struct.pack(">HHIH", A, 1, 60, 4) + socket.inet_aton(address) if kind == A and not error else b""
            self.sock.sendto(query[:2] + struct.pack(">HHHHH", 0x8180 | error, 1, bool(answer), 0, 0) + query[12:i + 5] + answer, client)

    def close(self):
        self.sock.sendto(b"", self.sock.getsockname())
        self.thread.join(5)
        self.sock.close()


@pytest.fixture
def server(tmp_path):
    server = NameServer(tmp_path, one="127.0.0.2", two="127.0.0.2")
    yield server
    server.close()


@pytest.fixture
def start(stent, server, echoes):
    def start(*names, **keys):
        backend = ", ".join(f"{name}.test:{echoes[0].port}" for name in names)
        keys = {"lookup_age": f"{int(AGE * 1000)}ms", **keys}
        lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
        return stent(f"[route t]\nlisten = {harness.HOST}:{harness.free_port()}\nbackend = {backend}\n{lines}", prefix=server.prefix)
    return start


@pytest.fixture
def echoes():
    """One port, two addresses."""
    with harness.EchoBackend(host="127.0.0.2") as one, harness.EchoBackend(host="127.0.0.3", port=one.port) as two:
        yield one, two


def talk(s):
    """A flow to its end; which backend it had, and how long it took to get there."""
    began = time.monotonic()
    with s.connect() as peer:
        peer.send_all(b"ping", timeout=10)
        assert peer.recv_exact(4, timeout=10) == b"ping"
        took = time.monotonic() - began
    return s.flow_end()["backend"], took


def test_a_name_is_asked_for_again_when_its_addresses_have_aged(start, server, echoes):
    s = start("one", lookup_age="1h")
    for _ in range(3):
        assert talk(s)[0] == echoes[0].text
    assert server.asked == ["one.test"]
    s = start("one")
    assert talk(s)[0] == echoes[0].text
    server.names["one.test"] = "127.0.0.3"
    time.sleep(AGE + 0.1)
    assert talk(s)[0] == echoes[1].text			# the first flow already


def test_a_name_server_that_falls_silent_takes_no_backend_along(start, server, echoes):
    s = start("one", "two", connect_timeout="3s")
    talk(s)
    server.silent = True
    time.sleep(AGE + 0.1)
    for i in range(6):
        backend, took = talk(s)
        assert backend == echoes[0].text
        assert took < PATIENCE + 0.8 * harness.SLOW, i
    assert server.asked.count("one.test") == 2		# the question is under way, and no second one
    s.wait_logged("cannot look up backend name one.test: using the addresses found before", timeout=10)
    server.silent, server.names["one.test"] = False, "127.0.0.3"
    harness.wait_for(lambda: talk(s)[0] == echoes[1].text, 20, "the new address", step=0.1)


def test_addresses_that_are_known_serve_though_the_time_is_short(start, server, echoes):
    """Each of three backends has a third of connect_timeout, which is less than the patience."""
    s = start("one", "one", "one", connect_timeout="550ms")
    talk(s)
    server.silent = True
    time.sleep(AGE + 0.1)
    assert talk(s)[0] == echoes[0].text
    assert not s.logged("no answer from the resolver in time")


@pytest.mark.parametrize("error", [SERVFAIL, NXDOMAIN])
def test_an_answer_that_fails_leaves_what_was_known(start, server, echoes, error):
    s = start("one", lookup_age="2s")
    talk(s)
    server.error = error
    time.sleep(2.1)
    for _ in range(5):
        assert talk(s)[0] == echoes[0].text
    assert len(s.wait_logged("cannot look up backend name one.test: using the addresses found before")) == 1


def test_a_name_that_was_never_known_ends_the_flow_in_time(start, server):
    s = start("none", connect_timeout="1s")
    s.expect_refusal()
    assert s.flow_end()["reason"] == "backend-lookup"
    server.silent = True
    s.expect_refusal()
    end = s.flow_end()
    assert end["reason"] == "backend-lookup" and end["seconds"] > 0.9


def test_it_stops_at_once_while_a_question_is_under_way(start, server):
    """And frees what belongs to it, says a sanitizer's build."""
    s = start("one")
    talk(s)
    server.silent = True
    time.sleep(AGE + 0.1)
    talk(s)
    began = time.monotonic()
    s.stop()
    assert time.monotonic() - began < 2 * harness.SLOW
    assert not s.logged("cannot look up")		# it was not waited for
