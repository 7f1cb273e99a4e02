"""
Law 1: what a side receives is what the other sent, to the last byte and to
the kind of its close. Every test runs in both directions.
"""

import contextlib
import hashlib
import os
import select
import signal
import socket
import struct
import threading
import time

import harness
import pytest

DIRECTIONS = pytest.mark.parametrize("direction", ["client to backend", "backend to client"])
MEGABYTE = 1 << 20


def two_ends(s, backend, direction, **how):
    """The two ends of a flow, the one that acts first."""
    client = s.connect(**how)
    server = backend.accept()
    return (client, server) if direction.startswith("client") else (server, client)


def word(direction):
    return direction.split()[0]


@DIRECTIONS
def test_bytes_of_every_size_arrive_whole(stent, raw_backend, direction):
    a, b = two_ends(stent.route(raw_backend.text), raw_backend, direction)
    for size in (1, 2, 1447, 1448, 1449, 65535, 65536, 65537, 131072, 3 * MEGABYTE + 7):
        data = os.urandom(size)
        sender = threading.Thread(target=a.send_all, args=(data,), kwargs={"timeout": 20})
        sender.start()
        assert b.recv_exact(size, timeout=20) == data
        sender.join()


@DIRECTIONS
def test_bulk_is_equal_by_hash_and_counted(stent, raw_backend, direction):
    s = stent.route(raw_backend.text)
    a, b = two_ends(s, raw_backend, direction)
    block = os.urandom(MEGABYTE)
    sent = hashlib.sha256()

    def send():
        for i in range(100):
            piece = block[i:] + block[:i]
            sent.update(piece)
            a.send_all(piece, timeout=60)
        a.half_close()

    sender = threading.Thread(target=send)
    sender.start()
    got, n = hashlib.sha256(), 0
    while piece := b.recv_some(MEGABYTE, timeout=20):
        got.update(piece)
        n += len(piece)
    sender.join()
    assert (n, got.hexdigest()) == (100 * MEGABYTE, sent.hexdigest())
    b.close()
    assert s.flow_end()[f"{word(direction)}_bytes"] == 100 * MEGABYTE


def test_both_directions_at_once(stent, echo):
    client = stent.route(echo.text).connect()
    data = os.urandom(20 * MEGABYTE)
    sender = threading.Thread(target=lambda: (client.send_all(data, timeout=60), client.half_close()))
    sender.start()
    assert client.recv_all(timeout=60) == data
    sender.join()


@DIRECTIONS
def test_a_fin_arrives_as_a_fin(stent, raw_backend, direction):
    s = stent.route(raw_backend.text)
    a, b = two_ends(s, raw_backend, direction)
    a.half_close()
    b.expect_fin()
    b.close()
    a.expect_fin()
    assert s.flow_end()["reason"] == f"{word(direction)}-fin"


@DIRECTIONS
def test_a_half_close_stays_half_closed(stent, raw_backend, direction):
    a, b = two_ends(stent.route(raw_backend.text), raw_backend, direction)
    a.send_all(b"question")
    a.half_close()
    assert b.recv_exact(8) == b"question"
    b.expect_fin()
    for i in range(5):
        time.sleep(0.2)
        b.send_all(b"part %d" % i)
        assert a.recv_exact(6) == b"part %d" % i
    b.close()
    a.expect_fin()


@DIRECTIONS
def test_a_half_close_outlives_every_timer(stent, raw_backend, direction):
    """Probes and TCP_USER_TIMEOUT are about hosts that are gone, not about sides that are silent."""
    s = stent.route(raw_backend.text, keepalive="1s/1s/1", user_timeout="1s")
    a, b = two_ends(s, raw_backend, direction)
    a.half_close()
    b.expect_fin()
    time.sleep(3.5)
    b.send_all(b"late")
    assert a.recv_exact(4) == b"late"
    b.close()
    a.expect_fin()
    assert s.flow_end()["reason"] == f"{word(direction)}-fin"


