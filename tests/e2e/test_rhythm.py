"""
When heartbeats go out and when a peer is given up, on real sockets with both ends in hand: peers that are slow, paused,
at work on something long, asked by their own application, half-closed; and stent itself being killed.
"""

import fcntl
import os
import signal
import socket
import threading
import time

import harness
import pytest
from frames import BINARY, CLOSE, PING, PONG, TEXT, WebSocket, upgrade

SIDES = pytest.mark.parametrize("side", ["client", "backend"])
TICK = 0.1 * harness.SLOW	# seconds; heartbeat_timeout in most tests here
SIOCOUTQNSD = 0x894B
REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
EVENT_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
COMMENT = b"3\r\n:\n\n\r\n"
EVENT = b"9\r\ndata: x\n\n\r\n"


def ms(seconds):
    return f"{round(seconds * 1000)}ms"


@pytest.fixture
def websocket(stent, raw_backend):
    """websocket(keys of the route) -> stent, both ends of a WebSocket."""
    def start(rcvbuf=None, **keys):
        s = stent.route(raw_backend.text, protocol="websocket", **keys)
        client, backend = s.connect(rcvbuf=rcvbuf), raw_backend.accept()
        upgrade(client, backend)
        return s, WebSocket(client, masks=True), WebSocket(backend, masks=False)
    return start


@pytest.fixture
def stream(stent, raw_backend):
    """stream(head of the response, keys of the route) -> stent, both ends, a response begun."""
    def start(head, **keys):
        s = stent.route(raw_backend.text, protocol="http", **keys)
        client, backend = s.connect(), raw_backend.accept()
        client.send_all(REQUEST)
        assert backend.recv_exact(len(REQUEST)) == REQUEST
        backend.send_all(head)
        assert client.recv_exact(len(head)) == head
        return s, client, backend
    return start


# --- no miss counts of a peer that cannot reply ---

@SIDES
def test_a_peer_in_the_middle_of_a_long_frame_lives(websocket, side):
    """It cannot put a pong into its frame, which takes longer than all its misses together."""
    s, a, b = websocket(heartbeat=ms(TICK), heartbeat_timeout=ms(TICK), heartbeat_misses=2)
    sender, receiver = (a, b) if side == "client" else (b, a)
    answering = receiver.answer_in_background()
    payload = os.urandom(60_000)
    frame = sender.frame(BINARY, payload)
    for i in range(0, len(frame), 3000):
        sender.peer.send_all(frame[i:i + 3000])
        time.sleep(TICK / 2)
    harness.wait_for(lambda: answering.messages, what="the frame")
    assert answering.messages == [(BINARY, payload)]
    answering.stop()


@SIDES
def test_a_peer_is_not_blamed_for_the_other_that_pauses(websocket, side):
    """While one side takes nothing the other is not read, and its replies wait after what it sends."""
    s, a, b = websocket(heartbeat=ms(TICK), heartbeat_timeout=ms(TICK), heartbeat_misses=3)
    pausing, lively = (a, b) if side == "client" else (b, a)
    lock, message, stop = threading.Lock(), lively.frame(BINARY, bytes(16384)), threading.Event()

    def say(data):
        with lock:
            lively.peer.send_all(data, timeout=30)

    def talk():
        while not stop.is_set():
            say(message)

    def answer():
        reader = WebSocket(harness.Peer(lively.peer.sock.dup()), lively.masks)
        try:
            while (frame := reader.read(timeout=30))[0] == PING:
                threading.Thread(target=say, args=(lively.frame(PONG, frame[1]),), daemon=True).start()
        except (OSError, AssertionError):
            return
    threads = [threading.Thread(target=target, daemon=True) for target in (talk, answer)]
    for thread in threads:
        thread.start()
    time.sleep(12 * TICK)
    s.expect_no_event("flow end", seconds=0)
    stop.set()
    while (frame := pausing.read(timeout=5))[0] in (BINARY, PING):
        if frame[0] == PING:
            pausing.send(PONG, frame[1])
        if not threads[0].is_alive():
            break
    s.expect_no_event("flow end", seconds=0)


@SIDES
def test_no_reply_is_awaited_from_a_half_closed_side(stent, raw_backend, side):
    """It was pinged, and sends its FIN without a reply; it still reads."""
    s = stent.route(raw_backend.text, protocol="line", heartbeat="50ms", heartbeat_timeout=ms(2 * TICK), heartbeat_misses=1,
                    **{f"{side}__heartbeat_send": r"PING\n", f"{side}__heartbeat_expect": "PONG"})
    client, backend = s.connect(), raw_backend.accept()
    closing, other = (client, backend) if side == "client" else (backend, client)
    assert closing.recv_exact(5) == b"PING\n"
    closing.half_close()
    other.expect_fin()
    for _ in range(5):
        time.sleep(TICK)
        other.send_all(b"more\n")
    other.half_close()
    assert closing.recv_all().replace(b"PING\n", b"") == b"more\n" * 5
    assert s.flow_end()["reason"] == f"{side}-fin"


