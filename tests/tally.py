"""
tally.py RESULTS STAGE... - counts what the stages of `./dev test` left in a folder.

STAGE.*.xml, the JUnit files of meson and pytest, and STAGE.own.txt with a line
for each other check. Names what failed, ends with one line that says how many,
and with status 0 only when nothing failed. STAGE.alone.xml: tests that had
failed and ran once more, alone; those that passed then are named, and count as passed. A test that was skipped has proved
nothing, nor has a stage that left no result: both count as failed.
"""

import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def read_junit(path):
    """Yields (name, trouble) for each test; trouble is None for one that passed."""
    for suite in ElementTree.parse(path).iter("testsuite"):
        for case in suite.findall("testcase"):
            name = f"{case.get('classname') or suite.get('name')} {case.get('name')}"
            trouble = next((kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), None)
            yield name, trouble


def read_own(path):
    for line in path.read_text().splitlines():
        result, _, name = line.partition(" ")
        yield name, None if result == "passed" else "failure"


def read_alone(path):
    """The names of tests that failed beside others, and passed when they ran once more, alone."""
    results = {}
    for name, trouble in read_junit(path) if path.exists() else ():
        results.setdefault(name, []).append(trouble)
    return {name for name, troubles in results.items() if not any(troubles)}


def read_stage(folder, stage):
    alone = folder / f"{stage}.alone.xml"
    steady_alone = read_alone(alone)
    for path in sorted(folder.glob(f"{stage}.*.xml")):
        for name, trouble in read_junit(path) if path != alone else ():
            if trouble in ("failure", "error") and name in steady_alone:
                print(f"UNSTEADY {stage}: {name}: failed beside others, passed alone")
                trouble = None
            yield name, trouble
    for path in folder.glob(f"{stage}.own.txt"):
        yield from read_own(path)


def main(folder, stages):
    passed, failed = 0, []
    for stage in stages:
        tests = [(f"{stage}: {name}", trouble) for name, trouble in read_stage(folder, stage)]
        failed += [(name, trouble) for name, trouble in tests or [(stage, "left no result")] if trouble]
        passed += sum(trouble is None for _, trouble in tests)
    for name, trouble in failed:
        print(f"FAILED {name} ({trouble})")
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed else 0


sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2:]))
