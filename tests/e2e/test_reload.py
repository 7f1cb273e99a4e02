"""
Settings that replace others: each key's effect on a flow that is open, on its
sockets as the kernel tells. A new key needs a case here.
"""

import contextlib
import json
import signal
import socket
import ssl
import stat
import threading
import time

import harness
import psycopg2
import pytest
from reloading import probes, reload, write


@pytest.fixture
def one(stent, raw_backend):
    """A flow whose route is to change: one(before) opens it, one.change(after) has it changed."""
    class One:
        def __call__(self, settings=None, first=b"a\n", **keys):
            self.keys = {"listen": f"{harness.HOST}:{harness.free_port()}", **keys}
            self.s = stent.route(raw_backend.text, settings=settings, **self.keys)
            self.keys["backend"] = raw_backend.text
            self.accept = raw_backend.accept
            self.near = self.s.connect()
            self.far = raw_backend.accept()
            self.near.send_all(first)
            got = b""
            while not got.endswith(first):		# heartbeats may come before it
                got += self.far.recv_exact(1)
            return self

        def change(self, settings=None, **keys):
            self.keys = {k: v for k, v in {**self.keys, **keys}.items() if v is not None}
            return reload(self.s, {"t": self.keys}, **(settings or {}))

        def exchange(self):
            self.near.send_all(b"to\n")
            assert self.far.recv_exact(3) == b"to\n"
            self.far.send_all(b"fro\n")
            assert self.near.recv_exact(4) == b"fro\n"
    o = One()
    yield o
    o.near.close()


LINE = {"protocol": "line", "backend__heartbeat_send": r"hb1\n", "backend__heartbeat_expect": "ok1"}


def wait_probes(o, peer, **wanted):
    def found():
        with o.s.leg(peer) as leg:
            return wanted.items() <= probes(leg).items()
    harness.wait_for(found, 3, f"{wanted} on the socket")


# --- each key on an open flow ---

def keepalive(one):
    o = one()
    for value, wanted in [("7s/2s/3", {"SO_KEEPALIVE": 1, "idle": 7, "interval": 2, "probes": 3}),
                          ("off", {"SO_KEEPALIVE": 0}),
                          ("9s/3s/4", {"SO_KEEPALIVE": 1, "idle": 9, "interval": 3, "probes": 4})]:
        o.change(keepalive=value)
        for peer in (o.near, o.far):
            wait_probes(o, peer, **wanted)
    o.exchange()


def user_timeout(one):
    o = one()
    wait_probes(o, o.near, user_timeout=85000)
    o.change(client__user_timeout="12s", backend__user_timeout="off")
    wait_probes(o, o.near, user_timeout=12000)
    wait_probes(o, o.far, user_timeout=0)


def heartbeat(one):
    o = one(**LINE, heartbeat="off")
    o.far.expect_quiet(0.1)
    o.change(backend__heartbeat="50ms")
    assert o.far.recv_exact(4) == b"hb1\n"
    o.far.send_all(b"ok1\n")
    o.change(backend__heartbeat="off")
    while o.s.ask("flows")[0]["backend"]["why_none"] != "heartbeat = off":
        pass
    o.far.sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while o.far.sock.recv(100):
            pass
    o.far.expect_quiet(0.2)


def heartbeat_send(one):
    o = one(**LINE, backend__heartbeat="30ms")
    assert o.far.recv_exact(4) == b"hb1\n"
    o.change(backend__heartbeat_send=r"hb2\n", backend__heartbeat_expect="ok2")
    o.near.send_all(b"x\n")		# before the reply: the old line is still awaited
    assert b"x\n" in o.far.recv_exact(2)
    o.far.send_all(b"ok1\n")
    assert o.far.recv_exact(4) == b"hb2\n"
    o.far.send_all(b"ok2\nend\n")
    assert o.near.recv_exact(4) == b"end\n"	# neither reply


def heartbeat_kind(one):
    # The line's kind follows from whether a reply is expected; a ping counts as one.
    o = one(**LINE, backend__heartbeat="30ms")
    assert o.far.recv_exact(4) == b"hb1\n"
    o.far.send_all(b"ok1\n")
    o.change(backend__heartbeat_expect=None)
    o.far.send_all(b"ok1\n")		# to a ping that may have gone out before; until then the old settings hold
    assert harness.wait_for(lambda: o.far.recv_some()[-4:] == b"hb1\n", 5)
    before = o.s.ask("flows")[0]["backend"]["pings"]
    harness.wait_for(lambda: o.s.ask("flows")[0]["backend"]["heartbeats"] > before + 3, 5)
    assert o.s.ask("flows")[0]["backend"]["pings"] <= before + 1


