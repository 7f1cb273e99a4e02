#!/usr/bin/python3
"""Does the simulation find faults? Puts each of tests/sim/mutants/*.patch into a copy of the sources, builds the
simulation with it, and lets it run until an oracle finds something, for a minute of CPU at most.

usage: mutants.py [--minutes M] [--jobs N] [--table FILE] [NAME ...]

First the sources as they are live the same worlds: what is found there says nothing of the mutants, so it ends then.
A finding is that of an oracle (the word in front of the colon), or a crash: an assert(), or worse. require() and promise()
do nothing in a mutant: what the program would notice by itself says nothing of the oracles. Seconds are of CPU.

Exit status 1 if a mutant was missed, or if a patch does not apply any more: then it has to be made anew from what its
first line says.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATCHES = ROOT / "tests/sim/mutants"
REQUIRES = {"src/relay/require.h": "REQUIRE", "include/stent/promise.h": "PROMISE"}
FOUND = re.compile(r"^seed (\d+): (\w+): (.*)$", re.MULTILINE)
SUMMARY = re.compile(r"^(\d+) worlds, (\d+) flows, .*?([\d.]+) s of CPU", re.MULTILINE)


class Broken(Exception):
    """It does not apply, build or run; the text says why."""


def sources():
    """What is tracked, and what is new and not ignored."""
    out = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    return [name for name in out.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


class Life:
    """What a run of the simulation printed."""

    def __init__(self, text):
        summary, found = SUMMARY.search(text), FOUND.search(text)
        if summary is None:
            raise Broken("the simulation does not run: " + text[-300:])
        self.worlds, self.flows, self.seconds = int(summary[1]), int(summary[2]), float(summary[3])
        self.seed, self.oracle, self.why = found.groups() if found else (None, None, None)


class Tree:
    """A copy of the sources with a build directory, used for one mutant after the other."""

    def __init__(self, at):
        self.at = pathlib.Path(at)
        for name in sources():
            to = self.at / name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to)
        self.switch_off_requires()
        self.run("meson", "setup", "build", "-Dtests=enabled")
        self.build()

    def switch_off_requires(self):
        for file, macro in REQUIRES.items():
            path = self.at / file
            text, n = re.subn(rf"(#define {macro}_ELSE\([^)]*\)) \\\n.*?while \(0\)",
                              lambda m: m[1] + " do { if (false && !(condition)) { leave; } } while (0)", path.read_text(), count=1, flags=re.DOTALL)
            if n != 1:
                raise Broken(f"no {macro}_ELSE in {path}")
            path.write_text(text)

    def run(self, *args):
        done = subprocess.run(args, cwd=self.at, check=False, capture_output=True, text=True, errors="replace")
        if done.returncode != 0:
            raise Broken(f"{' '.join(args[:2])}: " + (done.stdout + done.stderr)[-600:])

    def build(self):
        self.run("ninja", "-C", "build", "-j2", "tests/sim/sim")

    def live(self, minutes, worlds=None):
        args = ["build/tests/sim/sim", "--first", "--no-shrink", "--minutes", str(minutes)]
        done = subprocess.run(args + (["--runs", str(worlds)] if worlds else []), cwd=self.at, capture_output=True, text=True,
                              errors="replace", check=False)
        return Life(done.stdout + done.stderr)

    def try_mutant(self, patch, minutes, worlds):
        self.run("patch", "-p1", "--fuzz=0", "--no-backup-if-mismatch", "-i", str(patch))
        try:
            self.build()
            return self.live(minutes, worlds)
        finally:
            self.run("patch", "-p1", "-R", "--no-backup-if-mismatch", "-i", str(patch))


def work(tree, patches, minutes, worlds):
    """Tries the patches in one tree. Returns a row for each: name, life or None, text."""
    rows = []
    while True:
        try:
            patch = patches.pop()
        except IndexError:
            return rows
        try:
            life = tree.try_mutant(patch, minutes, worlds)
        except Broken as error:
            rows.append((patch.stem, None, f"BROKEN: {error}"))
        else:
            rows.append((patch.stem, life, f"seed {life.seed}: {life.why}" if life.oracle else "MISSED"))
        name, life, text = rows[-1]
        print(line_of(name, life, text), flush=True)


def line_of(name, life, text):
    oracle, seconds, worlds = (life.oracle or "-", life.seconds, life.worlds) if life else ("-", 0, 0)
    return f"{name:32} {oracle:9} {seconds:5.1f} s {worlds:4} worlds  {text}"[:700 if life is None else 200]


def table(rows, base, file):
    """As the documents have it."""
    print(f"without a mutant: {base.worlds} worlds, {base.flows} flows, {base.seconds:.1f} s: nothing\n", file=file)
    print("| mutant | found by | CPU s | worlds |\n|---|---|---|---|", file=file)
    for name, life, _ in sorted(rows):
        print(f"| {name} | {life.oracle or 'MISSED' if life else 'BROKEN'} | {life.seconds if life else 0:.1f} | {life.worlds if life else 0} |",
              file=file)


def main():
    parser = argparse.ArgumentParser(description="tries the simulation on faults that were put in by hand")
    parser.add_argument("--minutes", type=float, default=1, help="of CPU for each (default 1)")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="so many trees at once")
    parser.add_argument("--table", type=argparse.FileType("w"), help="writes the results there, for the documents")
    parser.add_argument("names", nargs="*", help="of the mutants; all if none is given")
    args = parser.parse_args()
    patches = sorted((p for p in PATCHES.glob("*.patch") if not args.names or p.stem in args.names), reverse=True)
    missing = set(args.names) - {p.stem for p in patches}
    if not patches or missing:
        sys.exit(f"mutants.py: no such mutant: {' '.join(sorted(missing))}; see {PATCHES}")
    n = len(patches)
    with tempfile.TemporaryDirectory(prefix="stent-mutants-") as scratch, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        trees = list(pool.map(Tree, (f"{scratch}/{i}" for i in range(min(args.jobs, n)))))
        base = trees[0].live(args.minutes)
        if base.oracle:
            sys.exit(f"mutants.py: without a mutant, seed {base.seed}: {base.oracle}: {base.why}\nmend that first")
        print(line_of("(none)", base, ""), flush=True)
        jobs = [pool.submit(work, tree, patches, args.minutes, base.worlds) for tree in trees]
        rows = [row for job in jobs for row in job.result()]
    if args.table:
        table(rows, base, args.table)
    found = [life for _, life, _ in rows if life is not None and life.oracle]
    print(f"{n} mutants, {len(found)} found ({sum(life.oracle == 'crash' for life in found)} of them by a crash), {n - len(found)} not")
    return len(found) < n


if __name__ == "__main__":
    sys.exit(main())
