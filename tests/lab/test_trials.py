"""
Two hundred trials of what ends a flow, over both legs: each time the right leg, the right reason, in time, and the other side
told. One run, which prints a table. The normal run has two of each kind, --long all.
"""

import contextlib
import datetime
import resource
import signal
import subprocess
import sys
import time

import harness
import lab as lab_module
import machine_faults
import pytest
from test_deaths import FIREWALL
from test_detect import PROGRAM, UNANSWERED, cable, host_gone, open_flows, stent_in

DETECT = 6		# seconds, the least that there is
SLACK = 3		# of a busy machine: its timers, and the log
SIDES = ("client", "backend")


class Group:
    """Some flows in a network of their own, of which one side dies by one cause."""

    reasons, within = UNANSWERED, DETECT + SLACK

    def __init__(self, stack, stent, side, n):
        self.side, self.n = side, n
        self.lab = lab_module.Lab()
        stack.callback(self.lab.close)
        self.open(stack, stent)

    def open(self, stack, stent):
        backends = [stack.enter_context(self.lab.backend(port=port)) for port in (7000, 7001)]
        self.s = stent_in(self.lab, stent, DETECT)
        self.flows = open_flows(self.lab, backends, self.n, over=0.2 * self.n)
        self.living = [flow["backend" if self.side == "client" else "client"] for flow in self.flows]

    def begin(self):
        """It happens."""
        self.s.expect_no_event("flow end", seconds=0)
        self.began = time.time()
        self.happen()

    def finish(self):
        pass

    def judge(self):
        """How many flows ended as they must, and the slowest, in seconds."""
        right, slowest = 0, 0
        for peer in self.living:
            expect_told(peer)
        for _ in range(self.n):
            end = self.s.flow_end()
            took = datetime.datetime.fromisoformat(end["time"].replace("Z", "+00:00")).timestamp() - self.began
            right += end["reason"] in [f"{self.side}-{r}" for r in self.reasons] and took <= self.within * harness.SLOW
            slowest = max(slowest, took)
        return right, slowest


def expect_told(peer):
    """A reset, behind heartbeats."""
    with contextlib.suppress(ConnectionResetError):
        while peer.recv_some():
            pass
        raise AssertionError("the living side was told of an orderly end")


class Cable(Group):
    def happen(self):
        cable(self.lab, self.side)


class HostGone(Group):
    def happen(self):
        host_gone(self.lab, self.side)


class Rebooted(Group):
    reasons = ("reset",)

    def happen(self):
        self.lab.drop(self.side, hook="output")		# its goodbye is lost, as in a crash
        for flow in self.flows:
            flow[self.side].reset()

    def finish(self):
        self.lab.heal(self.side)


class Reset(Group):
    reasons, within = ("reset",), SLACK

    def happen(self):
        for flow in self.flows:
            flow[self.side].reset()


class Stopped(Group):
    """A program that replied to heartbeats."""

    reasons = ("heartbeat-timeout",)

    def open(self, stack, stent):
        if self.side == "client":
            backend = stack.enter_context(self.lab.backend(port=7002))
            self.s = stent_in(self.lab, stent, DETECT)
            self.program = self.start(stack)
            self.living = [backend.accept() for _ in range(self.n)]
        else:
            self.program = self.start(stack)
            assert self.program.stdout.readline() == "ready\n"
            self.s = stent_in(self.lab, stent, DETECT)
            self.living = [self.lab.connect("client", (self.lab.address["stent"], 7002)) for _ in range(self.n)]
        assert self.program.stdout.readline() == "there\n"
        harness.wait_for(lambda: all(f[self.side]["replies"] for f in self.s.ask("flows")), what="replies to heartbeats")

    def start(self, stack):
        to = self.lab.address["stent" if self.side == "client" else "backend"]
        words = [*self.lab.inside(self.side), "/usr/bin/python3", "-c", PROGRAM, self.side, to, "7002", str(self.n)]
        program = stack.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        stack.callback(program.kill)
        return program

    def happen(self):
        self.program.send_signal(signal.SIGSTOP)


