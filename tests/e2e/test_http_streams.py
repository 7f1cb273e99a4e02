"""
HTTP answers that come in pieces, with silence between them: heartbeats go into the
silence, and what programs take from the stream stays the same to the byte.
Bytes sent ahead of a backend that then dies are never the end of an answer.
"""

import hashlib
import http.client
import json
import re
import subprocess
import threading
import time

import chromium
import harness
import pytest
from programs import PYTHON, Program
from servers.nginx import Nginx
from servers.streams import EVENTS, NOISE, PIECES

CHUNKS = hashlib.sha256(NOISE[:sum(PIECES)]).hexdigest()
LATE = hashlib.sha256(b"late, but whole\n").hexdigest()
JS, PY = ("node", "clients/http.js"), (PYTHON, "clients/http_python.py")
GETTERS = {
    "node http": [*JS, "http"], "node fetch": [*JS, "fetch"], "requests": [*PY, "requests", "get"],
    "httpx": [*PY, "httpx", "get"], "http.client": [*PY, "http.client", "get"], "aiohttp": [*PY, "aiohttp", "get"],
}
GETTER = pytest.mark.parametrize("getter", ["curl", *(
    name if name in ("node http", "requests") else pytest.param(name, marks=pytest.mark.plain) for name in GETTERS)])


def parsed(text):
    """What EventSource makes of a stream: (type, data, last id) of each event."""
    events, kind, data, last_id = [], "message", [], ""
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if data:
                events.append([kind, "\n".join(data), last_id])
            kind, data = "message", []
        elif name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id":
            last_id = value
    return events


EXPECTED = parsed("".join(EVENTS))


@pytest.fixture(scope="module")
def server():
    port = harness.free_port()
    with Program(PYTHON, "servers/streams.py", port) as program:
        program.wait_line("^ready")
        yield port


def url(s, path):
    return f"http://127.0.0.1:{s.port}{path}"


def curl(address, *options):
    """Its exit status and the body."""
    done = subprocess.run(["curl", "-sSN", "--max-time", "30", *options, address], stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=40 * harness.SLOW)
    return done.returncode, done.stdout


def get(getter, address):
    """{"hash": ...} or {"error": ...}."""
    if getter != "curl":
        with Program(*GETTERS[getter], address) as program:
            return program.result()
    status, body = curl(address)
    return {"error": status} if status else {"status": 200, "hash": hashlib.sha256(body).hexdigest()}


# --- server-sent events ---

@pytest.fixture
def events(stent, server):
    return stent.route(server, protocol="http", client__heartbeat="50ms")


def check_heartbeats(s, least=10, protocol="http"):
    end = s.flow_end()
    assert end["protocol"] == protocol, "the protocol passthrough"
    assert end["client_heartbeats"] >= least
    return end


def test_the_events_are_what_they_should_be():
    """The parser of this file, before others are measured by it."""
    assert [e[0] for e in EXPECTED] == ["message", "named", *["message"] * 4, "last"]
    assert EXPECTED[1] == ["named", "two\nlines", "2"]
    assert EXPECTED[2][1] == "cut in the middle" and EXPECTED[3][1] == "ünï\nand after a line"


def test_curl_sees_events_and_comments(events):
    status, body = curl(url(events, "/events"))
    assert status == 0
    text = body.decode()
    assert parsed(text) == EXPECTED
    end = check_heartbeats(events)
    assert text.split("\n").count(":") == end["client_heartbeats"]
    assert re.sub(r"(?m)^:\n\n?", "", text) == "".join(EVENTS)


def test_the_text_of_the_comment_is_a_setting(stent, server):
    s = stent.route(server, protocol="http", client__heartbeat="50ms", client__heartbeat_text=r'": still here\n"',
                    client__heartbeat_at_start="on")
    status, body = curl(url(s, "/events"))
    assert status == 0
    text = body.decode()
    assert text.startswith(": still here\n") and parsed(text) == EXPECTED
    assert text.replace(": still here\n", "") == "".join(EVENTS)
    check_heartbeats(s)


@pytest.mark.parametrize("library", ["requests", pytest.param("httpx", marks=pytest.mark.plain)])
def test_python_sees_the_events(events, library):
    with Program(*PY, library, "text", url(events, "/events")) as program:
        assert parsed(program.result()["text"]) == EXPECTED
    check_heartbeats(events)


@pytest.mark.plain
def test_node_sees_the_events_alone(events):
    with Program(*JS, "events", url(events, "/events")) as program:
        assert program.result() == {"events": [[kind, data] for kind, data, _ in EXPECTED]}
    check_heartbeats(events)


