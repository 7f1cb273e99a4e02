"""
A storm: many flows at once, of every size, that stop reading, close by halves, reset and are killed, through four
workers. Each byte that arrives is compared, each end must be the right one; and when all is over nothing is left.

A thread has a route and a listener of its own and drives both ends of one flow at a time. What a flow does is drawn
from a random generator whose seed is printed: STENT_TEST_SEED repeats it.
"""

import collections
import contextlib
import errno
import os
import random
import select
import socket
import struct
import threading
import time

import harness
import pytest

WORKERS = 4
PIPES = 32			# of each worker at most, for splice()
HEARTBEAT = b"!heartbeat\n"
BLOCK = os.urandom(1 << 20).replace(b"!", b"?") * 4	# no heartbeat is in it
PATIENCE = 60 * harness.SLOW
RESET = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)

# route -> (its ends are UNIX sockets, keys)
KINDS = {
    "plain": (False, {}),
    "quick": (False, {"user_timeout": "2s", "keepalive": "1s/1s/2"}),
    "unix": (True, {}),
    "beaten": (False, {"protocol": "line", "heartbeat": "10ms", "heartbeat_send": r"!heartbeat\n"}),
}


class End:
    """One end of a flow: what it says and hears, and how it ends."""

    def __init__(self, rng, sock, other_size, size, has_heartbeats):
        self.sock, self.rng, self.has_heartbeats = sock, rng, has_heartbeats
        self.start = size % 4093
        self.size, self.other_size, self.other_start = size, other_size, other_size % 4093
        self.sent = self.got = 0
        self.piece = int(2 ** rng.uniform(4, 18))
        self.shut = self.fin = self.reset = False
        self.waits_for_fin = rng.random() < 0.3
        self.reset_at = None
        self.rests = sorted((rng.randrange(other_size + 1), rng.uniform(0.001, 0.3)) for _ in range(rng.choice([0, 0, 1, 3])))
        self.asleep_until = 0
        self.held = b""			# the end of what came, may be the beginning of a heartbeat
        sock.setblocking(False)

    def events(self):
        mask = 0
        if not self.fin and time.monotonic() >= self.asleep_until:
            mask |= select.POLLIN
        if self.sent < self.size:
            mask |= select.POLLOUT
        return mask

    def is_done(self):
        return self.reset or (self.fin and self.shut)

    def hear(self):
        try:
            data = self.sock.recv(self.piece)
        except BlockingIOError:
            return
        if not data:
            self.fin = True
            assert not self.held, "a heartbeat was cut"
            return
        if self.has_heartbeats:
            data = self.without_heartbeats(self.held + data)
        at = self.other_start + self.got
        assert self.got + len(data) <= self.other_size, "more came than was sent"
        assert data == BLOCK[at:at + len(data)], f"other bytes came, behind {self.got}"
        self.got += len(data)
        if self.rests and self.got >= self.rests[0][0]:
            self.asleep_until = time.monotonic() + self.rests.pop(0)[1]

    def without_heartbeats(self, data):
        data = data.replace(HEARTBEAT, b"")
        cut = data.rfind(b"!")
        self.held = data[cut:] if cut >= 0 else b""
        assert HEARTBEAT.startswith(self.held)
        return data[:cut] if cut >= 0 else data

    def speak(self):
        until = self.size if self.reset_at is None else min(self.reset_at, self.size)
        with contextlib.suppress(BlockingIOError):
            at = self.start + self.sent
            self.sent += self.sock.send(BLOCK[at:at + min(self.piece, until - self.sent)]) if until > self.sent else 0

    def step(self, mask):
        """May raise what a reset raises."""
        if mask & (select.POLLIN | select.POLLHUP | select.POLLERR):
            self.hear()
        if mask & select.POLLOUT:
            self.speak()
        if self.reset_at is not None and self.sent >= self.reset_at:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
            self.reset = True
        elif self.sent == self.size and not self.shut and (self.fin or not self.waits_for_fin):
            self.sock.shutdown(socket.SHUT_WR)
            self.shut = True


