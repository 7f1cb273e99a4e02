"""A sidecar of a job ends by itself: quit_when_idle, and POST /quitquitquit."""

import os
import time
import urllib.error
import urllib.request

import harness
import pytest
from servers.redis import Redis

TOKEN = "0123456789abcdef0123456789abcdef"


def exchange(peer):
    peer.send_all(b"x")
    assert peer.recv_exact(1) == b"x"


@pytest.mark.workers
def test_it_ends_when_the_last_flow_is_gone_for_long_enough(stent, echo):
    """Health checks before it that connect and close do not count, nor do they keep stent alive."""
    s = stent.route(echo.text, settings={"quit_when_idle": "1s", "workers": "2"})
    deadline = time.monotonic() + 1.6
    while time.monotonic() < deadline:
        s.connect().close()
        time.sleep(0.2)
    assert s.process.poll() is None		# the first flow has not come
    with s.connect() as first:
        exchange(first)
        first.expect_quiet(1.5)			# idle, but open
    with s.connect() as second:
        exchange(second)
    began = time.monotonic()
    for _ in range(4):
        s.connect().close()
        time.sleep(0.15)
    assert s.wait(5) == 0
    assert 0.3 < time.monotonic() - began < 3 * harness.SLOW
    assert s.logged("quit_when_idle: no flow for 1000 ms")


def test_a_server_that_greets_health_checks(stent, raw_backend):
    """The greeting is no sign of a client; one that listens for longer is."""
    s = stent.route(raw_backend.text, settings={"quit_when_idle": "500ms"})
    for _ in range(6):
        with s.connect() as check, raw_backend.accept() as server:
            server.send_all(b"220 hello\r\n")
            check.recv_exact(11)
        time.sleep(0.15)
    assert s.process.poll() is None
    with s.connect() as listens, raw_backend.accept() as server:
        server.send_all(b"220 hello\r\n")
        listens.recv_exact(11)
        listens.expect_quiet(1.5)
    assert s.wait(5) == 0


def test_a_reload_turns_it_on(stent, echo):
    from reloading import reload
    s = stent.route(echo.text)
    with s.connect() as peer:
        exchange(peer)
    reload(s, {"t": {"listen": s.listen[0], "backend": echo.text}}, quit_when_idle="200ms")
    assert s.wait(5) == 0


@pytest.mark.plain
def test_the_sidecar_of_a_job_with_redis(stent):
    """What an entrypoint does: the job runs redis-cli through stent, and then only waits for stent."""
    import subprocess
    server = Redis()
    try:
        s = stent.route(f"127.0.0.1:{server.port}", protocol="redis", settings={"quit_when_idle": f"{int(1000 * harness.SLOW)}ms"})
        for i in range(3):
            done = subprocess.run(["redis-cli", "-p", str(s.port), "incr", "jobs"], capture_output=True, text=True, timeout=20)
            assert done.stdout.strip() == str(i + 1)
            time.sleep(0.2)
        assert s.wait(5) == 0
    finally:
        server.close()


# --- /quitquitquit ---

def ask(port, method="POST", **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/quitquitquit", method=method,
                                     headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=5 * harness.SLOW) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def test_quitquitquit_has_to_be_allowed(stent, echo):
    port = harness.free_port()
    s = stent.route(echo.text, settings={"admin": f"127.0.0.1:{port}"})
    status, text = ask(port)
    assert status == 403 and "admin_quit = on" in text
    assert ask(port, "GET")[0] == 405
    s.expect_no_event("flow end", 0.2)
    assert s.process.poll() is None and not s.logged("^draining")


def test_quitquitquit_drains(stent, echo):
    port = harness.free_port()
    s = stent.route(echo.text, settings={"admin": f"127.0.0.1:{port}", "admin_quit": "on", "admin_token": TOKEN, "drain_timeout": "20s"})
    token = f"Bearer {TOKEN}"
    assert ask(port)[0] == 401
    assert ask(port, "GET", Authorization=token)[0] == 405
    assert ask(port, Authorization=token, Origin="http://evil.example")[0] == 403
    assert ask(port, Host="evil.example.com", Authorization=token)[0] == 403
    peer = s.connect()
    exchange(peer)
    assert not s.logged("^draining")
    assert ask(port, Authorization=token) == (200, "draining\n")
    s.wait_logged("^draining")
    assert ask(port, Authorization=token) == (200, "draining\n")		# said twice is not said louder
    time.sleep(0.2)
    assert not s.logged("drain cut short")
    peer.close()
    assert s.wait(5) == 0


@pytest.mark.plain
def test_quitquitquit_by_curl(stent, echo):
    port = harness.free_port()
    s = stent.route(echo.text, settings={"admin": f"127.0.0.1:{port}", "admin_quit": "on"})
    assert os.system(f"curl -fsS -X POST http://127.0.0.1:{port}/quitquitquit >/dev/null") == 0
    assert s.wait(5) == 0
