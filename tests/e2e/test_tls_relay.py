"""
What only TLS has, in the relay: a close_notify that is missing, records that are broken, handshakes that fail, stop, or
come in pieces; what is said inside TLS at the end; what the log and the listing tell of it.
"""

import contextlib
import re
import signal
import socket
import ssl
import struct
import threading
import time

import harness
import pytest
import tls_ends
from frames import CLOSE, WebSocket, upgrade
from pgwire import message, query

SIDES = pytest.mark.parametrize("side", ["client", "backend"])
LEGS = pytest.mark.parametrize("legs", tls_ends.LEGS)
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"		# the beginning of a ClientHello


@pytest.fixture
def route(tmp_path, certificates):
    """route(legs, backend, ...): a stent with TLS on those legs."""
    starters = []

    def start(legs, backend, **keys):
        starters.append(tls_ends.TlsStarter(tmp_path, certificates, legs))
        return starters[-1].route(backend, **keys)
    yield start
    for starter in starters:
        starter.finish()


@pytest.fixture
def tls_backend(certificates):
    with tls_ends.TlsBackend(certificates) as backend:
        yield backend


@pytest.fixture
def make_flow(route, certificates):
    """make_flow(legs): stent, the client's end, the backend's end."""
    with contextlib.ExitStack() as stack:
        def make(legs, **keys):
            backend = stack.enter_context(harness.RawBackend() if legs == "client" else tls_ends.TlsBackend(certificates))
            s = route(legs, backend.text, **keys)
            return s, s.connect(), backend.accept()
        yield make


def both_ends(make_flow, side, legs=None):
    """stent, the end on that side, with TLS, and the other."""
    s, client, server = make_flow(legs or side)
    return (s, client, server) if side == "client" else (s, server, client)


# --- the end of a stream ---

@SIDES
@pytest.mark.parametrize("both", [False, True], ids=["the other is plain", "both"])
def test_a_fin_without_a_close_notify_is_passed_on_and_logged(make_flow, side, both):
    s, a, b = both_ends(make_flow, side, "both" if both else None)
    a.send_all(b"half a mess")
    a.truncate()
    assert b.recv_all() == b"half a mess"
    b.send_all(b"still here")
    assert a.recv_exact(10) == b"still here"
    b.close()
    a.expect_fin()
    end = s.flow_end()
    assert (end["reason"], end["truncated"]) == (f"{side}-fin", side)


@LEGS
def test_an_orderly_end_is_not_called_truncated(make_flow, legs):
    s, client, server = make_flow(legs)
    client.half_close()
    server.expect_fin()
    server.close()
    client.expect_fin()
    end = s.flow_end()
    assert end["reason"] == "client-fin" and "truncated" not in end and "cause" not in end


@SIDES
def test_a_close_notify_alone_is_an_end(make_flow, side):
    s, a, b = both_ends(make_flow, side)
    a.sock._notify()
    b.expect_fin()
    b.send_all(b"goes on")
    assert a.recv_exact(7) == b"goes on"
    b.close()
    a.expect_fin()
    assert s.flow_end()["reason"] == f"{side}-fin"


# --- failures in the middle ---

@SIDES
def test_a_record_that_is_none_resets_the_other_side(make_flow, side):
    """As after a reset: what came before is delivered, and the end is not an orderly one."""
    s, a, b = both_ends(make_flow, side)
    a.send_all(b"before")
    assert b.recv_exact(6) == b"before"
    a.sock.raw.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    b.expect_reset()
    with pytest.raises(ssl.SSLError, match="(?i)bad.record.mac"):
        a.recv_some()			# the alert arrives
    end = s.flow_end()
    assert end["reason"] == f"{side}-tls" and end["cause"], end


@SIDES
def test_an_alert_ends_the_flow(make_flow, side):
    s, a, b = both_ends(make_flow, side)
    a.sock.raw.sendall(b"\x15\x03\x03\x00\x02\x02\x28")		# plain: what a broken peer may send
    b.expect_reset()
    assert s.flow_end()["reason"] == f"{side}-tls"


