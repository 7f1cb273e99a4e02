"""The documents against what they describe: links, examples, keys, close reasons, metrics."""

import re
import urllib.request

import harness
import pytest

pytestmark = pytest.mark.plain

DOCS = sorted(path for pattern in ("*.md", "docs/*.md", "docker/**/*.md", "tests/bench/*.md")
              for path in harness.ROOT.glob(pattern))
README = harness.ROOT / "README.md"
OPERATIONS = harness.ROOT / "docs" / "operations.md"
EVENTS_DOC = harness.ROOT / "docs" / "events.md"
PROTOCOLS = harness.ROOT / "docs" / "protocols.md"
ARCHITECTURE = harness.ROOT / "docs" / "architecture.md"
SAMPLE = harness.ROOT / "etc" / "stent.ini"
REASONS = harness.ROOT / "src" / "relay" / "reason.c"
ROUTE = "[route r]\nlisten = 127.0.0.1:1\nbackend = 127.0.0.1:2\n"

every_document = pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(harness.ROOT)))


def rows(path, name):
    """The cells of each row of the table between <!-- name --> and <!-- /name -->."""
    match = re.search(rf"<!-- {name} -->\n(.*)<!-- /{name} -->\n", path.read_text(), re.DOTALL)
    assert match, f"{path} has no part between <!-- {name} --> and <!-- /{name} -->"
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in match[1].splitlines()[2:]]


