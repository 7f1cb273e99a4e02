"""
harness.py - what tests of the running program are made of.

    def test_a_reset_arrives_as_a_reset(stent, raw_backend):
        s = stent.route(raw_backend.text)
        client, backend = s.connect(), raw_backend.accept()
        backend.reset()
        client.expect_reset()
        assert s.flow_end()["reason"] == "backend-reset"

Stent is one process with its log, read as JSON. Peer is one end of a
connection whose every wait is bounded. Backends listen on loopback. Nothing
here sleeps in the hope that something happened meanwhile: it waits for it.

STENT_BIN names the program (default: build/stent); STENT_TEST_SLOW, a factor,
stretches every deadline (sanitizers); STENT_TEST_PORTS, as FIRST-LAST, says
which ports free_port() takes.
"""

import collections
import contextlib
import ctypes
import json
import os
import pathlib
import random
import re
import signal
import socket
import struct
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Also stretched on a machine that has much else to do: by one for each four processes a processor that want to run.
SLOW = float(os.environ.get("STENT_TEST_SLOW", "1")) * max(1, os.getloadavg()[0] / (4 * os.cpu_count()))
IS_SANITIZED = "STENT_TEST_SLOW" in os.environ	# a sanitizer's allocator keeps what was freed
PATIENCE = 20	# seconds within which what is waited for happens even then
HOST = "127.0.0.1"


def stent_bin():
    path = pathlib.Path(os.environ.get("STENT_BIN", ROOT / "build" / "stent")).absolute()
    if not os.access(path, os.X_OK):
        raise RuntimeError(f"{path} is not there: build it first (./dev build), or set STENT_BIN")
    return str(path)


def run_stent(*args, timeout=20, **popen):
    """One command to its end: run_stent("check", "-c", path).returncode, .stdout, .stderr."""
    return subprocess.run([stent_bin(), *map(str, args)], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=patient(timeout), **popen)


# --- waiting and ports ---

def patient(timeout):
    """
    Seconds until a wait fails. A wait of less than 5 s means what it says. Others are for what happens much sooner, and
    longer on a machine that is busy: a test that asks how soon compares times itself.
    """
    return (timeout if timeout < 5 else max(PATIENCE, 3 * timeout)) * SLOW


def wait_for(condition, timeout=PATIENCE, what="the condition", step=0.01):
    """Calls condition() until it returns something true, and returns that."""
    deadline = time.monotonic() + patient(timeout)
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"waited {patient(timeout):g} s for {what}"
        time.sleep(step)


_ports_given = set()


