"""The HTTP server: who is let in, what it puts up with, and what a peer that misbehaves costs the others."""

import http.client
import json
import re
import socket
import time

import harness
import jsonschema
import pytest
from harness import HOST, ROOT, SLOW, EchoBackend, connect, free_port, run_stent, wait_for

TOKEN = "0123456789abcdef-secret"


class Web:
    """The HTTP side of a stent started with `settings=web.settings`."""

    def __init__(self):
        self.port = free_port()
        self.settings = {"admin": f"{HOST}:{self.port}"}

    def ask(self, path, method="GET", body=None, **headers):
        """(status, headers, body)"""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10 * SLOW)
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, response.headers, text

    def raw(self, data):
        """A connection on which these bytes were sent."""
        peer = connect(self.port, timeout=10)
        peer.send_all(data)
        return peer


@pytest.fixture
def web(stent, echo):
    w = Web()
    w.stent = stent.route(echo.text, settings=w.settings)
    return w


@pytest.fixture
def guarded(stent, echo):
    w = Web()
    w.stent = stent.route(echo.text, settings={**w.settings, "admin_token": TOKEN})
    return w


def is_healthy(web):
    return web.ask("/healthz")[0] == 200


def read_replies(peer, n):
    """The statuses and bodies of n replies with a Content-Length, one after the other on a connection."""
    data, replies = b"", []
    while len(replies) < n:
        while b"\r\n\r\n" not in data:
            data += peer.recv_some(timeout=10)
        head, _, data = data.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        while len(data) < length:
            data += peer.recv_some(timeout=10)
        replies.append((int(head.split()[1]), data[:length]))
        data = data[length:]
    return replies


# --- what is there ---

def test_head_has_the_heads_and_no_body(web):
    for path in ("/", "/status", "/flows", "/metrics", "/healthz", "/readyz", "/none"):
        status, headers, body = web.ask(path, "HEAD")
        got = web.ask(path)
        assert (status, body) == (got[0], "") and headers["Content-Type"] == got[1]["Content-Type"], path
        assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"


