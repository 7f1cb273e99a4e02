"""What stent tells as it happens: `stent events`, and the program of on_event."""

import collections
import contextlib
import json
import os
import select
import socket
import subprocess
import time

import harness
import jsonschema
import pytest
from harness import HOST, SLOW, connect, free_port, patient, run_stent, stent_bin, wait_for

SCHEMA = json.loads((harness.ROOT / "docs" / "schemas" / "events.json").read_text())


class Reader:
    """`stent events`, its lines as they come."""

    def __init__(self, s, *options):
        self.process = subprocess.Popen([stent_bin(), "events", "-c", s.ini_path, *options], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.rest, self.lines = b"", collections.deque()
        # It reads from when stent has taken its request.
        wait_for(lambda: b"/" in self._socket(s), what="the reader to be there")

    def _socket(self, s):
        done = subprocess.run(["ss", "-xHp"], capture_output=True)
        return b"/" if done.stdout.count(str(s.control).encode()) and f"pid={self.process.pid}".encode() in done.stdout else b""

    def next(self, kind=None, timeout=5):
        """The next event, or the next of that kind."""
        deadline = time.monotonic() + patient(timeout)
        while True:
            while self.lines:
                event = json.loads(self.lines.popleft())
                jsonschema.validate(event, SCHEMA)
                if kind in (None, event["event"]):
                    return event
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.process.stdout], [], [], left)[0], f"no event {kind} came"
            piece = os.read(self.process.stdout.fileno(), 65536)
            assert piece, f"it ended: {self.process.stderr.read().decode()}"
            *lines, self.rest = (self.rest + piece).split(b"\n")
            self.lines.extend(lines)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def read():
    with contextlib.ExitStack() as stack:
        def start(s, *options):
            reader = Reader(s, *options)
            stack.callback(reader.close)
            return reader
        yield start


def request(s, line, rcvbuf=None):
    """A raw connection to the control socket that has sent one line."""
    sock = socket.socket(socket.AF_UNIX)
    if rcvbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    sock.settimeout(5 * SLOW)
    sock.connect(str(s.control))
    sock.sendall(line)
    return sock


# --- the stream ---

def test_the_begin_and_the_end_of_a_flow(stent, echo, read):
    s = stent.route(echo.text, name="echo")
    reader = read(s)
    with s.connect() as client:
        client.send_all(b"hello")
        assert client.recv_exact(5) == b"hello"
        begin = reader.next()
        port = client.port
    end = reader.next()
    assert begin.pop("time") < end["time"]
    flow = begin["id"]
    assert begin == {"event": "flow-begin", "id": flow, "route": "echo", "protocol": "tcp", "client": f"{HOST}:{port}",
                     "backend": echo.text}
    logged = s.flow_end()
    for name in "time", "level":
        logged.pop(name), end.pop(name, None)
    assert logged.pop("event") == "flow end" and end.pop("event") == "flow-end"
    assert end == logged and end["reason"] == "client-fin" and end["client_bytes"] == 5


def test_behind_a_balancer_both_addresses_are_told(stent, echo, read):
    s = stent.route(echo.text, accept_proxy="require", proxy_from="127.0.0.0/8", settings={"log_level": "debug"})
    reader = read(s)
    with s.connect() as client:
        client.send_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + b"hello")
        assert client.recv_exact(5) == b"hello"
        both = ("192.0.2.1:1", f"{HOST}:{client.port}")
    for told in reader.next(), reader.next(), s.flow_start(), s.flow_end():
        assert (told["client"], told["client_peer"]) == both


def test_a_reader_gets_what_it_asked_for(stent, read):
    with harness.EchoBackend() as one, harness.EchoBackend() as other:
        ports = free_port(), free_port()
        s = stent(f"[route one]\nlisten = {HOST}:{ports[0]}\nbackend = {one.text}\n"
                  f"[route other]\nlisten = {HOST}:{ports[1]}\nbackend = {other.text}\n")
        reader = read(s, "--route", "other", "--kind", "flow-end,limit")
        for port in *ports, *ports:
            connect(port).close()
        assert [(e["event"], e["route"]) for e in (reader.next(), reader.next())] == [("flow-end", "other")] * 2


def test_requests_that_are_wrong(stent, echo):
    s = stent.route(echo.text, name="echo")
    for options, said in ((("--kind", "flow-edn"), '"flow-edn" is not a kind of event'), (("--route", "x"), 'no route "x"')):
        done = run_stent("events", "-c", s.ini_path, *options)
        assert done.returncode == 1 and said in done.stderr
    with request(s, b"events colour=red\n") as sock:
        assert json.loads(sock.recv(4096)) == {"error": "events takes route=NAME and kind=KIND,..."}


