"""The README against what it tells of: close reasons, and files that it names."""

import re

import harness

README = (harness.ROOT / "README.md").read_text()
REASONS = harness.ROOT / "src" / "relay" / "reason.c"


def part(name):
    match = re.search(rf"<!-- {name} -->\n(.*)<!-- /{name} -->\n", README, re.DOTALL)
    assert match, f"README.md has no part between <!-- {name} --> and <!-- /{name} -->"
    return match[1]


def test_every_close_reason_is_told_once():
    told = []
    for row in part("reasons").splitlines()[2:]:
        told += re.findall(r"`([a-z-]+)`", row.split("|")[1])
    known = re.findall(r'\[REASON_\w+\] = "([a-z-]{2,})"', REASONS.read_text())
    assert len(known) > 20
    assert sorted(told) == sorted(known)


def test_files_that_it_links_to_are_there():
    links = re.findall(r'\]\(([^)#:]+)\)|(?:src|srcset)="([^"]+)"', README)
    paths = {a or b for a, b in links}
    assert len(paths) > 5
    for path in paths:
        assert (harness.ROOT / path).is_file(), path


def test_links_within_it_lead_somewhere():
    titles = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
              for title in re.findall(r"^#+ (.*)$", README, re.MULTILINE)}
    for target in re.findall(r"\]\(#([^)]+)\)", README):
        assert target in titles, target
