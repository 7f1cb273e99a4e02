"""first_byte_timeout: who says nothing costs the backend nothing."""

import contextlib
import resource
import signal
import time

import harness
import pytest
import tls_ends
from harness import HOST, connect, wait_for
from proxy_headers import v1


def test_the_backend_is_connected_after_the_first_byte(stent, raw_backend):
    s = stent.route(raw_backend.text, first_byte_timeout="5s")
    client = s.connect()
    flow = wait_for(lambda: s.ask("flows"), what="the flow")[0]
    assert (flow["state"], flow["backend"]["verdict"], flow["backend_name"]) == ("waiting-for-client", "waiting", None)
    assert "first bytes" in flow["client"]["why_none"]
    raw_backend.expect_no_connection(0.1)
    client.send_all(b"a")
    backend = raw_backend.accept()
    assert backend.recv_exact(1) == b"a"
    client.send_all(b"bc")
    assert backend.recv_exact(2) == b"bc"
    backend.send_all(b"answer")
    assert client.recv_exact(6) == b"answer"
    assert s.ask("flows")[0]["state"] == "open"


def test_a_silent_client_is_ended(stent, raw_backend):
    s = stent.route(raw_backend.text, first_byte_timeout="300ms")
    client, began = s.connect(), time.monotonic()
    client.expect_reset()
    assert 0.25 < time.monotonic() - began
    end = s.flow_end()
    assert (end["reason"], end["backend"]) == ("client-idle", "-")
    raw_backend.expect_no_connection(0.05)


def test_clients_that_leave_without_a_byte(stent, raw_backend):
    s = stent.route(raw_backend.text, first_byte_timeout="5s")
    client = s.connect()
    wait_for(lambda: s.ask("flows"), what="the flow")
    client.half_close()
    client.expect_fin()
    assert s.flow_end()["reason"] == "client-fin"
    client = s.connect()
    wait_for(lambda: s.ask("flows"), what="the flow")
    client.reset()
    assert s.flow_end()["reason"] == "client-reset"
    raw_backend.expect_no_connection(0.05)


def test_a_byte_and_a_fin_together(stent, raw_backend):
    s = stent.route(raw_backend.text, first_byte_timeout="5s")
    client = s.connect()
    client.send_all(b"all of it")
    client.half_close()
    backend = raw_backend.accept()
    assert backend.recv_all() == b"all of it"
    backend.send_all(b"reply")
    backend.close()
    assert client.recv_all() == b"reply"


def test_unix_clients(stent, raw_backend, tmp_path):
    s = stent.route(raw_backend.text, listen=f"unix:{tmp_path}/x", first_byte_timeout="300ms")
    silent, client = connect(s.listen[0]), connect(s.listen[0])
    client.send_all(b"x")
    assert raw_backend.accept().recv_exact(1) == b"x"
    assert s.flow_end()["reason"] == "client-idle"
    with contextlib.suppress(ConnectionResetError):
        silent.expect_fin()


def test_with_a_proxy_header_the_byte_behind_it_counts(stent, raw_backend):
    s = stent.route(raw_backend.text, first_byte_timeout="300ms", accept_proxy="require", proxy_from=HOST)
    header = v1("203.0.113.7", "198.51.100.2", 1, 2)
    silent, client = s.connect(), s.connect()
    silent.send_all(header)
    client.send_all(header + b"x")
    assert raw_backend.accept().recv_exact(1) == b"x"
    silent.expect_reset()
    end = s.flow_end()
    assert (end["reason"], end["client"]) == ("client-idle", "203.0.113.7:1")
    raw_backend.expect_no_connection(0.05)


