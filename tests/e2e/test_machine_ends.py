"""
What a machine does to a process: it is killed, stopped and continued, its disk is full, nobody reads its log, the wall
clock jumps.
"""

import contextlib
import os
import pathlib
import resource
import signal
import time

import harness
import pytest
import machine_faults
from machine_faults import Scene
from servers.redis import Redis


@pytest.fixture
def ports(echo):
    redis = Redis()
    with machine_faults.WebSocketEcho() as websocket:
        yield {"tcp": echo.port, "line": echo.port, "redis": redis.port, "websocket": websocket.port}
    redis.close()


def talk(peer):
    peer.send_all(b"ping")
    assert peer.recv_exact(4) == b"ping"


def connected(s, address=None):
    peer = harness.connect(address or s.address)
    talk(peer)
    return peer


def test_after_kill_9_the_peers_learn_of_it_and_the_same_settings_start_at_once(stent, raw_backend, tmp_path):
    admin, unix, control = f"127.0.0.1:{harness.free_port()}", tmp_path / "listen.sock", tmp_path / "control.sock"
    ini = f"[route t]\nlisten = 127.0.0.1:{harness.free_port()}, unix:{unix}\nbackend = {raw_backend.text}\n"

    def begin():
        s = stent(ini, admin=admin, control=control)
        ends = []
        for address in s.listen:
            client = harness.connect(address)
            ends.append((client, raw_backend.accept()))
            for a, b in (ends[-1], ends[-1][::-1]):
                a.send_all(b"hello")
                assert b.recv_exact(5) == b"hello"
        assert len(s.ask("flows")) == 2
        return s, ends
    s, ends = begin()
    s.kill()
    for peer in (peer for pair in ends for peer in pair):
        peer.expect_fin(2)			# what the kernel sends when nothing was unread
    s, ends = begin()
    s.kill()
    begin()[0].stop()
    assert not unix.exists() and not control.exists()


def test_a_file_that_may_not_grow_costs_log_lines_only(stent, echo, tmp_path):
    log = tmp_path / "stent.log"
    s = stent.route(echo.text, settings={"log": f"file:{log}"})
    first = connected(s)
    connected(s).close()
    harness.wait_for(lambda: '"flow end"' in log.read_text())
    resource.prlimit(s.pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 10, -1))
    for _ in range(5):
        connected(s).close()
    time.sleep(0.2)
    talk(first)
    assert s.process.poll() is None
    resource.prlimit(s.pid, resource.RLIMIT_FSIZE, (-1, -1))
    before = log.read_text().count('"flow end"')
    harness.wait_for(lambda: connected(s).close() or log.read_text().count('"flow end"') > before, step=0.1)


@pytest.mark.lab
def test_a_full_disk_costs_log_lines_only(stent, echo, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = ("unshare", "-m", "bash", "-c", f'mount -t tmpfs -o size=16k none {folder} && exec "$@"', "bash")
    s = stent(f"[route t]\nlisten = 127.0.0.1:{harness.free_port()}\nbackend = {echo.text}\n", prefix=mounted, log=f"file:{folder}/log")
    first = connected(s)
    seen = pathlib.Path(f"/proc/{s.pid}/root{folder}")
    while (seen / "log").stat().st_size < 15000:
        connected(s).close()
    for _ in range(30):
        connected(s).close()
    talk(first)
    assert s.process.poll() is None
    (seen / "log").write_text("")		# somebody makes room
    harness.wait_for(lambda: connected(s).close() or '"flow end"' in (seen / "log").read_text(), step=0.1)


def test_a_log_that_nobody_reads_stops_no_flow(stent, echo, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    end = os.open(fifo, os.O_RDWR)

    def tells_again():
        connected(s).close()
        with contextlib.suppress(BlockingIOError):	# nothing yet
            return b"flow end" in os.read(end, 1 << 20)

    try:
        s = stent.route(echo.text, settings={"log": f"file:{fifo}"})
        first = connected(s)
        began = time.monotonic()
        for _ in range(400):			# the pipe takes 64 KB of their lines
            connected(s).close()
        talk(first)
        assert time.monotonic() - began < 10 * harness.SLOW
        os.set_blocking(end, False)
        assert len(os.read(end, 1 << 20)) > 50000
        harness.wait_for(tells_again, step=0.1)
    finally:
        os.close(end)


def test_a_wall_clock_that_jumps_changes_nothing(stent, tmp_path, ports):
    """Deadlines, heartbeats and idle times are of the monotonic clock."""
    scene = Scene(stent, tmp_path, ports, names=tuple(ports))
    scene.stand_by(*ports)
    for seconds in (86400, -86400, 10 * 365 * 86400, 0):
        scene.faults.jump(seconds)
        time.sleep(0.1)
        for name in ports:
            assert scene.run(name)
    scene.others_go_on()
    ends = harness.wait_for(lambda: len(found := scene.s.logged("^flow end$")) == 5 * len(ports) and found)
    assert all(0 <= end["seconds"] < 10 * harness.SLOW for end in ends)
    years = {end["time"][:4] for end in ends}
    assert len(years) > 1			# it did jump


@pytest.mark.parametrize("seconds", [4, pytest.param(30, marks=[pytest.mark.long])])
def test_a_process_that_was_stopped_finds_nobody_dead(stent, tmp_path, ports, seconds):
    """Longer than everything by which a death is found; its peers sent, or were silent, or pinged it."""
    scene = Scene(stent, tmp_path, ports, names=tuple(ports), extra=lambda name: "keepalive = 1s/1s/2\nuser_timeout = 2s\n" + (
        "heartbeat_timeout = 500ms\nheartbeat_misses = 2\n" if name in ("redis", "websocket") else ""))
    scene.stand_by(*ports)
    time.sleep(0.3)				# heartbeats were replied to: their absence would count
    busy = harness.connect(scene.address("tcp"))
    talk(busy)
    scene.s.signal(signal.SIGSTOP)
    busy.send_all(b"while it is stopped")
    time.sleep(seconds)
    scene.s.signal(signal.SIGCONT)
    assert busy.recv_exact(19) == b"while it is stopped"
    time.sleep(0.5)
    assert not scene.s.logged("^flow end$")
    scene.others_go_on()
