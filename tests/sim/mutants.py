#!/usr/bin/python3
"""Does the simulation find faults? Puts each of tests/sim/mutants/*.patch into a copy of the sources, builds the
simulation with it, and lets it run until an oracle finds something, for a minute of CPU at most.

usage: mutants.py [--minutes M] [--jobs N] [NAME ...]

Exit status 1 if one was missed, or if a patch does not apply any more: then it has to be made anew from what its
first line says. A mutant that fails without a patch (the sources as they are) is an error, too.
"""
import argparse
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATCHES = ROOT / "tests/sim/mutants"


def sources():
    """What is tracked, and what is new and not ignored."""
    out = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    return [name for name in out.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


class Tree:
    """A copy of the sources with a build directory, used for one mutant after the other."""

    def __init__(self, at):
        self.at = pathlib.Path(at)
        for name in sources():
            to = self.at / name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to)
        self.run("meson", "setup", "build", "-Dtests=enabled")
        self.build()

    def run(self, *args):
        return subprocess.run(args, cwd=self.at, check=True, capture_output=True, text=True)

    def build(self):
        self.run("ninja", "-C", "build", "-j2", "tests/sim/sim")

    def try_mutant(self, patch, minutes):
        """The finding's line; None: nothing was found; or raises CalledProcessError."""
        self.run("patch", "-p1", "--no-backup-if-mismatch", "-i", str(patch))
        try:
            self.build()
            began = time.monotonic()
            done = subprocess.run(["build/tests/sim/sim", "--first", "--no-shrink", "--minutes", str(minutes)], cwd=self.at,
                                  capture_output=True, text=True, errors="replace", check=False)
            seconds = time.monotonic() - began
        finally:
            self.run("patch", "-p1", "-R", "--no-backup-if-mismatch", "-i", str(patch))
        if done.returncode == 0:
            return None, seconds
        found = [line for line in done.stdout.splitlines() if line.startswith("seed ")]
        return (found[0] if found else "it does not run: " + done.stderr[-200:]), seconds


def work(directory, patches, minutes):
    """Tries the patches in one tree; yields nothing, prints as it goes. Returns how many were missed."""
    missed = 0
    tree = Tree(directory)
    for patch in patches:
        try:
            finding, seconds = tree.try_mutant(patch, minutes)
        except subprocess.CalledProcessError as error:
            text = (error.stdout or "") + (error.stderr or "")
            finding, seconds = None, 0
            print(f"BROKEN  {patch.stem}: {text[-600:]}", flush=True)
        else:
            print(f"{'found ' if finding else 'MISSED'}  {patch.stem:32} {seconds:5.1f} s  {finding or ''}"[:230], flush=True)
        missed += finding is None
    return missed


def main():
    parser = argparse.ArgumentParser(description="tries the simulation on faults that were put in by hand")
    parser.add_argument("--minutes", type=float, default=1, help="of CPU for each (default 1)")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="so many trees at once")
    parser.add_argument("names", nargs="*", help="of the mutants; all if none is given")
    args = parser.parse_args()
    patches = sorted(p for p in PATCHES.glob("*.patch") if not args.names or p.stem in args.names)
    if not patches:
        sys.exit("mutants.py: no such mutant; see " + str(PATCHES))
    with tempfile.TemporaryDirectory(prefix="stent-mutants-") as scratch, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(work, f"{scratch}/{i}", patches[i::args.jobs], args.minutes) for i in range(args.jobs)]
        missed = sum(job.result() for job in jobs)
    print(f"{len(patches)} mutants, {len(patches) - missed} found, {missed} missed")
    return missed > 0


if __name__ == "__main__":
    sys.exit(main())
