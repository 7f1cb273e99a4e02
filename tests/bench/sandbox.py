#!/usr/bin/env python3
"""What the sandbox costs: stent's CPU time for a round trip of 64 bytes, with sandbox = on against off.

    sandbox.py                 about 5 minutes
    sandbox.py --pairs N       so many pairs of rounds for each row (default 60)
    sandbox.py --check         exit status 1 when the CPU time of a row has surely grown by more than 1 %

Two stents are up at once, one with and one without; the load goes to one, then to the other (on off, off on, ...), in short rounds:
what the machine does otherwise hits both rounds of a pair alike. Every few pairs both are started anew, as where a program lies in
memory has an effect, too. The cost is the median of the pairs' ratios; in brackets its interval of 95 %, by a bootstrap over starts and pairs.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import machine
import measure
import relays

HERE = os.path.dirname(os.path.abspath(__file__))
PAIRS_A_START = 6
LIMIT = 1.01
# connections, round trips in a round
ROWS = ((1, 10000), (8, 20000), (64, 30000))
RESAMPLES = 4000


class Sandboxed(relays.Stent):
    def __init__(self, work, program, sandbox):
        super().__init__(work, program)
        self.config = self.config + f"sandbox = {sandbox}\n"
        self.name = f"stent-{sandbox}"

    def write(self, name, text):
        return super().write(f"{self.name}-{name}", text)


def pairs_of_a_start(work, program, conns, count, n, ports):
    """[(figures with, figures without)], of one start of both."""
    pairs = []
    with Sandboxed(work, program, "on").start(*ports[0], protocol="tcp") as on, Sandboxed(work, program, "off").start(*ports[1], protocol="tcp") as off:
        both = [measure.Load(work, "rtt", *pair, running.pids, "--conns", conns, "--size", 64, "--count", count)
                for pair, running in zip(ports, (on, off))]
        for load in both:
            load.run()      # the first round has page faults
        for i in range(n):
            order = (0, 1) if i % 2 == 0 else (1, 0)
            figures = {which: both[which].run() for which in order}
            pairs.append((figures[0], figures[1]))
    return pairs


def compare(starts, what):
    """One figure: medians without and with, and the cost in percent with its interval; whether that may be within the limit."""
    def median(groups):
        return statistics.median(on[what] / off[what] for group in groups for on, off in group)
    chance = random.Random(1)
    resampled = sorted(median([chance.choices(group, k=len(group)) for group in chance.choices(starts, k=len(starts))])
                       for _ in range(RESAMPLES))
    low, high = resampled[RESAMPLES * 25 // 1000], resampled[RESAMPLES * 975 // 1000]
    on, off = (statistics.median(pair[i][what] for start in starts for pair in start) for i in (0, 1))
    return "%.2f -> %.2f µs, %+.2f %% (%+.2f to %+.2f)" % (off, on, (median(starts) - 1) * 100, (low - 1) * 100, (high - 1) * 100), low <= LIMIT


def row(args, work, conns, count, next_port):
    starts = []
    while sum(map(len, starts)) < args.pairs:
        ports = [(next_port, next_port + 1), (next_port + 2, next_port + 3)]
        next_port += 4
        starts.append(pairs_of_a_start(work, args.stent, conns, count, min(PAIRS_A_START, args.pairs), ports))
        machine.say("%d connections: %d of %d pairs" % (conns, sum(map(len, starts)), args.pairs))
    machine.say("")
    cpu, is_met = compare(starts, "cpu_us")
    print("%3d connections, %d pairs: CPU a round trip %s; time of a round trip %s" % (
        conns, sum(map(len, starts)), cpu, compare(starts, "p50_us")[0]), flush=True)
    return is_met, next_port


def calls(work):
    """The cost of the filter in one call."""
    top = os.path.join(HERE, "..", "..")
    program = os.path.join(work, "seccomp")
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-std=gnu11", "-D_GNU_SOURCE", "-I", f"{top}/include", "-I", f"{top}/src", "-o", program,
                    f"{HERE}/seccomp.c", f"{top}/src/sandbox/calls.c"], check=True)
    done = subprocess.run([program, "10"], check=True, stdout=subprocess.PIPE, text=True, preexec_fn=relays.pin(relays.RELAY_CORE))
    ns = json.loads(done.stdout)
    print("a call that is always allowed: %+.1f ns by stent's filter, %+.1f ns by a filter of one instruction; a call with a condition: %+.1f ns" % (
        ns["stent"] - ns["none"], ns["one"] - ns["none"], ns["stent_looked_at"] - ns["none_looked_at"]), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pairs", type=int, default=60, help="default: %(default)s")
    p.add_argument("--stent", default=os.path.join(HERE, "../../build/stent"), help="the program (default: build/stent)")
    p.add_argument("--check", action="store_true", help="exit status 1 when the CPU time of a row has surely grown by more than 1 %%")
    p.add_argument("--port", type=int, default=25000, help="the first of those that are used (default: %(default)s)")
    args = p.parse_args()
    args.stent = os.path.abspath(args.stent)
    work = tempfile.mkdtemp(prefix="stent-bench-")
    is_met, port = [], args.port
    try:
        measure.build(work)
        machine.own_network()
        os.sched_setaffinity(0, {relays.LOAD_CORE})
        calls(work)
        for conns, count in ROWS:
            met, port = row(args, work, conns, count, port)
            is_met.append(met)
    except relays.BenchError as e:
        print("bench: %s" % e, file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(work, ignore_errors=True)
    where = machine.describe()
    print("%s, %d cores, Linux %s" % (where["cpu"], where["cores"], where["kernel"]))
    return 1 if args.check and not all(is_met) else 0


if __name__ == "__main__":
    sys.exit(main())