def test_a_reader_is_told_when_stent_ends(stent, echo, read):
    s = stent.route(echo.text)
    reader = read(s)
    s.stop()
    assert reader.process.wait(5 * SLOW) == 1
    assert reader.process.stderr.read() == b"stent events: stent has ended\n"


def test_readers_are_limited(stent, echo):
    s = stent.route(echo.text)
    with contextlib.ExitStack() as stack:
        for _ in range(32):
            stack.enter_context(request(s, b"events\n"))
        # Connections are served in their order.
        with request(s, b"events\n") as one_more:
            assert json.loads(one_more.recv(4096)) == {"error": "32 readers of events are the limit"}
    wait_for(lambda: not select.select([request(s, b"events\n")], [], [], 0.2)[0], what="a place for a reader")


def test_a_reader_that_stops_loses_events_and_delays_nobody(stent, echo):
    s = stent.route(echo.text, settings={"log_level": "error"})
    stopped = request(s, b"events kind=flow-end\n", rcvbuf=4096)
    made, slowest, deadline = 0, 0.0, time.monotonic() + 20 * SLOW
    # 256 KiB and what the socket holds are about 1000 lines.
    while made < 3000 and time.monotonic() < deadline:
        began = time.monotonic()
        with s.connect() as client:
            client.send_all(b"x")
            client.recv_exact(1)
        slowest = max(slowest, time.monotonic() - began)
        made += 1
    assert made == 3000 and slowest < 1 * SLOW
    wait_for(lambda: json.loads(run_stent("status", "--json", "-c", s.ini_path).stdout)["flows_open"] == 0, what="all to end")
    got = lost = 0
    text = b""
    while got + lost < made:
        piece = stopped.recv(1 << 16)
        assert piece
        text += piece
        *lines, text = text.split(b"\n")
        for event in map(json.loads, lines):
            if event["event"] == "lost":
                lost += event["count"]
            else:
                got += 1
    assert got + lost == made and lost > 500 and got > 500
    with s.connect() as client:		# from now on it hears everything again
        port = client.port
    assert json.loads(stopped.recv(1 << 16))["client"] == f"{HOST}:{port}"
    stopped.close()


# --- what happens to a flow ---

def line_route(stent, raw_backend, **keys):
    s = stent.route(raw_backend.text, protocol="line", client__heartbeat="off", backend__heartbeat="50ms",
                    backend__heartbeat_send='"PING\\n"', backend__heartbeat_expect='"PONG\\n"', **keys)

    def open_flow():
        client, backend = s.connect(), raw_backend.accept()
        client.send_all(b"hello\n")
        assert backend.recv_exact(6) == b"hello\n"
        backend.send_all(b"welcome\n")
        assert client.recv_exact(8) == b"welcome\n"
        assert backend.recv_exact(5) == b"PING\n"
        return client, backend
    return s, open_flow


def test_a_side_that_does_not_reply_is_suspected_before_it_is_dead(stent, raw_backend, read):
    s, open_flow = line_route(stent, raw_backend, backend__heartbeat_timeout="800ms", backend__heartbeat_misses=3)
    reader = read(s, "--kind", "heartbeat-missed,suspect,recovered,flow-end")
    client, backend = open_flow()
    backend.send_all(b"PONG\n")
    missed = reader.next()
    assert (missed["event"], missed["side"], missed["misses"], missed["of"]) == ("heartbeat-missed", "backend", 1, 3)
    suspect = reader.next()
    assert (suspect["event"], suspect["side"], suspect["unanswered"]) == ("suspect", "backend", "heartbeats")
    assert suspect["client"] == f"{HOST}:{client.port}" and suspect["silent_seconds"] >= 0.6
    backend.recv_some()
    backend.send_all(b"PONG\n")
    assert reader.next("recovered")["side"] == "backend"
    assert reader.next("suspect")["side"] == "backend"
    assert reader.next("flow-end")["reason"] == "backend-heartbeat-timeout"


def test_a_flow_whose_peer_replies_is_not_suspected(stent, raw_backend, read):
    s, open_flow = line_route(stent, raw_backend, backend__heartbeat_timeout="300ms", backend__heartbeat_misses=2)
    reader = read(s, "--kind", "suspect,recovered,flow-end")
    client, backend = open_flow()
    for _ in range(12):
        backend.send_all(b"PONG\n")
        assert backend.recv_exact(5) == b"PING\n"
    client.close()
    backend.close()
    assert reader.next()["event"] == "flow-end"


