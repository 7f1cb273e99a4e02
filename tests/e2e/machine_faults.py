"""
machine_faults.py - calls of stent that fail by number (tests/faults/fault.c), and conversations that go on meanwhile.

A conversation returns when all was exchanged, and raises Ended when its flow was ended as it may be: by a reset, or
after its protocol's goodbye. A wrong byte, a FIN in the middle or a flow that hangs is an AssertionError.
"""

import collections
import errno
import mmap
import os
import pathlib
import re
import socket
import struct
import subprocess
import time

import frames
import harness
import pgwire
from servers.redis import command

LAYOUT = struct.Struct("qqQqqQqHHI40s")
STUCK = harness.PATIENCE	# seconds after which a flow that neither goes on nor ends is one that hangs
EVERYTHING = (1 << 64) - 1


FOLDER = pathlib.Path(harness.stent_bin()).parent / "tests" / "faults"
CALLS = re.findall(r"^\tX\((\w+)", (harness.ROOT / "tests" / "faults" / "fault.c").read_text(), re.M)	# the bits of a plan, in order


class Faults:
    """The plan of one process. It starts with the call `first` (0: none) to fail."""

    def __init__(self, path, first=0, variant=0):
        self.path = path
        path.write_bytes(bytes(LAYOUT.size))
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), LAYOUT.size)
        self.set(first, variant)

    def environment(self):
        return {"LD_PRELOAD": str(FOLDER / "libfault.so"), "STENT_FAULTS": str(self.path)}

    def set(self, number, variant=0, *calls):
        """The call with that number, of all or of some kinds, fails next."""
        calls = sum(1 << CALLS.index(call) for call in calls) or EVERYTHING
        self.map[:] = LAYOUT.pack(number, variant, calls, 0, 0, 0, 0, 0, 0, 0, b"")

    def pause(self):
        """Nothing fails from now on; what did can still be asked."""
        self.map[:8] = bytes(8)

    def hit(self):
        """What failed: its name and its errno; None: nothing yet."""
        _, _, _, hits, error, *_, name = LAYOUT.unpack(self.map[:])
        return (name.rstrip(b"\0").decode(), os.strerror(error)) if hits else None

    def ports(self):
        """Of the socket that the call was for and of its peer, of a TCP connection; else 0, 0."""
        return LAYOUT.unpack(self.map[:])[7:9]

    def jump(self, seconds):
        """The wall clock is so much ahead from now on."""
        self.map[48:56] = struct.pack("q", seconds)

    def left(self):
        return LAYOUT.unpack(self.map[:])[0]

    def caller(self, s):
        """Function and line of the call that failed."""
        at = LAYOUT.unpack(self.map[:])[5]
        for line in open(f"/proc/{s.pid}/maps"):
            first, last = (int(x, 16) for x in line.split()[0].split("-"))
            if first <= at < last:
                offset, path = int(line.split()[2], 16), line.split()[-1]
                return subprocess.run(["addr2line", "-fse", path, hex(at - first + offset - 1)], capture_output=True, text=True).stdout
        return hex(at)


class Ended(Exception):
    """The flow was ended, in a way that its ends understand."""


_opened = collections.deque(maxlen=1)		# the address of the last client


def opened(address):
    """A connected socket, whose own address is known also if it is reset at once."""
    sock = socket.socket()
    sock.settimeout(STUCK * harness.SLOW)
    try:
        sock.bind((harness.HOST, 0))
        _opened.append(f"{harness.HOST}:{sock.getsockname()[1]}")
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


class Client(harness.Peer):
    """The ends of its flow: a reset is Ended."""

    def __init__(self, address):
        try:
            super().__init__(opened(address), timeout=STUCK)
        except ConnectionError:
            raise Ended("connect") from None

    def say(self, data):
        try:
            self.send_all(data)
        except ConnectionError as problem:
            raise Ended(str(problem)) from None

    def hear(self, wanted, noise=None, goodbye=None):
        """Exactly these bytes; noise: lines of that text are heartbeats; goodbye: what stent may say instead, with a FIN."""
        got = b""
        until = time.monotonic() + STUCK * harness.SLOW
        while got != wanted:
            self.sock.settimeout(max(until - time.monotonic(), 0.001))
            try:
                piece = self.sock.recv(1 << 18 if noise or goodbye else len(wanted) - len(got))
            except TimeoutError:
                raise AssertionError(f"hangs after {len(got)} of {len(wanted)} bytes") from None
            except ConnectionError as problem:
                raise Ended(str(problem)) from None
            assert piece, f"FIN after {len(got)} of {len(wanted)} bytes"
            got += piece
            if goodbye and got[:1] == goodbye[:1]:
                raise Ended(got)
            if noise:
                got = got.replace(noise, b"")
            assert wanted.startswith(got) or (noise and noise.startswith(got[-1:])), (got[-60:], len(got))

    def ends(self, noise=b"", goodbye=None):
        """Closes its half, and gets the other's FIN."""
        try:
            self.half_close()
            rest = self.recv_all()
        except OSError as problem:
            raise Ended(str(problem)) from None
        if goodbye and rest.startswith(goodbye):
            raise Ended(rest)
        assert not (rest.replace(noise, b"") if noise else rest), rest