@pytest.mark.plain
def test_a_page_in_chromium_sees_the_events_alone(events):
    seen, console = chromium.visit("clients/events.html", events.port)
    assert seen == {"events": EXPECTED}
    assert console == ["the page has ended"]
    check_heartbeats(events)


@pytest.mark.parametrize("path", ["/gzip", "/length"])
def test_no_comment_where_none_may_be(events, path):
    """Under a content-coding a comment would be noise, behind a Content-Length a byte too many."""
    status, body = curl(url(events, path), "--compressed")
    assert (status, body.decode()) == (0, "".join(EVENTS))
    assert events.flow_end()["client_heartbeats"] == 0


@pytest.mark.parametrize("head, body, why", [
    ("Content-Encoding: br\r\n", b"\xff\n\n", "compressed event stream"),
    ("Content-Length: 99\r\n", b"data: 1\n\n", "event stream with a Content-Length"),
    ("", b"data: 1\n\ndata: ", "in the middle of a line"),
    ("", b"", "no event has come yet"),
    ("Content-Type: text/plain\r\n", b"data: 1\n\n", "the response is not an event stream"),
])
def test_the_log_says_why_a_stream_gets_no_comment(stent, raw_backend, head, body, why):
    s = stent.route(raw_backend.text, protocol="http", client__heartbeat="50ms")
    client, backend = open_stream(s, raw_backend, head)
    backend.send_all(body)
    assert client.recv_exact(len(body)) == body
    s.next_event("codec note", side="client", note=why)
    client.expect_quiet(0.1)
    backend.close()
    client.close()
    assert s.flow_end()["client_heartbeats"] == 0


def open_stream(s, raw_backend, head=""):
    """A response that has no end but that of the connection; its head has been read."""
    client, backend = s.connect(), raw_backend.accept()
    client.send_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    backend.recv_exact(27)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{head}\r\n".encode()
    backend.send_all(head)
    assert client.recv_exact(len(head)) == head
    return client, backend


def test_a_stream_that_ends_with_the_connection(stent, raw_backend):
    """Comments between its events, and its FIN, as they were sent."""
    s = stent.route(raw_backend.text, protocol="http", client__heartbeat="50ms")
    client, backend = open_stream(s, raw_backend)
    client.expect_quiet(0.15)		# none before the first event
    backend.send_all(b"data: 1\r\n\r\ndata")
    assert client.recv_exact(15) == b"data: 1\r\n\r\ndata"
    client.expect_quiet(0.15)		# none inside a line
    backend.send_all(b": 2\r\n\r\n")
    assert client.recv_exact(14) == b": 2\r\n\r\n:\r\n\r\n:\r"	# its lines end as the stream's do
    backend.send_all(b"data: 3\r\n\r\n")
    backend.half_close()
    rest = client.recv_all()
    assert rest.endswith(b"data: 3\r\n\r\n") and rest.count(b"data") == 1
    client.close()
    assert s.flow_end()["reason"] == "backend-fin"


def test_a_comment_within_an_event_waits_for_the_event_to_end(stent, raw_backend):
    s = stent.route(raw_backend.text, protocol="http", client__heartbeat="400ms")
    client, backend = open_stream(s, raw_backend)
    backend.send_all(b"data: 1\n")
    began = time.monotonic()
    assert client.recv_exact(8 + 2) == b"data: 1\n:\n"	# without an empty line, which would end the event
    assert time.monotonic() - began > 0.6		# twice the interval less its jitter
    backend.send_all(b"\n")
    began = time.monotonic()
    assert client.recv_exact(1 + 3) == b"\n:\n\n"
    assert time.monotonic() - began < 0.6 * harness.SLOW
    client.close()


@pytest.mark.parametrize("on_dead", ["notify", "close"])
def test_a_stream_that_is_cut_off_does_not_look_whole(stent, raw_backend, on_dead):
    s = stent.route(raw_backend.text, protocol="http", on_dead=on_dead)
    client, backend = open_stream(s, raw_backend)
    backend.send_all(b"data: 1\n\n")
    assert client.recv_exact(9) == b"data: 1\n\n"
    backend.reset()
    client.expect_reset()
    assert s.flow_end()["reason"] == "backend-reset"


