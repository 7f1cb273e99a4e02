"""
WebSocket and event streams over TLS, as programs speak them: node's ws, python's websockets, curl and Chromium through
stent with TLS on one leg or both, and heartbeats each 20 ms inside. Every program verifies the certificate that it is
shown, with the CA of these tests. The conversations are those of test_websocket.py and test_http_streams.py.
"""

import re
import subprocess

import chromium
import harness
import pytest
import test_http_streams
import test_websocket
import tls_ends
from programs import PYTHON, Program
from servers.streams import EVENTS

EXPECTED = test_http_streams.EXPECTED
SERVERS = {**test_websocket.SERVERS, "events": [PYTHON, "servers/streams.py"]}


@pytest.fixture(scope="module")
def servers(certificates):
    """(server, compressed, with TLS) -> its port; each is started when first wanted."""
    running = {}

    def port(name, compressed, tls):
        key = name, compressed, tls
        if key not in running:
            number = harness.free_port()
            env = {"TLS_CERT": str(certificates.good.cert), "TLS_KEY": str(certificates.good.key)} if tls else {}
            program = Program(*SERVERS[name], number, "yes" if compressed else "no", env=env)
            program.wait_line("^ready")
            running[key] = program, number
        return running[key][1]
    yield port
    for program, _ in running.values():
        program.kill()


@pytest.fixture
def through(stent, servers, certificates):
    """through("both", "ws") -> a stent with TLS on those legs, before that server."""
    def start(legs, server, compressed=False, protocol="websocket", **keys):
        port = servers(server, compressed, legs != "client")
        return stent.route(port, protocol=protocol, **tls_ends.keys(certificates, legs), **keys)
    return start


def trusting(certificates, legs, scheme):
    """The environment of a client of a route with TLS on those legs."""
    if legs == "backend":
        return {}
    return {"SCHEME": scheme, "SSL_CERT_FILE": str(certificates.ca), "NODE_EXTRA_CA_CERTS": str(certificates.ca)}


def check_tls(end, legs):
    """The end of a flow tells TLS on those legs, and on no other."""
    for side in ("client", "backend"):
        if legs in (side, "both"):
            assert end[f"{side}_tls"].startswith("TLSv1.3 ")
        else:
            assert f"{side}_tls" not in end


# --- WebSocket ---

@pytest.mark.parametrize("legs, client, server, compressed, kind", [
    ("both", "ws", "ws", True, "ping"), ("both", "websockets", "websockets", False, "ping"),
    *(pytest.param(*words, marks=pytest.mark.plain) for words in [
        ("client", "websockets", "ws", True, "oneway"), ("client", "ws", "websockets", False, "ping"),
        ("backend", "ws", "websockets", True, "ping"), ("backend", "websockets", "ws", False, "oneway"),
    ]),
])
def test_libraries_converse(through, certificates, legs, client, server, compressed, kind):
    s = through(legs, server, compressed, heartbeat="20ms", heartbeat_kind=kind)
    with Program(*test_websocket.CLIENTS[client], s.port, env=trusting(certificates, legs, "wss")) as program:
        seen = program.result()
    test_websocket.check_conversation(seen, compressed)
    assert seen["messages"] == test_websocket.EXCHANGES
    assert seen["pongs"] == {f"client {size}": 1 for size in test_websocket.SIZES}, "each ping of the client is answered once"
    end = s.flow_end()
    test_websocket.check_heartbeats(end, kind)
    check_tls(end, legs)


@pytest.mark.plain
@pytest.mark.parametrize("legs, server, compressed", [("client", "websockets", True), ("both", "ws", False)])
def test_a_page_in_chromium_converses(through, certificates, legs, server, compressed):
    s = through(legs, server, compressed, heartbeat="20ms", heartbeat_kind="ping")
    seen, console = chromium.visit("clients/websocket.html", f"{s.port}&tls", ca=certificates.ca)
    test_websocket.check_conversation(seen, compressed)
    assert seen["messages"] == 2 * len(test_websocket.SIZES)
    assert console == ["the page has ended"]
    end = s.flow_end()
    test_websocket.check_heartbeats(end, "ping")
    check_tls(end, legs)


def test_protocol_auto_finds_websocket_inside(through, certificates):
    s = through("both", "ws", protocol="auto", heartbeat="50ms")
    with Program(*test_websocket.CLIENTS["websockets"], s.port, env=trusting(certificates, "both", "wss")) as program:
        test_websocket.check_conversation(program.result(), False)
    test_websocket.check_heartbeats(s.flow_end(), "ping")


# --- event streams ---

def curl(s, certificates, legs, *options):
    """(the body, the version of HTTP) of the stream."""
    scheme = "http" if legs == "backend" else "https"
    done = subprocess.run(["curl", "-sSN", "--fail", "--max-time", "30", "--cacert", certificates.ca, "-w", "%{stderr}%{http_version}", *options,
                           f"{scheme}://127.0.0.1:{s.port}/events"], capture_output=True, timeout=40 * harness.SLOW)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("legs, protocol", [
    ("both", "http"), ("both", "auto"), *(pytest.param(*words, marks=pytest.mark.plain) for words in [("client", "sse"), ("backend", "http")])])
def test_curl_sees_events_and_comments(through, certificates, legs, protocol):
    """And speaks HTTP/1.1, though it offers HTTP/2 first."""
    s = through(legs, "events", protocol=protocol, client__heartbeat="20ms")
    text, version = curl(s, certificates, legs, *(["--http2"] if legs != "backend" else []))
    assert version == "1.1"
    assert test_http_streams.parsed(text) == EXPECTED
    assert re.sub(r"(?m)^:\n\n?", "", text) == "".join(EVENTS)
    end = test_http_streams.check_heartbeats(s, protocol="http" if protocol == "auto" else protocol)
    assert text.split("\n").count(":") == end["client_heartbeats"]
    check_tls(end, legs)


@pytest.mark.plain
@pytest.mark.parametrize("legs", [pytest.param("client", marks=pytest.mark.long), "both"])
def test_a_page_in_chromium_sees_the_events_alone(through, certificates, legs):
    s = through(legs, "events", protocol="http", client__heartbeat="20ms")
    seen, console = chromium.visit("clients/events.html", f"{s.port}&tls", ca=certificates.ca)
    assert seen == {"events": EXPECTED}
    assert console == ["the page has ended"]
    check_tls(test_http_streams.check_heartbeats(s), legs)


@pytest.mark.plain
def test_node_sees_the_events_alone(through, certificates):
    s = through("both", "events", protocol="http", client__heartbeat="20ms")
    with Program("node", "clients/http.js", "events", f"https://127.0.0.1:{s.port}/events",
                 env=trusting(certificates, "both", "https")) as program:
        assert program.result() == {"events": [[kind, data] for kind, data, _ in EXPECTED]}
    test_http_streams.check_heartbeats(s)


@pytest.mark.plain
def test_a_browser_that_does_not_know_the_ca_is_told_by_the_log(through, certificates):
    """So the browser of the other tests did look at the certificate."""
    s = through("client", "events", protocol="http", client__heartbeat="20ms")
    seen, _ = chromium.visit("clients/events.html", f"{s.port}&tls", ca=certificates.other_ca)
    assert seen == {"error": "the stream broke", "events": []}
    assert s.flow_end()["reason"] == "client-tls"
