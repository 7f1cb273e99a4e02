"""The demonstration gives the expected result, on a terminal, in a browser and in a pipe."""

import json
import os
import pty
import re
import signal
import subprocess
import time
import urllib.request

import harness
import pytest

pytestmark = pytest.mark.plain


REDRAW = r"\x1b\[\d+A"	# the cursor goes up, to draw again


def start(*args):
    return subprocess.Popen([harness.stent_bin(), "demo", *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            stdin=subprocess.DEVNULL, text=True)


def test_the_demonstration_and_its_page():
    """Both at once: --web stays until it is interrupted, and shows what the terminal showed."""
    began = time.monotonic()
    demo = start("--web")
    try:
        lines = []
        while not any("page stays" in line for line in lines):
            line = demo.stdout.readline()
            assert line, lines
            lines.append(line)
        text = "".join(lines)
        assert 20 < time.monotonic() - began < 45 * harness.SLOW
        assert "1 direct: died silently, 1 of 3" in text
        assert "2 stent, TCP keepalive only: died silently, 1 of 3" in text
        assert "3 stent, heartbeats: survived, 3 of 3" in text
        assert re.search(r"flow end .* reason=client-fin .* client_heartbeats=1\d client_replies=1\d", text)
        assert "stent relay :6432" in text
        url = re.search(r"http://127.0.0.1:\d+/", text)[0]
        page = urllib.request.urlopen(url, timeout=5)
        assert "script-src 'sha256-" in page.headers["Content-Security-Policy"]
        assert b"One flow dies, one survives" in page.read()
        state = json.load(urllib.request.urlopen(url + "state", timeout=5))
        assert state["over"] and state["as_expected"]
        assert [lane["alive"] for lane in state["lanes"]] == [False, False, True]
        demo.send_signal(signal.SIGINT)
        assert demo.wait(10 * harness.SLOW) == 0
        assert not harness.SANITIZER_REPORT.search(text + demo.stdout.read())
    finally:
        demo.kill()
        demo.wait()


def test_on_a_terminal_three_lanes_are_redrawn_in_place():
    master, slave = pty.openpty()
    demo = subprocess.Popen([harness.stent_bin(), "demo"], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave,
                            env={**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"})
    os.close(slave)
    text = ""
    try:
        deadline = time.monotonic() + 10 * harness.SLOW
        while len(re.findall(REDRAW, text)) < 16:	# four a second
            assert time.monotonic() < deadline, text
            text += os.read(master, 65536).decode(errors="ignore")
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(10 * harness.SLOW)
        os.close(master)
    first, last = (re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", part) for part in re.split(REDRAW, text)[::15][:2])
    assert last.count("♥") > first.count("♥"), "no heartbeat was drawn"
    drawing = last.splitlines()
    assert all(len(line) <= 80 for line in drawing), drawing
    assert sum(line.lstrip().startswith(("1", "2", "3")) for line in drawing) >= 3


def test_stopped_early_it_exits_with_1():
    demo = start()
    time.sleep(1.5)
    demo.send_signal(signal.SIGINT)
    out, _ = demo.communicate(timeout=10 * harness.SLOW)
    assert demo.returncode == 1
    assert "Stopped early." in out