def heartbeat_timeout(one):
    o = one(**LINE, backend__heartbeat="30ms", backend__heartbeat_timeout="1h", backend__heartbeat_misses="1")
    assert o.far.recv_exact(4) == b"hb1\n"
    o.far.send_all(b"ok1\n")		# it has replied once: it may be judged
    assert o.far.recv_exact(4) == b"hb1\n"
    o.change(backend__heartbeat_timeout="100ms")
    assert o.s.flow_end()["reason"] == "backend-heartbeat-timeout"


def heartbeat_misses(one):
    o = one(**LINE, backend__heartbeat="30ms", backend__heartbeat_timeout="50ms", backend__heartbeat_misses="off")
    assert o.far.recv_exact(4) == b"hb1\n"
    o.far.send_all(b"ok1\n")
    o.s.expect_no_event("flow end", 0.4)
    o.change(backend__heartbeat_misses="2")
    assert o.s.flow_end()["reason"] == "backend-heartbeat-timeout"


def heartbeat_limit(one):
    o = one(protocol="line", backend__heartbeat_send=r"hb1\n", backend__heartbeat="30ms", backend__heartbeat_limit="100ms")
    harness.wait_for(lambda: o.s.ask("flows")[0]["backend"]["why_none"] == "heartbeat_limit exceeded", 5)
    sent = o.s.ask("flows")[0]["backend"]["heartbeats"]
    o.change(backend__heartbeat_limit="off")
    harness.wait_for(lambda: o.s.ask("flows")[0]["backend"]["heartbeats"] > sent, 5)


def idle_timeout(one):
    o = one()
    time.sleep(0.1)
    o.change(client__idle_timeout="50ms")
    assert o.s.flow_end()["reason"] == "client-idle"


def on_dead(one):
    o = one(client__idle_timeout="off", **LINE, backend__heartbeat="30ms", backend__heartbeat_timeout="50ms",
            backend__heartbeat_misses="off", on_dead="reset")
    assert o.far.recv_exact(4) == b"hb1\n"
    o.far.send_all(b"ok1\n")
    o.change(on_dead="close", backend__heartbeat_misses="1")
    o.near.expect_fin()


def urgent(one):
    o = one(urgent="off")
    o.change(urgent="on")
    o.near.sock.send(b"!", socket.MSG_OOB)
    o.far.sock.setblocking(False)	# Python waits for normal bytes first where there is a timeout
    harness.wait_for(lambda: b"!" == _urgent(o.far.sock), 5, "the urgent byte")
    o.change(urgent="off")
    o.near.sock.send(b"?", socket.MSG_OOB)
    o.near.send_all(b"z")
    assert o.far.recv_exact(1) == b"z"


def _urgent(sock):
    with contextlib.suppress(OSError):
        return sock.recv(1, socket.MSG_OOB)


def backend_key(one):
    with harness.EchoBackend() as other:
        o = one()
        o.change(backend=other.text)
        o.exchange()			# the open flow has its old one
        assert o.s.ask("flows")[0]["backend_name"] is None
        with o.s.connect() as new:
            new.send_all(b"abc")
            assert new.recv_exact(3) == b"abc"
            names = [f["backend_name"] for f in o.s.ask("flows sort=new")]
            assert names == [other.text, None]


def protocol(one):
    o = one(**LINE, backend__heartbeat="30ms")
    assert o.far.recv_exact(4) == b"hb1\n"
    o.change(protocol="tcp", backend__heartbeat_send=None, backend__heartbeat_expect=None, backend__heartbeat=None,
             client__keepalive="8s/2s/3")
    o.far.send_all(b"ok1\n")			# its codec still takes the reply out
    o.far.send_all(b"data\n")
    assert o.near.recv_exact(5) == b"data\n"
    assert o.s.ask("flows")[0]["protocol"] == "line"
    wait_probes(o, o.near, idle=8)
    with o.s.connect() as new:
        new.send_all(b"q")
        harness.wait_for(lambda: [f["protocol"] for f in o.s.ask("flows sort=new")] == ["tcp", "line"], 5)


def drain_timeout(one):
    o = one(settings={"drain_timeout": "60s"})
    o.change(settings={"drain_timeout": "10ms"})
    o.s.signal(signal.SIGTERM)
    assert o.s.wait() == 0
    assert o.s.flow_end()["reason"] == "drain"


