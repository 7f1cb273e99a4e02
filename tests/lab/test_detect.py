"""
`detect`: the one number within which a death is known. Forty flows at once, idle for different times when it happens, half of
them with heartbeats, some with bytes sent at different times after it: each is found in time, on the right leg, for the right
reason. And what is no death is taken for none: paths that lose every fifth packet in both directions; outages of a third of the time.

The normal run has the least time that there is, which takes the least; --long has 9s and 40s, and an hour of loss and of outages.
"""

import random
import select
import signal
import subprocess
import sys
import threading
import time

import harness
import pytest
from lab import run
from test_deaths import FIREWALL

FLOWS = 40
SLACK = 0.7		# seconds: timers, the log, this test's own reading of it
UNANSWERED = ("keepalive-timeout", "user-timeout", "unreachable")

SIDES = pytest.mark.parametrize("side", ["client", "backend"])
LONG = [pytest.param(detect, marks=[pytest.mark.long, pytest.mark.timeout(300)]) for detect in (9, 40)]
DETECT = pytest.mark.parametrize("detect", [6, *LONG])

# Answers each PING, on all connections, until it is stopped.
PROGRAM = """
import select, socket, sys
role, host, port, n = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if role == "backend":
    l = socket.socket(); l.setsockopt(1, 2, 1); l.bind((host, port)); l.listen(200)
    print("ready", flush=True)
    all = [l.accept()[0] for _ in range(n)]
else:
    all = [socket.create_connection((host, port)) for _ in range(n)]
print("there", flush=True)
while True:
    for s in select.select(all, [], [])[0]:
        d = s.recv(1000)
        if not d: sys.exit()
        s.sendall(b"PONG\\n" * d.count(b"PING\\n"))
"""


def stent_in(lab, stent, detect):
    """Route told: a heartbeat that nobody answers; asked: one that must be; bare: none."""
    common = f"protocol = line\nheartbeat_send = \"PING\\n\"\ndetect = {detect}s\n"
    routes = {"bare": (7000, f"protocol = tcp\ndetect = {detect}s\n"), "told": (7001, common),
              "asked": (7002, common + "heartbeat_expect = \"PONG\\n\"\n")}
    return stent("".join(f"[route {name}]\nlisten = {lab.address['stent']}:{port}\nbackend = {lab.address['backend']}:{port}\n{keys}\n"
                         for name, (port, keys) in routes.items()), prefix=lab.inside("stent"))


def open_flows(lab, backends, n, over):
    """So many flows, opened one after the other: each is idle for another time."""
    flows = []
    for i in range(n):
        backend = backends[i % len(backends)]
        client = lab.connect("client", (lab.address["stent"], backend.port))
        server = backend.accept()
        client.send_all(b"hello\n")
        assert server.recv_exact(6) == b"hello\n"
        flows.append({"client": client, "backend": server})
        time.sleep(over / n)
    return flows


def ends(s, began, detect):
    """The reason of each flow's end, and when it came."""
    found = []
    while len(found) < FLOWS and time.monotonic() < began + detect + 5 * harness.SLOW:
        try:
            end = s.flow_end(timeout=1)
        except AssertionError:
            continue
        found.append((end["reason"], time.monotonic() - began))
    return found


def judge(found, detect, side, reasons, earliest):
    times = sorted(t for _, t in found)
    print(f"detect {detect} s, {side}: {len(found)} of {FLOWS} found after {times[0] if times else 0:.2f} to "
          f"{times[-1] if times else 0:.2f} s:", {r: [r for r, _ in found].count(r) for r, _ in found}, file=sys.stderr)
    assert len(found) == FLOWS, found
    assert {r for r, _ in found} <= {f"{side}-{r}" for r in reasons}, found
    assert earliest <= times[0] and times[-1] <= detect + SLACK * harness.SLOW, times


def send_later(flows, living, detect):
    """Every fourth flow: bytes for the dead side, at another time each."""
    def work():
        for i, at in enumerate(sorted(random.uniform(0, detect) for _ in flows[::4])):
            time.sleep(max(0, began + at - time.monotonic()))
            try:
                flows[4 * i][living].send_all(b"are you there?\n")
            except (OSError, AssertionError):
                pass			# it is known to be dead by now
    began = time.monotonic()
    threading.Thread(target=work, daemon=True).start()


def cable(lab, side):
    lab.pull_cable(side, FIREWALL[side])


def host_gone(lab, side):
    lab.ip(FIREWALL[side], "link", "del", f"to-{side}")


def path(lab, side):
    lab.drop(FIREWALL[side])


def forgetful(lab, side):
    run(*lab.inside(FIREWALL[side]), "conntrack", "-F")