# --- a peer that never replied is not judged dead ---

@SIDES
def test_a_peer_that_never_replies_lives_and_gets_oneway_heartbeats(websocket, side):
    """Many healthy peers reply to no ping: it is pinged once, and gets one-way heartbeats from then on."""
    s, a, b = websocket(heartbeat=ms(TICK), heartbeat_timeout=ms(TICK), heartbeat_misses=1)
    silent, other = (a, b) if side == "client" else (b, a)
    answering = other.answer_in_background()
    assert silent.read()[0] == PING
    for _ in range(10):
        assert silent.read(timeout=2) == (PONG, b"")
    s.expect_no_event("flow end", seconds=0)
    assert len(s.wait_logged("has never replied to a ping")) == 1
    silent.send(TEXT, b"I am well")
    harness.wait_for(lambda: answering.messages, what="its message")
    assert answering.messages == [(TEXT, b"I am well")]
    answering.stop()


# --- a heartbeat is on trial first ---

@SIDES
@pytest.mark.parametrize("how", ["fin", "reset"])
def test_peers_that_close_after_a_heartbeat_get_no_more(stent, raw_backend, side, how):
    """After three of them the route sends none; a log line says so, and what to set."""
    s = stent.route(raw_backend.text, protocol="line", heartbeat="300ms", **{f"{side}__heartbeat_send": r"PING\n"})
    for i in range(3):
        client, backend = s.connect(), raw_backend.accept()
        touchy, other = (client, backend) if side == "client" else (backend, client)
        assert touchy.recv_exact(5) == b"PING\n"
        if how == "fin":
            touchy.close()
            other.expect_fin()
            other.close()
        else:
            touchy.reset()
            other.expect_reset()
        s.flow_end()
    assert len(s.logged("heartbeat refused")) == 3
    assert s.wait_logged(f"heartbeats .oneway. to the {side} are off")
    client, backend = s.connect(), raw_backend.accept()
    touchy = client if side == "client" else backend
    with pytest.raises(TimeoutError):
        touchy.sock.settimeout(1)
        touchy.sock.recv(1)


@SIDES
def test_peers_that_complain_of_a_ping_get_no_more(stent, raw_backend, side):
    """A WebSocket peer that takes a ping for an error sends a Close: after three of those the route sends none."""
    s = stent.route(raw_backend.text, protocol="websocket", heartbeat="off", **{f"{side}__heartbeat": "300ms"})
    for code in (1002, 1008, 1011):
        client, backend = s.connect(), raw_backend.accept()
        upgrade(client, backend)
        touchy, other = (WebSocket(client, True), WebSocket(backend, False))[::1 if side == "client" else -1]
        touchy.read_until_ping()
        touchy.send(CLOSE, code.to_bytes(2, "big"))
        assert other.read() == (CLOSE, code.to_bytes(2, "big"))
        other.send(CLOSE, b"\x03\xe8")
        assert touchy.read() == (CLOSE, b"\x03\xe8")
        client.close()
        backend.close()
        s.flow_end()
    assert [r["reason"][:10] for r in s.logged("heartbeat refused")] == ["Close 1002", "Close 1008", "Close 1011"]
    assert s.wait_logged(f"heartbeats .ping. to the {side} are off")
    client, backend = s.connect(), raw_backend.accept()
    upgrade(client, backend)
    (client if side == "client" else backend).expect_quiet(0.8)


@SIDES
@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_close_after_a_reply_is_no_evidence(websocket, side, how):
    """A peer that has replied to a heartbeat accepts it, whatever it does next."""
    s, a, b = websocket(heartbeat="off", **{f"{side}__heartbeat": "2s"})
    leaving, other = (a, b) if side == "client" else (b, a)
    leaving.send(PONG, leaving.read_until_ping())
    if how == "fin":
        leaving.peer.close()
        other.peer.expect_fin()
        other.peer.close()
    else:
        leaving.peer.reset()
        other.peer.expect_reset()
    assert s.flow_end()[f"{side}_replies"] == 1
    assert not s.logged("heartbeat refused")