def test_passthrough_is_told(stent, raw_backend, read):
    s = stent.route(raw_backend.text, protocol="websocket")
    reader = read(s, "--kind", "passthrough")
    client = s.connect()
    raw_backend.accept()
    client.send_all(b"\x16\x03\x01\x02\x00\x01")
    told = reader.next()
    assert (told["protocol"], told["from"], told["offset"]) == ("websocket", "client", 0) and told["reason"]


def test_a_backend_goes_and_comes_back(stent, read):
    port = free_port()
    s = stent.route(f"{HOST}:{port}")
    reader = read(s, "--kind", "backend-down,backend-up")
    for _ in range(3):
        with contextlib.suppress(ConnectionError):
            s.connect()
    down = reader.next()
    wait_for(lambda: json.loads(run_stent("status", "--json", "-c", s.ini_path).stdout)["flows_open"] == 0, what="all to end")
    with harness.RawBackend(port=port) as backend:
        for _ in range(2):
            s.connect()
            backend.accept()
        up = reader.next()
    assert (down["event"], down["backend"], down["reason"]) == ("backend-down", f"{HOST}:{port}", "backend-refused")
    assert (up["event"], up["route"], up["backend"]) == ("backend-up", "t", f"{HOST}:{port}")


def test_the_first_of_two_backends_is_down(stent, echo, read):
    closed = free_port()
    s = stent.route(f"{HOST}:{closed}, {echo.text}")
    reader = read(s, "--kind", "backend-down,backend-up,flow-end")
    for _ in range(2):
        with s.connect() as client:
            client.send_all(b"x")
            client.recv_exact(1)
    told = [reader.next() for _ in range(3)]
    assert [e["event"] for e in told] == ["backend-down", "flow-end", "flow-end"]
    assert told[0]["backend"] == f"{HOST}:{closed}"


def test_the_limit_is_told(stent, raw_backend, read):
    s = stent.route(raw_backend.text, settings={"max_flows": 1})
    reader = read(s, "--kind", "limit")
    with s.connect():
        raw_backend.accept()
        with contextlib.suppress(ConnectionError):
            s.connect()
        told = reader.next()
    assert (told["route"], told["cause"], told["refused"]) == ("t", "max_flows", 1)


# --- on_event ---

@pytest.fixture
def program(tmp_path):
    """Writes the program of on_event: program(shell text) -> what goes behind on_event =."""
    def write(text):
        path = tmp_path / "on-event"
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        return f"exec:{path}"
    return write


def flows(s, n):
    for _ in range(n):
        with s.connect() as client:
            client.send_all(b"x")
            client.recv_exact(1)


def test_the_program_gets_the_event(stent, echo, program, tmp_path):
    out = tmp_path / "out"
    s = stent.route(echo.text, settings={"on_event": program(f"cat >>{out}\n"), "events": "flow-begin, flow-end", "user": "off"})
    flows(s, 3)
    wait_for(lambda: out.exists() and out.read_text().count("\n") == 6, what="six events")
    told = [json.loads(line) for line in out.read_text().splitlines()]
    assert collections.Counter(e["event"] for e in told) == {"flow-begin": 3, "flow-end": 3}
    assert all(e["route"] == "t" and e["client"].startswith(HOST) for e in told)


def test_the_program_runs_in_a_clean_place(stent, echo, program, tmp_path):
    out = tmp_path / "out"
    script = (f'{{ env | cut -d= -f1 | sort | tr "\\n" " "; echo; echo "$STENT_EVENT $(pwd)"; '
              f'ls /proc/self/fd | tr "\\n" " "; echo; grep -E "^Sig(Blk|Ign)" /proc/self/status | tr -d "\\n\\t"; '
              f'echo; ps -o pgid= -p $$ | tr -d " "; echo $$; }} >{out}.new; mv {out}.new {out}\n')
    s = stent.route(echo.text, settings={"on_event": program(script), "events": "flow-end", "user": "off"}, )
    with s.connect() as client:		# its sockets are open meanwhile
        client.send_all(b"x")
        client.recv_exact(1)
        flows(s, 1)
        wait_for(out.exists, what="the program")
    env, where, fds, signals, group, pid = out.read_text().splitlines()
    assert set(env.split()) <= {"LANG", "PATH", "STENT_EVENT", "PWD", "SHLVL", "_", "OLDPWD"}
    assert where == "flow-end /" and fds.split() == ["0", "1", "2", "3"]    # 3: the folder that ls reads
    blocked, ignored = (int(word[-16:], 16) & 0x7fffffff for word in signals.split("SigIgn"))    # above: those of libc itself
    assert blocked == ignored == 0 and group == pid