def test_with_tls_the_hello_is_the_first_byte(stent, raw_backend, certificates):
    s = stent.route(raw_backend.text, first_byte_timeout="400ms", handshake_timeout="5s", client__tls="require",
                    client__tls_cert=certificates.good.cert, client__tls_key=certificates.good.key)
    silent = s.connect()
    with tls_ends.client_context(certificates).wrap_socket(s.connect().sock, server_hostname="localhost") as tls:
        tls.sendall(b"x")
        backend = raw_backend.accept()
        assert backend.recv_exact(1) == b"x"
        silent.expect_reset()
        assert s.flow_end()["reason"] == "client-idle"
        tls.sendall(b"y")
        assert backend.recv_exact(1) == b"y"
    raw_backend.expect_no_connection(0.05)


def test_kill_and_drain_end_those_that_wait(stent, raw_backend):
    s = stent.route(raw_backend.text, first_byte_timeout="1m")
    first, second = s.connect(), s.connect()
    wait_for(lambda: len(s.ask("flows")) == 2, what="both flows")
    number = next(f["id"] for f in s.ask("flows") if f["client"]["address"] == f"{HOST}:{first.port}")
    assert harness.run_stent("kill", "-c", s.ini_path, number).returncode == 0
    assert s.flow_end()["reason"] == "admin-kill"
    first.expect_reset()
    s.process.terminate()
    assert s.flow_end()["reason"] == "drain"
    second.expect_reset()


def test_a_drain_does_not_wait_for_who_has_said_nothing(stent, raw_backend):
    s = stent.route(raw_backend.text, first_byte_timeout="1m", settings={"drain_timeout": "20s"})
    silent, client = s.connect(), s.connect()
    client.send_all(b"x")
    backend = raw_backend.accept()
    assert backend.recv_exact(1) == b"x"
    time.sleep(1.1)		# a drain tells nobody in its first second
    began = time.monotonic()
    s.signal(signal.SIGTERM)
    silent.expect_reset(timeout=15)
    assert s.flow_end()["reason"] == "drain" and time.monotonic() - began < 15 * harness.SLOW
    client.close()
    backend.expect_fin(timeout=15)


@pytest.mark.plain
def test_two_thousand_silent_clients_do_not_reach_the_backend(stent, echo):
    """They hold no connection to it and little memory, and another client is served meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    clients = []
    try:
        s = stent.route(echo.text, first_byte_timeout="1m")
        with s.connect() as warm:
            warm.send_all(b"x")
            assert warm.recv_exact(1) == b"x"
        s.flow_end()
        before = s.memory()
        clients = [s.connect() for _ in range(2000)]
        wait_for(lambda: s.ask("status")["flows_open"] >= 2000, what="2,000 flows")
        each = (s.memory() - before) / 2000
        assert echo.connections == 1
        assert each < 1200, f"{each:.0f} bytes for each"
        print(f"{each:.0f} bytes for each")
        began = time.monotonic()
        with s.connect() as client:
            client.send_all(b"hello")
            assert client.recv_exact(5) == b"hello"
        assert time.monotonic() - began < 1 * harness.SLOW and echo.connections == 2
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("protocol, status", [("tcp", 0), ("postgres", 0), ("http", 0), ("redis", 0), ("mysql", 2), ("auto", 2)])
def test_protocols_whose_server_speaks_first_are_refused(tmp_path, protocol, status):
    path = tmp_path / "x.ini"
    path.write_text(f"[route t]\nlisten = 127.0.0.1:1\nbackend = 127.0.0.1:2\nprotocol = {protocol}\nfirst_byte_timeout = 3s\n")
    r = harness.run_stent("check", "-c", path)
    assert r.returncode == status, r.stderr
    assert (status == 0) or "first_byte_timeout" in r.stderr and "wait for ever" in r.stderr
    # Of [defaults] it does not apply there.
    path.write_text(f"[defaults]\nfirst_byte_timeout = 3s\n[route t]\nlisten = 127.0.0.1:1\nbackend = 127.0.0.1:2\nprotocol = {protocol}\n")
    r = harness.run_stent("check", "-c", path)
    assert r.returncode == 0 and ("first_byte_timeout = 3s" in r.stdout) == (status == 0), r.stderr
