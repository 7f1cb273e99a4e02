"""
What systemd is told, by a test that plays its notify socket, and the unit file
as systemd-analyze judges it. Neither needs a systemd that runs.
"""

import contextlib
import ctypes
import os
import pathlib
import re
import socket
import subprocess
import time

import harness
import pytest

pytestmark = pytest.mark.plain

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 17, 0x4206, 0x4207, 0x40000000


class Notify:
    """systemd's end: datagrams as {name: value}."""

    def __init__(self, name):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(name.replace("@", "\0", 1))
        self.env = {"NOTIFY_SOCKET": name}

    def next(self, timeout=5):
        self.sock.settimeout(timeout * harness.SLOW)
        return dict(line.split("=", 1) for line in self.sock.recv(4096).decode().splitlines())

    def until(self, name, timeout=5):
        while name not in (message := self.next(timeout)):
            pass
        return message

    def drop_all(self):
        self.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self.sock.recv(4096):
                pass


@pytest.fixture(params=["path", "abstract"])
def notify(request, tmp_path):
    n = Notify(str(tmp_path / "notify") if request.param == "path" else f"@stent-test-{os.getpid()}-{time.monotonic_ns()}")
    yield n
    n.sock.close()


def start(stent, notify, backend, **env):
    return stent(f"[route t]\nlisten = {harness.HOST}:{harness.free_port()}\nbackend = {backend.text}\n", env={**notify.env, **env})


def test_ready_reloading_and_stopping(stent, notify, echo):
    began = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    s = start(stent, notify, echo)
    assert notify.next() == {"READY": "1", "STATUS": "relaying: 1 route, 0 flows"}
    with s.connect() as peer:		# ready means that clients are accepted
        peer.send_all(b"x")
        assert peer.recv_exact(1) == b"x"
        s.ask("reload")
        message = notify.next()
        assert message["RELOADING"] == "1"
        assert began < int(message["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert notify.next() == {"READY": "1", "STATUS": "relaying: 1 route, 1 flow"}
        s.ini_path.write_text("nonsense")
        s.ask("reload")
        assert "RELOADING" in notify.next()
        assert notify.next() == {"READY": "1", "STATUS": "relaying: 1 route, 1 flow; the last reload failed, see the log"}
    s.flow_end()
    s.process.terminate()
    assert notify.next() == {"STOPPING": "1", "STATUS": "draining: 0 flows left"}
    assert s.wait() == 0


def test_no_watchdog_unless_asked_for_or_for_another_process(stent, notify, echo):
    start(stent, notify, echo, WATCHDOG_USEC="50000", WATCHDOG_PID="1")
    notify.until("READY")
    notify.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        notify.sock.recv(100)


@contextlib.contextmanager
def stopped_thread(s, name):
    """One thread of stent stands still meanwhile; the others run."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    tid = next(int(t.name) for t in pathlib.Path(f"/proc/{s.pid}/task").iterdir() if (t / "comm").read_text().strip() == name)
    assert libc.ptrace(PTRACE_SEIZE, tid, None, None) == 0, os.strerror(ctypes.get_errno())
    assert libc.ptrace(PTRACE_INTERRUPT, tid, None, None) == 0
    os.waitpid(tid, WALL)
    yield
    assert libc.ptrace(PTRACE_DETACH, tid, None, None) == 0


def test_the_watchdog_is_told_only_while_every_worker_responds(stent, notify, echo):
    s = stent(f"[route t]\nlisten = {harness.HOST}:{harness.free_port()}\nbackend = {echo.text}\n", workers=2,
              env={**notify.env, "WATCHDOG_USEC": "100000"})
    for _ in range(3):
        assert notify.until("WATCHDOG")["STATUS"] == "relaying: 1 route, 0 flows"
    with stopped_thread(s, "stent-1"):
        time.sleep(0.15)		# it may have answered just before
        notify.drop_all()
        notify.sock.settimeout(0.4)
        with pytest.raises(TimeoutError):
            notify.sock.recv(100)
        s.wait_logged("1 worker did not respond")
    notify.until("WATCHDOG")


# --- the unit ---

@pytest.fixture
def unit(tmp_path):
    """The unit as it is installed, with the program of the tests."""
    text = (harness.ROOT / "etc" / "stent.service.in").read_text().replace("@sysconfdir@", "/etc")
    path = tmp_path / "stent.service"
    path.write_text(text.replace("@bindir@/stent", harness.stent_bin()))
    return path


def analyze(*words):
    return subprocess.run(["systemd-analyze", "--no-pager", *words], capture_output=True, text=True, timeout=30 * harness.SLOW)


def test_the_unit_is_valid(unit):
    done = analyze("verify", str(unit))
    mine = [line for line in (done.stdout + done.stderr).splitlines() if "stent" in line]
    assert (done.returncode, mine) == (0, [])


def test_a_wrong_unit_would_be_found(unit):
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchdogSecs=30"))
    assert "WatchdogSecs" in analyze("verify", str(unit)).stderr


def test_the_unit_exposes_little(unit):
    text = analyze("security", "--offline=true", str(unit)).stdout
    assert float(re.search(r"Overall exposure level for stent.service: ([\d.]+)", text)[1]) < 2.0


def test_the_unit_reloads_by_the_programs_own_command(unit):
    text = unit.read_text()
    assert re.search(r"(?m)^Type=notify$", text) and re.search(r"(?m)^WatchdogSec=\d+$", text)
    words = re.search(r"(?m)^ExecReload=\S+/stent (.*)$", text)[1].split()
    done = harness.run_stent(*words)
    assert done.returncode in (1, 2) and "unknown" not in done.stderr	# no stent listens there, or there is no such file