@DETECT
@SIDES
@pytest.mark.parametrize("how", [cable, host_gone, path, forgetful])
def test_what_does_not_answer_is_found_in_time(lab, stent, how, side, detect):
    if how is forgetful:
        lab.forgetful(FIREWALL[side], seconds=3600)	# only what is flushed
    with lab.backend() as bare, lab.backend(port=7001) as told:
        s = stent_in(lab, stent, detect)
        flows = open_flows(lab, [bare, told], FLOWS, over=detect / 4)
        s.expect_no_event("flow end")
        how(lab, side)
        began = time.monotonic()
        send_later(flows, "backend" if side == "client" else "client", detect)
        # The last sign of life may be a fifth of the time old then, and as late as a timer may be.
        judge(ends(s, began, detect), detect, side, UNANSWERED, earliest=detect * 0.8 - 1)


@DETECT
@SIDES
def test_a_stopped_program_is_found_in_time(lab, stent, side, detect):
    backend = None
    where = [*lab.inside(side), "/usr/bin/python3", "-c", PROGRAM, side, lab.address["stent" if side == "client" else "backend"], 7002, FLOWS]
    if side == "client":
        backend = lab.backend(port=7002)
    program = subprocess.Popen(list(map(str, where)), stdout=subprocess.PIPE, text=True)
    try:
        if side == "backend":
            assert program.stdout.readline() == "ready\n"
        s = stent_in(lab, stent, detect)
        if side == "client":
            program.kill()			# it could not connect yet
            program.wait()
            program = subprocess.Popen(list(map(str, where)), stdout=subprocess.PIPE, text=True)
            others = [backend.accept() for _ in range(FLOWS)]
        else:
            others = [lab.connect("client", (lab.address["stent"], 7002)) for _ in range(FLOWS)]
        assert program.stdout.readline() == "there\n"
        # A missing reply counts only of a peer that has replied. Of many, the first few are asked first.
        time.sleep(detect * 0.5)
        program.send_signal(signal.SIGSTOP)
        judge(ends(s, time.monotonic(), detect), detect, side, ["heartbeat-timeout"], earliest=detect * 0.6 - 1)
        del others
    finally:
        program.kill()
        program.wait()
        if backend:
            backend.close()


@DETECT
@SIDES
def test_a_rebooted_peer_is_found_as_soon_as_it_is_back(lab, stent, side, detect):
    with lab.backend() as bare, lab.backend(port=7001) as told:
        s = stent_in(lab, stent, detect)
        flows = open_flows(lab, [bare, told], FLOWS, over=detect / 4)
        began = time.monotonic()
        lab.drop(side, hook="output")           # its goodbye is lost, as in a crash
        for flow in flows:
            flow[side].reset()
        time.sleep(detect / 4)
        s.expect_no_event("flow end")
        lab.heal(side)
        judge(ends(s, began, detect), detect, side, ["reset"], earliest=detect / 4)


def lossy(lab, firewall, percent):
    """Each packet, of either direction, is lost with that chance."""
    lab.drop(firewall, f"numgen random mod 100 < {percent}")


def answer(peers, stop):
    """Answers each PING of all of them."""
    left = dict((p.fileno(), p) for p in peers)
    while not stop.is_set():
        for fd in select.select(list(left), [], [], 0.2)[0]:
            d = left[fd].sock.recv(1000)
            if not d:
                del left[fd]
                continue
            left[fd].sock.sendall(b"PONG\n" * d.count(b"PING\n"))


def lives_through(lab, stent, detect, seconds, trouble):
    """Flows of all kinds, while the paths of both sides are in trouble: none ends."""
    stop = threading.Event()
    with lab.backend() as bare, lab.backend(port=7001) as told, lab.backend(port=7002) as asked:
        s = stent_in(lab, stent, detect)
        flows = open_flows(lab, [bare, told, asked], 3 * FLOWS, over=2)
        threads = [threading.Thread(target=answer, args=([f[end] for f in flows[2::3]], stop)) for end in ("client", "backend")]
        for t in threads:
            t.start()
        time.sleep(detect / 2)			# all have replied once
        try:
            trouble(seconds)
            died = [r for r in s.records if r.get("event") == "flow end"]
            print(f"detect {detect} s: {len(died)} of {len(flows)} flows died in {seconds} s", file=sys.stderr)
            assert not died, died
        finally:
            stop.set()
            for t in threads:
                t.join()


HOUR = [pytest.mark.long, pytest.mark.timeout(4000)]
LENGTH = pytest.mark.parametrize("detect, seconds", [(9, 15), pytest.param(9, 3600, marks=HOUR), pytest.param(40, 3600, marks=HOUR)])


@LENGTH
def test_a_path_that_loses_a_fifth_is_no_death(lab, stent, detect, seconds):
    def trouble(seconds):
        for firewall in FIREWALL.values():
            lossy(lab, firewall, 20)
        time.sleep(seconds)
        for firewall in FIREWALL.values():
            lab.heal(firewall)
    lives_through(lab, stent, detect, seconds, trouble)


@LENGTH
def test_outages_of_a_third_are_no_death(lab, stent, detect, seconds):
    def trouble(seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            firewall = random.choice(list(FIREWALL.values()))
            lab.drop(firewall)
            time.sleep(detect / 3)
            lab.heal(firewall)
            time.sleep(random.uniform(0.4, 0.8) * detect)
    lives_through(lab, stent, detect, seconds, trouble)
