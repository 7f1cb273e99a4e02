"""Checks of backends: which get flows, and what happens when one goes down."""

import collections
import contextlib
import http.server
import threading
import time

import pytest

import harness
from reloading import reload

FAST = {"health_interval": "100ms", "health_timeout": f"{int(500 * harness.SLOW)}ms"}
PATH = "/primary"


class Rest:
    """As Patroni's REST API: GET /primary gives 200 at the primary, else 503. It runs on several hosts, at one port."""

    def __init__(self, *hosts):
        self.status = dict.fromkeys(hosts, 503)
        self.asked = collections.Counter()
        self.headers = {}
        self.port = harness.free_port(hosts[0])
        self.servers = [http.server.ThreadingHTTPServer((host, self.port), self._handler(host)) for host in hosts]
        for server in self.servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def _handler(rest, host):		# noqa: N805
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                rest.asked[host] += 1
                rest.headers = dict(self.headers)
                self.send_response(rest.status[host] if self.path == PATH else 404)
                self.end_headers()

            def log_message(self, *_):
                pass
        return Handler

    def lead(self, host):
        for other in self.status:
            self.status[other] = 200 if other == host else 503

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()


def states(s):
    return {b["backend"]: b for b in s.ask("status")["routes"][0]["backend_states"]}


def wait_state(s, backend, state):
    harness.wait_for(lambda: states(s)[backend]["state"] == state, 5, f"{backend} to be {state}", step=0.02)


def open_flow(s):
    peer = s.connect()
    peer.send_all(b"x")
    assert peer.recv_exact(1) == b"x"
    return peer, s.flow_start(client=f"127.0.0.1:{peer.port}")["backend"]


@pytest.fixture
def cluster():
    with harness.EchoBackend(host="127.0.0.2") as one, harness.EchoBackend(host="127.0.0.3", port=one.port) as two, \
            contextlib.closing(Rest("127.0.0.2", "127.0.0.3")) as rest:
        yield one, two, rest


@pytest.mark.workers
def test_the_primary_is_found(stent, cluster):
    one, two, rest = cluster
    rest.lead("127.0.0.3")
    keys = {"health": f"http://:{rest.port}{PATH}", "health_fall": 2, "health_rise": 1, **FAST}
    s = stent.route(f"{one.text}, {two.text}", settings={"workers": 2}, **keys)
    first, backend = open_flow(s)				# at once: it waits for the first check
    assert backend == two.text
    wait_state(s, one.text, "down")
    assert states(s)[one.text]["why"] == "HTTP 503"
    check = states(s)[two.text]["addresses"][0]["check"]
    assert check["result"] == "HTTP 200" and check["seconds_ago"] < 1 * harness.SLOW and check["took_seconds"] < 0.3
    assert rest.headers["Host"].endswith(f":{rest.port}") and rest.headers["User-Agent"].startswith("stent/")

    rest.lead("127.0.0.2")					# a failover
    wait_state(s, two.text, "down")
    wait_state(s, one.text, "up")
    second, backend = open_flow(s)
    assert backend == one.text
    first.send_all(b"y")					# what is open stays
    assert first.recv_exact(1) == b"y"
    assert s.wait_logged(f"backend {two.text} is down by its check .HTTP 503.")
    text = harness.run_stent("status", "-c", s.ini_path).stdout.replace(f",\n{'':13}", ", ")
    assert f"{two.text} down, for " in text and "HTTP 503" in text and "checked " in text

    keys = {"listen": f"{harness.HOST}:{s.port}", "backend": f"{one.text}, {two.text}", **keys}
    reload(s, {"t": {**keys, "on_unhealthy": "close"}})
    assert states(s)[one.text]["state"] == "up"			# what was known goes on
    rest.lead("127.0.0.3")
    second.expect_reset()
    assert s.flow_end()["reason"] == "backend-down"
    assert s.wait_logged(r"1 flow closed \(on_unhealthy\)")
    first.send_all(b"z")					# its backend is the primary again
    assert first.recv_exact(1) == b"z"

    rest.lead(None)
    wait_state(s, two.text, "down")
    first.expect_reset()
    s.flow_end(reason="backend-down")
    s.expect_refusal()
    assert s.flow_end()["reason"] == "backend-down"
    reload(s, {"t": {**keys, "connect_retry": "20s"}})
    with s.connect() as waiting:
        waiting.send_all(b"w")
        harness.wait_for(lambda: s.ask("status")["routes"][0]["waiting_for_backend"] == 1, what="the client to wait")
        rest.lead("127.0.0.2")
        assert waiting.recv_exact(1) == b"w"
    reload(s, {"t": {key: value for key, value in keys.items() if not key.startswith("health")}})
    rest.lead(None)
    asked = rest.asked.total()
    assert open_flow(s)[1] == one.text
    assert rest.asked.total() <= asked + 1			# nobody checks any more


@pytest.mark.workers
def test_one_process_checks_once_an_interval(stent, cluster):
    one, two, rest = cluster
    rest.lead("127.0.0.2")
    s = stent.route(f"{one.text}, {two.text}", health=f"http://:{rest.port}{PATH}", health_fall=4, settings={"workers": 4}, **FAST)
    wait_state(s, one.text, "up")
    harness.wait_for(lambda: rest.asked["127.0.0.2"] >= 6, what="six checks")
    assert abs(rest.asked["127.0.0.2"] - rest.asked["127.0.0.3"]) <= 3
    # Fewer failures in a row than health_fall are none.
    rest.status["127.0.0.2"] = 500
    seen = rest.asked["127.0.0.2"]
    harness.wait_for(lambda: rest.asked["127.0.0.2"] >= seen + 2, what="two checks", step=0.001)
    rest.status["127.0.0.2"] = 302
    seen = rest.asked["127.0.0.2"]
    harness.wait_for(lambda: rest.asked["127.0.0.2"] >= seen + 3, what="three checks")
    assert states(s)[one.text]["state"] == "up" and not s.logged(f"backend {one.text} is down")