BULK = bytes(range(256)) * 1200


def tcp(address, pause):
    with Client(address) as c:
        c.say(b"hello")
        c.hear(b"hello")
        yield
        for data in (BULK, b"again"):
            c.say(data)
            c.hear(data)
        c.ends()


NOISE = b"!\n"		# the heartbeat of the route with lines


def line(address, pause):
    with Client(address) as c:
        c.say(b"one\n")
        c.hear(b"one\n", NOISE)
        yield
        time.sleep(pause)
        c.say(b"two\nthree\n")
        c.hear(b"two\nthree\n", NOISE)
        c.ends(NOISE)


GOODBYE = b"-ERR stent:"


def redis(address, pause):
    with Client(address) as c:
        c.say(command("SET", "k", "v"))
        c.hear(b"+OK\r\n", goodbye=GOODBYE)
        yield
        time.sleep(pause)		# its pings are answered, and nothing of that comes
        c.say(command("GET", "k") + command("STRLEN", "k"))
        c.hear(b"$1\r\nv\r\n:1\r\n", goodbye=GOODBYE)
        time.sleep(pause)
        c.ends(goodbye=GOODBYE)


def postgres(address, pause):
    try:
        with pgwire.Raw(address[1], sock=opened(address)) as session:
            told(session)
            yield
            for sql, rows in (("select 1", [["1"]]), ("select 'x' union all select 'y'", [["x"], ["y"]])):
                time.sleep(pause)
                session.send(pgwire.query(sql))
                assert told(session) == rows
    except ConnectionError as problem:
        raise Ended(str(problem)) from None


def told(session):
    """The rows up to ReadyForQuery."""
    first = len(session.seen)
    while True:
        got = session.get(STUCK * harness.SLOW)
        assert got is not None, "hangs"
        if got[:1] == b"Z":
            return [pgwire.row(m) for m in session.seen[first:] if m[:1] == b"D"]
        if got == b"":
            last = session.seen[-1:] or [b""]
            assert last[0][:1] == b"E", f"FIN after {session.seen[-3:]}"
            raise Ended(pgwire.error(last[0]))


def websocket(address, pause):
    with Client(address) as c:
        c.say(frames.REQUEST)
        c.hear(frames.RESPONSE)
        ws = frames.WebSocket(c, masks=True)
        yield
        for payload in (b"hello", b"x" * 70000):
            time.sleep(pause)
            try:
                ws.send(frames.TEXT, payload)
                got = read_message(ws)
            except ConnectionError as problem:
                raise Ended(str(problem)) from None
            assert got == payload, got[:60]


def read_message(ws, timeout=STUCK):
    while True:
        opcode, payload = ws.read(timeout)
        if opcode == frames.PING:
            ws.send(frames.PONG, payload)
        elif opcode == frames.CLOSE:
            raise Ended(payload)
        elif opcode != frames.PONG:
            return payload


class WebSocketEcho(harness.EchoBackend):
    def _echo(self, sock):
        peer = harness.Peer(sock, timeout=60)
        ws = frames.WebSocket(peer, masks=False)
        try:
            with peer:
                peer.recv_exact(len(frames.REQUEST))
                peer.send_all(frames.RESPONSE)
                while True:
                    ws.send(frames.TEXT, read_message(ws, timeout=300))
        except (AssertionError, OSError, Ended):
            pass		# what stent does to a backend is tested elsewhere


CONVERSATIONS = {c.__name__: c for c in (tcp, line, redis, postgres, websocket)}
ROUTE_KEYS = {
    "tcp": "",
    "line": 'heartbeat_send = !\\n\nclient.heartbeat = 4ms\nbackend.heartbeat = off\n',
    "redis": "backend.heartbeat = 4ms\n",
    "postgres": "heartbeat = 4ms\n",
    "websocket": "heartbeat = 4ms\n",
}


class Bystander:
    """A flow with nothing to do while calls fail. ports: those of stent's two sockets and their peers, a pair each."""

    def __init__(self, name, talk, ports, client):
        self.name, self.talk, self.ports, self.client = name, talk, ports, client


# Why a flow may end by an error of a call, with the side whose call it was.
REASONS = {os.strerror(error): reason for error, reason in {
    errno.ECONNRESET: "SIDE-reset", errno.EPIPE: "SIDE-reset", errno.ENOTCONN: "SIDE-reset|memory",
    errno.ETIMEDOUT: "SIDE-(keepalive|user)-timeout", errno.ECONNREFUSED: "backend-refused",
    errno.ENETUNREACH: "SIDE-unreachable", errno.EHOSTUNREACH: "SIDE-unreachable",
}.items()}