@SIDES
def test_a_close_after_the_other_sides_end_is_no_evidence(stent, raw_backend, side):
    """A heartbeat, the other side's FIN, and the close that it calls for, all within a moment."""
    s = stent.route(raw_backend.text, protocol="line", heartbeat="2s", **{f"{side}__heartbeat_send": r"PING\n"})
    client, backend = s.connect(), raw_backend.accept()
    leaving, other = (client, backend) if side == "client" else (backend, client)
    assert leaving.recv_exact(5) == b"PING\n"
    other.half_close()
    leaving.expect_fin()
    leaving.close()
    other.expect_fin()
    s.flow_end()
    assert not s.logged("heartbeat refused")


@SIDES
def test_a_death_after_a_heartbeat_is_no_refusal(websocket, side):
    """A peer that hangs has not closed: its death is no evidence against heartbeats."""
    s, a, b = websocket(heartbeat=ms(2 * TICK), heartbeat_timeout=ms(TICK / 4), heartbeat_misses=1)
    hung, other = (a, b) if side == "client" else (b, a)
    answering = other.answer_in_background()
    hung.send(PONG, hung.read_until_ping())
    assert s.flow_end()["reason"] == f"{side}-heartbeat-timeout"
    assert answering.wait_end() == "fin"
    assert not s.logged("heartbeat refused")


def test_few_flows_try_first(stent, raw_backend):
    """When all flows of a route would die of their first heartbeat three do."""
    s = stent.route(raw_backend.text, protocol="line", heartbeat="400ms", backend__heartbeat_send=r"PING\n")
    flows = [(s.connect(), raw_backend.accept()) for _ in range(12)]
    stop = threading.Event()

    def close_at_heartbeats():
        while not stop.is_set():
            for _, backend in flows:
                try:
                    if backend.sock.fileno() >= 0 and backend.sock.recv(1, socket.MSG_DONTWAIT):
                        backend.close()
                except OSError:
                    pass
            time.sleep(0.005)
    thread = threading.Thread(target=close_at_heartbeats, daemon=True)
    thread.start()
    time.sleep(3)
    stop.set()
    thread.join(5)
    assert sum(backend.sock.fileno() < 0 for _, backend in flows) == 3


# --- who hangs is found ---

@SIDES
def test_a_peer_that_leaves_the_applications_pings_alone_lives(websocket, side):
    """It has replied to us, but replies to none of the other side's pings, which come all the time: many do so, and are well."""
    s, a, b = websocket(heartbeat=ms(TICK), heartbeat_timeout=ms(TICK), heartbeat_misses=1)
    peer, asking = (a, b) if side == "client" else (b, a)
    answering = asking.answer_in_background()
    peer.send(PONG, peer.read_until_ping())
    end, pings = time.monotonic() + 15 * TICK, 0
    while time.monotonic() < end:
        if pings % 3 == 0:
            asking.send(PING, b"own %d" % pings)
        pings += 1
        while (frame := peer.read_or_none(timeout=TICK / 4)) is not None:
            if frame[0] == PING and not frame[1].startswith(b"own"):
                peer.send(PONG, frame[1])
    s.expect_no_event("flow end", seconds=0)
    peer.send(TEXT, b"I am well")
    harness.wait_for(lambda: answering.messages, what="its message")
    answering.stop()


@SIDES
def test_a_hung_program_that_the_application_has_pinged_is_found(websocket, side):
    """The application's ping may still get a reply, so ours would be in its way; after its timeout we ping."""
    s, a, b = websocket(heartbeat=ms(TICK), heartbeat_timeout=ms(TICK), heartbeat_misses=3)
    hung, asking = (a, b) if side == "client" else (b, a)
    hung.send(PONG, hung.read_until_ping())	# it has replied before
    asking.send(PING, b"are you there?")
    answering = asking.answer_in_background()
    assert s.flow_end(timeout=5)["reason"] == f"{side}-heartbeat-timeout"
    assert answering.wait_end() == "fin" and b"stent: " in answering.messages[-1][1]
    frames = [hung.read() for _ in range(4)]
    assert frames[0] == (PING, b"are you there?") and [f[0] for f in frames[1:]] == [PONG, PONG, PING]