class Driver(threading.Thread):
    """Flows of one route, one after the other."""

    def __init__(self, s, address, kind, listener, seed, stop_at, sizes):
        super().__init__(daemon=True)
        self.address, self.kind, self.listener, self.stop_at = address, kind, listener, stop_at
        self.rng = random.Random(seed)
        self.sizes = sizes
        self.ends = collections.Counter()
        self.problem = None
        self.can_reset = not KINDS[kind][0]

    def run(self):
        try:
            while time.monotonic() < self.stop_at:
                self.ends[self.one_flow()] += 1
        except BaseException as problem:
            self.problem = problem

    def size(self):
        return self.rng.choice([0, 1, int(2 ** self.rng.uniform(0, self.sizes))])

    def accept(self, client):
        """None: the flow was killed before the backend was reached."""
        self.listener.settimeout(0)
        deadline = time.monotonic() + PATIENCE
        watch = select.poll()
        watch.register(self.listener, select.POLLIN)
        watch.register(client, 0)       # an error is told unasked
        while time.monotonic() < deadline:
            for fd, _ in watch.poll(1000):
                if fd == client.fileno():
                    return None
                with contextlib.suppress(BlockingIOError):
                    return self.listener.accept()[0]
        raise AssertionError("no connection came to the backend")

    def one_flow(self):
        rng = self.rng
        try:
            client = harness.connect(self.address, timeout=PATIENCE, rcvbuf=rng.choice([None, None, 4096])).sock
        except ConnectionResetError:
            return self.after_kill()
        backend = self.accept(client)
        if backend is None:
            client.close()
            return self.after_kill()
        sizes = self.size(), self.size()
        has_heartbeats = self.kind == "beaten"
        ends = End(rng, client, sizes[1], sizes[0], has_heartbeats), End(rng, backend, sizes[0], sizes[1], has_heartbeats)
        if ends[0].waits_for_fin and ends[1].waits_for_fin:
            ends[0].waits_for_fin = False
        resets = self.can_reset and rng.random() < 0.2
        if resets:
            who = rng.choice(ends)
            who.reset_at = rng.randrange(who.size + 1)
        with client, backend:
            self.drive(ends)
        return self.judge(ends, resets)

    def drive(self, ends):
        deadline = time.monotonic() + PATIENCE
        while not all(end.is_done() for end in ends):
            assert time.monotonic() < deadline, [(e.size, e.sent, e.other_size, e.got, e.shut, e.fin, e.reset) for e in ends]
            watch = select.poll()
            for end in ends:
                if not end.is_done():
                    watch.register(end.sock, end.events())
            ready = dict(watch.poll(10))
            for end in ends:
                if end.is_done():
                    continue
                try:
                    end.step(ready.get(end.sock.fileno(), 0))
                except OSError as problem:
                    if problem.errno not in RESET:
                        raise
                    end.reset = True
                    end.sock.close()

    def judge(self, ends, resets):
        for end in ends:
            if end.fin and not end.reset:       # a FIN says: this was all
                assert end.got == end.other_size, f"a FIN came after {end.got} of {end.other_size} bytes"
        if not any(end.reset for end in ends):
            return "in order"
        return "reset" if resets else self.after_kill()

    def after_kill(self):
        """What stent had connected before its flow was killed waits in our queue."""
        with contextlib.suppress(BlockingIOError):
            self.listener.settimeout(0)
            self.listener.accept()[0].close()
        return "killed"


def kill_some(s, rng, stop_at):
    """Some flow that resets can be told of, a few times a second."""
    n = 0
    while time.monotonic() < stop_at:
        flows = [f for f in s.ask("flows limit=1000") if "unix" not in f["route"]]
        if flows:
            n += "error" not in s.ask(f"kill {rng.choice(flows)['id']}")
        time.sleep(rng.uniform(0, 0.3))
    return n


def descriptors(s):
    links = collections.Counter()
    for fd in os.listdir(f"/proc/{s.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            links[os.readlink(f"/proc/{s.pid}/fd/{fd}").split(":")[0]] += 1
    return links


def storm(stent, tmp_path, seconds, drivers, sizes=22):
    """Returns (stent, its descriptors before, its memory after the first tenth of the time)."""
    seed = int(os.environ.get("STENT_TEST_SEED", random.randrange(1 << 30)))
    print(f"STENT_TEST_SEED={seed}")
    ini, listeners = "", []
    for i in range(drivers):
        kind = list(KINDS)[i % len(KINDS)]
        is_unix, keys = KINDS[kind]
        listener = harness.RawBackend(path=tmp_path / f"back{i}") if is_unix else harness.RawBackend()
        address = f"unix:{tmp_path}/front{i}" if is_unix else f"{harness.HOST}:{harness.free_port()}"
        listeners.append((kind, address, listener.sock))
        ini += f"[route {kind}{i}]\nlisten = {address}\nbackend = {listener.text}\n"
        ini += "".join(f"{key} = {value}\n" for key, value in keys.items())
    s = stent(ini, workers=WORKERS, log_level="warn", log_format="text")
    sockets = descriptors(s)["socket"]
    s.ask("health")        # once it answers, the last of what it opens at its start is closed again
    before = harness.wait_for(lambda: (now := descriptors(s))["socket"] <= sockets and now)
    total = collections.Counter()
    for part, length in enumerate((seconds * 0.1, seconds * 0.9)):
        stop_at = time.monotonic() + length
        threads = [Driver(s, address, kind, sock, seed + 1000 * part + i, stop_at, sizes)
                   for i, (kind, address, sock) in enumerate(listeners)]
        for thread in threads:
            thread.start()
        killed = kill_some(s, random.Random(seed), stop_at)
        for thread in threads:
            thread.join()
        problems = [(t.kind, t.problem) for t in threads if t.problem]
        assert not problems, problems
        for thread in threads:
            total += thread.ends
        harness.wait_for(lambda: s.ask("flows") == [], 20, "the flows to end")
        if part == 0:
            memory = s.memory()
    print(dict(total), "last killed:", killed)
    assert total["in order"] > drivers and total["reset"] > 0 and total["killed"] > 0
    return s, before, memory


def check_nothing_is_left(s, before):
    after = harness.wait_for(lambda: (now := descriptors(s))["socket"] <= before["socket"] and now, 10, "the sockets to go")
    assert after["socket"] == before["socket"]
    assert after["pipe"] - before["pipe"] <= WORKERS * PIPES * 2
    assert {k: n for k, n in after.items() if k not in ("socket", "pipe")} == \
        {k: n for k, n in before.items() if k not in ("socket", "pipe")}


@pytest.mark.workers
def test_a_storm_of_ten_seconds(stent, tmp_path):
    s, before, _ = storm(stent, tmp_path, seconds=10, drivers=8, sizes=20)
    check_nothing_is_left(s, before)


@pytest.mark.long
@pytest.mark.malloc
@pytest.mark.timeout(600)
def test_a_storm_of_three_minutes(stent, tmp_path):
    s, before, memory = storm(stent, tmp_path, seconds=180, drivers=24)
    check_nothing_is_left(s, before)
    assert s.memory() - memory < 4 << 20
