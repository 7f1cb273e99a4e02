"""The status page in a browser: what it shows, how it is used, what it costs."""

import itertools
import json
import re
import selectors
import socket
import threading
import time

import devtools
import harness
import pytest
from harness import HOST, SLOW, RawBackend, connect, free_port, wait_for

pytestmark = pytest.mark.timeout(120)
AXE = harness.ROOT / "tests" / "e2e" / "node_modules" / "axe-core" / "axe.min.js"
TOKEN = "0123456789abcdef-secret"


@pytest.fixture(scope="module")
def chromium():
    with devtools.browser() as b:
        yield b


@pytest.fixture
def page(chromium, stent):		# it leaves before its stent stops
    """The browser, as a desktop's. Its console must be empty at the end, but for what a test says it expects."""
    chromium.console, chromium.requests, chromium.expected = [], [], None
    chromium.size(1360, 900)
    chromium.media(prefers_color_scheme="light")
    yield chromium
    chromium.open("about:blank")
    unexpected = [line for line in chromium.console if not (chromium.expected and re.search(chromium.expected, line))]
    assert unexpected == []


class Backend(RawBackend):
    """Holds its connections, and replies PONG to the line PING, except on every fifth."""

    def __init__(self):
        super().__init__(backlog=4096)
        self._selector = selectors.DefaultSelector()
        self._numbers = itertools.count()
        self._selector.register(self.sock, selectors.EVENT_READ)
        self._over = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while not self._over:
            for key, _ in self._selector.select(0.1):
                if key.fileobj is self.sock:
                    peer = self.sock.accept()[0]
                    self._selector.register(peer, selectors.EVENT_READ, next(self._numbers))
                    continue
                try:
                    data = key.fileobj.recv(65536)
                    if b"PING\n" in data and key.data % 5 < 4:
                        key.fileobj.sendall(b"PONG\n")
                except OSError:
                    data = b""
                if not data:
                    self._selector.unregister(key.fileobj)
                    key.fileobj.close()

    def close(self):
        self._over = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        super().close()


@pytest.fixture
def backend():
    with Backend() as b:
        yield b


class World:
    """A stent of two routes, one with heartbeats, and its page."""

    def __init__(self, stent, backend, **settings):
        self.port, self.lines, self.plain = free_port(), free_port(), free_port()
        self.url = f"http://{HOST}:{self.port}/"
        self.clients = []
        self.settings = {"admin": f"{HOST}:{self.port}", "log_level": "error", **settings}
        self.ini = (
            f"[route lines]\nlisten = {HOST}:{self.lines}\nbackend = {backend.text}\nprotocol = line\nheartbeat_timeout = 1s\n"
            "backend.heartbeat = 1s\nbackend.heartbeat_send = PING\\n\nbackend.heartbeat_expect = PONG\n"
            "client.heartbeat = 1s\nclient.heartbeat_send = NOOP\\n\n"
            f"[route plain]\nlisten = {HOST}:{self.plain}\nbackend = {backend.text}\n")
        self._stent = stent
        self.start()

    def start(self):
        self.stent = self._stent(self.ini, **self.settings)

    def connect(self, port, n=1):
        for _ in range(n):
            peer = connect(port)
            peer.send_all(b"hello\n")
            self.clients.append(peer)
        return self.clients[-1]

    def close(self):
        for peer in self.clients:
            peer.close()


@pytest.fixture
def world(stent, backend):
    w = World(stent, backend)
    yield w
    w.close()


def rows(page):
    return page.js("[...document.querySelectorAll('#body tr')].map(r => [...r.cells].map(c => c.innerText))")


def ids(page):
    return page.js("[...document.querySelectorAll('#body button.id')].map(b => +b.dataset.flow)")


def choose(page, selector, value):
    page.js(f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('change', {{bubbles: true}})); }})"
            f"(document.querySelector({json.dumps(selector)}))")


def axe(page):
    """What breaks the rules of accessibility: none."""
    page.js(AXE.read_text() + "; 0")
    found = page.js("axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html.slice(0, 150) + ' ' + n.failureSummary).join(' | ')))")
    assert found == []