@SIDES
def test_a_hung_program_of_lines_is_found_though_lines_go_to_it(stent, raw_backend, side):
    """Its kernel takes them all; nothing comes from it, not even the agreed reply."""
    s = stent.route(raw_backend.text, protocol="line", heartbeat=ms(2 * TICK), heartbeat_timeout=ms(TICK), heartbeat_misses=2,
                    **{f"{side}__heartbeat_send": r"PING\n", f"{side}__heartbeat_expect": "PONG"})
    client, backend = s.connect(), raw_backend.accept()
    hung, other = (client, backend) if side == "client" else (backend, client)
    assert hung.recv_exact(5) == b"PING\n"
    hung.send_all(b"PONG\n")
    deadline = time.monotonic() + 5 * harness.SLOW
    with pytest.raises(ConnectionError):
        while time.monotonic() < deadline:
            other.send_all(b"more\n")
            time.sleep(TICK / 4)
    assert s.flow_end()["reason"] == f"{side}-heartbeat-timeout"


# --- heartbeats go on ---

def test_a_slow_reply_does_not_leave_the_path_idle(websocket):
    """With a long heartbeat_timeout as with a short one there is a heartbeat an interval."""
    s, a, b = websocket(heartbeat="100ms", heartbeat_timeout="60s", client__heartbeat="off")
    assert b.read()[0] == PING
    for _ in range(5):
        assert b.read(timeout=1) == (PONG, b"")


def test_comments_into_a_silent_stream_have_no_end(stream):
    """Its reader sends nothing for hours, but reads."""
    s, client, backend = stream(EVENT_STREAM, client__heartbeat="1ms", client__heartbeat_at_start="on", heartbeat_limit="off")
    assert client.recv_exact(1100 * len(COMMENT), timeout=30) == COMMENT * 1100
    backend.send_all(EVENT)
    got = client.recv_some()
    while not got.endswith(EVENT):
        got += client.recv_some()
    assert got.removesuffix(EVENT).strip(COMMENT) == b""


def test_no_comments_into_a_lively_stream(stream):
    """The silence of its reader is no reason: it does not reply to a comment."""
    s, client, backend = stream(EVENT_STREAM, client__heartbeat=ms(4 * TICK))
    for _ in range(100):
        backend.send_all(EVENT)
        time.sleep(TICK / 10)
    assert client.recv_exact(100 * len(EVENT)) == EVENT * 100
    assert client.recv_exact(len(COMMENT)) == COMMENT


def test_comments_continue_after_a_half_close(stent, raw_backend):
    s = stent.route(raw_backend.text, protocol="http", client__heartbeat="20ms")
    client, backend = s.connect(), raw_backend.accept()
    client.send_all(REQUEST)
    client.half_close()
    assert backend.recv_all() == REQUEST
    backend.send_all(EVENT_STREAM + EVENT)
    assert client.recv_exact(len(EVENT_STREAM + EVENT + COMMENT * 5)) == EVENT_STREAM + EVENT + COMMENT * 5


def test_no_heartbeat_after_unsent_bytes(websocket):
    """What was sent after a ping is stuck, though that ping got its reply."""
    s, a, b = websocket(rcvbuf=4096, heartbeat="off", client__heartbeat="500ms", client__heartbeat_timeout="60s")
    opcode, payload = a.read()
    assert opcode == PING
    b.send(BINARY, bytes(60_000))
    harness.wait_for(lambda: stuck(s, a.peer), what="the window to be shut")
    a.send(PONG, payload)
    harness.wait_for(lambda: s.ask("flows")[0]["client"]["replies"] == 1, what="the answer")
    time.sleep(1.5)
    assert s.ask("flows")[0]["client"]["heartbeats"] == 1
    assert a.read(timeout=5) == (BINARY, bytes(60_000))
    assert a.read(timeout=5)[0] == PING


def test_heartbeats_do_not_pile_up_unread(websocket):
    """A peer that does not read is left alone before its buffer is full; when it has read they go on."""
    s, a, b = websocket(rcvbuf=4096, heartbeat="off", client__heartbeat="2ms", client__heartbeat_kind="oneway", heartbeat_limit="off")

    def leg():
        return s.ask("flows")[0]["client"]
    harness.wait_for(lambda: leg()["why_none"] == "the peer does not read", timeout=20, what="heartbeats to stop")
    sent = leg()["heartbeats"]
    assert 100 < sent < 4096
    for _ in range(sent):
        assert a.read()[0] == PONG
    harness.wait_for(lambda: leg()["heartbeats"] > sent, what="heartbeats to go on")


def test_a_peer_that_reads_and_says_nothing_is_not_left_alone(websocket):
    s, a, b = websocket(heartbeat="off", client__heartbeat="2ms", client__heartbeat_kind="oneway", heartbeat_limit="off")
    for _ in range(1500):
        assert a.read() == (PONG, b"")


def stuck(s, peer):
    with s.leg(peer) as leg:
        unsent = bytearray(4)
        fcntl.ioctl(leg, SIOCOUTQNSD, unsent)
        return int.from_bytes(unsent, "little") > 0