def drain(one):
    o = one(settings={"drain_timeout": "60s"})
    o.change(settings={"drain": "serve"})
    o.s.signal(signal.SIGTERM)
    o.s.wait_logged("^draining: new clients are served")
    with o.s.connect() as new, o.accept():
        new.send_all(b"x")
    o.near.close()
    o.far.close()
    assert o.s.wait() == 0


def max_age(one):
    o = one()
    o.change(max_age="1s")
    o.near.expect_fin()
    o.far.expect_fin()
    o.near.close()
    o.far.close()
    assert o.s.flow_end()["reason"] == "max-age"


def detect(one):
    o = one()
    for value, wanted in [("20s", {"SO_KEEPALIVE": 1, "idle": 4, "interval": 1, "probes": 16, "user_timeout": 20000}),
                          ("off", {"SO_KEEPALIVE": 1, "idle": 25, "interval": 10, "probes": 6, "user_timeout": 85000})]:
        o.change(detect=value)
        for peer in (o.near, o.far):
            wait_probes(o, peer, **wanted)
    o.exchange()


def profile(one):
    """haproxy counts data alone and closes a flow after 50 s: heartbeats come after 25 s at the latest."""
    o = one(**LINE, backend__heartbeat="60s")
    o.change(backend__heartbeat="40s", profile="haproxy")		# by hand: it stays
    assert "haproxy" in harness.run_stent("check", "-c", o.s.ini_path).stdout
    assert {c["key"]: c["to"] for c in o.change(backend__heartbeat=None, profile="haproxy")}["backend.heartbeat"] == "25s"
    o.exchange()


def refuses(key, value, **also):
    """The next client is refused, the open flow goes on, and without the key clients are served again."""
    def case(one):
        o = one()
        o.change(**{key: value}, **also)
        o.s.expect_refusal()
        o.exchange()
        o.change(**dict.fromkeys([key, *also]))
        with o.s.connect() as new, o.accept():
            new.send_all(b"x")
        o.exchange()
    return case


def per_client(one):
    """An open flow does not count; one that came since does."""
    o = one()
    o.change(max_flows_per_client="1")
    with o.s.connect() as new, o.accept() as far:
        new.send_all(b"x")
        assert far.recv_exact(1) == b"x"
        o.s.expect_refusal()
        o.change(max_flows_per_client=None)
        with o.s.connect() as third, o.accept():
            third.send_all(b"x")
    o.exchange()


def accept_rate(one):
    o = one()
    o.change(accept_rate="1/h")
    with o.s.connect() as new, o.accept():
        new.send_all(b"x")
        o.s.expect_refusal()
        o.change(accept_rate=None)
        with o.s.connect() as third, o.accept():
            third.send_all(b"x")
    o.exchange()


def when_full(one):
    """Before, the new one is refused; then the open flow makes room, once it has been idle for 2 s."""
    o = one(max_flows="1")
    o.s.expect_refusal()
    o.change(when_full="evict")

    def gets_in():
        with contextlib.suppress(ConnectionResetError, AssertionError), o.s.connect() as new:
            new.send_all(b"x")
            with o.accept(timeout=0.2) as far:
                return far.recv_exact(1) == b"x"
    harness.wait_for(gets_in, 8, "a flow to make room")
    assert o.s.flow_end(reason="evicted")["id"] == 1


def first_byte(one):
    o = one()
    o.change(first_byte_timeout="300ms")
    with o.s.connect() as mute:
        mute.expect_reset()
        assert o.s.flow_end(reason="client-idle")
    o.change(first_byte_timeout=None)
    with o.s.connect(), o.accept():		# dialled at once
        pass
    o.exchange()


def accept_proxy(one):
    o = one()
    o.change(accept_proxy="require", proxy_from=harness.HOST)
    with o.s.connect() as balancer:
        balancer.send_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 1000 80\r\nx")
        assert o.accept().recv_exact(1) == b"x"
        assert [f["client"]["address"] for f in o.s.ask("flows sort=new")][0] == "192.0.2.7:1000"
        o.change(accept_proxy="require", proxy_from="192.0.2.0/24")	# not from here
        o.s.expect_refusal()
    o.exchange()


def send_proxy(one):
    o = one()
    o.change(send_proxy="v1")
    o.exchange()
    with o.s.connect() as new, o.accept() as far:
        new.send_all(b"x")
        assert far.recv_exact(6) == b"PROXY "