# --- handshakes ---

@pytest.mark.parametrize("sent", [b"", HELLO], ids=["nothing", "a part"])
def test_a_client_that_stops_in_its_handshake(route, raw_backend, sent):
    s = route("client", raw_backend.text, handshake_timeout="300ms")
    with s.plain_connect() as client:
        client.send_all(sent)
        began = time.monotonic()
        client.expect_fin()
        assert 0.2 < time.monotonic() - began < 2 * harness.SLOW
    end = s.flow_end()
    assert (end["reason"], end["cause"]) == ("client-tls", "no complete handshake within 300 ms")
    raw_backend.expect_no_connection()


@pytest.mark.parametrize("how, word", [("half_close", "closed"), ("reset", "reset")])
def test_a_client_that_leaves_within_its_handshake_is_not_waited_for(route, raw_backend, how, word):
    """Its first bytes and its end are one edge."""
    s = route("client", raw_backend.text)
    s.signal(signal.SIGSTOP)
    with s.plain_connect() as client:
        client.send_all(HELLO)
        getattr(client, how)()
        s.signal(signal.SIGCONT)
        end = s.flow_end()
    assert end["reason"] in ("client-tls", "client-reset") and end["seconds"] < 1 * harness.SLOW
    assert end["reason"] == "client-reset" or word in end["cause"], end


def test_a_backend_that_stops_in_its_handshake(route, raw_backend):
    s = route("backend", raw_backend.text, handshake_timeout="1s")
    with s.connect() as client, raw_backend.accept() as server:
        assert server.recv_some()[:1] == b"\x16"
        client.expect_reset()
    end = s.flow_end()
    assert (end["reason"], end["cause"]) == ("backend-tls", "no complete handshake within 1 s")


def test_a_client_that_does_not_speak_tls(route, raw_backend):
    s = route("client", raw_backend.text)
    with s.plain_connect() as client:
        client.send_all(b"GET / HTTP/1.0\r\n\r\n")
        client.recv_all()		# perhaps an alert, and a FIN
    end = s.flow_end()
    assert end["reason"] == "client-tls" and end["cause"], end
    raw_backend.expect_no_connection()


def test_a_backend_that_does_not_speak_tls(route, raw_backend):
    s = route("backend", raw_backend.text)
    with s.connect() as client, raw_backend.accept() as server:
        server.send_all(b"220 ready\r\n")
        client.expect_reset()
    end = s.flow_end()
    assert end["reason"] == "backend-tls" and end["cause"], end


@pytest.mark.parametrize("what, word", [("wrong_name", "name|certificate is for"), ("expired", "expired"), ("self_signed", "self.signed")])
def test_a_backend_whose_certificate_is_wrong(route, certificates, what, word):
    with tls_ends.TlsBackend(certificates, getattr(certificates, what)) as backend:
        s = route("backend", backend.text)
        with s.connect() as client:
            with pytest.raises(ssl.SSLError):
                backend.accept()
            client.expect_reset()
        end = s.flow_end()
        assert end["reason"] == "backend-tls"
        assert re.search(word, end["cause"]), end


@pytest.mark.parametrize("how, reason", [("close", "client-fin"), ("reset", "client-reset")])
def test_a_health_check_costs_no_connection_to_the_backend(route, raw_backend, how, reason):
    s = route("client", raw_backend.text)
    for _ in range(3):
        getattr(s.plain_connect(), how)()
        end = s.flow_end()
        assert end["reason"] == reason and end["level"] == "info", end
    raw_backend.expect_no_connection()


def test_a_client_that_leaves_while_the_backend_shakes_hands(route, raw_backend):
    s = route("backend", raw_backend.text)
    with s.connect() as client, raw_backend.accept() as server:
        server.recv_some()
        client.reset()
        server.expect_reset()
    assert s.flow_end()["reason"] == "client-reset"


