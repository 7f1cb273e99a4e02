"""
coverage.py SUMMARY... - the table of `./dev coverage`, from what gcovr wrote (--json-summary): a row for each folder of src,
then the files with the most lines that no test has run. Ends with status 1 when a goal is missed.
"""

import collections
import json
import sys

GOALS = {"line": 95.0, "branch": 85.0}
WORST = 15


def percent(covered, total):
    return 100.0 * covered / total if total else 100.0


def row(name, count):
    cells = [f"{percent(count[f'{kind}_covered'], count[f'{kind}_total']):5.1f} % of {count[f'{kind}_total']:6d}" for kind in GOALS]
    print(f"{name:<22} {cells[0]} lines   {cells[1]} branches")


def main(path):
    with open(path) as f:
        files = json.load(f)["files"]
    folders, all_files = collections.defaultdict(collections.Counter), collections.Counter()
    for file in files:
        counts = collections.Counter({f"{kind}_{what}": file[f"{kind}_{what}"] for kind in GOALS for what in ("covered", "total")})
        folders[file["filename"].rsplit("/", 1)[0]].update(counts)
        all_files.update(counts)
    for name in sorted(folders):
        row(name, folders[name])
    row("all", all_files)
    print("lines that no test has run, by file:")
    for file in sorted(files, key=lambda f: f["line_covered"] - f["line_total"])[:WORST]:
        print(f"  {file['line_total'] - file['line_covered']:4d} {file['filename']}")
    missed = [kind for kind, goal in GOALS.items() if percent(all_files[f"{kind}_covered"], all_files[f"{kind}_total"]) < goal]
    for kind in missed:
        print(f"missed: {GOALS[kind]:g} % {kind} coverage")
    return 1 if missed else 0


sys.exit(main(sys.argv[1]))
