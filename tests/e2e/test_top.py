"""stent top on a terminal: order, filter, a followed flow, ending one, resizing, and a stent that goes away."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios

import harness
import pytest
from harness import HOST, connect, free_port, wait_for

pytestmark = pytest.mark.plain


class Screen:
    """stent top on a terminal, of which it knows what is shown."""

    def __init__(self, control, lines=24, columns=120):
        self.lines, self.columns = lines, columns
        self.raw = ""
        self.master, self.slave = pty.openpty()
        self.resize(lines, columns)
        self.process = subprocess.Popen([harness.stent_bin(), "top", "--control", str(control)], stdin=self.slave, stdout=self.slave,
                                        stderr=self.slave, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0))     # for SIGWINCH

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            wait_for(lambda: self.shown() is not None and self.process.poll() is not None, 10, "the end of stent top")
        finally:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def resize(self, lines, columns):
        self.lines, self.columns = lines, columns
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys):
        os.write(self.master, keys.encode())

    def shown(self):
        """The lines of the last whole screen, with [[ and ]] around what is in reverse video."""
        while select.select([self.master], [], [], 0.02)[0]:
            self.raw += os.read(self.master, 65536).decode()
        whole = re.findall(r"\x1b\[\?7l\x1b\[H(.*?)\x1b\[\?7h", self.raw, re.DOTALL)
        if not whole:
            return []
        lines, row = [""] * 500, 0
        for part in re.split(r"(\r+\n|\x1b\[\d+;1H)", whole[-1]):
            at = re.fullmatch(r"\x1b\[(\d+);1H", part)
            if part.endswith("\r\n") or at:
                row = int(at[1]) - 1 if at else row + 1
            else:
                lines[row] += re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", part.replace("\x1b[7m", "[[").replace("\x1b[0m", "]]"))
        while lines and not lines[-1]:
            lines.pop()
        assert len(lines) <= 500
        return lines

    def text(self):
        return "\n".join(self.shown())

    def wait(self, pattern, timeout=10):
        """Until the screen has it; the match."""
        seen = []

        def found():
            seen[:] = [self.text()]
            return re.search(pattern, seen[0], re.MULTILINE | re.DOTALL)
        try:
            return wait_for(found, timeout, pattern)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{seen[0]}") from None

    def selected(self):
        """The id of the selected flow."""
        marked = [line for line in self.shown()[4:] if line.startswith("[[") and re.match(r"\[\[ *\d+ ", line)]
        assert len(marked) == 1, self.text()
        return int(marked[0].removeprefix("[[").split()[0])

    def ids(self):
        rows = [re.match(r"(?:\[\[)? *(\d+)  ", line) for line in self.shown()[4:]]
        return [int(row[1]) for row in rows if row]


@pytest.fixture
def three(stent, echo):
    """Three flows, of two routes, the second with the most bytes."""
    ports = free_port(), free_port()
    s = stent(f"[route one]\nlisten = {HOST}:{ports[0]}\nbackend = {echo.text}\n"
              f"[route other]\nlisten = {HOST}:{ports[1]}\nbackend = {echo.text}\nprotocol = websocket\n")
    clients = []
    for n, port in enumerate((ports[1], ports[0], ports[0])):
        clients.append(connect(port))
        clients[-1].send_all(b"x" * (9 if n == 1 else 1))
        clients[-1].recv_exact(9 if n == 1 else 1)
    s.clients = clients
    yield s
    for client in clients:
        client.close()


def test_keys_choose_the_order(three):
    with Screen(three.control) as top:
        top.wait(r"order: \[\[a age\]\].*\[\[ *AGE\]\]")
        assert top.ids() == [1, 2, 3]
        for key, order, ids in (("b", "b bytes", [2, 1, 3]), ("n", "n newest", [3, 2, 1]), ("o", "o route", [2, 3, 1]),
                                ("a", "a age", [1, 2, 3]), (">", "n newest", [3, 2, 1]), ("<", "a age", [1, 2, 3]), ("<", "o route", [2, 3, 1])):
            top.press(key)
            top.wait(re.escape(f"[[{order}]]"))
            wait_for(lambda ids=ids: top.ids() == ids, what=f"the flows in their order after {key}")


def test_a_filter_is_typed_and_cleared(three):
    with Screen(three.control) as top:
        top.wait("flows: 3 open")
        top.press("/OTHERx")
        top.wait("filter: OTHERx")
        top.press("\x7f")
        top.wait(r"filter: OTHER\[\[ \]\]")
        assert top.ids() == [1]
        top.press("\r")
        top.wait("  filter: OTHER$")
        top.press("\033")
        wait_for(lambda: top.ids() == [1, 2, 3], what="all flows")
        top.press("/protocol = tcp\r")     # why there are no heartbeats
        wait_for(lambda: top.ids() == [2, 3], what="the flows of the reason")
        top.press("/\033/kq")               # in a filter these are no commands
        top.wait("filter: kq")
        assert top.process.poll() is None


def test_the_selected_flow_is_shown_below_the_list(three):
    with Screen(three.control) as top:
        top.wait("flows: 3 open")
        assert top.selected() == 1
        top.press("\033[B")
        wait_for(lambda: top.selected() == 2)
        legs = top.shown()[-3:-1]
        assert re.match(rf"client  {HOST}:{three.clients[1].port}  no heartbeats: protocol = tcp, round trip ", legs[0])
        assert legs[1].startswith("backend ")
        top.press("\033[F")
        wait_for(lambda: top.selected() == 3)
        top.press("\033[B\033[B")
        wait_for(lambda: top.selected() == 3)
        top.press("\033[5~")
        wait_for(lambda: top.selected() == 1)


def test_a_followed_flow_stays_selected(three):
    with Screen(three.control) as top:
        top.wait("flows: 3 open")
        top.press("\033[Bf")
        top.wait("following 2")
        for key, order in (("b", "b bytes"), ("n", "n newest")):
            top.press(key)
            top.wait(re.escape(f"[[{order}]]"))
            assert top.selected() == 2
        top.press("/other\r")               # it is not among these
        top.wait("  filter: other  following 2$")
        assert top.selected() == 2 and top.ids() == [2, 1]
        three.clients[1].close()
        top.wait("flow 2, which was followed, has ended")
        assert top.selected() == 1


def test_without_following_the_line_stays_selected(three):
    with Screen(three.control) as top:
        top.wait("flows: 3 open")
        top.press("b")
        top.wait(re.escape("[[b bytes]]"))
        assert top.selected() == 2
        top.press("a")
        top.wait(re.escape("[[a age]]"))
        assert top.selected() == 1


def test_a_flow_is_ended_after_a_question(three):
    with Screen(three.control) as top:
        top.wait("flows: 3 open")
        top.press("k")
        top.wait(re.escape(f"[[end flow 1 (route other, client {HOST}:{three.clients[0].port})? y/n]]"))
        top.press("n")
        top.wait("not ended")
        top.press("k")
        top.wait("end flow 1 ")
        top.press("b")                      # no order meanwhile
        top.wait("not ended")
        top.wait(re.escape("[[a age]]"))
        top.press("\033[Bky")
        top.wait("flow 2 is ended")
        three.clients[1].expect_reset()
        wait_for(lambda: top.ids() == [1, 3], what="the flow to leave the list")
        assert three.flow_end()["reason"] == "admin-kill"


def test_the_screen_is_drawn_anew_when_its_size_changes(stent, echo):
    s = stent.route(echo.text)
    clients = [s.connect() for _ in range(30)]
    with Screen(s.control, 20, 120) as top:
        top.wait("flows: 30 open")
        assert len(top.ids()) == 13 and len(top.shown()) == 20
        top.resize(12, 60)
        wait_for(lambda: len(top.shown()) == 12, 0.9 * harness.SLOW, "the smaller screen")     # before the next second
        rows = [line for line in top.shown()[3:-3]]
        assert len(top.ids()) == 5 and all(len(re.sub(r"\[\[|\]\]", "", row)) <= 60 for row in rows)
        top.resize(40, 200)
        wait_for(lambda: len(top.ids()) == 30 and len(top.shown()) == 40, what="the larger screen")
        top.resize(12, 80)
        wait_for(lambda: len(top.ids()) == 5)
        top.press("\033[F")                 # the last: what is above it scrolls away
        wait_for(lambda: top.ids() == [26, 27, 28, 29, 30] and top.selected() == 30)
        top.resize(3, 10)
        wait_for(lambda: len(top.ids()) <= 1)
        assert top.process.poll() is None
    for client in clients:
        client.close()


def test_a_stent_that_goes_away_and_comes_back(stent, echo):
    s = stent.route(echo.text)
    first = s.connect()
    with Screen(s.control) as top:
        top.wait("flows: 1 open")
        top.press("fk")
        top.wait("end flow 1 ")
        first.close()
        s.stop()
        top.wait("no stent listens there.*Trying again every second; q quits")
        assert top.ids() == []
        again = stent.route(echo.text, settings={"control": s.control})
        top.wait(rf"stent was started again, pid {again.process.pid}")
        assert "following" not in top.text() and "end flow" not in top.text()
        with again.connect() as client:
            client.send_all(b"x")
            client.recv_exact(1)
            top.wait("flows: 1 open")
        top.press("q")
        assert top.process.wait(10) == 0


def test_a_stent_that_is_stopped(stent, echo):
    s = stent.route(echo.text)
    with Screen(s.control) as top:
        top.wait("flows: 0 open")
        os.kill(s.process.pid, signal.SIGSTOP)
        try:
            top.wait("stent accepts, but does not respond", 15)
        finally:
            os.kill(s.process.pid, signal.SIGCONT)
        top.wait("stent answers again")