@LEGS
def test_an_unreachable_backend_is_told_by_a_reset(route, legs):
    s = route(legs, f"127.0.0.1:{harness.free_port()}")
    with contextlib.suppress(ConnectionResetError):	# which may come as early as that
        s.connect().expect_reset()
    assert s.flow_end()["reason"] == "backend-refused"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_handshake_in_single_bytes(route, certificates, version, monkeypatch):
    """Of both legs; and what the client sends with its last message comes, too."""
    def slowly(sock, data):
        for i in range(len(data)):
            sock.send(data[i:i + 1])

    class Slow(socket.socket):
        def sendall(self, data):
            slowly(self, data)

    def slow(sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Slow(fileno=sock.detach())
    with harness.RawBackend() as backend:
        s = route("both", backend.text)
        client = slow(s.plain_connect().sock)
        ends = {}
        thread = threading.Thread(target=lambda: ends.update(client=tls_ends.TlsSocket(
            client, tls_ends.client_context(certificates, version=version), False, "localhost")))
        thread.start()
        server = tls_ends.TlsSocket(slow(backend.accept(10).sock), tls_ends.server_context(certificates, version=version), True)
        thread.join()
        a, b = tls_ends.TlsPeer(ends["client"]), tls_ends.TlsPeer(server)
        a.send_all(b"question")
        assert b.recv_exact(8) == b"question"
        b.send_all(b"answer")
        assert a.recv_exact(6) == b"answer"
        b.close()
        a.expect_fin()
        a.close()


def test_bytes_that_came_with_the_handshake_wait_for_the_backend(route):
    with harness.BlackHole() as hole:
        s = route("client", hole.text, connect_timeout="10s")
        client = s.connect()
        client.send_all(b"early")
        client.half_close()
        time.sleep(0.3)
        hole.open()
        peer = hole.accept(timeout=8)
        assert peer.recv_all() == b"early"
        peer.send_all(b"late")
        peer.close()
        assert client.recv_all() == b"late"


# --- what is said at the end, and of it ---

@LEGS
def test_a_close_message_goes_inside_tls(make_flow, legs):
    s, client, server = make_flow(legs, protocol="websocket")
    upgrade(client, server)
    ends = [WebSocket(client, masks=True), WebSocket(server, masks=False)]
    flow = s.ask("flows")[0]
    s.ask(f"kill {flow['id']}")
    for ws in ends:
        assert ws.read()[0] == CLOSE
        ws.peer.expect_fin()
        ws.peer.close()
    assert s.flow_end()["reason"] == "admin-kill"


@LEGS
def test_an_idle_flow_and_a_drain_end_by_a_reset(make_flow, legs):
    s, client, server = make_flow(legs, idle_timeout="300ms")
    client.expect_reset()
    server.expect_reset()
    assert s.flow_end()["reason"].endswith("-idle")
    client, server = s.connect(), None
    s.stop()
    client.expect_reset()


@LEGS
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_the_log_and_the_listing_tell_version_and_cipher(make_flow, certificates, route, legs, version):
    number = ssl.TLSVersion[version.replace(".", "_")]
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(harness.RawBackend() if legs == "client" else tls_ends.TlsBackend(certificates, version=number))
        s = route(legs, backend.text)
        client = s.connect() if legs == "backend" else tls_ends.connect(s, certificates, version=number)
        server = backend.accept()
        client.send_all(b"x")
        server.recv_exact(1)
        flow = s.ask("flows")[0]
        client.close()
        server.close()
        end = s.flow_end()
        for side, peer in (("client", client), ("backend", server)):
            if legs not in (side, "both"):
                assert flow[side]["tls"] is None and f"{side}_tls" not in end
                continue
            assert (flow[side]["tls"], flow[side]["cipher"]) == (version, peer.sock.ssl.cipher()[0])
            assert flow[side]["resumed"] is False
            assert end[f"{side}_tls"] == f"{version} {peer.sock.ssl.cipher()[0]}"


def test_a_session_with_the_backend_is_resumed(make_flow, tls_backend, route):
    s = route("backend", tls_backend.text)
    found = []
    for _ in range(2):
        client, server = s.connect(), tls_backend.accept()
        server.send_all(b"its ticket comes before this")
        client.recv_exact(28)
        client.half_close()
        server.expect_fin()
        server.close()
        found.append(s.flow_end()["backend_tls"].endswith(" resumed"))
    assert found == [False, True]


@pytest.mark.parametrize("legs", ["client", "backend"])
def test_a_flow_can_be_killed_in_its_handshake(route, raw_backend, legs):
    s = route(legs, raw_backend.text)
    client = s.connect() if legs == "backend" else s.plain_connect()
    client.send_all(HELLO)
    if legs == "backend":
        raw_backend.accept()
    flow = harness.wait_for(lambda: s.ask("flows"))[0]
    assert flow["state"] == "connecting"
    s.ask(f"kill {flow['id']}")
    client.expect_reset()
    assert s.flow_end()["reason"] == "admin-kill"
    with s.connect() if legs == "backend" else s.plain_connect() as client:	# and one is there when it stops
        client.send_all(HELLO)
        harness.wait_for(lambda: s.ask("flows"))
        s.stop()


# --- cancel requests ---

def test_a_cancel_request_goes_over_tls(route, certificates):
    """As the flow did: it asks by SSLRequest, verifies, and sends the request inside."""
    cancel, ssl_request = 80877102, struct.pack(">II", 8, 80877103)
    with harness.RawBackend() as backend:
        def accept():
            peer = backend.accept()
            assert peer.recv_exact(8) == ssl_request
            peer.send_all(b"S")
            return tls_ends.TlsPeer(tls_ends.TlsSocket(peer.sock, tls_ends.server_context(certificates), True))
        s = route("backend", backend.text, protocol="postgres")
        client = s.connect()
        body = b"user\0me\0\0"
        client.send_all(struct.pack(">II", len(body) + 8, 196608) + body)
        server = accept()
        assert server.recv_exact(len(body) + 8)[8:] == body
        server.send_all(message(b"R", bytes(4)) + message(b"K", struct.pack(">II", 4242, 7)) + message(b"Z", b"I"))
        client.recv_exact(9 + 13 + 6)
        client.send_all(query("select pg_sleep(99)"))
        assert server.recv_exact(25)[:1] == b"Q"
        client.reset()
        canceller = accept()
        assert canceller.recv_exact(16) == struct.pack(">IIII", 16, cancel, 4242, 7)
        canceller.close()
        server.expect_reset()


# --- many ---

@pytest.mark.parametrize("legs", [pytest.param(legs, marks=[] if legs == "both" else pytest.mark.plain) for legs in tls_ends.LEGS])
def test_many_flows_at_once(route, certificates, legs):
    n = 500
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(
            harness.RawBackend(backlog=1024) if legs == "client" else tls_ends.TlsBackend(certificates, backlog=1024))
        s = route(legs, backend.text, settings={"log_level": "info"})
        context = tls_ends.client_context(certificates)
        pairs = []
        for _ in range(n):
            client = stack.enter_context(s.connect() if legs == "backend" else tls_ends.connect(s, certificates, context=context))
            pairs.append((client, backend.accept()))
        for i, (client, server) in enumerate(pairs):
            client.send_all(b"to %06d" % i)
            server.send_all(b"from %06d" % i)
        for i, (client, server) in enumerate(pairs):
            assert server.recv_exact(9) == b"to %06d" % i
            assert client.recv_exact(11) == b"from %06d" % i
        for client, server in pairs:
            client.half_close()
            server.expect_fin()
            server.close()
        for _ in pairs:
            assert s.flow_end(timeout=10)["reason"] == "client-fin"


@LEGS
def test_the_listings_for_people_show_tls(make_flow, legs):
    s, client, server = make_flow(legs)
    for words in (["flows"], ["top", "--once"]):
        head, row = harness.run_stent(*words, "--control", s.control).stdout.splitlines()
        for side in ("client", "backend"):
            column = head.index(f"{side.upper()} TLS")
            assert row[column:].startswith("TLSv1.3" if legs in (side, "both") else "-")