def free_port(host=HOST):
    """
    A port that nobody listens on, never the same one twice. From below the
    kernel's own range, so that no outgoing connection takes it before it is used.
    """
    first, last = map(int, os.environ.get("STENT_TEST_PORTS", "12000-31999").split("-"))
    # Each process of pytest -n has its own share of them.
    share = (last - first + 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    first += share * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    last = first + share - 1
    for _ in range(1000):
        port = random.randint(first, last)
        if port in _ports_given:
            continue
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        _ports_given.add(port)
        return port
    raise RuntimeError(f"no free port between {first} and {last}")


def privately(path, replacement):
    """A command prefix that starts stent with a file replaced by a private mount. Needs root."""
    return ("unshare", "-m", "bash", "-c", f'mount --bind {replacement} {path} && exec "$@"', "bash")


# --- one end of a connection ---

def _address(address):
    """7000, "127.0.0.1:7000", "[::1]:7000", "unix:/path" or a pair -> (family, what connect() takes)."""
    if isinstance(address, int):
        return socket.AF_INET, (HOST, address)
    if isinstance(address, str) and address.startswith("unix:"):
        return socket.AF_UNIX, address[len("unix:"):]
    if isinstance(address, str):
        host, port = address.rsplit(":", 1)
        address = (host.strip("[]"), int(port))
    return (socket.AF_INET6 if ":" in address[0] else socket.AF_INET), address


def connect(address, timeout=PATIENCE, source=None, rcvbuf=None):
    """Connects; returns a Peer. rcvbuf: a small receive buffer, set before the handshake as it must be."""
    family, target = _address(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if rcvbuf:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if source:
            sock.bind(source)
        sock.settimeout(patient(timeout))
        sock.connect(target)
    except BaseException:
        sock.close()
        raise
    return Peer(sock)


class Peer:
    """A connected socket with timeouts: what does not come within `timeout` seconds fails the test."""

    def __init__(self, sock, timeout=PATIENCE):
        self.sock = sock
        self.timeout = timeout
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def fileno(self):
        return self.sock.fileno()

    @property
    def port(self):
        """Our local port, by which stent knows this connection."""
        return self.sock.getsockname()[1]

    def _wait(self, timeout):
        self.sock.settimeout(patient(self.timeout if timeout is None else timeout))

    def send_all(self, data, timeout=None):
        self._wait(timeout)
        self.sock.sendall(data)

    def recv_some(self, limit=65536, timeout=None):
        """The bytes that are there, at least one; b"" for a FIN."""
        self._wait(timeout)
        return self.sock.recv(limit)

    def recv_exact(self, length, timeout=None):
        deadline = time.monotonic() + patient(self.timeout if timeout is None else timeout)
        got = bytearray()
        while len(got) < length:
            self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                piece = self.sock.recv(min(length - len(got), 1 << 20))
            except TimeoutError:
                raise AssertionError(f"{len(got)} of {length} bytes came in time: {bytes(got[-64:])!r}") from None
            assert piece, f"FIN after {len(got)} of {length} bytes: {bytes(got[-64:])!r}"
            got += piece
        return bytes(got)

    def recv_all(self, timeout=None):
        """Everything up to the FIN; a reset is an error."""
        deadline = time.monotonic() + patient(self.timeout if timeout is None else timeout)
        got = bytearray()
        while True:
            self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                piece = self.sock.recv(1 << 20)
            except TimeoutError:
                raise AssertionError(f"no FIN in time, after {len(got)} bytes") from None
            if not piece:
                return bytes(got)
            got += piece

    def half_close(self):
        """Sends our FIN; the other direction stays open."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        """Closes with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()

    def expect_fin(self, timeout=None):
        """Expects a FIN next: no byte, no reset."""
        self._wait(timeout)
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            raise AssertionError("no FIN came in time") from None
        assert data == b"", f"bytes came before the FIN: {data[:64]!r}"

    def expect_reset(self, timeout=None):
        """Expects a RST next: no byte, no FIN."""
        self._wait(timeout)
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            return
        except TimeoutError:
            raise AssertionError("no RST came in time") from None
        raise AssertionError(f"bytes came before the RST: {data[:64]!r}" if data else "a FIN came, not a RST")

    def expect_quiet(self, seconds=0.2):
        """Expects nothing for so long: no byte, no close. (Not scaled by SLOW, as a longer wait proves no more.)"""
        self.sock.settimeout(seconds)
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            return
        raise AssertionError(f"bytes came: {data[:64]!r}" if data else "a FIN came")


# --- backends ---

class RawBackend:
    """Listens; the test accepts and talks. `text` is what goes after `backend =`."""

    def __init__(self, port=None, host=HOST, path=None, rcvbuf=None, backlog=128):
        if path:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.bind(str(path))
            self.text, self.port = f"unix:{path}", None
        else:
            self.port = port or free_port(host)
            self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if rcvbuf:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            self.sock.bind((host, self.port))
            self.text = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.sock.listen(backlog)
        self.accepted = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def accept(self, timeout=PATIENCE):
        self.sock.settimeout(patient(timeout))
        try:
            sock, _ = self.sock.accept()
        except TimeoutError:
            raise AssertionError("no connection came to the backend in time") from None
        peer = Peer(sock)
        self.accepted.append(peer)
        return peer

    def expect_no_connection(self, seconds=0.2):
        self.sock.settimeout(seconds)
        try:
            self.sock.accept()[0].close()
        except TimeoutError:
            return
        raise AssertionError("a connection came to the backend")

    def close(self):
        for peer in self.accepted:
            peer.close()
        self.sock.close()


class BlackHole(RawBackend):
    """A backend that does not answer until open(): its queue is full, so SYNs to it are dropped."""

    def __init__(self, **where):
        super().__init__(backlog=0, **where)
        self._fillers, self._waiting = [], []
        for _ in range(2):		# a queue of 0 holds one; the other waits before it
            sock = socket.socket(self.sock.family)
            sock.setblocking(False)
            sock.connect_ex(self.sock.getsockname())
            self._fillers.append(sock)

    def open(self):
        """Accepts from now on; a waiting client gets in with the next SYN that its kernel sends."""
        self.sock.listen(128)
        ours = {sock.getsockname()[1] for sock in self._fillers}
        while ours:				# a waiting client may get in before a filler
            peer = super().accept(timeout=PATIENCE)
            port = peer.sock.getpeername()[1]
            if port in ours:
                ours.remove(port)
                peer.close()
            else:
                self._waiting.append(peer)
        for sock in self._fillers:
            sock.close()
        self._fillers = []

    def accept(self, timeout=PATIENCE):
        return self._waiting.pop(0) if self._waiting else super().accept(timeout)

    def close(self):
        for sock in self._fillers:
            sock.close()
        super().close()


class EchoBackend(RawBackend):
    """Echoes what it receives, with a thread per connection; closes after the peer's FIN."""

    def __init__(self, **where):
        super().__init__(**where)
        self.connections = 0
        self._closing = False
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def _serve(self):
        self.sock.settimeout(None)
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            if self._closing:
                sock.close()
                return
            self.connections += 1
            self.accepted.append(Peer(sock))
            thread = threading.Thread(target=self._echo, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _echo(self, sock):
        sock.settimeout(None)
        with sock, contextlib.suppress(OSError):
            while data := sock.recv(1 << 18):
                sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

    def close(self):
        self._closing = True
        for sock in [self.sock] + [peer.sock for peer in self.accepted]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        super().close()


# --- stent itself ---

# Defaults for [stent] in all tests; each can be overridden: stent(ini, workers=4).
SETTINGS = {
    "workers": "1", "log": "stderr", "log_format": "json", "log_level": "debug",
    "user": "root", "admin": "off", "drain_timeout": "100ms",
}

SANITIZER_REPORT = re.compile(r"ERROR: \w+Sanitizer|WARNING: \w+Sanitizer|runtime error:|SUMMARY: \w+Sanitizer")
SYS_PIDFD_OPEN, SYS_PIDFD_GETFD = 434, 438
TCP_LISTEN = "0A"


class Starter:
    """The `stent` fixture: starts as many as a test wants, and checks that each ends cleanly."""

    def __init__(self, directory):
        self.directory = directory
        self.started = []

    def __call__(self, ini, wait=True, env=None, prefix=(), pass_fds=(), **settings):
        """
        Starts `stent run` on a file that holds a [stent] section made of
        `settings`, then `ini`. Waits until all that it listens on is there.
        prefix: words before the command (`ip netns exec NAME`).
        """
        n = len(self.started)
        settings = {**SETTINGS, "control": self.directory / f"control{n}.sock", **settings}
        head = "".join(f"{key} = {value}\n" for key, value in settings.items() if value is not None)
        path = self.directory / f"stent{n}.ini"
        path.write_text(f"[stent]\n{head}\n{ini}\n")
        listen = [a.strip() for line in re.findall(r"^\s*listen\s*=\s*([^;\n]*)", ini, re.M) for a in line.split(",")]
        own = [f"{kind}{settings[key]}" for key, kind in (("control", "unix:"), ("admin", "")) if settings[key] not in (None, "off")]
        s = Stent([*prefix, stent_bin(), "run", "-c", str(path)], self.directory, listen, env, pass_fds, own)
        s.control = str(settings["control"])
        s.ini_path = path
        self.started.append(s)
        if wait:
            s.wait_listening()
        return s

    def route(self, backend, listen=None, name="t", settings=None, **keys):
        """
        One route to `backend` (text, or a port). A leg's key is written with
        two underscores: client__heartbeat="1s". Keys of [stent] go in `settings`.
        """
        keys = {"listen": listen or f"{HOST}:{free_port()}",
                "backend": f"{HOST}:{backend}" if isinstance(backend, int) else backend, **keys}
        lines = "".join(f"{key.replace('__', '.')} = {value}\n" for key, value in keys.items())
        return self(f"[route {name}]\n{lines}", **(settings or {}))

    def finish(self):
        problems = []
        for s in self.started:
            try:
                s.stop()
            except AssertionError as problem:
                problems.append(str(problem))
            s.show()
        assert not problems, "\n".join(problems)


class Stent:
    """A running stent: its log as a list of records, its sockets, its end."""

    def __init__(self, command, directory, listen=(), env=None, pass_fds=(), own_listen=()):
        self.listen = list(listen)	# for clients
        self.own_listen = list(own_listen)	# for its administration, opened after those
        self.records = []		# log lines that are JSON objects
        self.other_lines = []		# other output: a sanitizer's report, an error before the log was open
        self.control = None
        self.ini_path = None
        self._taken = set()		# indices of records that next_event() has returned
        self._heard = threading.Condition()
        self._expect_death = False
        self.process = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", pass_fds=pass_fds, env={**os.environ, **(env or {})})
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._heard:
                try:
                    record = json.loads(line)
                    self.records.append(record) if isinstance(record, dict) else self.other_lines.append(line)
                except ValueError:
                    self.other_lines.append(line)
                self._heard.notify_all()

    @property
    def pid(self):
        return self.process.pid

    @property
    def address(self):
        """The first address of the first route, as connect() takes it."""
        host, port = _address(self.listen[0])[1] if not self.listen[0].startswith("unix:") else (None, None)
        if host is None:
            return self.listen[0]
        wildcard = {"": HOST, "*": HOST, "0.0.0.0": HOST, "::": "::1"}
        return (wildcard.get(host, host), port)

    @property
    def port(self):
        return self.address[1]

    def connect(self, **how):
        return connect(self.address, **how)

    def expect_refusal(self, timeout=PATIENCE):
        """Expects a new client to be reset, in connect() or shortly after."""
        try:
            peer = self.connect(timeout=timeout)
        except (ConnectionResetError, ConnectionRefusedError):
            return
        with peer:
            peer.expect_reset(timeout)

    # --- its log ---

    def next_event(self, event, timeout=PATIENCE, **members):
        """The next record of that event (and with those members) that was not returned before."""
        deadline = time.monotonic() + patient(timeout)
        with self._heard:
            while True:
                for i, record in enumerate(self.records):
                    if i not in self._taken and record.get("event") == event \
                            and all(record.get(k) == v for k, v in members.items()):
                        self._taken.add(i)
                        return record
                left = deadline - time.monotonic()
                assert left > 0, f"no {event!r} {members or ''} was logged within {patient(timeout):g} s"
                self._heard.wait(left)

    def flow_end(self, timeout=PATIENCE, **members):
        """The next `flow end` record: route, client, backend, reason, seconds, client_bytes, backend_bytes, ..."""
        return self.next_event("flow end", timeout, **members)

    def flow_start(self, timeout=PATIENCE, **members):
        return self.next_event("flow start", timeout, **members)

    def expect_no_event(self, event, seconds=0.2, **members):
        time.sleep(seconds)
        with self._heard:
            new = [r for i, r in enumerate(self.records) if i not in self._taken and r.get("event") == event
                   and all(r.get(k) == v for k, v in members.items())]
        assert not new, new

    def logged(self, pattern):
        """Records with a member that matches the pattern."""
        with self._heard:
            return [r for r in self.records if any(re.search(pattern, str(v)) for v in r.values())]

    def wait_logged(self, pattern, timeout=PATIENCE):
        return wait_for(lambda: self.logged(pattern), timeout, f"a log line with {pattern!r}")

    def show(self):
        """Prints its output; pytest shows it if the test failed."""
        print(f"--- stent, process {self.pid}, status {self.process.returncode}")
        for line in self.other_lines[-300:]:
            print(line, end="")
        for record in self.records[-200:]:
            print(json.dumps(record))

    def ask(self, request):
        """The reply of the control socket to a line."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(60 * SLOW)
            sock.connect(self.control)
            sock.sendall(request.encode() + b"\n")
            return json.loads(sock.makefile().read())

    # --- its sockets and its memory ---

    def _listening(self):
        """Addresses it listens on now: ports, and paths of UNIX sockets."""
        inodes = set()
        with contextlib.suppress(FileNotFoundError):
            for fd in os.listdir(f"/proc/{self.pid}/fd"):
                with contextlib.suppress(FileNotFoundError):
                    inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(f"/proc/{self.pid}/fd/{fd}")))
        found = collections.Counter()
        for table in ("tcp", "tcp6"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{self.pid}/net/{table}") as f:
                next(f, None)
                for line in f:
                    word = line.split()
                    if word[3] != TCP_LISTEN:	# the kernel lists these first; thousands of ended connections may follow
                        break
                    if word[9] in inodes:
                        found[int(word[1].rsplit(":", 1)[1], 16)] += 1
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{self.pid}/net/unix") as f:
            for line in f:
                word = line.split()
                if word[6] in inodes and len(word) > 7:
                    found[word[7]] += 1
        return found

    def wait_listening(self, timeout=10):
        wanted = [a[len("unix:"):] if a.startswith("unix:") else int(a.rsplit(":", 1)[1])
                  for a in self.listen + self.own_listen if not a.startswith("fd:")]

        def ready():
            status = self.process.poll()
            if status is not None:
                self._reader.join(5)
                self._expect_death = True
                raise AssertionError(f"stent ended at its start, status {status}:\n{self.output()}")
            listening = self._listening()
            return all(listening[w] for w in wanted)
        wait_for(ready, timeout, f"stent to listen on {self.listen + self.own_listen}")

    def sockets(self):
        """
        Duplicates of the TCP connections it has, to ask the kernel about their options.
        The caller closes them: a duplicate keeps a connection open.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        pidfd = libc.syscall(SYS_PIDFD_OPEN, self.pid, 0)
        assert pidfd >= 0, os.strerror(ctypes.get_errno())
        found = []
        try:
            for name in os.listdir(f"/proc/{self.pid}/fd"):
                with contextlib.suppress(FileNotFoundError):
                    if not os.readlink(f"/proc/{self.pid}/fd/{name}").startswith("socket:"):
                        continue
                    fd = libc.syscall(SYS_PIDFD_GETFD, pidfd, int(name), 0)
                    if fd < 0:
                        continue
                    sock = socket.socket(fileno=fd)
                    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM \
                            and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        found.append(sock)
                    else:
                        sock.close()
        finally:
            os.close(pidfd)
        return found

    @contextlib.contextmanager
    def leg(self, peer):
        """stent's own socket of the connection it has with `peer` (a Peer of the test), duplicated."""
        socks = self.sockets()
        try:
            mine = [s for s in socks if s.getpeername()[1] == peer.port and s.getsockname()[1] == peer.sock.getpeername()[1]]
            assert len(mine) == 1, f"{len(mine)} sockets of stent are connected with port {peer.port}"
            yield mine[0]
        finally:
            for s in socks:
                s.close()

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def pipes(self):
        """The number of pipes it has created: of inherited ones it has one end only."""
        ends = collections.Counter()
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                ends[os.readlink(f"/proc/{self.pid}/fd/{fd}")] += 1
        return sum(1 for link, n in ends.items() if link.startswith("pipe:") and n == 2)

    def memory(self):
        """Bytes of private memory. Pages of the program itself count, too, while no other stent runs."""
        with open(f"/proc/{self.pid}/smaps_rollup") as f:
            return 1024 * sum(int(line.split()[1]) for line in f if line.startswith("Private_Dirty"))

    def states(self):
        """What its threads do, as letters: R: one runs, or is about to; S: one waits; T: one is stopped."""
        return {task.read_text().rsplit(") ", 1)[1][0] for task in pathlib.Path(f"/proc/{self.pid}/task").glob("*/stat")}

    def is_idle(self):
        """All its threads wait: what came to it before has been handled."""
        return self.states() == {"S"}

    @contextlib.contextmanager
    def stopped(self):
        """It does nothing meanwhile."""
        self.signal(signal.SIGSTOP)
        wait_for(lambda: self.states() == {"T"}, what="stent to stop")
        yield
        self.signal(signal.SIGCONT)

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat") as f:
            word = f.read().rsplit(")", 1)[1].split()
        return (int(word[11]) + int(word[12])) / os.sysconf("SC_CLK_TCK")

    # --- its end ---

    def signal(self, number):
        self.process.send_signal(number)

    def output(self):
        return "".join(self.other_lines) + "".join(json.dumps(r) + "\n" for r in self.records)

    def wait(self, timeout=10):
        """Waits for its end; returns the exit status."""
        status = self.process.wait(patient(timeout))
        self._reader.join(5)
        return status

    def kill(self):
        """Kills it, as a crash would; a clean end is not checked then."""
        self._expect_death = True
        self.process.kill()
        self.wait()

    def stop(self, timeout=10):
        """SIGTERM, unless it has ended; checks for status 0 and no sanitizer report."""
        if self.process.poll() is None:
            if pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(") ", 1)[1][0] == "T":
                self.signal(signal.SIGCONT)	# only then: it would take back the SIGSTOP by which a leak check attaches
            try:
                if self.logged("^draining"):	# a second SIGTERM would cut the drain short
                    self.wait(1)
            except subprocess.TimeoutExpired:
                pass
            self.process.terminate()		# no effect if it has ended
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"stent did not end within {patient(timeout):g} s of SIGTERM") from None
        self._reader.join(5)
        self.process.stdout.close()
        report = [line for line in self.other_lines if SANITIZER_REPORT.search(line)]
        assert not report, "".join(self.other_lines)
        if not self._expect_death:
            assert self.process.returncode == 0, f"stent ended with status {self.process.returncode}:\n{self.output()}"