def test_a_stream_does_not_look_whole_when_stent_is_killed(stent, raw_backend):
    s = stent.route(raw_backend.text, protocol="http")
    client, backend = open_stream(s, raw_backend)
    backend.send_all(b"data: 1\n\n")
    assert client.recv_exact(9) == b"data: 1\n\n"
    s.kill()
    client.expect_reset()


@pytest.mark.parametrize("heartbeat, comes", [("off", False), ("300ms", True)])
def test_events_behind_an_nginx_that_asks_by_http_1_0(stent, raw_backend, heartbeat, comes):
    """Its proxy_read_timeout ends a stream that is quiet; with comments there is no quiet stream."""
    s = stent.route(raw_backend.text, protocol="http", client__heartbeat=heartbeat)
    nginx = Nginx(f"proxy_pass http://127.0.0.1:{s.port}; proxy_buffering off; proxy_read_timeout 2s; proxy_http_version 1.0;")
    try:
        client = harness.connect(nginx.port)
        client.send_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        backend = raw_backend.accept()
        assert backend.recv_some().startswith(b"GET / HTTP/1.0\r\n")
        backend.send_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n")
        time.sleep(3.2)
        try:
            backend.send_all(b"data: 2\n\n")
        except OSError:
            assert not comes
        backend.close()
        assert (b"data: 2\n\n" in client.recv_all()) == comes
        client.close()
    finally:
        nginx.close()


def test_several_streams_on_one_connection(events):
    connection = http.client.HTTPConnection("127.0.0.1", events.port, timeout=20)
    for path in ("/events", "/late", "/events"):
        connection.request("GET", path)
        answer = connection.getresponse().read().decode()
        assert parsed(answer) == EXPECTED if path == "/events" else answer == "late, but whole\n"
    connection.close()
    check_heartbeats(events, 30)


def test_nothing_while_the_connection_is_idle(stent, server):
    s = stent.route(server, protocol="http", heartbeat="20ms", client__heartbeat_kind="early",
                    backend__heartbeat_kind="early")
    client = s.connect()
    client.expect_quiet(0.3)
    client.send_all(b"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n")
    client.expect_quiet(0.1)
    client.send_all(b"hi")
    harness.wait_for(lambda: client.recv_some().endswith(hashlib.sha256(b"hi").hexdigest().encode()), what="the answer")
    client.expect_quiet(0.3)
    client.close()
    assert s.flow_end()["backend_heartbeats"] == 0


def test_protocol_auto_finds_events(stent, server):
    s = stent.route(server, protocol="auto", client__heartbeat="50ms")
    status, body = curl(url(s, "/events"))
    assert status == 0 and parsed(body.decode()) == EXPECTED
    check_heartbeats(s)


# --- bytes ahead ---

@pytest.fixture
def ahead(stent, server):
    return stent.route(server, protocol="http", heartbeat="30ms", client__heartbeat_kind="early",
                       backend__heartbeat_kind="early")


@GETTER
def test_a_body_with_zeros_ahead_is_the_same(ahead, getter):
    assert get(getter, url(ahead, "/chunks")) == {"status": 200, "hash": CHUNKS} | extra(getter)
    check_heartbeats(ahead)


@GETTER
def test_an_answer_with_its_first_bytes_ahead_is_the_same(ahead, getter):
    assert get(getter, url(ahead, "/late")) == {"status": 200, "hash": LATE} | extra(getter)
    assert check_heartbeats(ahead, 3)["client_heartbeats"] <= 7


def extra(getter):
    is_python = getter not in ("curl", "node http", "node fetch")
    return {"sent": hashlib.sha256().hexdigest()} if is_python else {}


@pytest.mark.parametrize("uploader", [[*JS, "upload"], *([*PY, library, "upload"] for library in
                         ("requests", "httpx", "http.client"))], ids=lambda words: words[2])
def test_an_upload_with_zeros_ahead_is_the_same(ahead, uploader):
    with Program(*uploader, url(ahead, "/upload")) as program:
        seen = program.result()
    assert seen["status"] == 200 and seen["text"] == seen["sent"]
    assert ahead.flow_end()["backend_heartbeats"] >= 10


