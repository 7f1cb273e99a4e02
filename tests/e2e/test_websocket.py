"""
WebSocket as programs speak it: node's ws, python's websockets and aiohttp, and
Chromium talk through stent while it heartbeats both sides every 20 ms. What each side
received is what was sent, and of the heartbeats nobody's messages tell.
"""

import os
import threading
import time

import chromium
import harness
import pytest
from frames import BINARY, CLOSE, CONTINUATION, PING, PONG, REQUEST, RESPONSE, TEXT, WebSocket, upgrade
from programs import PYTHON, Program

SERVERS = {"ws": ["node", "servers/websocket.js"], "websockets": [PYTHON, "servers/websocket_python.py"],
           "aiohttp": [PYTHON, "servers/websocket_aiohttp.py"]}
CLIENTS = {"ws": ["node", "clients/websocket.js"], "websockets": [PYTHON, "clients/websocket_python.py"],
           "aiohttp": [PYTHON, "clients/websocket_aiohttp.py"]}
SIDES = pytest.mark.parametrize("side", ["client", "backend"])
SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20]
EXCHANGES = 3 * len(SIZES)
SERVER_PINGS = {f"server {i}": 1 for i in range(5)}
OTHER = {"client": "backend", "backend": "client"}


@pytest.fixture(scope="module")
def servers():
    """(server, compressed) -> its port; each is started when first wanted."""
    running = {}

    def port(name, compressed):
        if (name, compressed) not in running:
            number = harness.free_port()
            program = Program(*SERVERS[name], number, "yes" if compressed else "no")
            program.wait_line("^ready")
            running[name, compressed] = program, number
        return running[name, compressed][1]
    yield port
    for program, _ in running.values():
        program.kill()


def route(stent, port, heartbeat="20ms", kind="ping", **keys):
    return stent.route(port, protocol="websocket", heartbeat=heartbeat, heartbeat_kind=kind, **keys)


def check_conversation(seen, compressed):
    assert seen["wrong"] == []
    assert ("permessage-deflate" in seen["extensions"]) == compressed
    assert seen["server"] == SERVER_PINGS, "each ping of the server is answered once"
    assert (seen["code"], seen["reason"]) == (4321, "as agreed")


def check_heartbeats(end, kind):
    assert end["protocol"] == "websocket", "the protocol passthrough"
    for side in ("client", "backend"):
        heartbeats, answers = end[f"{side}_heartbeats"], end[f"{side}_replies"]
        assert heartbeats > 5
        if kind == "ping":	# a tell while an application's own ping waits, and the last ask, have no answer
            assert 5 < answers <= heartbeats
        else:
            assert answers == 0


@pytest.mark.parametrize("client, server, compressed, kind", [
    ("ws", "ws", True, "ping"), ("websockets", "websockets", False, "oneway"), ("websockets", "aiohttp", False, "ping"),
    *(pytest.param(*words, marks=pytest.mark.plain) for words in [
        ("ws", "ws", False, "oneway"), ("ws", "websockets", False, "ping"), ("ws", "websockets", True, "oneway"),
        ("websockets", "ws", False, "ping"), ("websockets", "ws", True, "oneway"), ("websockets", "websockets", True, "ping"),
        ("aiohttp", "ws", False, "ping"), ("aiohttp", "aiohttp", True, "ping"),
        ("ws", "aiohttp", False, "oneway"),	# aiohttp 3.8 takes no ping within a compressed message of several frames, whoever sends it
    ]),
])
def test_libraries_converse(stent, servers, client, server, compressed, kind):
    s = route(stent, servers(server, compressed), kind=kind)
    with Program(*CLIENTS[client], s.port) as program:
        seen = program.result()
    check_conversation(seen, compressed)
    assert seen["messages"] == EXCHANGES
    assert seen["pongs"] == {f"client {size}": 1 for size in SIZES}, "each ping of the client is answered once"
    check_heartbeats(s.flow_end(), kind)


def test_two_stents_in_a_row(stent, servers):
    """Each takes out the pongs for its own pings, and passes on the other's and the application's."""
    inner = route(stent, servers("ws", True))
    outer = route(stent, inner.port)
    with Program(*CLIENTS["websockets"], outer.port) as program:
        seen = program.result()
    check_conversation(seen, True)
    assert seen["pongs"] == {f"client {size}": 1 for size in SIZES}
    for s in (inner, outer):
        end = s.flow_end()
        assert end["protocol"] == "websocket" and min(end["client_replies"], end["backend_replies"]) > 0