def test_one_program_runs_at_a_time(stent, echo, program, tmp_path):
    lock, out = tmp_path / "lock", tmp_path / "out"
    script = f"mkdir {lock} || echo twice >>{out}\nsleep 0.05\nrmdir {lock}\necho done >>{out}\n"
    s = stent.route(echo.text, settings={"on_event": program(script), "events": "flow-end", "user": "off"})
    flows(s, 8)
    wait_for(lambda: out.exists() and len(out.read_text().splitlines()) >= 8, what="eight runs")
    assert out.read_text() == "done\n" * 8


def test_a_program_that_hangs_is_killed_with_its_children(stent, echo, program, tmp_path):
    pids = tmp_path / "pids"
    script = f"sleep 1000 &\necho $$ $! >>{pids}\nwait\n"
    s = stent.route(echo.text, settings={"on_event": program(script), "events": "flow-end", "event_timeout": "200ms", "user": "off"})
    flows(s, 3)		# each takes no longer than without a program
    wait_for(lambda: pids.exists() and len(pids.read_text().splitlines()) == 3, what="three runs")
    (said,) = s.wait_logged("still ran after event_timeout")
    assert said["level"] == "warn"
    for pid in pids.read_text().split():
        wait_for(lambda p=pid: not os.path.exists(f"/proc/{p}") or "State:\tZ" in open(f"/proc/{p}/status").read(),
                 what="the end of the program and its child")
    # Two more failures within ten seconds of the first are not logged.
    assert len([r for r in s.records if "event_timeout" in r.get("message", "")]) == 1


def test_a_program_that_cannot_be_run_any_more(stent, echo, program, tmp_path):
    s = stent.route(echo.text, settings={"on_event": program("exit 3\n"), "events": "flow-end", "user": "off"})
    flows(s, 1)
    s.wait_logged("ended with status 3")
    (tmp_path / "on-event").unlink()
    flows(s, 50)
    with s.connect() as client:
        client.send_all(b"still here")
        assert client.recv_exact(10) == b"still here"
    assert len([r for r in s.records if "on_event" in r.get("message", "")]) == 1


def test_events_that_come_too_fast_for_the_program_are_lost(stent, echo, program):
    s = stent.route(echo.text, settings={"on_event": program("exec sleep 100\n"), "events": "flow-end", "user": "off"})
    flows(s, 300)
    s.wait_logged("on_event = .*: too slow")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_program_runs_as_the_user_of_stent(stent, echo, tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    for above in folder.parents:
        if above.stat().st_mode & 1 == 0:
            above.chmod(above.stat().st_mode | 0o11)
    path = folder / "on-event"
    path.write_text(f"#!/bin/sh\nid -un >{folder}/out\n")
    path.chmod(0o755)
    s = stent.route(echo.text, settings={"on_event": f"exec:{path}", "events": "flow-end", "user": "nobody"})
    flows(s, 1)
    wait_for(lambda: (folder / "out").exists() and (folder / "out").read_text() == "nobody\n", what="the program")


@pytest.mark.parametrize("value, said", [
    ("exec:relative", '"relative" is not an absolute path'),
    ("exec:/nonexistent", "/nonexistent: No such file or directory"),
    ("exec:/bin/echo hi", "/bin/echo hi: No such file or directory; name a program that is there, without arguments"),
    ("exec:/etc", "/etc is not a file"),
    ("/bin/true", '"/bin/true" is not a program; write exec:PATH'),
    ("exec:/etc/passwd", "/etc/passwd may not be run"),
])
def test_a_program_that_is_wrong_is_an_error_of_the_file(tmp_path, value, said):
    ini = tmp_path / "stent.ini"
    ini.write_text(f"[stent]\non_event = {value}\nevents = flow-end, suspct\n[route r]\nlisten = :1\nbackend = a:2\n")
    done = run_stent("check", "-c", ini)
    assert done.returncode == 2 and f"stent.ini:2: on_event: {said}" in done.stderr
    assert 'stent.ini:3: events: "suspct" is not a kind of event; did you mean "suspect"?' in done.stderr