def no_name_server(stent, tmp_path, n):
    (tmp_path / "resolv.conf").write_text("nameserver 127.9.9.9\noptions timeout:1 attempts:1\n")
    s = stent(f"[route t]\nlisten = 127.0.0.1:{harness.free_port()}\nbackend = db.invalid.example:5432\nconnect_timeout = 1s\n",
              prefix=harness.privately("/etc/resolv.conf", tmp_path / "resolv.conf"))
    right, slowest = 0, 0
    for _ in range(n):
        began = time.time()
        s.expect_refusal()
        slowest = max(slowest, time.time() - began)
        right += 1
    harness.wait_for(lambda: refused(s, "backend-lookup") == n)
    return right, slowest


def refused(s, reason):
    return sum(r.get("flows", 1) for r in s.logged("^(flow end|flows refused)$") if r["reason"] == reason)


def no_descriptor_for_clients(scene, n):
    """They wait, and each is served when there are descriptors again."""
    s = scene.s
    resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (s.fds(), 20000))
    clients = [harness.connect(scene.address("tcp")) for _ in range(n)]
    s.wait_logged("cannot accept: Too many open files")
    resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (20000, 20000))
    began = time.time()
    for client in clients:
        with client:
            client.send_all(b"served")
            assert client.recv_exact(6) == b"served"
    return n, time.time() - began


def a_call_fails(scene, n, call, numbers, reason):
    """That call of a flow's beginning fails: its flow ends for that reason, or (None) goes on; the others go on."""
    right, slowest = 0, 0
    for i in range(n):
        began, before = time.time(), refused(scene.s, reason)
        scene.faults.set(numbers[i % len(numbers)], 0, call)
        right += scene.run("tcp") == (reason is None) and scene.faults.hit() is not None
        slowest = max(slowest, time.time() - began)
        if reason:
            harness.wait_for(lambda: refused(scene.s, reason) == before + 1)
        scene.faults.set(0)
    return right, slowest


@pytest.mark.parametrize("n, groups", [(2, 1), pytest.param(8, 2, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_each_trial_has_the_right_leg_and_reason_in_time(stent, echo, tmp_path, n, groups):
    table = []
    for _ in range(groups):
        with contextlib.ExitStack() as stack:
            all_groups = [kind(stack, stent, side, n) for kind in (Cable, HostGone, Stopped, Rebooted, Reset) for side in SIDES]
            for group in all_groups:
                group.begin()
            time.sleep(DETECT / 4)
            for group in all_groups:
                group.finish()
            table += [(type(g).__name__, g.side, g.n, *g.judge(), g.within) for g in all_groups]
    names, clients, backends, memory = (14, 7, 6, 13) if groups > 1 else (2, 2, 2, 2)
    table.append(("NoNameServer", "backend", names, *no_name_server(stent, tmp_path, names), 1 + SLACK))
    scene = machine_faults.Scene(stent, tmp_path, {"tcp": echo.port}, names=("tcp",))
    scene.stand_by("tcp")
    table += [("NoDescriptor", "client", clients, *no_descriptor_for_clients(scene, clients), SLACK),
              ("NoDescriptor", "backend", backends, *a_call_fails(scene, backends, "socket", (1,), None), SLACK),
              ("NoMemory", "both", memory, *a_call_fails(scene, memory, "memory", (1, 2), "memory"), SLACK)]
    scene.others_go_on()
    print(*(f"{name:13} {side:8} {n:3} trials, {right:3} right; bound {within} s, slowest {slowest:.2f} s"
            for name, side, n, right, slowest, within in table), sep="\n", file=sys.stderr)
    assert all(right == n and slowest <= within * harness.SLOW for _, _, n, right, slowest, within in table), table
    assert sum(row[2] for row in table) == (200 if groups > 1 else 28)