@DIRECTIONS
def test_a_reset_arrives_as_a_reset(stent, raw_backend, direction):
    s = stent.route(raw_backend.text)
    a, b = two_ends(s, raw_backend, direction)
    a.send_all(b"x")
    assert b.recv_exact(1) == b"x"
    a.reset()
    b.expect_reset()
    assert s.flow_end()["reason"] == f"{word(direction)}-reset"


@DIRECTIONS
def test_a_reset_after_a_half_close_arrives(stent, raw_backend, direction):
    """The side that has said its last is not read any more; its reset must be seen all the same."""
    s = stent.route(raw_backend.text)
    a, b = two_ends(s, raw_backend, direction)
    a.half_close()
    b.expect_fin()
    a.reset()
    with pytest.raises(OSError):        # its FIN was read: the reset shows as an error of the next send
        for _ in range(50):
            b.send_all(b"x")
            time.sleep(0.02)
    assert s.flow_end()["reason"] == f"{word(direction)}-reset"


@DIRECTIONS
def test_a_reset_that_comes_together_with_bytes(stent, raw_backend, direction):
    """One edge tells of both: the bytes are read, and the reset is found all the same."""
    s = stent.route(raw_backend.text)
    a, b = two_ends(s, raw_backend, direction)
    s.flow_start()
    stop(s)
    a.send_all(b"last words")
    a.reset()
    s.signal(signal.SIGCONT)
    assert b.recv_exact(10) == b"last words"
    b.expect_reset()
    assert s.flow_end()["reason"] == f"{word(direction)}-reset"


def stop(s):
    s.signal(signal.SIGSTOP)
    harness.wait_for(lambda: s.states() == {"T"})


def test_a_backend_that_speaks_and_resets_at_once(stent):
    """Before the relay has even seen that it is connected: its words arrive, then its reset."""
    with harness.BlackHole() as hole:
        s = stent.route(hole.text, connect_timeout="10s")
        client = s.connect()
        time.sleep(0.2)
        stop(s)
        hole.open()
        backend = hole.accept(timeout=8)
        backend.send_all(b"too many connections")
        backend.reset()
        s.signal(signal.SIGCONT)
        assert client.recv_exact(20) == b"too many connections"
        client.expect_reset()
        assert s.flow_end()["reason"] == "backend-reset"


