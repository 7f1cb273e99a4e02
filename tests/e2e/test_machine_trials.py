"""
Deaths and lacks that need no network of their own, twenty flows of each at once or one after the other: each time the right
reason on the right leg, in time, and the other side told. (Cables, hosts that are gone, paths, programs that are stopped,
reboots: forty flows of each on both legs in tests/lab/test_detect.py.)
"""

import contextlib
import random
import resource
import time

import harness
import machine_faults
import pytest

TRIALS = 20


def reasons(s, n, within):
    began = time.monotonic()
    found = [s.flow_end(timeout=within)["reason"] for _ in range(n)]
    assert time.monotonic() - began < within * harness.SLOW
    return found


def refused(s, reason):
    """How many flows the log says have ended for it, whole or counted."""
    return sum(r.get("flows", 1) for r in s.logged("^(flow end|flows refused)$") if r["reason"] == reason)


@pytest.mark.parametrize("side", ["client", "backend"])
def test_resets(stent, raw_backend, side):
    s = stent.route(raw_backend.text)
    flows = []
    for i in range(TRIALS):
        client, backend = s.connect(), raw_backend.accept()
        for a, b in ((client, backend), (backend, client)):
            a.send_all(b"hello")
            assert b.recv_exact(5) == b"hello"
        flows.append((client, backend) if side == "client" else (backend, client))
    random.shuffle(flows)
    for dead, living in flows:
        dead.reset()
        living.expect_reset(2)
    assert reasons(s, TRIALS, 1) == [f"{side}-reset"] * TRIALS


@pytest.mark.lab
def test_a_name_server_that_is_down(stent, echo, tmp_path):
    """Nobody answers; flows of a backend that needs no name go on."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.9.9.9\noptions timeout:1 attempts:1\n")
    named, plain = harness.free_port(), harness.free_port()
    s = stent(f"[route named]\nlisten = 127.0.0.1:{named}\nbackend = db.invalid.example:5432\nconnect_timeout = 1s\n"
              f"[route plain]\nlisten = 127.0.0.1:{plain}\nbackend = {echo.text}\n",
              prefix=harness.privately("/etc/resolv.conf", tmp_path / "resolv.conf"))
    other = harness.connect(plain)
    clients = []
    for _ in range(TRIALS):
        with contextlib.suppress(ConnectionResetError):	# known at once
            clients.append(harness.connect(named))
    other.send_all(b"meanwhile")
    assert other.recv_exact(9) == b"meanwhile"
    for client in clients:
        client.expect_reset(4)
    harness.wait_for(lambda: refused(s, "backend-lookup") == TRIALS)
    other.send_all(b"after")
    assert other.recv_exact(5) == b"after"


@pytest.mark.malloc	# the sanitizer's allocator is not made to fail here
def test_no_memory(stent, echo, tmp_path):
    scene = machine_faults.Scene(stent, tmp_path, {"tcp": echo.port}, names=("tcp",))
    scene.stand_by("tcp")
    for _ in range(TRIALS):
        scene.faults.set(1, 0, "memory")
        began = time.monotonic()
        scene.s.expect_refusal()
        assert time.monotonic() - began < harness.SLOW
    harness.wait_for(lambda: refused(scene.s, "memory") == TRIALS)
    scene.others_go_on()
    assert scene.run("tcp")


def test_no_descriptor(stent, echo):
    """Clients wait, and none is let in to be turned away; each is served when there are descriptors again."""
    s = stent.route(echo.text)
    other = s.connect()
    other.send_all(b"before")
    assert other.recv_exact(6) == b"before"
    resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (s.fds(), 20000))
    clients = [s.connect() for _ in range(TRIALS)]
    s.wait_logged("cannot accept: Too many open files")
    other.send_all(b"meanwhile")
    assert other.recv_exact(9) == b"meanwhile"
    resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (20000, 20000))
    for client in clients:
        client.send_all(b"served")
        assert client.recv_exact(6) == b"served"
    s.expect_no_event("flow end", seconds=0)