@pytest.mark.parametrize("path", ["/hang", "/never"])
def test_a_backend_killed_with_bytes_ahead_is_an_error_to_all(stent, path):
    """Its kernel says FIN; passed on, some clients would take the stump for the answer."""
    port = harness.free_port()
    with Program(PYTHON, "servers/streams.py", port) as server:
        server.wait_line("^ready")
        s = stent.route(port, protocol="http", client__heartbeat="30ms", client__heartbeat_kind="early")
        clients = {name: Program(*words, url(s, path)) for name, words in GETTERS.items()}
        clients["curl"] = Program("curl", "-sSN", "--max-time", "30", url(s, path))
        try:
            for _ in clients:
                server.wait_line("^hangs")
            time.sleep(0.5)
            server.kill()
            for name, client in clients.items():
                if name == "curl":
                    assert client.process.wait(10 * harness.SLOW) != 0
                else:
                    assert "error" in client.result(10), name
        finally:
            for client in clients.values():
                client.kill()
        for _ in clients:
            assert 0 < s.flow_end()["client_heartbeats"] <= 7 + 7	# before the answer, and in its body


@pytest.mark.plain
def test_a_backend_killed_with_bytes_ahead_is_an_error_to_chromium(stent):
    """Which makes an empty answer with status 200 of "HTTP/1." and a FIN."""
    port = harness.free_port()
    with Program(PYTHON, "servers/streams.py", port) as server:
        server.wait_line("^ready")
        s = stent.route(port, protocol="http", client__heartbeat="30ms", client__heartbeat_kind="early")

        def kill():
            for _ in range(2):
                server.wait_line("^hangs", timeout=30)
            time.sleep(0.5)
            server.kill()
        killer = threading.Thread(target=kill)
        killer.start()
        seen, _ = chromium.visit("clients/death.html", s.port)
        killer.join()
        assert seen == {"never": "error", "hang": "error"}
        assert sum(s.flow_end()["client_heartbeats"] for _ in range(2)) > 7


def test_what_comes_is_not_what_was_sent_ahead(stent, raw_backend):
    """HTTP/0.9, say: the client holds "HTTP/1." already, and nothing can make that right but a reset."""
    s = stent.route(raw_backend.text, protocol="http", client__heartbeat="20ms", client__heartbeat_kind="early")
    client, backend = s.connect(), raw_backend.accept()
    client.send_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert client.recv_exact(7) == b"HTTP/1."
    client.expect_quiet(0.2)
    backend.send_all(b"what?")
    client.expect_reset()
    assert s.flow_end()["client_heartbeats"] == 7


# --- lines of a protocol of one's own ---

PING = {"backend__heartbeat_send": r'"PING\n"', "backend__heartbeat_expect": r'"PONG"'}
NOOP = {"backend__heartbeat_send": r'"NOOP\n"'}
COMMENT = {"client__heartbeat_send": r'"# heartbeat\n"'}
QUESTION = {"client__heartbeat_send": r'"HERE?\n"', "client__heartbeat_expect": r'"HERE!"'}


@pytest.mark.parametrize("backend_keys", [PING, NOOP], ids=["ping", "oneway"])
@pytest.mark.parametrize("client_keys", [QUESTION, COMMENT], ids=["asked", "told"])
def test_lines_of_a_protocol_of_ones_own(stent, backend_keys, client_keys):
    port = harness.free_port()
    with Program(PYTHON, "servers/lines.py", port) as server:
        server.wait_line("^ready")
        s = stent.route(port, protocol="line", heartbeat="20ms", **backend_keys, **client_keys)
        client = s.connect()
        lines, heartbeats = client.sock.makefile("rb"), 0
        for i in range(40):
            command = b"ADD %d %d\n" % (i, i * i)
            client.send_all(command[:4])
            time.sleep(0.04)
            client.send_all(command[4:])
            while (line := lines.readline()) in (b"# heartbeat\n", b"HERE?\n"):
                heartbeats += 1
                if line == b"HERE?\n":
                    client.send_all(b"HERE!\n")
            assert line == b"= %d\n" % (i + i * i)
            time.sleep(0.05)	# some intervals at rest: one goes out only between two lines
        client.send_all(b"COUNT\n")
        while (line := lines.readline()) in (b"# heartbeat\n", b"HERE?\n"):
            heartbeats += 1
            if line == b"HERE?\n":
                client.send_all(b"HERE!\n")
        counts = json.loads(line)
        client.close()
        lines.close()
        end = s.flow_end()
    assert counts["ADD"] == 40 and counts["unknown"] == 0
    assert end["protocol"] == "line" and heartbeats > 5
    assert heartbeats <= end["client_heartbeats"]
    assert 5 < counts["PING"] + counts["NOOP"] <= end["backend_heartbeats"]
    if backend_keys is PING:
        assert end["backend_heartbeats"] - 1 <= end["backend_replies"]
    assert end["client_replies"] == (heartbeats if client_keys is QUESTION else 0)
