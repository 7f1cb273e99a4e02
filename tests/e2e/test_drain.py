"""The end of stent: flows end one after the other, behind a message, with a goodbye; drain = serve goes on accepting."""

import asyncio
import collections
import concurrent.futures
import signal
import socket
import time
import urllib.error
import urllib.request

import harness
import pytest
import tls_ends
import websockets
from frames import CLOSE, CONTINUATION, TEXT, WebSocket, upgrade

CLIENTS, BUSY = 300, 30
TCP_CLOSE_WAIT = 8


async def fragments():
    for _ in range(3):
        yield "x" * 7000
        await asyncio.sleep(0.03)


async def serve(ws, path=None):
    """A client that says "busy" gets message after message, each in three pieces."""
    is_busy = await ws.recv() == "busy"
    try:
        while is_busy:
            await ws.send(fragments())
    except (websockets.ConnectionClosed, RuntimeError):
        pass
    await ws.wait_closed()


async def client(port, is_busy, sizes, begun):
    async with websockets.connect(f"ws://127.0.0.1:{port}/", ping_interval=None, open_timeout=60, close_timeout=1) as ws:
        await ws.send("busy" if is_busy else "idle")
        begun.append(port)
        try:
            while True:
                sizes[len(await ws.recv())] += 1
        except websockets.ConnectionClosed:
            return ws.close_code, time.monotonic()


