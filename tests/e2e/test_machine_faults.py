"""
Faults of the machine: each call to the kernel and each allocation fails once, by its number, while flows of several
protocols are open. No crash, no leak, no wrong byte; at most the one flow that the call was for ends.
"""

import collections
import contextlib
import os
import signal
import subprocess
import threading

import harness
import machine_faults
import pytest
from machine_faults import CONVERSATIONS, Scene
from servers.postgres import Postgres
from servers.redis import Redis

STEP = 5		# without --long every 5th call: always the same ones, so that a run can be repeated


@pytest.fixture(scope="module")
def ports():
    """The backends, by conversation."""
    with contextlib.ExitStack() as stack:
        echo = stack.enter_context(harness.EchoBackend())
        websocket = stack.enter_context(machine_faults.WebSocketEcho())
        redis, postgres = Redis(), Postgres()
        stack.callback(redis.close)
        stack.callback(postgres.close)
        yield {"tcp": echo.port, "line": echo.port, "redis": redis.port, "postgres": postgres.port, "websocket": websocket.port}


@pytest.fixture(autouse=True)
def wrapped(monkeypatch):
    """With AddressSanitizer the program is the one whose own allocations can fail."""
    program = machine_faults.FOLDER / "stent_wrapped"
    if program.exists():
        monkeypatch.setenv("STENT_BIN", str(program))


@pytest.fixture
def numbers(request):
    """Which calls fail, and with which of their errors: pairs, without an end."""
    step = 1 if request.config.getoption("--long") else STEP

    def generate():
        n = 1
        while True:
            for variant in range(3 if step == 1 else 1):
                yield n, (n + variant) % 3
            n += step
    return generate


def descriptors(s):
    return s.fds() - 2 * s.pipes()


@pytest.mark.timeout(1800)		# with --long
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_each_call_of_a_flow_fails_once(stent, tmp_path, ports, numbers, name):
    scene = Scene(stent, tmp_path, ports)
    s, faults = scene.s, scene.faults
    for each in scene.names:
        assert scene.run(each)
    before = harness.wait_for(lambda: not s.ask("flows") and descriptors(s))
    scene.stand_by(*dict.fromkeys(("tcp", name)))
    failed = collections.Counter()
    for number, variant in numbers():
        hit = scene.fail(name, number, variant)
        failed[hit] += 1
        if failed[None] == 2:			# a conversation has other numbers of calls each time
            break
    print(failed)
    assert failed.total() > 5
    scene.others_go_on()
    for each in scene.names:
        assert scene.run(each)
    harness.wait_for(lambda: descriptors(s) <= before, what="its descriptors to be closed")


def test_a_leg_that_cannot_be_watched_ends_its_flow(stent, tmp_path, ports):
    """With a change list libevent only logs it, and the flow waits for ever."""
    scene = Scene(stent, tmp_path, ports, names=("tcp",))
    whole = []
    for n in range(1, 5):
        scene.faults.set(n, n, "epoll_ctl")
        whole.append(scene.run("tcp"))
    assert whole[:2] == [False, False] and scene.run("tcp")
    assert scene.s.logged("^flow end$")[0]["reason"] == "memory"


def test_a_listener_that_cannot_be_watched_again_is_tried_again(stent, tmp_path, ports):
    scene = Scene(stent, tmp_path, ports, names=("tcp", "line"))
    scene.faults.set(1, 0, "accept4")
    with scene.s.connect():
        scene.s.wait_logged("cannot accept: Too many open files")
        for _ in range(3):
            scene.faults.set(1, 0, "epoll_ctl")
            harness.wait_for(scene.faults.hit)
        scene.s.wait_logged("accepting again")
        assert scene.run("tcp") and scene.run("line")


@pytest.mark.timeout(1800)
def test_each_call_of_a_start_and_an_end_fails_once(tmp_path, ports, request):
    """It starts and works, or says what it lacks; it ends cleanly then, too."""
    is_long = request.config.getoption("--long")
    ini = tmp_path / "stent.ini"
    port, control = harness.free_port(), tmp_path / "control"
    ini.write_text(f"[stent]\nworkers = 1\nuser = off\ncontrol = {control}\n[route t]\nlisten = 127.0.0.1:{port}\n"
                   f"backend = 127.0.0.1:{ports['tcp']}\n")
    faults = machine_faults.Faults(tmp_path / "faults")
    faults.set(1 << 40)
    status, _ = start(ini, port, faults)
    total = (1 << 40) - faults.left()
    assert status == 0 and total > 100
    step = 1 if is_long else max(total // 25, 1)
    problems = []
    for n in range(1, total + 1, step):
        faults.set(n, n)
        try:
            status, said = start(ini, port, faults)
        except (AssertionError, subprocess.TimeoutExpired) as problem:
            status, said = "hangs", str(problem)
        ended_meanwhile = status == -signal.SIGTERM and said	# it listened, and was giving up
        if (status not in (0, 1, 2) and not ended_meanwhile) or (status != 0 and not said) or harness.SANITIZER_REPORT.search(said):
            problems.append(f"call {n}: {faults.hit()}: status {status}: {said}")
    assert not problems, "\n".join(problems)


def test_each_allocation_of_the_settings_fails_once(tmp_path, request):
    """A reload reads them in a process that has flows."""
    faults = machine_faults.Faults(tmp_path / "faults")
    ini = tmp_path / "stent.ini"
    ini.write_text("[stent]\nworkers = 1\n[defaults]\nconnect_timeout = 3s\n[route t]\nlisten = 127.0.0.1:1\nbackend = 127.0.0.1:2\n")
    n = 0
    while n == 0 or faults.hit():
        n += 1
        faults.set(n, 0, "memory")
        done = harness.run_stent("check", "-c", ini, env={**os.environ, **faults.environment()})
        assert done.returncode in (0, 1, 2), (n, done)
        assert done.returncode == 0 or "memory" in done.stderr or "memory" in done.stdout, (n, done)
    assert n > 10


def is_there(port):
    with contextlib.suppress(ConnectionError):
        harness.connect(port).close()
        return True


def start(ini, port, faults):
    """Starts stent, talks through it if it listens, ends it: its status, and what it said."""
    process = subprocess.Popen([harness.stent_bin(), "run", "-c", str(ini)], env={**os.environ, **faults.environment()},
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    reader = threading.Thread(target=lambda: said.extend(process.stdout))
    reader.start()
    try:
        harness.wait_for(lambda: process.poll() is not None or is_there(port), step=0.01)
        if process.poll() is None:
            with contextlib.suppress(machine_faults.Ended):
                for _ in machine_faults.tcp((harness.HOST, port), 0):
                    pass
            process.terminate()
        status = process.wait(5 * harness.SLOW)
        reader.join(5)
        return status, "".join(said)
    finally:
        process.kill()
        process.wait()
        reader.join(5)
        process.stdout.close()