# --- what it shows ---

@pytest.mark.plain
def test_protection_pulse_and_flows_are_live(page, world):
    world.connect(world.lines, 10)
    world.connect(world.plain, 5)
    page.open(world.url)
    page.wait("document.querySelectorAll('#body tr').length === 15")
    # Of the ten, two never reply and get no more pings: one leg is left.
    page.wait("['both', 'one', 'probes'].map(k => document.querySelector(`.share[data-kind=${k}] .count`).innerText).join() === '8,2,5'", 15)
    assert "protocol = tcp 10" in page.text("#why")
    assert page.js("document.getElementById('bar').getAttribute('aria-label')").startswith("Open flows: 8 with heartbeats on both legs, 2 with")
    before = page.wait("document.querySelectorAll('.route:first-child .leg:last-child .reply').length")
    page.wait(f"document.querySelectorAll('.route:first-child .leg:last-child .reply').length > {before}")
    assert page.js("document.querySelectorAll('.route:last-child rect').length") == 0
    world.clients[0].reset()
    world.clients[14].half_close()
    page.wait("document.getElementById('reasons').innerText.includes('client-reset')")
    page.wait("document.querySelectorAll('#body tr').length === 13")
    assert page.js("document.querySelectorAll('#ends rect.cut').length") == 1
    page.wait("document.title === '13 flows · stent'")
    assert all(url.startswith((world.url, "data:")) for url in page.requests)


@pytest.mark.plain
def test_search_sort_and_pages_are_done_by_the_server(page, world):
    world.connect(world.plain, 70)
    world.connect(world.lines, 8)
    world.clients[5].send_all(b"x" * 5000)
    page.open(world.url)
    page.wait("document.querySelectorAll('#body tr').length === 50")
    assert page.text("#page") == "1–50 of 78" and page.text("#shown") == "78 open"
    page.click("#after")
    page.wait("document.getElementById('page').innerText === '51–78 of 78'")
    assert page.js("document.getElementById('after').disabled") and len(rows(page)) == 28

    page.click("#heads th:nth-child(7) button")		# bytes
    page.wait("document.querySelector('#heads th:nth-child(7)').getAttribute('aria-sort') === 'descending' "
              "&& document.getElementById('body').rows[0].cells[6].innerText === '5.0 kB'")
    assert page.text("#page") == "1–50 of 78"
    page.click("#heads th:nth-child(7) button")
    page.wait("document.getElementById('body').rows[0].cells[6].innerText === '6 B'")
    page.click("#heads th:nth-child(2) button")		# route
    page.wait("[...document.querySelectorAll('#body tr')].slice(0, 9).map(r => r.cells[1].innerText.split('\\n')[0]).join() === 'lines,'.repeat(8) + 'plain'")

    page.click("#text")
    page.type(str(world.clients[7].port))
    page.wait("document.getElementById('shown').innerText === '1 of 78 match'")
    assert f"{HOST}:{world.clients[7].port}" in rows(page)[0][3]
    page.js("document.getElementById('text').select()")
    page.type("nothing like it")
    page.wait("document.getElementById('empty').innerText === 'No flow matches.'")
    page.js("document.getElementById('text').select()")
    page.key("Backspace", 8)
    choose(page, "#route", "lines")
    page.wait("document.getElementById('shown').innerText === '8 of 78 match' && document.querySelectorAll('#body tr').length === 8")
    choose(page, "#route", "")
    page.click(".share[data-kind=probes]")
    page.wait("document.getElementById('shown').innerText === '70 of 78 match'")
    assert page.js("document.querySelector('.share[data-kind=probes]').getAttribute('aria-pressed')") == "true"
    page.click("#last")
    page.wait("document.getElementById('page').innerText === '51–70 of 70'")
    assert not any("/status" in url for url in page.requests), "it asks for no more than it shows"