def max_flows(one):
    o = one()
    o.change(settings={"max_flows": "1"})
    o.s.expect_refusal()
    assert o.s.ask("status")["max_flows"] == 1
    o.change(settings={"max_flows": "5"})
    with o.s.connect() as new:
        new.send_all(b"x")
        harness.wait_for(lambda: len(o.s.ask("flows")) == 2, 5)


def log(one):
    o = one(settings={"sandbox": "off"})		# in it, a log in a new folder needs a restart: test_sandbox.py
    path = o.s.ini_path.parent / "other.log"
    o.change(settings={"log": f"file:{path}"})
    o.near.close()
    o.far.close()
    harness.wait_for(lambda: "flow end" in path.read_text(), 5, "the line in the new file")
    o.change(settings={"log": "stderr"})
    with o.s.connect(), o.accept():
        pass
    o.s.flow_end()


def log_level(one):
    o = one(settings={"log_level": "error"})
    o.change(settings={"log_level": "info"})
    o.near.close()
    o.far.close()
    o.s.flow_end()


def log_format(one):
    o = one()
    o.change(settings={"log_format": "text"})
    o.near.close()
    o.far.close()
    harness.wait_for(lambda: any("flow end id=" in text for text in o.s.other_lines), 5, "a line as text")


def needs_restart(key, value):
    def case(one):
        o = one()
        before = o.s.ask("status")
        changes = o.change(settings={key: value})
        mine = [c for c in changes if c["key"] == key]
        assert len(mine) == 1 and mine[0]["needs_restart"] and mine[0]["to"] == str(value)
        assert o.change()[0]["key"] == key		# still told by the next one
        assert o.s.ask("status")["flows_by_worker"] == before["flows_by_worker"]
        o.exchange()
    return case


def for_new_flows(key, value, is_text=None, **also):
    """Of new flows only: an open one goes on, and the settings are told as used."""
    def case(one):
        o = one()
        changes = o.change(**{key: value}, **also)
        assert [c["key"] for c in changes if c["key"] == key.replace("__", ".")], changes
        assert not any(c["needs_restart"] for c in changes)
        o.exchange()
    return case


def for_process(key, value):
    def case(one):
        o = one()
        changes = o.change(settings={key: value})
        assert [(c["key"], c["to"], c["needs_restart"]) for c in changes] == [(key, value, False)]
        assert o.change() == []
    return case


def page(port):
    with harness.connect(port) as web:
        web.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return web.recv_some().split()[1]


def admin(one):
    ports = [harness.free_port(), harness.free_port()]
    o = one(settings={"admin": f"{harness.HOST}:{ports[0]}"})
    assert page(ports[0]) == b"200"
    o.change(settings={"admin": f"{harness.HOST}:{ports[1]}"})
    assert page(ports[1]) == b"200"
    with pytest.raises(ConnectionRefusedError):
        harness.connect(ports[0])
    with harness.RawBackend() as taken:
        write(o.s, {"t": o.keys}, admin=taken.text)
        assert o.s.ask("reload")["errors"] == [f"admin = {taken.text}: address already in use"]
    assert page(ports[1]) == b"200"
    o.change(settings={"admin": "off"})
    with pytest.raises(ConnectionRefusedError):
        harness.connect(ports[1])


def on_event(one):
    o = one(settings={"sandbox": "off"})		# in it, the program is that of the start: test_sandbox.py
    script, told = o.s.ini_path.parent / "hook", o.s.ini_path.parent / "told"
    script.write_text(f"#!/bin/sh\ncat >> {told}\n")
    script.chmod(0o755)
    o.change(settings={"on_event": f"exec:{script}", "events": "flow-end"})
    o.near.close()
    o.far.close()
    harness.wait_for(lambda: told.exists() and "flow-end" in told.read_text(), 5, "the event")


def unix_mode(one):
    o = one()
    path = o.s.ini_path.parent / "in.sock"
    routes = {"t": o.keys, "u": {"listen": f"unix:{path}", "backend": o.keys["backend"], "unix_mode": "0600"}}
    reload(o.s, routes)
    inode = path.stat().st_ino
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    routes["u"]["unix_mode"] = "0666"
    reload(o.s, routes)
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_ino) == (0o666, inode)
    reload(o.s, {"t": o.keys})
    assert not path.exists()