@pytest.mark.plain
@pytest.mark.parametrize("server, compressed, kind", [("ws", True, "ping"), ("websockets", False, "oneway")])
def test_a_page_in_chromium_converses(stent, servers, server, compressed, kind):
    s = route(stent, servers(server, compressed), kind=kind)
    seen, console = chromium.visit("clients/websocket.html", s.port)
    check_conversation(seen, compressed)
    assert seen["messages"] == 2 * len(SIZES)
    assert console == ["the page has ended"]
    check_heartbeats(s.flow_end(), kind)


def test_protocol_auto_finds_it(stent, servers):
    s = stent.route(servers("ws", True), protocol="auto", heartbeat="50ms")
    with Program(*CLIENTS["websockets"], s.port) as program:
        check_conversation(program.result(), True)
    check_heartbeats(s.flow_end(), "ping")


def test_an_upgrade_on_a_route_of_http(stent, servers):
    s = stent.route(servers("websockets", True), protocol="http", heartbeat="50ms")
    with Program(*CLIENTS["ws"], s.port) as program:
        check_conversation(program.result(), True)
    check_heartbeats(s.flow_end(), "ping")


# --- by hand ---

@pytest.fixture
def by_hand(stent, raw_backend):
    """by_hand(keys of the route) -> stent, both ends of a WebSocket."""
    def start(heartbeat="20ms", kind="ping", rcvbuf=None, **keys):
        s = route(stent, raw_backend.text, heartbeat, kind, **keys)
        client = s.connect(rcvbuf=rcvbuf)
        backend = raw_backend.accept()
        upgrade(client, backend)
        return s, WebSocket(client, masks=True), WebSocket(backend, masks=False)
    return start


def test_an_upgrade_that_is_refused(stent, raw_backend):
    s = route(stent, raw_backend.text, heartbeat="10ms")
    client, backend = s.connect(), raw_backend.accept()
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
    for _ in range(2):
        request = b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        client.send_all(request)
        assert backend.recv_exact(len(request)) == request
        backend.send_all(refusal)
        assert client.recv_exact(len(refusal)) == refusal
        client.expect_quiet(0.1)
        backend.expect_quiet(0.1)
    client.close()
    backend.close()
    end = s.flow_end()
    assert (end["client_heartbeats"], end["backend_heartbeats"]) == (0, 0)


