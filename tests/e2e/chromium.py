"""
chromium.py - a headless Chromium that opens one page and waits for what the page reports.

    seen, console = chromium.visit("clients/websocket.html", "12345")

The page is served on loopback; it posts its result to /result. `console` is
all that it wrote to its console, errors of the browser's own included.
"""

import contextlib
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading

import harness

HERE = pathlib.Path(__file__).resolve().parent
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--enable-logging=stderr"]
CONSOLE = re.compile(r":CONSOLE[:(]\d+\)?\] (\".*?\"), source:", re.S)


class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self._answer(self.server.page, "text/html; charset=utf-8")

    def do_POST(self):
        self.server.result = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(b"", "text/plain")
        self.server.came.set()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(page):
    server = http.server.ThreadingHTTPServer((harness.HOST, harness.free_port()), Page)
    server.page = (HERE / page).read_bytes()
    server.came = threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def trust(home, ca):
    """Makes a CA known to a browser with this home: in the database of NSS, where an administrator would put it."""
    database = pathlib.Path(home, ".pki", "nssdb")
    database.mkdir(parents=True)
    for words in (["-N", "--empty-password"], ["-A", "-t", "C,,", "-n", "test", "-i", str(ca)]):
        subprocess.run(["certutil", "-d", f"sql:{database}", *words], check=True, timeout=20 * harness.SLOW, stdin=subprocess.DEVNULL)


def visit(page, query, timeout=40, ca=None):
    """Opens the page with ?query; returns what it reported, and its console's lines. ca: a file with a CA that it trusts."""
    with serving(page) as server, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        if ca:
            trust(profile, ca)
        browser = subprocess.Popen(
            [shutil.which("chromium") or "chromium-browser", *FLAGS, f"--user-data-dir={profile}",
             f"http://{harness.HOST}:{server.server_port}/?{query}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            start_new_session=True, env={**os.environ, **({"HOME": profile} if ca else {})})
        said = []
        reader = threading.Thread(target=lambda: said.extend(browser.stderr))
        reader.start()
        came = server.came.wait(harness.patient(timeout))
        with contextlib.suppress(TimeoutError, AssertionError):	# what a page wrote last may come after what it posted
            harness.wait_for(lambda: CONSOLE.search("".join(said)), 3)
        os.killpg(browser.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            browser.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()
        reader.join(10)
        text = "".join(said)
        assert came, f"the page reported nothing within {harness.patient(timeout):g} s:\n{text}"
        return server.result, [line.strip('"') for line in CONSOLE.findall(text)]