def listen(one):
    o = one()
    old = o.s.address
    port = harness.free_port()
    o.change(listen=f"{harness.HOST}:{port}")
    o.exchange()
    with pytest.raises(ConnectionRefusedError):
        harness.connect(old)
    harness.connect(port).close()


def admin_hosts(one):
    port = harness.free_port()
    o = one(settings={"admin": f"{harness.HOST}:{port}"})

    def ask():
        with harness.connect(port) as web:
            web.send_all(b"GET /healthz HTTP/1.1\r\nHost: my.example.org\r\nConnection: close\r\n\r\n")
            return web.recv_some().split()[1]
    before = ask()
    o.change(settings={"admin_hosts": "my.example.org"})
    assert ask() == b"200"
    del before


def admin_token(one):
    port = harness.free_port()
    o = one(settings={"admin": f"{harness.HOST}:{port}"})

    def status():
        with harness.connect(port) as web:
            web.send_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return web.recv_some().split()[1]
    assert status() == b"200"
    o.change(settings={"admin_token": "0123456789abcdef0123456789abcdef"})
    assert status() == b"401"


def cancel_on_death(one):
    for_new_flows("cancel_on_death", "off")(one)


ASK = b"GET /s HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def until(peer, what):
    got = b""
    while what not in got:
        got += peer.recv_some()


def heartbeat_text(one):
    o = one(first=ASK, protocol="sse", client__heartbeat="50ms", client__heartbeat_text=r":one\n\n")
    o.far.send_all(EVENTS + b"data: 1\n\n")
    until(o.near, b":one\n\n")
    o.change(client__heartbeat_text=r":two\n\n")
    until(o.near, b":two\n\n")


def heartbeat_at_start(one):
    o = one(first=ASK, protocol="sse", client__heartbeat="50ms")
    o.far.send_all(EVENTS)
    o.near.recv_exact(len(EVENTS))
    o.near.expect_quiet(0.2)
    o.change(client__heartbeat_at_start="on")
    until(o.near, b":\n")


@contextlib.contextmanager
def session(stent, postgres, **keys):
    """An open flow of PostgreSQL, with the routes it has: (stent, routes, connection)."""
    routes = {"t": {"listen": f"{harness.HOST}:{harness.free_port()}", "protocol": "postgres", "backend__heartbeat": "20ms", **keys}}
    s = stent.route(postgres.port, **routes["t"])
    routes["t"]["backend"] = f"{harness.HOST}:{postgres.port}"
    connection = psycopg2.connect(host=s.address[0], port=s.address[1], user="postgres", dbname="postgres", sslmode="disable",
                                  gssencmode="disable")
    yield s, routes, connection
    connection.close()


def beats(s):
    return s.ask("flows")[0]["backend"]["heartbeats"]


def test_heartbeat_in_transaction_of_an_open_one(stent, postgres):
    with session(stent, postgres) as (s, routes, connection):
        connection.cursor().execute("select 1")		# psycopg2 begins a transaction
        harness.wait_for(lambda: "transaction" in str(s.ask("flows")[0]["backend"]["why_none"]), 5)
        before = beats(s)
        time.sleep(0.2)
        assert beats(s) == before
        routes["t"]["backend__heartbeat_in_transaction"] = "on"
        reload(s, routes)
        harness.wait_for(lambda: beats(s) > before + 2, 5)
        connection.commit()


def test_heartbeat_while_busy_of_a_statement_that_runs(stent, postgres):
    with session(stent, postgres) as (s, routes, connection):
        connection.autocommit = True
        cursor = connection.cursor()
        runs = threading.Thread(target=cursor.execute, args=("select pg_sleep(2)",))
        runs.start()
        harness.wait_for(lambda: "runs" in str(s.ask("flows")[0]["backend"]["why_none"]) or
                         "running" in str(s.ask("flows")[0]["backend"]["why_none"]), 5)
        before = beats(s)
        time.sleep(0.2)
        assert beats(s) == before
        routes["t"]["backend__heartbeat_while_busy"] = "on"
        reload(s, routes)
        harness.wait_for(lambda: beats(s) > before + 2, 1.5)
        runs.join(10 * harness.SLOW)


# Those that have a test of their own.
ELSEWHERE = {"heartbeat_in_transaction", "heartbeat_while_busy", "tls", "tls_ca", "tls_name", "tls_cert", "tls_key", "tls_min", "tls_start"}