def without_code(path):
    """A document's text less its blocks of code, fenced or indented."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"\n\n(    .*\n?)+", "\n\n", text)


# --- what is said of the program ---

def test_every_close_reason_is_told_once():
    told = [reason for row in rows(OPERATIONS, "reasons") for reason in re.findall(r"`([a-z-]+)`", row[0])]
    known = re.findall(r'\[REASON_\w+\] = "([a-z-]{2,})"', REASONS.read_text())
    assert len(known) > 20
    assert sorted(told) == sorted(known)


def test_every_metric_is_told_once(stent, echo, certificates):
    port = harness.free_port()
    stent.route(echo.text, settings={"admin": f"127.0.0.1:{port}"}, client__tls="require", client__tls_cert=certificates.good.cert,
                client__tls_key=certificates.good.key)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5 * harness.SLOW) as answer:
        text = answer.read().decode()
    told = {(name.strip("`"), kind) for name, kind, _, _ in rows(OPERATIONS, "metrics")}
    assert told == set(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    labels = {name.strip("`"): set(re.findall(r"`(\w+)`", cell)) for name, _, cell, _ in rows(OPERATIONS, "metrics")}
    for name, inside in re.findall(r"^(\w+)(?:\{(.*)\})? ", text, re.MULTILINE):
        family = name if name in labels else re.sub("_(bucket|sum|count)$", "", name)
        assert set(re.findall(r'(\w+)="', inside)) - {"le"} == labels[family], name


def test_every_event_is_told_once():
    told = [name.strip("`") for name, _, _ in rows(EVENTS_DOC, "events")]
    known = re.findall(r'^\tX\(\w+, "([a-z-]+)"\)', (harness.ROOT / "include/stent/events.h").read_text(), re.MULTILINE)
    assert told == known and len(told) > 8


def test_every_protocol_is_told():
    listed = harness.run_stent("help", "keys").stdout.partition("\nProtocols\n")[2]
    names = re.findall(r"^  ([a-z]+)$", listed, re.MULTILINE)
    assert "tcp" in names and len(names) > 8
    for path in README, PROTOCOLS:
        told = set(re.findall(r"`(?:protocol = )?([a-z]+)`", path.read_text()))
        assert [name for name in names if name not in told] == [], path
    (sample,) = re.findall(r"^# The application protocol:(.*?)^[^#]", SAMPLE.read_text(), re.DOTALL | re.MULTILINE)
    assert [name for name in names if not re.search(rf"\b{name}\b", sample)] == [], SAMPLE


@pytest.fixture(scope="module")
def known_keys():
    done = harness.run_stent("help", "keys")
    return set(re.findall(r"^  ([a-z_.]+) = ", done.stdout, re.MULTILINE))


def good(text, tmp_path):
    path = tmp_path / "stent.ini"
    path.write_text(text.replace("user = stent\n", "user = nobody\n"))    # who may be missing here
    done = harness.run_stent("check", "-c", path)
    return done.returncode == 0 or done.stderr


@every_document
def test_examples_of_settings_are_good(path, tmp_path):
    for example in re.findall(r"^```ini\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE):
        assert good(example, tmp_path) is True, example


@every_document
def test_settings_in_the_text_are_good(path, tmp_path, known_keys, certificates):
    """`KEY = VALUE`, and `client.KEY` or `backend.KEY`; the words of a change log may be old ones."""
    if path.name == "CHANGELOG.md":
        return
    tried = 0
    for code in re.findall(r"`([^`\n]+)`", without_code(path)):
        pair = re.fullmatch(r"([a-z_.]+) = (.+)", code)
        key = pair[1] if pair else code if re.fullmatch(r"(client|backend)\.[a-z_]+", code) else None
        if key is None:
            continue
        plain = re.sub(r"^(client|backend)\.", "", key)
        assert {plain, key, "client." + plain, "backend." + plain} & known_keys, f"`{code}`: unknown key"
        if pair and not re.search(r"[A-Z|]", pair[2]):
            in_stent = f"[stent]\n{code}\n{ROUTE}"
            in_route = [f"{ROUTE}protocol = {p}\n{code}\n" for p in ("http", "tcp", "postgres")]
            own = "\n".join(line for line in (ROUTE + code).splitlines() if not line.startswith(f"{key} = ")) + f"\n{code}\n"
            shown = f"client.tls_cert = {certificates.good.cert}\nclient.tls_key = {certificates.good.key}\n"
            with_tls = (f"{ROUTE}protocol = postgres\n{code}\n{more}" for more in (shown, "backend.tls = verify\n"))
            found = []
            for text in (in_stent, *in_route, own, own + "heartbeat = off\n", *with_tls):
                found.append(good(text, tmp_path))
                if found[-1] is True:
                    break
            assert True in found, f"`{code}`: {found}"
        tried += 1
    assert tried > 3 or path not in (README, PROTOCOLS, OPERATIONS)


def test_files_and_functions_in_the_text_exist():
    sources = [path.read_text() for folder in ("src", "include") for path in harness.ROOT.glob(f"{folder}/**/*.[ch]")]
    tests = [path.read_text() for path in harness.ROOT.glob("tests/**/*.h")]
    words = set(re.findall(r"\w+", "\n".join(sources + tests)))
    for path in ARCHITECTURE, harness.ROOT / "CONTRIBUTING.md":
        for code in re.findall(r"`([^`\n]+)`", without_code(path)):
            if re.fullmatch(r"(src|include|tests|etc|docker)/[\w./-]+", code) and "NAME" not in code:
                assert (harness.ROOT / code).exists(), code
            if re.fullmatch(r"\w+\(\)", code):
                assert code[:-2] in words, code


def test_the_arrows_between_folders_are_those_that_are_held():
    text = (harness.ROOT / "tests" / "unit" / "layers.py").read_text()
    held = dict(re.findall(r'^    "(\w+)": "([\w ]*)",$', text, re.MULTILINE))
    told = {folder.strip("`"): " ".join(re.findall(r"\w+", uses)) for folder, uses in rows(ARCHITECTURE, "arrows")}
    assert len(held) > 8 and told == held


def test_the_readme_is_short():
    assert README.read_text().count("\n") <= 250


# --- links ---

def anchors(path):
    """The anchors of a document's headings, as GitHub makes them."""
    seen, names = {}, set()
    for title in re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE),
                            re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        count = seen[name] = seen.get(name, -1) + 1
        names.add(name if count == 0 else f"{name}-{count}")
    return names


def links(path):
    text = without_code(path)
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    return [link for link in found if not re.match(r"[a-z]+:", link)]


@every_document
def test_relative_links_lead_somewhere(path):
    for link in links(path):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_document_is_reached_from_the_readme():
    reached, ahead = set(), [README]
    while ahead:
        path = ahead.pop()
        if path in reached or path.suffix != ".md":
            continue
        reached.add(path)
        ahead += [(path.parent / link.partition("#")[0]).resolve() for link in links(path) if not link.startswith("#")]
    assert reached >= {path.resolve() for path in DOCS}


# --- figures that are reckoned from others ---

def test_the_flows_of_a_node_are_reckoned_from_those_measured():
    def number(cell):
        return float(cell.replace(",", ""))
    scale = harness.ROOT / "docs" / "scale.md"
    (_, user, kernel, rate, cost), = [row for row in rows(scale, "flow") if row[0].startswith("WebSocket, default")]
    told = [list(map(number, row)) for row in rows(scale, "nodes")]
    assert told[-1][0] == 1_000_000
    for flows, *figures in told:
        beats = flows * number(rate)
        assert figures == [round(flows * number(user) / 1e9 + 1e-9, 2), round(flows * number(kernel) / 1e9 + 1e-9, 2), beats,
                           round(beats * number(cost) / 1e6 + 1e-9, 2), 2 * flows], flows