def test_a_connection_is_a_check(stent, tmp_path):
    port = harness.free_port()
    path = tmp_path / "backend"
    s = stent.route(f"127.0.0.1:{port}, unix:{path}", health="tcp", health_rise=2, health_fall=1, **FAST)
    wait_state(s, f"127.0.0.1:{port}", "down")
    assert states(s)[f"127.0.0.1:{port}"]["why"] == "Connection refused"
    s.expect_refusal()
    assert s.flow_end()["reason"] == "backend-down"
    with harness.EchoBackend(port=port) as back:
        wait_state(s, back.text, "up")
        assert open_flow(s)[1] == back.text
        with harness.EchoBackend(path=path):
            wait_state(s, f"unix:{path}", "up")
        wait_state(s, f"unix:{path}", "down")
        events = [r for r in s.records if "is down by its check" in r.get("message", "")]
        assert len(events) >= 2
    wait_state(s, back.text, "down")


@pytest.mark.parametrize("reply, why", [(None, "no response in time"), (b"SSH-2.0-x\r\n", "no HTTP response"), (b"", "closed without a response"),
                                        (b"HTTP/1.1 200", "closed without a response")])
def test_what_is_no_response(stent, reply, why):
    with harness.RawBackend() as rest, harness.RawBackend() as backend:
        s = stent.route(backend.text, health=f"http://:{rest.port}/", health_interval="10s",
                        health_timeout="300ms" if reply is None else "5s")
        with rest.accept() as peer:
            assert peer.recv_some().startswith(b"GET / HTTP/1.1\r\n")
            if reply is not None:
                with contextlib.suppress(OSError):		# it may close at once
                    peer.send_all(reply)
                    peer.half_close()
            wait_state(s, backend.text, "down")
        assert states(s)[backend.text]["why"] == why


def test_a_check_takes_no_longer_than_its_timeout(stent):
    """Though the server sends a byte of its response now and then."""
    with harness.RawBackend() as rest, harness.RawBackend() as backend:
        s = stent.route(backend.text, health=f"http://:{rest.port}/", health_interval="60s", health_timeout="600ms")
        with rest.accept() as peer:
            with contextlib.suppress(OSError):		# until it is reset
                for byte in b"HTTP/1.1 200 OK\r\n":
                    peer.send_all(bytes([byte]))
                    time.sleep(0.2)
            wait_state(s, backend.text, "down")
        assert not s.logged("is up by its check")
        assert states(s)[backend.text]["why"] == "no response in time"


def test_a_black_hole_and_a_name_that_nobody_knows(stent):
    with harness.BlackHole() as hole:
        s = stent.route(f"{hole.text}, no-such-host.invalid:1", health="tcp", **FAST)
        wait_state(s, hole.text, "down")
        wait_state(s, "no-such-host.invalid:1", "down")
        assert states(s)[hole.text]["why"] == "no answer in time"
        s.expect_refusal()


@pytest.mark.lab
def test_each_address_of_a_name_is_checked(stent, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.2 db.test\n127.0.0.3 db.test\n")
    with harness.EchoBackend(host="127.0.0.2") as one, harness.EchoBackend(host="127.0.0.3", port=one.port) as two, \
            harness.EchoBackend(host="127.0.0.4", port=one.port) as new:
        name = f"db.test:{one.port}"
        lines = "".join(f"{key} = {value}\n" for key, value in FAST.items())
        s = stent(f"[route t]\nlisten = {harness.HOST}:{harness.free_port()}\nbackend = {name}\nhealth = tcp\nbalance = least-flows\n"
                  f"dns_ttl = 1s\nhealth_fall = 1\n{lines}", prefix=harness.privately("/etc/hosts", hosts))
        held = [open_flow(s) for _ in range(4)]
        assert {b for _, b in held} == {one.text, two.text}
        two.close()
        harness.wait_for(lambda: {a["address"]: a["check"]["state"] for a in states(s)[name]["addresses"]}.get(two.text) == "down",
                         what="the address to be down")
        assert states(s)[name]["state"] == "up"
        held = [open_flow(s) for _ in range(4)]
        assert {b for _, b in held} == {one.text}
        assert states(s)[name]["connect_failures"] == 0
        hosts.write_text("127.0.0.4 db.test\n")		# it has moved
        harness.wait_for(lambda: open_flow(s)[1] == new.text, 10, "the new address", step=0.2)


@pytest.mark.parametrize("health, backend, error", [
    ("https://:8008/primary", "127.0.0.1:1", "checks by https are not supported"),
    ("http://db1:8008/primary", "127.0.0.1:1", "the host that is checked is always the backend's"),
    ("http://:8008", "127.0.0.1:1", "there is no path"),
    ("http://:0/", "127.0.0.1:1", "is not a port"),
    ("http://:70000/", "127.0.0.1:1", "is not a port"),
    ("http://:8008/a b", "127.0.0.1:1", "a character that a URL must not have"),
    ("ping", "127.0.0.1:1", "is not a check"),
    ("tcp", "original", "no backend that could be checked"),
    ("http://:8008/", "unix:/tmp/x", "is a UNIX socket"),
])
def test_what_cannot_be_checked(tmp_path, health, backend, error):
    path = tmp_path / "stent.ini"
    path.write_text(f"[route t]\nlisten = 127.0.0.1:7000\nbackend = {backend}\nhealth = {health}\n")
    done = harness.run_stent("check", "-c", path)
    assert done.returncode == 2 and f"{path}:4: health: " in done.stderr and error in done.stderr