@DIRECTIONS
def test_a_reset_in_the_middle_of_bulk(stent, raw_backend, direction):
    """Bulk goes by splice(), which takes the reset from the socket: the next read would find a FIN."""
    s = stent.route(raw_backend.text)
    a, b = two_ends(s, raw_backend, direction)
    for _ in range(20):                 # its window grows
        data = os.urandom(MEGABYTE // 4)
        a.send_all(data)
        assert b.recv_exact(len(data)) == data
    stop(s)
    data = os.urandom(180_000)
    a.send_all(data)
    harness.wait_for(lambda: unacknowledged(a) == 0, what="the kernel to have all")
    a.reset()
    s.signal(signal.SIGCONT)
    assert b.recv_exact(len(data)) == data
    b.expect_reset()
    assert s.flow_end()["reason"] == f"{word(direction)}-reset"


@DIRECTIONS
def test_bytes_before_a_reset_are_delivered(stent, raw_backend, direction):
    """A reader that has stopped for a moment gets all that came before the reset, then the reset."""
    s = stent.route(raw_backend.text)
    a, b = two_ends(s, raw_backend, direction)
    data = os.urandom(300_000)
    a.send_all(data)
    harness.wait_for(lambda: unacknowledged(a) == 0, what="the kernel to have all")
    a.reset()
    time.sleep(0.2)
    assert b.recv_exact(len(data)) == data
    b.expect_reset()
    assert s.flow_end()["reason"] == f"{word(direction)}-reset"


@DIRECTIONS
def test_a_reset_while_the_other_side_is_stalled(stent, raw_backend, direction):
    """The one that never reads again is told all the same, in bounded time."""
    s = stent.route(raw_backend.text)
    a, b = two_ends(s, raw_backend, direction)
    fill(a)
    a.reset()
    assert s.flow_end(timeout=4)["reason"] == f"{word(direction)}-reset"
    with pytest.raises(ConnectionResetError):
        while True:
            assert b.recv_some(MEGABYTE)


@DIRECTIONS
def test_last_bytes_before_a_close_arrive(stent, raw_backend, direction):
    for size in (1, 100, 65536, 250_000):
        a, b = two_ends(stent.started[0] if stent.started else stent.route(raw_backend.text), raw_backend, direction)
        data = os.urandom(size)
        a.send_all(data)
        a.close()
        assert b.recv_all() == data
        b.close()


def test_a_connection_without_a_byte(stent, raw_backend):
    s = stent.route(raw_backend.text)
    client = s.connect()
    backend = raw_backend.accept()
    client.close()
    backend.expect_fin()
    backend.close()
    end = s.flow_end()
    assert (end["reason"], end["client_bytes"], end["backend_bytes"]) == ("client-fin", 0, 0)


def test_the_server_may_speak_first(stent, raw_backend):
    client = stent.route(raw_backend.text).connect()
    raw_backend.accept().send_all(b"220 ready\r\n")
    assert client.recv_exact(11) == b"220 ready\r\n"


def test_bytes_sent_before_the_backend_answers_arrive(stent):
    with harness.BlackHole() as hole:
        s = stent.route(hole.text, connect_timeout="10s")
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


def test_a_client_that_resets_before_the_backend_answers(stent):
    """The flow must not wait for the backend any longer."""
    with harness.BlackHole() as hole:
        s = stent.route(hole.text, connect_timeout="20s")
        client = s.connect()
        time.sleep(0.1)
        client.reset()
        assert s.flow_end(timeout=2)["reason"] == "client-reset"


def fill(peer):
    """Sends until nothing more goes; returns how much went."""
    peer.sock.setblocking(False)
    block, n, last = bytes(65536), 0, time.monotonic()
    while time.monotonic() - last < 0.5:
        try:
            n += peer.sock.send(block)
            last = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    peer.sock.setblocking(True)
    return n


def unacknowledged(peer):
    import fcntl
    SIOCOUTQ = 0x5411
    return struct.unpack("i", fcntl.ioctl(peer.sock, SIOCOUTQ, struct.pack("i", 0)))[0]


@DIRECTIONS
def test_a_stalled_receiver_stops_the_sender(stent, raw_backend, direction):
    s = stent.route(raw_backend.text)
    before = s.memory()
    pairs = [two_ends(s, raw_backend, direction) for _ in range(8)]
    sent = [fill(a) for a, _ in pairs]
    # Whatever the kernel's buffers hold, what is held here is at most 256 KiB a direction.
    limit = 8 * 256 * 1024 if not harness.IS_SANITIZED else 256 << 20
    assert s.memory() - before < limit
    for (a, b), n in zip(pairs, sent):
        assert len(b.recv_exact(n, timeout=20)) == n
        a.send_all(b"goes on")
        assert b.recv_exact(7) == b"goes on"


class Hose:
    """One direction of a flow, pushed in and pulled out as far as it goes without waiting."""

    BLOCK = os.urandom(MEGABYTE) * 2

    def __init__(self, a, b):
        self.a, self.b = a.sock, b.sock
        self.sent = self.got = 0
        self.a.setblocking(False)
        self.b.setblocking(False)

    def piece(self, at, size=MEGABYTE):
        return memoryview(self.BLOCK)[at % MEGABYTE:at % MEGABYTE + size]

    def push(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                self.sent += self.a.send(self.piece(self.sent))

    def pull(self):
        """True: all that was pushed in has come."""
        with contextlib.suppress(BlockingIOError):
            while data := self.b.recv(MEGABYTE):
                assert data == self.piece(self.got, len(data))
                self.got += len(data)
        return self.got == self.sent


def test_bulk_that_stalls_holds_few_pipes(stent, tmp_path):
    """By UNIX sockets, whose buffers are small: 40 flows of bulk have 32 pipes in all, and lose nothing."""
    with harness.RawBackend(path=tmp_path / "back.sock") as backend:
        s = stent.route(backend.text, listen=f"unix:{tmp_path}/front.sock")
        before = s.pipes()
        hoses = [Hose(s.connect(), backend.accept()) for _ in range(40)]

        def stalled_with_many_pipes():
            for i in range(4):
                with s.stopped():	# it finds all full or empty: small reads would not be bulk
                    for hose in hoses:
                        if i == 0:
                            hose.pull()
                        hose.push()
                harness.wait_for(s.is_idle)
            return s.pipes() - before >= 32
        harness.wait_for(stalled_with_many_pipes, timeout=20)
        assert s.pipes() - before == 32
        harness.wait_for(lambda: all([hose.pull() for hose in hoses]), timeout=20)


@DIRECTIONS
def test_a_reader_that_pauses_beyond_the_user_timeout_lives(stent, raw_backend, direction):
    """
    Linux ends a connection whose window stays shut for TCP_USER_TIMEOUT, even one that answers each
    probe. A reader that pauses is not dead.
    """
    s = stent.route(raw_backend.text, user_timeout="1s", keepalive="1s/1s/2")
    a, b = two_ends(s, raw_backend, direction)
    n = fill(a)
    time.sleep(5)
    assert len(b.recv_exact(n, timeout=20)) == n
    a.send_all(b"still here")
    assert b.recv_exact(10) == b"still here"
    b.send_all(b"me too")
    assert a.recv_exact(6) == b"me too"
    s.expect_no_event("flow end")


@DIRECTIONS
def test_a_pause_is_seen_in_time_though_the_other_leg_has_longer(stent, raw_backend, direction):
    """The look at both legs, set for the one with the long user_timeout, comes in time for the one with the short."""
    timeout = 0.7 * harness.SLOW
    reader = direction.split()[-1]
    s = stent.route(raw_backend.text, user_timeout="1m", **{f"{reader}__user_timeout": f"{timeout * 1000:.0f}ms"})
    a, b = two_ends(s, raw_backend, direction)
    b.send_all(b"hello")
    assert a.recv_exact(5) == b"hello"
    n = fill(a)
    time.sleep(2.5 * timeout)
    assert len(b.recv_exact(n, timeout=20)) == n
    s.expect_no_event("flow end")


@pytest.fixture(params=["tcp", "unix"])
def urgent_backend(request, tmp_path):
    """A backend whose kind of socket has urgent bytes: UNIX ones since Linux 5.15."""
    if request.param == "unix":
        a, b = socket.socketpair()
        with a, b:
            try:
                a.send(b"!", socket.MSG_OOB)
            except OSError:
                pytest.skip("this kernel's UNIX sockets have no urgent bytes")
    with harness.RawBackend(path=tmp_path / "back.sock" if request.param == "unix" else None) as backend:
        yield backend


def route_of_its_kind(stent, backend, tmp_path, **keys):
    """Both legs are of the backend's kind."""
    return stent.route(backend.text, listen=None if backend.port else f"unix:{tmp_path}/front.sock", **keys)


@DIRECTIONS
def test_the_urgent_byte(stent, urgent_backend, tmp_path, direction):
    a, b = two_ends(route_of_its_kind(stent, urgent_backend, tmp_path), urgent_backend, direction)
    for i in range(20):
        a.send_all(b"before %02d" % i)
        a.sock.send(b"!", socket.MSG_OOB)
        a.send_all(b"after")
        assert b.recv_exact(9) == b"before %02d" % i
        harness.wait_for(lambda: urgent_byte(b) == b"!", what="the urgent byte")
        assert b.recv_exact(5) == b"after"


def urgent_byte(peer):
    try:
        return peer.sock.recv(1, socket.MSG_OOB | socket.MSG_DONTWAIT)
    except (BlockingIOError, OSError):
        return None


@DIRECTIONS
@pytest.mark.parametrize("urgent, in_line, expected", [
    ("on", True, b"be!af"), ("on", False, b"beaf"), ("off", False, b"beaf")])
def test_urgent_bytes_are_in_the_stream_for_who_asks_for_them(stent, urgent_backend, tmp_path, direction, urgent, in_line, expected):
    s = route_of_its_kind(stent, urgent_backend, tmp_path, urgent=urgent)
    a, b = two_ends(s, urgent_backend, direction)
    b.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, in_line)
    for i in range(50):
        a.send_all(b"be")
        if i == 0:	# stent looks for urgent bytes from the first one on, which must not come in the middle of a read
            harness.wait_for(s.is_idle)
        a.sock.send(b"!", socket.MSG_OOB)
        a.send_all(b"af")
        assert b.recv_exact(len(expected)) == expected
    a.half_close()
    assert b.recv_all() == b""


@pytest.mark.parametrize("protocol", ["tcp", "redis"])
@pytest.mark.parametrize("words", [(b"a", b"#"), (b"", b"#"), (b"a", b""), (b"", b"")], ids=["between", "first", "last", "alone"])
def test_an_urgent_byte_that_came_before_its_flow_was_accepted(stent, words, protocol):
    before, after = words
    with harness.RawBackend() as backend:
        s = stent.route(backend.text, protocol=protocol)
        s.signal(signal.SIGSTOP)
        with s.connect() as client:
            if before:
                client.send_all(before)
            client.sock.send(b"!", socket.MSG_OOB)
            if after:
                client.send_all(after)
            client.half_close()
            s.signal(signal.SIGCONT)
            with backend.accept() as server:
                server.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
                harness.wait_for(lambda: urgent_byte_waits(server), what="the mark")
                assert server.recv_all() == before + b"!" + after


def urgent_byte_waits(peer):
    poll = select.poll()
    poll.register(peer.sock, select.POLLPRI)
    return poll.poll(0)


@DIRECTIONS
def test_an_urgent_byte_in_the_middle_of_bulk(stent, urgent_backend, tmp_path, direction):
    a, b = two_ends(route_of_its_kind(stent, urgent_backend, tmp_path), urgent_backend, direction)
    b.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    data = os.urandom(4 * MEGABYTE)

    def send():
        a.send_all(data, timeout=20)
        a.sock.send(b"!", socket.MSG_OOB)
        a.send_all(data, timeout=20)
        a.half_close()
    sender = threading.Thread(target=send)
    sender.start()
    assert b.recv_all(timeout=30) == data + b"!" + data
    sender.join()


def test_an_unreachable_backend_is_told_by_a_reset_at_once(stent):
    s = stent.route(f"127.0.0.1:{harness.free_port()}")
    began = time.monotonic()
    s.expect_refusal()
    assert time.monotonic() - began < 1 * harness.SLOW
    assert s.flow_end()["reason"] == "backend-refused"


@pytest.mark.workers
def test_many_flows_at_once_on_many_workers(stent, echo):
    s = stent.route(echo.text, settings={"workers": 4, "log_level": "info"})
    data = [os.urandom(200_000) for _ in range(10)]
    failures = []

    def run(i):
        try:
            for k in range(20):
                client = s.connect()
                piece = data[(i + k) % 10][:1 + 10_007 * ((i * k) % 19)]
                sender = threading.Thread(target=lambda: (client.send_all(piece, timeout=30), client.half_close()))
                sender.start()
                assert client.recv_all(timeout=30) == piece
                sender.join()
                client.close()
        except BaseException as problem:
            failures.append(problem)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures
    for _ in range(320):
        assert s.flow_end(timeout=10)["reason"] == "client-fin"