class Scene:
    """One stent with a route for each conversation, under a plan of faults."""

    conversations = CONVERSATIONS

    def __init__(self, stent, tmp_path, ports, names=tuple(CONVERSATIONS), extra=lambda name: "", **settings):
        self.names = names
        self.backends = ports
        self.faults = Faults(tmp_path / f"faults{len(stent.started)}")
        self.listen = {name: harness.free_port() for name in names}
        ini = "".join(f"[route {n}]\nlisten = 127.0.0.1:{self.listen[n]}\nbackend = 127.0.0.1:{ports[n]}\n{self.keys(n)}{extra(n)}"
                      for n in names)
        self.s = stent(ini, env=self.faults.environment(), **settings)
        self.bystanders = {}
        self.refused = collections.Counter()	# flows of each route whose refusal was read in the log

    def keys(self, name):
        return f"protocol = {name}\n{ROUTE_KEYS[name]}"

    def address(self, name):
        return (harness.HOST, self.listen[name])

    def begin(self, name):
        talk = self.conversations[name](self.address(name), 0.008)
        next(talk)
        return talk

    def run(self, name):
        """The whole conversation: True; False: its flow was ended."""
        try:
            for _ in self.conversations[name](self.address(name), 0.008):
                pass
        except Ended:
            return False
        return True

    def connections(self):
        """Ports of stent's TCP connections: pairs of its own and its peer's."""
        sockets = self.s.sockets()
        try:
            return {(s.getsockname()[1], s.getpeername()[1]) for s in sockets}
        finally:
            for s in sockets:
                s.close()

    def stand_by(self, *names):
        for name in names:
            before = self.connections()
            talk = self.begin(name)
            ports = self.connections() - before
            self.bystanders[name] = Bystander(name, talk, ports, _opened[-1])

    def others_go_on(self):
        """The rest of the conversations that began before the faults: none of them was ended."""
        while self.bystanders:
            name, other = self.bystanders.popitem()
            try:
                for _ in other.talk:
                    pass
            except Ended as problem:
                raise AssertionError(f"the flow of {name} was ended: {problem}") from None

    def fail(self, name, number, variant, *calls):
        """
        A whole conversation while the call with that number fails: what failed; None, if there was no such call. At most one
        flow has ended then, the conversation's or a bystander's: the one whose call failed, for a reason of that side.
        """
        self.mark = len(self.s.records)
        self.faults.set(number, variant, *calls)
        try:
            whole = self.run(name)
            hit = self.faults.hit()
            assert self.s.process.poll() is None
            assert whole or hit, "the flow ended, and no call had failed"
            self.faults.pause()
            if hit:
                self.judge(name, whole, hit[1], self.faults.ports())
        except AssertionError as problem:
            raise AssertionError(f"call {number}: {self.faults.hit()} at {self.faults.caller(self.s)}: {problem}") from None
        return hit and hit[0]

    def judge(self, name, whole, error, call):
        lost = self.lost()
        assert len(lost) + (not whole) < 2, f"one fault ended the flows of {lost} and {'no' if whole else 'its'} conversation of {name}"
        if not lost and whole:
            return
        if any(call):
            owner = [b.name for b in self.bystanders.values() if call in b.ports]
            assert owner == lost, f"the call was for the flow of {owner or 'the conversation'}, that of {lost or 'the conversation'} ended"
        ended = self.bystanders.pop(lost[0]) if lost else Bystander(name, None, None, _opened[-1])
        reason, cause = self.reason(ended)
        side = "client" if call[0] == self.listen[ended.name] else "backend" if any(call) else "(client|backend)"
        self.judge_reason(error, side, reason, cause)
        self.stand_by(*lost)

    def judge_reason(self, error, side, reason, cause):
        wanted = REASONS.get(error, "memory|SIDE-error").replace("SIDE", side)
        assert re.fullmatch(wanted, reason), f"the flow ended for {reason}: {cause}"

    def lost(self):
        """The bystanders that are no longer open, when the conversation is gone."""
        ours = {b.client: b.name for b in self.bystanders.values()}

        def rest():
            flows = {f["client"]["address"]: f["state"] for f in self.s.ask("flows")}
            return None if flows.keys() - ours.keys() else (flows,)
        flows, = harness.wait_for(rest, what="the flow of the conversation to be gone")
        return [name for client, name in ours.items() if flows.get(client) != "open"]

    def reason(self, ended):
        """Of a flow's end, as the log says, and its cause. Those that are refused are only counted there, for their route."""
        def whole():		# since this call failed: an earlier flow may have had the same port
            return [(r["reason"], r.get("cause", "")) for r in self.s.records[self.mark:] if r.get("event") == "flow end" and r["client"] == ended.client]

        def counted():
            refusals = [r for r in self.s.logged("^flows refused$") if r["route"] == ended.name]
            return [(refusals[-1]["reason"], "")] if sum(r["flows"] for r in refusals) > self.refused[ended.name] else []
        reason, = harness.wait_for(lambda: whole() or counted(), what=f"the end of {ended.client} to be logged")
        self.refused[ended.name] += not whole()
        return reason