# --- what is logged ---

def test_the_round_trip_of_a_reply_is_logged(websocket):
    """Last, smoothed and worst; a late reply counts with its full time."""
    s, a, b = websocket(heartbeat="off", backend__heartbeat="100ms", heartbeat_timeout=ms(3 * TICK), heartbeat_misses="off")
    b.send(PONG, b.read_until_ping())
    first, began = b.read(), time.monotonic()
    assert first[0] == PING
    while b.read()[0] != PING:		# one-way, until the timeout allows a ping again
        pass
    b.send(PONG, first[1])
    waited = time.monotonic() - began
    assert waited > TICK
    assert b.read()[0] in (PING, PONG)		# by now the reply has been read
    a.peer.close()
    b.peer.close()
    end = s.flow_end()
    assert end["backend_replies"] == 2
    assert waited * 1000 - 10 <= end["backend_rtt_ms"] < waited * 1000 + 500 * harness.SLOW


# --- bytes sent early ---

def test_killed_with_bytes_ahead_it_ends_in_a_reset(stream):
    """Whatever ends stent, its client must not take a FIN after zeros for the end of the body."""
    s, client, backend = stream(CHUNKED, client__heartbeat="20ms", client__heartbeat_kind="early")
    assert client.recv_exact(1) == b"0"
    s._expect_death = True
    s.signal(signal.SIGKILL)
    s.wait()
    with pytest.raises(ConnectionResetError):
        client.recv_all()


def test_covered_bytes_ahead_end_in_a_fin(stream):
    s, client, backend = stream(CHUNKED, client__heartbeat="20ms", client__heartbeat_kind="early")
    assert client.recv_exact(7) == b"0000000"
    backend.send_all(b"1\r\nx\r\n0\r\n\r\n")
    assert client.recv_exact(11) == b"1\r\nx\r\n0\r\n\r\n"
    backend.close()
    client.expect_fin()
    client.close()
    assert s.flow_end()["reason"] == "backend-fin"


def test_bytes_ahead_are_counted_as_the_application_sent_them(stream):
    s, client, backend = stream(CHUNKED, client__heartbeat="20ms", client__heartbeat_kind="early")
    assert client.recv_exact(3) == b"000"
    line = b"000000000001\r\nx\r\n"
    backend.send_all(line)
    got = b"000"
    while not got.endswith(b"x\r\n"):
        got += client.recv_some()
    assert got == line
    client.close()
    assert s.flow_end()["backend_bytes"] == len(CHUNKED + line)


def test_an_upload_that_ends_with_bytes_ahead_is_reset(stent, raw_backend):
    s = stent.route(raw_backend.text, protocol="http", backend__heartbeat="20ms", backend__heartbeat_kind="early")
    client, backend = s.connect(), raw_backend.accept()
    client.send_all(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    harness.wait_for(lambda: backend.recv_some().endswith(b"0"), what="a zero ahead")
    client.close()
    with pytest.raises(ConnectionResetError):
        backend.recv_all()


# --- letting go ---

def test_passthrough_is_counted_by_reason(stent, raw_backend):
    port = harness.free_port()
    s = stent.route(raw_backend.text, protocol="websocket", settings={"admin": f"{harness.HOST}:{port}"})

    def counts():
        with harness.connect(port) as web:
            web.send_all(b"GET /metrics HTTP/1.0\r\n\r\n")
            return [line for line in web.recv_all().decode().splitlines() if line.startswith("stent_passthrough_flows_total{")]
    assert counts() == ['stent_passthrough_flows_total{route="t",reason="other"} 0']
    client, backend = s.connect(), raw_backend.accept()
    client.send_all(b"\x16\x03\x01\x02\x00\x01")
    assert backend.recv_exact(6) == b"\x16\x03\x01\x02\x00\x01"
    reason = s.next_event("protocol passthrough")["reason"]
    assert counts() == [f'stent_passthrough_flows_total{{route="t",reason="{reason}"}} 1',
                        'stent_passthrough_flows_total{route="t",reason="other"} 0']


def test_a_health_check_is_no_doubt(stent, raw_backend):
    """A connection that opens and closes sends nothing, so there is nothing to misunderstand."""
    s = stent.route(raw_backend.text, protocol="auto")
    client, backend = s.connect(), raw_backend.accept()
    client.close()
    backend.expect_fin()
    backend.close()
    assert s.flow_end()["reason"] == "client-fin"
    s.expect_no_event("protocol passthrough", seconds=0)