@pytest.mark.plain
def test_one_flow_is_opened_by_mouse_and_keyboard_and_seen_to_end(page, world):
    world.connect(world.lines, 3)
    page.open(world.url)
    page.wait("document.querySelectorAll('#body tr').length === 3")
    first = ids(page)[0]
    page.click("#body tr td:nth-child(4)")
    page.wait("document.getElementById('detail').open")
    assert page.text("#detail-title") == f"Flow {first} of lines"
    page.wait("document.querySelectorAll('#detail .sent').length > 1 && document.querySelectorAll('#detail .reply').length > 0", 15)
    assert "TLS\nno" in page.text("#detail .legs div")
    page.key("Escape", 27)
    page.wait("!document.getElementById('detail').open && document.activeElement.dataset.flow === " + json.dumps(str(first)))

    page.js("document.querySelector('#body tr:nth-child(2) button').focus()")
    time.sleep(1.5)			# the rows are drawn again: the focus stays
    assert page.js("document.activeElement.dataset.flow") == str(ids(page)[1])
    page.key("Enter", 13, "\r")
    page.wait("document.getElementById('detail').open")
    second = int(re.search(r"\d+", page.text("#detail-title"))[0])
    told = page.text("#detail-body")
    for client in world.clients:
        if f"{HOST}:{client.port}" in told:
            client.reset()
    page.wait("document.getElementById('detail-state').innerText === 'ended'")
    assert f"Flow {second}" in page.text("#detail-title") and f"{HOST}:" in page.text("#detail-body")
    page.click("#close")
    page.wait("!document.getElementById('detail').open")


@pytest.mark.plain
def test_what_is_new_joins_what_was_there(page, world):
    page.open(world.url)
    page.wait("document.title.includes('flows')")
    for arguments, expected in (
            ("null, 4, 7, 5, 7, [1, 2, 3]", [0, 1, 2, 3]), ("[0, 1, 2, 3], 4, 7, 7, 8, [5, 6]", [1, 2, 5, 6]),
            ("[0, 1, 2, 3], 4, 7, 7, 7, [9]", [0, 1, 2, 9]), ("[0, 1, 2, 3], 4, 7, 20, 23, undefined", [0, 0, 0, 0]),
            ("[0, 1, 2, 3], 4, 7, 8, 9, [4, 5]", [2, 3, 4, 5])):
        assert page.js(f"merge({arguments})") == expected, arguments


# --- for everybody ---

@pytest.mark.plain
@pytest.mark.parametrize(("width", "height", "phone", "scheme"), [
    pytest.param(1360, 900, False, "dark", id="desktop-dark"), pytest.param(390, 844, True, "light", id="phone-light"),
    pytest.param(1360, 900, False, "light", id="desktop-light", marks=pytest.mark.long),
    pytest.param(390, 844, True, "dark", id="phone-dark", marks=pytest.mark.long)])