def test_other_requests_before_the_upgrade(stent, raw_backend):
    s = route(stent, raw_backend.text, heartbeat="10ms")
    client, backend = s.connect(), raw_backend.accept()
    for request, answer in ((b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
                            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody",
                             b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")):
        client.send_all(request)
        assert backend.recv_exact(len(request)) == request
        backend.send_all(answer)
        assert client.recv_exact(len(answer)) == answer
    upgrade(client, backend)
    a, b = WebSocket(client, masks=True), WebSocket(backend, masks=False)
    for ws in (a, b):
        assert ws.read()[0] == PING
    a.send(TEXT, b"hello")
    assert b.read_message() == (TEXT, b"hello")


def test_a_frame_right_behind_the_head(stent, raw_backend):
    """The server's first message may lie in one packet with its 101."""
    s = route(stent, raw_backend.text, heartbeat="10ms")
    client, backend = s.connect(), raw_backend.accept()
    upgrade(client, backend, behind=b"\x81\x05early")
    assert WebSocket(client, masks=True).read_message() == (TEXT, b"early")


@pytest.mark.parametrize("protocol", ["websocket", "http", "auto"])
def test_frames_before_the_101(stent, raw_backend, protocol):
    """A client may send frames together with its request; the rest of one may come behind the 101. Both sides stay protected."""
    s = stent.route(raw_backend.text, protocol=protocol, heartbeat="20ms")
    client, backend = s.connect(), raw_backend.accept()
    a, b = WebSocket(client, masks=True), WebSocket(backend, masks=False)
    frame = a.frame(TEXT, b"early")
    client.send_all(REQUEST + a.frame(PING, b"mine") + frame[:7])
    sent = backend.recv_exact(len(REQUEST) + 10 + 7)
    assert sent.startswith(REQUEST) and sent.endswith(frame[:7]), "passed on at once"
    backend.send_all(RESPONSE + b.frame(PONG, b"mine"))
    assert client.recv_exact(len(RESPONSE)) == RESPONSE
    assert a.read_until(PONG) == (PONG, b"mine")
    assert a.read_until_ping()
    client.send_all(frame[7:])
    assert backend.recv_exact(len(frame) - 7) == frame[7:], "no heartbeat within the frame"
    assert b.read_until_ping()
    b.send(TEXT, b"late")
    assert a.read_message() == (TEXT, b"late")
    assert not s.logged("protocol passthrough")


def test_frames_behind_a_request_that_is_refused(stent, raw_backend):
    s = route(stent, raw_backend.text, heartbeat="20ms")
    client, backend = s.connect(), raw_backend.accept()
    sent = REQUEST + WebSocket(client, masks=True).frame(TEXT, b"early")
    client.send_all(sent)
    assert backend.recv_exact(len(sent)) == sent
    backend.send_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    assert client.recv_exact(len(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")).endswith(b"no")
    assert s.wait_logged("bytes after a request to upgrade")


MANGLED = {
    "twice": lambda ws, p: ws.frame(PONG, p) * 2,
    "empty": lambda ws, p: ws.frame(PONG),
    "cut": lambda ws, p: ws.frame(PONG, p[:4]),
    "upper case": lambda ws, p: ws.frame(PONG, p.upper()),
    "a NUL behind it": lambda ws, p: ws.frame(PONG, p + b"\0"),
    "mask on the wrong side": lambda ws, p: WebSocket(ws.peer, not ws.masks).frame(PONG, p),
    "mask not applied": lambda ws, p: bytes([0x80 | PONG, 0x80 | len(p)]) + b"\x12\x34\x56\x78" + p,
}


@SIDES
@pytest.mark.parametrize("how", MANGLED)
def test_whatever_a_peer_makes_of_our_ping_is_taken_out(by_hand, side, how):
    s, a, b = by_hand(heartbeat="off", **{f"{side}__heartbeat": "20ms"})
    peer, other = (a, b) if side == "client" else (b, a)
    for _ in range(5):
        peer.peer.send_all(MANGLED[how](peer, peer.read_until_ping()))
    peer.send(TEXT, b"hello")
    assert other.read() == (TEXT, b"hello"), "nothing else came to the other side"
    other.send(TEXT, b"and bye")
    while (frame := peer.read())[0] == PING:
        pass
    assert frame == (TEXT, b"and bye")
    a.peer.close()
    b.peer.close()
    answers = s.flow_end()[f"{side}_replies"]
    assert answers == 0 if how == "empty" else answers >= 5, "an empty one may have been sent unasked"
    assert not s.logged("protocol passthrough")


@SIDES
def test_a_complaint_and_what_is_no_frame_in_one_packet(by_hand, side):
    """A Close with a complaint, read together with what makes the protocol passthrough: all is passed on, and stent lives."""
    s, a, b = by_hand(heartbeat="off")
    peer, other = (a, b) if side == "client" else (b, a)
    sent = peer.frame(CLOSE, (1002).to_bytes(2, "big")) + bytes([0x83, 0x80 if peer.masks else 0]) + bytes(4)
    peer.peer.send_all(sent)
    assert other.peer.recv_exact(len(sent)) == sent
    assert s.next_event("protocol passthrough")["reason"] == "WebSocket: unknown opcode"
    other.peer.send_all(b"anything")
    assert peer.peer.recv_exact(8) == b"anything"
    peer.peer.close()
    other.peer.close()
    assert s.flow_end()["protocol"] == "tcp"


@SIDES
def test_who_sends_pongs_unasked_and_replies_to_no_ping_lives(by_hand, side):
    """As .NET's, while its application reads nothing: an empty pong now and then is no reply that can be missed later."""
    s, a, b = by_hand(heartbeat="off", kind="auto", **{f"{side}__heartbeat": "50ms", "heartbeat_timeout": "50ms"})
    peer, other = (a, b) if side == "client" else (b, a)
    peer.read_until_ping()
    for _ in range(4):
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            peer.read_or_none(0.1)
        peer.send(PONG)
    peer.send(TEXT, b"alive")
    assert other.read_until(TEXT)[1] == b"alive"
    s.expect_no_event("flow end")


@SIDES
@pytest.mark.parametrize("how", ["empty", "cut", "upper case"])
def test_the_applications_own_pongs_arrive_from_a_peer_that_mangles(by_hand, side, how):
    """Each of its pings gets its one pong, whatever came of it, beside ours on the same leg."""
    s, a, b = by_hand(heartbeat="off", **{f"{side}__heartbeat": "20ms"})
    peer, other = (a, b) if side == "client" else (b, a)
    for i in range(20):
        other.send(PING, b"app ping %d" % i)
        while True:
            opcode, payload = peer.read()
            if opcode == PING:
                peer.peer.send_all(MANGLED[how](peer, payload))
            if opcode == PING and payload.startswith(b"app"):
                break
        opcode, payload = other.read()
        assert opcode == PONG and payload.lower() == {"empty": b"", "cut": b"app ", "upper case": b"app ping %d" % i}[how]
    peer.send(TEXT, b"hello")
    assert other.read() == (TEXT, b"hello")


def test_each_flow_has_a_token_of_its_own(stent, raw_backend):
    s = route(stent, raw_backend.text, "20ms")
    tokens, ends = [], []
    for _ in range(3):
        client, backend = s.connect(), raw_backend.accept()
        ends += [client, backend]
        upgrade(client, backend)
        tokens.append([WebSocket(client, masks=True).read_until_ping(), WebSocket(backend, masks=False).read_until_ping()])
    assert len({token[:12] for pair in tokens for token in pair}) == 3
    assert all(token.isascii() and token.decode().isprintable() and len(token) <= 16 for pair in tokens for token in pair)


@SIDES
def test_a_stopped_program_is_found_and_the_other_side_told(stent, side):
    """Its kernel answers all that TCP asks. interval + timeout x misses = 300 + 3 x 300 ms; a second is for the rest."""
    port = harness.free_port()
    with Program(*SERVERS["websockets"], port, "no") as server:
        server.wait_line("ready")
        s = route(stent, port, heartbeat="300ms", heartbeat_timeout="300ms", heartbeat_misses=3)
        with Program(*CLIENTS["ws"], s.port, "wait") as client:
            client.wait_line("open")
            time.sleep(0.7)		# beaten, and answering
            stopped, other = (client, server) if side == "client" else (server, client)
            began = time.monotonic()
            stopped.stop()
            end = s.flow_end(timeout=8)
            assert time.monotonic() - began <= (0.3 + 3 * 0.3 + 1) * harness.SLOW
            assert end["reason"] == f"{side}-heartbeat-timeout"
            assert 0 < end[f"{side}_replies"] <= end[f"{side}_heartbeats"] - 3
            line = other.wait_line("1001|closed")
            assert "1001" in line and f"stent: {side}-heartbeat-timeout" in line


@SIDES
def test_a_stopped_program_is_not_given_up_by_tells(by_hand, side):
    """Nobody answers a tell, so nobody is dead for not answering."""
    s, a, b = by_hand(kind="oneway", heartbeat_timeout="50ms")
    time.sleep(1)
    s.expect_no_event("flow end")
    sleeper, other = (a, b) if side == "client" else (b, a)
    other.send(TEXT, b"still there?")
    assert sleeper.read_message() == (TEXT, b"still there?")


@SIDES
def test_a_reader_that_pauses_with_data_under_way_lives(by_hand, side):
    """Answers cannot come while what was sent before the ask is stuck: no miss counts."""
    s, a, b = by_hand(heartbeat="off", heartbeat_timeout=f"{int(500 * harness.SLOW)}ms", **{f"{side}__heartbeat": "100ms"})
    reader, sender = (a, b) if side == "client" else (b, a)
    data = os.urandom(1 << 24)
    thread = threading.Thread(target=sender.send, args=(BINARY, data), kwargs={"timeout": 60})
    thread.start()
    time.sleep(3.5 * harness.SLOW)
    s.expect_no_event("flow end")
    assert reader.read_message(timeout=60) == (BINARY, data)
    thread.join()
    reader.send(TEXT, b"done")
    assert sender.read_message() == (TEXT, b"done")


@SIDES
def test_heartbeats_end_when_the_other_application_says_nothing(by_hand, side):
    """A heartbeat must not keep alive for ever what nobody uses."""
    s, a, b = by_hand(heartbeat="50ms", kind="oneway", heartbeat_limit="1s")
    ws = a if side == "client" else b
    began = last = time.monotonic()
    while (frame := ws.read_or_none(timeout=0.8)) is not None:
        assert frame[0] == PONG
        last = time.monotonic()
        assert last - began < 3 * harness.SLOW
    assert last - began > 0.6
    other = b if side == "client" else a
    other.send(TEXT, b"I am back")
    assert ws.read_message() == (TEXT, b"I am back")
    assert ws.read()[0] == PONG


@SIDES
def test_no_heartbeat_after_a_close(by_hand, side):
    s, a, b = by_hand(heartbeat="20ms", kind="oneway")
    closer, other = (a, b) if side == "client" else (b, a)
    closer.send(CLOSE, b"\x0f\xa1mine")
    assert other.read_until(CLOSE) == (CLOSE, b"\x0f\xa1mine")
    assert other.read_or_none(timeout=0.3) is None
    other.send(CLOSE, b"\x0f\xa1mine")
    assert closer.read_until(CLOSE) == (CLOSE, b"\x0f\xa1mine")


@SIDES
def test_a_heartbeat_never_goes_inside_a_frame(by_hand, side):
    """Half a frame, a pause, the other half; then between two fragments, where heartbeats do go."""
    s, a, b = by_hand(heartbeat="10ms")
    reader, sender = (a, b) if side == "client" else (b, a)
    frame = sender.frame(BINARY, b"first", fin=False)
    sender.peer.send_all(frame[:-2])
    time.sleep(0.1)
    sender.peer.send_all(frame[-2:])
    seen = [reader.read()]
    while seen[-1][0] == PING:		# from before the frame
        seen.append(reader.read())
    assert seen[-1] == (BINARY, b"first")
    assert reader.read()[0] == PING
    sender.peer.send_all(sender.frame(CONTINUATION, b" second"))
    assert reader.read_until(CONTINUATION) == (CONTINUATION, b" second")


@SIDES
def test_a_ping_waits_for_the_end_of_a_message(by_hand, side):
    """Between two frames of one message it is legal, but some programs cannot bear it: it waits until that has paused for long."""
    interval = 0.5 * harness.SLOW
    s, a, b = by_hand(heartbeat="off", **{f"{side}__heartbeat": f"{round(interval * 1000)}ms"})
    reader, sender = (a, b) if side == "client" else (b, a)
    reader.send(PONG, reader.read_until_ping())
    sender.send_part(TEXT, b"first")
    time.sleep(1.2 * interval)
    sender.send(CONTINUATION, b" second")
    assert [reader.read()[0] for _ in range(3)] == [TEXT, CONTINUATION, PING]
    sender.send_part(TEXT, b"no end")	# in sight
    for _ in range(3):
        time.sleep(0.7 * interval)
        sender.send_part(CONTINUATION, b"more")
    began = time.monotonic()
    assert [reader.read()[0] for _ in range(4)] == [TEXT] + 3 * [CONTINUATION]
    assert reader.read(timeout=3)[0] in (PING, PONG)
    assert time.monotonic() - began > 1.5 * interval


@SIDES
def test_the_farewell_to_the_byte(by_hand, side):
    """A Close with 1001 (going away) and who, why and after how long; then a FIN."""
    s, a, b = by_hand(heartbeat="100ms", heartbeat_timeout="100ms", heartbeat_misses=1)
    dead, living = (a, b) if side == "client" else (b, a)
    dead.send(PONG, dead.read_until_ping())	# only a peer that has replied before can miss a reply
    answering = living.answer_in_background()
    end = s.flow_end()
    assert end["reason"] == f"{side}-heartbeat-timeout"
    assert answering.wait_end() == "fin"
    opcode, payload = answering.messages[-1]
    assert opcode == CLOSE and payload[:2] == b"\x03\xe9"
    assert payload[2:].startswith(f"stent: {side}-heartbeat-timeout, {side} idle for".encode())


@pytest.mark.parametrize("on_dead", ["reset", "close"])
@SIDES
def test_on_dead_decides_what_the_living_side_gets(by_hand, side, on_dead):
    s, a, b = by_hand(heartbeat="100ms", heartbeat_timeout="100ms", heartbeat_misses=1, on_dead=on_dead)
    dead, living = (a, b) if side == "client" else (b, a)
    dead.send(PONG, dead.read_until_ping())
    answering = living.answer_in_background()
    assert s.flow_end()["reason"] == f"{side}-heartbeat-timeout"
    assert answering.wait_end() == {"reset": "reset", "close": "fin"}[on_dead]
    assert answering.messages == []
