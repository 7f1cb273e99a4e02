"""Flows end by max_age: at a message boundary, with a goodbye, and not all at once. Databases: test_goodbyes.py."""

import asyncio
import collections
import time

import harness
import pytest
import websockets
from frames import CLOSE, CONTINUATION, TEXT, WebSocket, upgrade
from reloading import reload

GOING_AWAY = (1001).to_bytes(2, "big")
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def sockets(client, backend):
    return WebSocket(client, masks=True), WebSocket(backend, masks=False)


def test_a_websocket_ends_behind_its_message(stent, raw_backend):
    """It is in the middle of a message when its time comes: both get their Close right behind the end of it."""
    s = stent.route(raw_backend.text, protocol="websocket", max_age="1s")
    client, backend = s.connect(), raw_backend.accept()
    upgrade(client, backend)
    here, there = sockets(client, backend)
    here.send_part(TEXT, b"first ")
    assert there.read() == (TEXT, b"first ")
    time.sleep(1.05)				# of 0.8 to 1, and 1 more until it is cut off
    client.expect_quiet(0.1)
    here.send(CONTINUATION, b"last")
    assert there.read() == (CONTINUATION, b"last")
    for ws, peer in ((here, client), (there, backend)):
        opcode, payload = ws.read()
        assert (opcode, payload[:2]) == (CLOSE, GOING_AWAY) and b"max-age" in payload
        peer.expect_fin()
        peer.close()
    end = s.flow_end()
    assert (end["reason"], end["protocol"]) == ("max-age", "websocket")
    assert 1.05 < end["seconds"] < 10 * harness.SLOW


def test_what_does_not_come_to_a_boundary_is_cut_off(stent, raw_backend):
    s = stent.route(raw_backend.text, protocol="websocket", max_age="1s")
    client, backend = s.connect(), raw_backend.accept()
    upgrade(client, backend)
    here, there = sockets(client, backend)
    client.send_all(here.frame(TEXT, b"x" * 100)[:50])
    backend.recv_exact(2)
    assert here.read()[0] == CLOSE		# toward the client nothing is half-way
    with pytest.raises(ConnectionResetError):
        backend.recv_all()
    end = s.flow_end()
    assert end["reason"] == "max-age" and 1.7 < end["seconds"] < 10 * harness.SLOW


@pytest.mark.workers
def test_flows_that_began_together_do_not_end_together(stent, raw_backend):
    """Each at another age of 80 to 100 %; and python's websockets sees 1001."""
    async def serve(ws, path=None):
        await ws.wait_closed()

    async def one(port):
        began = time.monotonic()
        async with websockets.connect(f"ws://127.0.0.1:{port}/", ping_interval=None, open_timeout=60) as ws:
            await ws.wait_closed()
            return ws.close_code, time.monotonic() - began

    async def run():
        async with websockets.serve(serve, "127.0.0.1", 0, ping_interval=None) as server:
            port = server.sockets[0].getsockname()[1]
            s = stent.route(f"127.0.0.1:{port}", protocol="websocket", max_age="5s", settings={"workers": "3"})
            return s, await asyncio.gather(*(one(s.port) for _ in range(100)))

    s, ended = asyncio.run(run())
    assert {code for code, _ in ended} == {1001}
    seconds = collections.Counter(int(age * 5) for _, age in ended)	# of a fifth of a second
    assert min(age for _, age in ended) > 3.5
    assert len(seconds) >= 4 and max(seconds.values()) < 50, seconds
    assert all(s.flow_end()["reason"] == "max-age" for _ in range(100))


def test_plain_bytes_end_in_a_quiet_moment(stent, raw_backend):
    """A protocol that stent does not know: a second of silence, then a FIN to both. Nothing is lost before it."""
    s = stent.route(raw_backend.text, max_age="2s")
    client, backend = s.connect(), raw_backend.accept()
    deadline = time.monotonic() + 1.2
    while time.monotonic() < deadline:
        client.send_all(b"request")
        assert backend.recv_exact(7) == b"request"
        time.sleep(0.05)
    backend.send_all(b"x" * 100000)
    assert len(client.recv_all()) == 100000
    backend.expect_fin()
    client.close()
    backend.close()
    end = s.flow_end()
    assert end["reason"] == "max-age" and end["seconds"] > 2


def test_an_event_stream_ends_between_two_events(stent, raw_backend):
    """With the last chunk: for a program that reads by chunks the response is whole."""
    s = stent.route(raw_backend.text, protocol="http", max_age="1s")
    client, backend = s.connect(), raw_backend.accept()
    client.send_all(GET)
    backend.recv_exact(len(GET))
    backend.send_all(EVENTS + chunk(b"data: 1\n"))
    client.recv_exact(len(EVENTS + chunk(b"data: 1\n")))
    time.sleep(1.05)
    client.expect_quiet(0.1)
    backend.send_all(chunk(b"\n"))
    assert client.recv_all() == chunk(b"\n") + b"0\r\n\r\n"
    backend.expect_fin()
    backend.close()
    assert s.flow_end()["reason"] == "max-age"


def test_an_http_connection_ends_behind_the_response(stent, raw_backend):
    s = stent.route(raw_backend.text, protocol="http", max_age="1s")
    client, backend = s.connect(), raw_backend.accept()
    client.send_all(GET)
    backend.recv_exact(len(GET))
    time.sleep(1.05)
    client.expect_quiet(0.1)
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    backend.send_all(response)
    assert client.recv_all() == response
    backend.expect_fin()
    assert s.flow_end()["reason"] == "max-age"


def test_a_reload_changes_it_for_open_flows(stent, raw_backend):
    s = stent.route(raw_backend.text, protocol="websocket")
    listen = s.listen[0]
    client, backend = s.connect(), raw_backend.accept()
    upgrade(client, backend)
    here, there = sockets(client, backend)
    time.sleep(1.05)
    reload(s, {"t": {"listen": listen, "backend": raw_backend.text, "protocol": "websocket", "max_age": "1s"}})
    for ws in (here, there):
        assert ws.read()[0] == CLOSE
    client.close()
    backend.close()
    assert s.flow_end()["reason"] == "max-age"