def test_tls_is_that_of_new_flows(stent, certificates, echo):
    """A flow goes on with the certificate that it began with, also when its route has no TLS any more."""
    keys = {"listen": f"{harness.HOST}:{harness.free_port()}", "client__tls": "require", "client__tls_cert": certificates.good.cert,
            "client__tls_key": certificates.good.key}
    s = stent.route(echo.text, **keys)
    keys["backend"] = echo.text
    context = ssl.create_default_context(cafile=certificates.ca)
    context.check_hostname = False

    def connect():
        return context.wrap_socket(s.connect().sock)

    def exchange(sock):
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"
    first = connect()
    exchange(first)
    other = certificates.make("other.example.org", "other.example.org")
    before = dict(keys)
    changes = reload(s, {"t": {**keys, "client__tls_cert": other.cert, "client__tls_key": other.key, "client__tls_min": "1.3"}})
    assert {c["key"] for c in changes} == {"client.tls_cert", "client.tls_key", "client.tls_min"}
    second = connect()
    exchange(second)
    assert second.getpeercert()["subject"] != first.getpeercert()["subject"]
    for key in list(keys):
        if "tls" in key:
            del keys[key]
    reload(s, {"t": keys})
    with s.connect() as plain:
        plain.send_all(b"plain")
        assert plain.recv_exact(5) == b"plain"
    for sock in (first, second):
        exchange(sock)
    reload(s, {"t": before})
    for sock in (first, second):
        exchange(sock)
        sock.close()

CASES = {
    "workers": needs_restart("workers", 3), "sandbox": needs_restart("sandbox", "off"), "user": needs_restart("user", "daemon"),
    "control": needs_restart("control", "/tmp/other-control.sock"), "admin": admin,
    "on_event": on_event, "events": on_event, "event_timeout": for_process("event_timeout", "3s"),
    "handshake_timeout": for_new_flows("handshake_timeout", "3s"),
    "log": log, "log_format": log_format, "log_level": log_level, "admin_hosts": admin_hosts,
    "max_flows": max_flows, "detect": detect, "profile": profile, "allow": refuses("allow", "192.0.2.0/24"),
    "deny": refuses("deny", "127.0.0.0/8"), "max_flows_per_client": per_client, "accept_rate": accept_rate, "when_full": when_full,
    "first_byte_timeout": first_byte, "accept_proxy": accept_proxy, "proxy_from": accept_proxy, "send_proxy": send_proxy,
    "source": for_new_flows("source", "client"), "transparent": for_new_flows("transparent", "on"), "drain_timeout": drain_timeout, "drain": drain, "max_age": max_age,
    "quit_when_idle": for_process("quit_when_idle", "90s"), "admin_quit": for_process("admin_quit", "on"),
    "listen": listen, "unix_mode": unix_mode, "backend": backend_key, "protocol": protocol,
    "connect_timeout": for_new_flows("connect_timeout", "9s"), "failover_after": for_new_flows("failover_after", "off"),
    "balance": for_new_flows("balance", "least-flows"), "retry_after": for_new_flows("retry_after", "9s"),
    "connect_retry": for_new_flows("connect_retry", "9s"), "health": for_new_flows("health", "tcp"),
    "health_interval": for_new_flows("health_interval", "9s"), "health_timeout": for_new_flows("health_timeout", "9s"),
    "health_rise": for_new_flows("health_rise", "9"), "health_fall": for_new_flows("health_fall", "9"),
    "on_unhealthy": for_new_flows("on_unhealthy", "close"),
    "dns_ttl": for_new_flows("dns_ttl", "99s"), "urgent": urgent, "on_dead": on_dead, "cancel_on_death": cancel_on_death,
    "keepalive": keepalive, "user_timeout": user_timeout, "heartbeat": heartbeat, "heartbeat_kind": heartbeat_kind,
    "heartbeat_timeout": heartbeat_timeout, "heartbeat_misses": heartbeat_misses, "heartbeat_limit": heartbeat_limit,
    "idle_timeout": idle_timeout, "heartbeat_send": heartbeat_send, "heartbeat_expect": heartbeat_send,
    "heartbeat_text": heartbeat_text, "heartbeat_at_start": heartbeat_at_start, "admin_token": admin_token,
}


def known_keys():
    tables = json.loads(harness.run_stent("help", "keys", "--format=json").stdout)
    return {key["name"].split(".")[-1] for key in tables["keys"]}


def test_every_key_has_a_case():
    assert known_keys() == set(CASES) | ELSEWHERE


@pytest.mark.parametrize("key", CASES)
def test_a_key_of_an_open_flow(one, key):
    CASES[key](one)