async def drained(stent, **settings):
    """The codes and times of 300 clients, from the signal on."""
    sizes, begun = collections.Counter(), []
    async with websockets.serve(serve, "127.0.0.1", 0, ping_interval=None, close_timeout=1) as server:
        s = stent.route(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", protocol="websocket", settings=settings)
        clients = [asyncio.create_task(client(s.port, i % (CLIENTS // BUSY) == 0, sizes, begun)) for i in range(CLIENTS)]
        while len(begun) < CLIENTS:
            await asyncio.sleep(0.05)
        await asyncio.sleep(1.1)		# none is told in its first second
        began = time.monotonic()
        s.signal(signal.SIGTERM)
        ended = await asyncio.gather(*clients)
        while s.process.poll() is None:
            await asyncio.sleep(0.02)
    return s, [(code, at - began) for code, at in ended], time.monotonic() - began, sizes


@pytest.mark.workers
@pytest.mark.parametrize("workers", [1, 3])
def test_clients_end_one_after_the_other(stent, workers):
    """Over the first 80 % of the time, all by a 1001, none within a message; then stent ends."""
    s, ended, seconds, sizes = asyncio.run(drained(stent, workers=str(workers), drain_timeout="6s"))
    assert {code for code, _ in ended} == {1001}
    assert set(sizes) == {21000}		# whole messages only
    by_second = collections.Counter(int(at) for _, at in ended)
    assert max(by_second.values()) < 0.35 * CLIENTS * min(harness.SLOW, 2) and len(by_second) >= 4, by_second
    assert 4 < max(at for _, at in ended) and seconds < 6.5 * harness.SLOW
    assert s.wait() == 0
    assert {r["reason"] for r in s.records if r.get("event") == "flow end"} == {"drain"}


def test_a_message_may_be_finished(stent, raw_backend):
    s = stent.route(raw_backend.text, protocol="websocket", settings={"drain_timeout": "5s"})
    peer, backend = s.connect(), raw_backend.accept()
    upgrade(peer, backend)
    here, there = WebSocket(peer, masks=True), WebSocket(backend, masks=False)
    here.send_part(TEXT, b"first ")
    assert there.read() == (TEXT, b"first ")
    time.sleep(1)
    s.signal(signal.SIGTERM)
    peer.expect_quiet(0.5)
    here.send(CONTINUATION, b"last")
    assert there.read() == (CONTINUATION, b"last")
    for ws, its in ((here, peer), (there, backend)):
        assert ws.read()[0] == CLOSE
        its.expect_fin()
        its.close()
    assert s.wait(2) == 0 and s.flow_end()["reason"] == "drain"


def test_a_second_signal_does_not_take_back_a_goodbye(stent, raw_backend):
    """Delivered to programs that sleep meanwhile: they read it when they wake up, not a reset."""
    s = stent.route(raw_backend.text, protocol="websocket", settings={"drain_timeout": "5s"})
    peer, backend = s.connect(), raw_backend.accept()
    upgrade(peer, backend)
    time.sleep(1.1)			# none is told in its first second
    s.signal(signal.SIGTERM)
    for its in (peer, backend):
        its.sock.settimeout(6 * harness.SLOW)
        assert its.sock.recv(1, socket.MSG_PEEK)
    s.signal(signal.SIGTERM)
    assert s.wait(4 * harness.SLOW) == 0 and s.flow_end()["reason"] == "drain"
    for ws, its in ((WebSocket(peer, masks=True), peer), (WebSocket(backend, masks=False), backend)):
        assert its.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE_WAIT	# a reset makes it closed
        assert ws.read()[0] == CLOSE
        its.expect_fin()
        its.close()


def test_signals_do_not_change_how_it_ends(stent, raw_backend):
    """Those that come while it frees what it has, too."""
    for _ in range(5):
        s = stent.route(raw_backend.text)
        end = time.monotonic() + 30 * harness.SLOW
        while s.process.poll() is None and time.monotonic() < end:
            s.signal(signal.SIGTERM)
            s.signal(signal.SIGHUP)
            s.signal(signal.SIGUSR1)
            time.sleep(0.0002)		# without a pause a sanitizer's leak check, which stops the process, would not come to its end
        assert s.wait(1) == 0


@pytest.mark.plain
@pytest.mark.parametrize("legs", ["client", "both"])
def test_goodbyes_with_tls(stent, certificates, legs):
    with concurrent.futures.ThreadPoolExecutor() as at_once, (
            harness.RawBackend() if legs == "client" else tls_ends.TlsBackend(certificates)) as server:
        s = stent.route(f"localhost:{server.port}", protocol="websocket", settings={"drain_timeout": "5s"}, **tls_ends.keys(certificates, legs))
        accepted = at_once.submit(server.accept)
        peer, backend = tls_ends.connect(s, certificates), accepted.result()
        upgrade(peer, backend)
        time.sleep(1)
        s.signal(signal.SIGTERM)
        for ws, its in ((WebSocket(peer, masks=True), peer), (WebSocket(backend, masks=False), backend)):
            assert ws.read()[0] == CLOSE
            its.expect_fin()			# behind a close_notify
            its.close()
        assert s.wait(2) == 0
        end = s.flow_end()
        assert end["reason"] == "drain" and "truncated" not in end


def test_clients_that_wait_for_a_backend_end_at_once(stent):
    """Another instance may have one."""
    s = stent.route(f"127.0.0.1:{harness.free_port()}", connect_retry="1m", settings={"drain_timeout": "20s"})
    waiting = s.connect()
    waiting.expect_quiet(1.2)
    s.signal(signal.SIGTERM)
    assert s.wait(3) == 0 and s.flow_end()["reason"] == "drain"


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=5 * harness.SLOW) as answer:
            return answer.status
    except urllib.error.HTTPError as e:
        return e.code


def test_serve_goes_on_accepting_until_nobody_is_left(stent, echo):
    """The application closes its connection, opens another one a second later to clean up, and closes that."""
    port = harness.free_port()
    s = stent.route(echo.text, settings={"drain": "serve", "drain_timeout": "30s", "admin": f"127.0.0.1:{port}"})
    first = s.connect()
    first.send_all(b"a")
    assert first.recv_exact(1) == b"a"
    assert get(f"http://127.0.0.1:{port}/readyz") == 200
    s.signal(signal.SIGTERM)
    s.wait_logged("^draining: new clients are served")
    assert get(f"http://127.0.0.1:{port}/readyz") == 503
    assert harness.run_stent("healthcheck", "-c", s.ini_path).returncode == 1
    first.send_all(b"b")
    assert first.recv_exact(1) == b"b"
    first.close()
    time.sleep(1)
    with s.connect() as second:
        second.send_all(b"c")
        assert second.recv_exact(1) == b"c"
        second.expect_quiet(2.5)		# longer than stent stays without a flow
    began = time.monotonic()
    assert s.wait(8) == 0 and time.monotonic() - began > 1.5
    assert [s.flow_end()["reason"] for _ in range(2)] == ["client-fin"] * 2


def test_serve_ends_when_its_time_is_over(stent, echo):
    """Half of it is the application's; then flows end at a boundary; one that does not is cut off."""
    s = stent.route(echo.text, settings={"drain": "serve", "drain_timeout": "4s"})
    quiet, talks = s.connect(), s.connect()
    for peer in (quiet, talks):
        peer.send_all(b"a")
        assert peer.recv_exact(1) == b"a"
    s.signal(signal.SIGTERM)
    began = time.monotonic()
    s.wait_logged("^draining")
    quiet_ended = None
    with pytest.raises((ConnectionError, AssertionError)):
        while True:
            talks.send_all(b"b")
            assert talks.recv_exact(1) == b"b"
            if quiet_ended is None:
                quiet.sock.settimeout(0.05)
                try:
                    assert quiet.sock.recv(1) == b""	# a FIN
                    quiet_ended = time.monotonic() - began
                except TimeoutError:
                    pass
            time.sleep(0.05)
    assert 1.9 < quiet_ended < 3.9 * harness.SLOW
    assert 3.9 < time.monotonic() - began < 6 * harness.SLOW
    assert s.wait(5) == 0
    assert [s.flow_end()["reason"] for _ in range(2)] == ["drain"] * 2


def test_a_second_signal_ends_serving_at_once(stent, echo):
    s = stent.route(echo.text, settings={"drain": "serve", "drain_timeout": "1h"})
    with s.connect() as peer:
        peer.send_all(b"a")
        assert peer.recv_exact(1) == b"a"
        s.signal(signal.SIGTERM)
        s.wait_logged("^draining")
        s.signal(signal.SIGTERM)
        assert s.wait(5) == 0