def test_page_allows_itself_alone(web):
    _, headers, page = web.ask("/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)


def test_a_long_listing_comes_in_pieces_and_whole(stent, echo):
    w = Web()
    s = stent.route(echo.text, settings=w.settings)
    clients = [s.connect() for _ in range(700)]
    wait_for(lambda: json.loads(w.ask("/status")[2])["flows_open"] == 700, timeout=20, what="700 flows")
    status, headers, body = w.ask("/flows?limit=10000")
    assert status == 200 and headers["Transfer-Encoding"] == "chunked"
    assert len({flow["id"] for flow in json.loads(body)}) == 700
    assert json.loads(w.ask("/flows?limit=0")[2]) == []
    for client in clients:
        client.close()


def agree(web, s, status, why):
    """/readyz and `stent healthcheck --ready` say the same."""
    assert web.ask("/readyz")[::2] == (status, (why or "ok") + "\n")
    done = run_stent("healthcheck", "--ready", "--control", s.control)
    assert (done.returncode, done.stdout, done.stderr) == ((0, "ready\n", "") if why is None else
                                                           (1, "", f"stent healthcheck: not ready: {why}\n"))
    assert s.ask("ready") == ({"ready": True} if why is None else {"ready": False, "why": why})
    jsonschema.validate(s.ask("ready"), json.loads((ROOT / "docs/schemas/ready.json").read_text()))


def test_each_route_needs_a_backend_that_is_not_known_to_be_down(stent, echo):
    """Never used: ready. A backend refuses: not ready, but healthy. It is back: ready, by itself after a time or by a flow."""
    w, later = Web(), free_port()
    s = stent(f"[route one]\nlisten = 127.0.0.1:{free_port()}\nbackend = {echo.text}\n"
              f"[route two]\nlisten = 127.0.0.1:{free_port()}\nbackend = {HOST}:{later}\nretry_after = 1s\n", **w.settings)
    agree(w, s, 200, None)
    with s.connect() as client:
        client.send_all(b"x")
        client.recv_exact(1)
    agree(w, s, 200, None)
    port = int(s.listen[1].rsplit(":", 1)[1])
    with pytest.raises((ConnectionError, AssertionError)):
        connect(port).recv_exact(1)
    agree(w, s, 503, "route two: no backend answers: backend-refused")
    assert is_healthy(w)
    assert run_stent("healthcheck", "--control", s.control).returncode == 0
    with EchoBackend(port=later), connect(port) as client:
        client.send_all(b"x")
        client.recv_exact(1)
        agree(w, s, 200, None)


def test_one_of_several_backends_is_enough(stent, echo):
    w = Web()
    s = stent.route(f"{HOST}:{free_port()}, {echo.text}", settings=w.settings)
    with s.connect() as client:
        client.send_all(b"x")
        client.recv_exact(1)
        assert s.ask("status")["routes"][0]["backends_down"]
        agree(w, s, 200, None)


def test_a_paused_route_is_ready_and_a_drain_is_not(stent, echo):
    w = Web()
    s = stent.route(echo.text, settings={**w.settings, "drain_timeout": "20s"})
    client = s.connect()
    client.send_all(b"x")
    client.recv_exact(1)
    s.ask("pause t")
    agree(w, s, 200, None)
    s.ask("drain")
    agree(w, s, 503, "draining")
    client.close()
    assert s.wait(5) == 0


# --- who is let in ---

@pytest.mark.parametrize("host, status", [
    ("localhost", 200), (HOST, 200), ("[::1]:1", 200), ("rebound.example", 403), ("a b", 403), ("[::1", 403)])
def test_a_name_that_may_be_anothers_is_refused(web, host, status):
    assert web.ask("/status", Host=host)[0] == status
    assert web.ask("/healthz", Host=host)[0] == status


def test_a_host_header_is_needed_once(web):
    for head, status in ((b"GET /healthz HTTP/1.1\r\n\r\n", 400), (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
                         (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400)):
        with web.raw(head) as peer:
            assert peer.recv_some().split()[1] == str(status).encode(), head


def test_a_token_is_needed_but_for_probes(guarded):
    for path in ("/", "/status", "/flows", "/metrics", "/none"):
        status, headers, body = guarded.ask(path)
        assert status == 401 and headers["WWW-Authenticate"].startswith("Bearer"), path
        assert ("<form" in body) == (path == "/")
        for wrong in (TOKEN[:-1], TOKEN + "x", "", "x" * len(TOKEN)):
            assert guarded.ask(path, Authorization=f"Bearer {wrong}")[0] == 401, (path, wrong)
        assert guarded.ask(path, Authorization=f"Bearer {TOKEN}")[0] == (404 if path == "/none" else 200)
    assert guarded.ask("/healthz")[0] == guarded.ask("/readyz")[0] == 200
    assert guarded.ask("/status", Authorization=f"Basic {TOKEN}")[0] == 401
    assert TOKEN not in guarded.ask("/status", Authorization=f"Bearer {TOKEN}")[2]


def test_a_browser_gets_a_cookie_for_the_token(guarded):
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    for wrong in ("token=wrong", "tok=x", "", f"xtoken={TOKEN}"):
        status, headers, _ = guarded.ask("/login", "POST", wrong, **form)
        assert (status, headers["Location"], headers["Set-Cookie"]) == (303, "/#wrong", None), wrong
    status, headers, _ = guarded.ask("/login", "POST", "a=b&token=" + TOKEN.replace("-", "%2d"), **form)
    assert (status, headers["Location"]) == (303, "/")
    cookie, *attributes = headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} == set(attributes)
    assert TOKEN not in cookie
    assert guarded.ask("/status", Cookie=cookie)[0] == 200
    assert guarded.ask("/status", Cookie=cookie[:-1] + ("0" if cookie[-1] != "0" else "1"))[0] == 401
    assert guarded.ask("/status", Cookie=cookie.split("=")[0] + "=")[0] == 401

    status, headers, _ = guarded.ask(f"/?token={TOKEN}")
    by_link = headers["Set-Cookie"].split("; ")[0]
    assert status == 200 and by_link != cookie and guarded.ask("/", Cookie=by_link)[0] == 200
    assert guarded.ask("/?token=wrong-wrong-wrong-wrong")[0] == 401
    assert guarded.ask(f"/status?token={TOKEN}")[0] == 401, "a token in the address is for logging in"


def test_a_body_that_is_no_form_is_refused(guarded):
    assert guarded.ask("/login", "POST", "x" * 5000)[0] == 413
    assert guarded.ask("/status", "POST", "x", Authorization=f"Bearer {TOKEN}")[0] == 405
    assert is_healthy(guarded)


@pytest.mark.parametrize("address", ["0.0.0.0:9464", ":9464", "[::]:9464", "192.0.2.1:9464"])
def test_an_address_that_others_reach_needs_a_token(tmp_path, address):
    ini = tmp_path / "stent.ini"

    def check(*lines):
        ini.write_text("\n".join(["[stent]", f"admin = {address}", *lines, "[route r]", "listen = 127.0.0.1:1", "backend = b:2", ""]))
        return run_stent("check", "-c", ini)
    done = check()
    assert done.returncode == 2 and f'{ini}:2: admin: other hosts may reach "{address}"' in done.stderr
    assert check(f"admin_token = {TOKEN}").returncode == 0
    for wrong in ("short", "0123456789 abcdef", "x" * 129):
        done = check(f"admin_token = {wrong}")
        assert done.returncode == 2 and f"{ini}:3: admin_token: " in done.stderr and done.stderr.count("\n") == 1


# --- those that misbehave ---

def test_requests_sent_at_once_are_answered_in_order(web):
    with web.raw(b"".join(b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % p for p in (b"healthz", b"none", b"readyz"))) as peer:
        replies = read_replies(peer, 3)
    assert [status for status, _ in replies] == [200, 404, 200]


def test_a_byte_at_a_time_has_a_deadline(web):
    began = time.monotonic()
    with web.raw(b"GET /healthz HTTP/1.1\r\nX: ") as peer:
        try:
            while time.monotonic() - began < 8 * SLOW:
                peer.send_all(b"x")
                time.sleep(0.1)
        except OSError:
            pass
    assert 1.5 < time.monotonic() - began < 5 * SLOW
    assert is_healthy(web)


def test_an_idle_connection_has_one_too(web):
    with web.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") as peer:
        assert read_replies(peer, 1)[0][0] == 200
        began = time.monotonic()
        peer.expect_fin(timeout=15)
        assert time.monotonic() - began > 8


@pytest.mark.parametrize("request_text", [
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
    b"GET /" + b"x" * 100000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=["a long header", "many headers", "a long path"])
def test_a_long_head_is_refused(web, request_text):
    with connect(web.port, timeout=10) as peer:
        try:
            peer.send_all(request_text)
        except OSError:
            pass
        assert peer.recv_all().split()[1] in (b"431", b"414")
    assert is_healthy(web)


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"nonsense\r\n\r\n", b"\0" * 3000, b"\r\n" * 3000,
                                  b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
                                  b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
                         ids=["TLS", "no request", "NULs", "empty lines", "a length below 0", "a broken chunk"])
def test_what_is_no_request_harms_nobody(web, junk):
    with web.raw(junk) as peer:
        peer.half_close()
        try:
            said = peer.recv_all()
        except OSError:
            said = b""
        assert not said or said.split()[1] == b"400", said
    assert is_healthy(web)


def test_many_connections_end_the_oldest_not_the_service(web):
    before = web.stent.fds()
    peers = [web.raw(b"GET /hea") for _ in range(300)]
    assert is_healthy(web)
    assert web.stent.fds() - before < 80
    for peer in peers:
        peer.close()
    wait_for(lambda: web.stent.fds() <= before, timeout=10, what="the descriptors to be free")


def test_a_reader_that_stops_holds_up_nobody(stent, echo):
    """It asks for a long listing again and again, and reads none."""
    w = Web()
    s = stent.route(echo.text, settings=w.settings)
    clients = [s.connect() for _ in range(500)]
    wait_for(lambda: json.loads(w.ask("/status")[2])["flows_open"] == 500, timeout=20)
    deaf = [connect(w.port, rcvbuf=2048) for _ in range(20)]
    for peer in deaf:
        peer.send_all(b"GET /flows?limit=10000 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
    for _ in range(5):
        assert is_healthy(w)
        began = time.monotonic()
        clients[0].send_all(b"x")
        clients[0].recv_exact(1)
        assert time.monotonic() - began < 0.5 * SLOW
    for peer in deaf + clients:
        peer.close()
    assert len(json.loads(wait_for(lambda: (got := w.ask("/flows?limit=5"))[0] == 200 and got[2], timeout=10))) <= 5