def test_page_is_accessible(page, world, tmp_path, width, height, phone, scheme):
    world.connect(world.lines, 6)
    world.connect(world.plain, 2).reset()
    page.size(width, height, phone)
    page.media(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    page.open(world.url)
    page.wait("document.querySelectorAll('#body tr').length === 7 && document.querySelectorAll('#reasons .swatch').length === 1")
    assert page.js("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    axe(page)
    page.screenshot(tmp_path / "page.png")
    page.click("#body tr button")
    page.wait("document.getElementById('detail').open && document.querySelectorAll('#detail dd').length > 10")
    axe(page)


@pytest.mark.plain
def test_keyboard_reaches_everything(page, world):
    world.connect(world.plain, 2)
    page.open(world.url)
    page.wait("document.querySelectorAll('#body tr').length === 2")
    reached = set()
    for _ in range(45):
        page.key("Tab", 9)
        reached.add(page.js("document.activeElement.id || document.activeElement.dataset.kind || document.activeElement.innerText"))
    page.wait("true")
    assert {"Skip to the flows", "Metrics", "both", "one", "probes", "closes", "text", "route", "protection", "rows", "Route", "Bytes"} <= reached
    assert sum(item.startswith("#") for item in reached) == 2


# --- the log-in ---

@pytest.mark.plain
def test_a_browser_logs_in_by_the_form_and_again_after_a_restart(page, stent, backend):
    world = World(stent, backend, admin_token=TOKEN)
    page.expected = "401|ERR_|Failed to load"
    page.open(world.url)
    page.wait("document.querySelector('form')")
    axe(page)
    page.click("#token")
    page.type("wrong")
    page.key("Enter", 13, "\r")
    page.wait("document.querySelector('#wrong') && getComputedStyle(document.querySelector('#wrong')).display !== 'none'")
    page.click("#token")
    page.type(TOKEN)
    page.key("Enter", 13, "\r")
    page.wait("document.title.includes('0 flows')")
    assert page.js("document.cookie") == "", "a script must not read it"
    world.stent.stop()
    world.start()
    page.wait("document.querySelector('form #token')", 15)


# --- endurance ---

@pytest.mark.plain
def test_page_comes_back_with_its_stent(page, world):
    page.expected = "ERR_|Failed to load"
    world.connect(world.plain, 3)
    page.open(world.url)
    page.wait("document.querySelectorAll('#body tr').length === 3")
    world.stent.kill()
    page.wait("!document.getElementById('trouble').hidden")
    assert page.text("#state") == "reconnecting"
    assert page.js("document.querySelectorAll('#body tr').length") == 3, "the last known state stays"
    world.start()
    world.connect(world.plain, 1)
    page.wait("document.getElementById('trouble').hidden && document.querySelectorAll('#body tr').length === 1", 15)
    page.wait("document.getElementById('state').innerText === 'running' && document.getElementById('ended').innerText.startsWith('0 ended')")


@pytest.mark.plain
def test_pause_reload_and_drain_are_shown(page, stent, backend, tmp_path):
    world = World(stent, backend, drain_timeout="30s")

    def ask(*words):
        return harness.run_stent(*words, "--control", world.stent.control)
    world.connect(world.plain)
    page.open(world.url)
    page.wait("document.getElementById('load').innerText.startsWith('settings read 20')")
    assert ask("pause", "plain", "--for", "90s").returncode == 0
    waiting = connect(world.plain)
    page.wait("/paused for [78]\\d s, 1 client of at most [\\d,]+ waiting/.test(document.querySelector('.route:last-child .head').innerText)")
    assert "paused" not in page.text(".route:first-child .head")
    good = world.stent.ini_path.read_text()
    world.stent.ini_path.write_text(good + "\nno_such_key = 1\n")
    assert ask("reload").returncode == 2
    page.wait("document.getElementById('load').innerText.startsWith('the last reload failed 20')")
    page.screenshot(tmp_path / "failed.png")
    axe(page)
    world.stent.ini_path.write_text(good)
    assert ask("reload").returncode == 0
    page.wait("document.getElementById('load').innerText.startsWith('settings read 20')")
    assert ask("resume", "plain").returncode == 0
    page.wait("!document.querySelector('.route:last-child .head').innerText.includes('paused')")
    waiting.close()
    assert ask("drain").returncode == 0
    page.wait("document.getElementById('state').innerText === 'draining'")
    assert all("heartbeat after 1 s" in text for text in page.js("[...document.querySelectorAll('.route:first-child .leg')].map(l => l.innerText)"))
    page.expected = "ERR_|Failed to load"
    world.close()


@pytest.mark.plain
def test_a_backend_that_is_down_is_named(page, stent):
    admin = f"{HOST}:{free_port()}"
    s = stent.route(f"{HOST}:{free_port()}", settings={"admin": admin})
    page.open(f"http://{admin}/")
    page.wait("document.title.includes('flows')")
    assert "(down)" not in page.text(".route .way")
    s.expect_refusal()
    page.wait("document.querySelector('.route .way').innerText.endsWith('(down)')")


@pytest.mark.plain
def test_a_page_that_is_not_seen_costs_nothing(page, world):
    page.open(world.url)
    page.wait("document.title.includes('flows')")
    page.js("Object.defineProperty(document, 'hidden', {value: true, configurable: true}); document.dispatchEvent(new Event('visibilitychange'))")
    wait_for(lambda: page.js("overview.readyState === 2 && flows.readyState === 2"))
    page.js("Object.defineProperty(document, 'hidden', {value: false}); document.dispatchEvent(new Event('visibilitychange'))")
    page.wait("overview.readyState === 1 && flows.readyState === 1")


@pytest.mark.plain
def test_thousands_of_flows_delay_neither_the_page_nor_a_flow(page, world):
    world.connect(world.plain, 4200)
    page.open(world.url)
    page.wait("document.getElementById('shown').innerText === '4,200 open' && document.querySelectorAll('#body tr').length === 50", 20)
    page.js("window.took = []; const was = drawFlows; flows.close(); drawFlows = d => { const t = performance.now(); was(d); "
            "took.push(performance.now() - t); }; ask()")
    choose(page, "#rows", "200")
    page.wait("document.querySelectorAll('#body tr').length === 200")
    delays = []
    port = world.clients[4000].port

    def flow():
        while not stop.is_set():
            began = time.monotonic()
            with connect(world.lines) as peer:		# the main loop's and the workers' part
                peer.send_all(b"x\n")
            with connect(world.port) as peer:
                peer.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                peer.recv_some()
            delays.append(time.monotonic() - began)
            time.sleep(0.01)
    stop = threading.Event()
    thread = threading.Thread(target=flow)
    thread.start()
    for column in 9, 4, 7, 3, 1:			# by round trips, each of which the kernel is asked for; by clients; ...
        page.click(f"#heads th:nth-child({column}) button")
        page.wait(f"document.querySelector('#heads th:nth-child({column})').hasAttribute('aria-sort')")
        time.sleep(0.6)
    page.click("#text")
    page.type(f":{port}")
    page.wait("/^[1-9]\\d* of 4,2\\d\\d match$/.test(document.getElementById('shown').innerText)")
    stop.set()
    thread.join()
    assert f"{HOST}:{port}" in str(rows(page))
    delays.sort()
    # A machine stands still now and then; what the page asks for more than five times would be seen more often.
    assert delays[len(delays) // 2] < 0.05 * SLOW and delays[-4] < 0.5 * SLOW, (delays[len(delays) // 2], delays[-4:])
    took = sorted(page.js("took"))
    assert took[len(took) // 2] < 150 * SLOW, took


# --- event streams, without a browser ---

def stream(port, path, rcvbuf=None):
    peer = connect(port, rcvbuf=rcvbuf)
    peer.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
    return peer


def test_there_are_only_so_many_streams_and_they_end_with_their_readers(world):
    before = world.stent.fds()
    readers = [stream(world.port, "/events") for _ in range(16)]
    for reader in readers:
        assert reader.recv_some().startswith(b"HTTP/1.1 200")
    with stream(world.port, "/events/flows") as one_more:
        assert one_more.recv_some().startswith(b"HTTP/1.1 503")
    for reader in readers:
        reader.close()
    wait_for(lambda: world.stent.fds() <= before, timeout=10, what="the streams to be closed")
    with stream(world.port, "/events/flows?limit=0") as wrong:
        assert b"/events/flows takes q=TEXT" in wrong.recv_some()
    with stream(world.port, "/events") as reader:
        assert reader.recv_some().startswith(b"HTTP/1.1 200")


def test_a_reader_that_does_not_read_is_dropped(world):
    """What it does not take is not kept for it."""
    world.connect(world.plain, 250)
    wait_for(lambda: len(world.stent.ask("flows limit=1000")) == 250 and
             all(f["state"] == "open" for f in world.stent.ask("flows limit=1000")), what="250 flows")
    wait_for(world.stent.is_idle)		# and the questions above are closed
    before = world.stent.fds()
    readers = [stream(world.port, "/events/flows?limit=200", rcvbuf=2048) for _ in range(10)]
    for reader in readers:
        assert reader.recv_some().startswith(b"HTTP/1.1 200")
    memory = []

    def are_gone():
        memory.append(resident(world.stent.pid))
        return world.stent.fds() <= before
    wait_for(are_gone, timeout=30, what="them to be dropped", step=0.5)
    limit = 8 << 20 if not harness.IS_SANITIZED else 64 << 20
    assert max(memory) - memory[0] < limit, memory
    for reader in readers:
        reader.close()


def resident(pid):
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * 4096
