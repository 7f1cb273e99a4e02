"""reloading.py - new settings for a stent that runs, and talkers of several protocols that must not notice."""

import os
import re
import socket
import threading
import traceback

import harness
from frames import BINARY, MESSAGES, PING, PONG, WebSocket, upgrade
from servers.redis import command

PROBES = {"SO_KEEPALIVE": (socket.SOL_SOCKET, socket.SO_KEEPALIVE), "idle": (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
          "interval": (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), "probes": (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
          "user_timeout": (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)}


def probes(sock):
    return {name: sock.getsockopt(*where) for name, where in PROBES.items()}


def sections(routes):
    """Routes as {name: {key: value}}; a leg's key is written with two underscores."""
    return "".join(f"[route {name}]\n" + "".join(f"{key.replace('__', '.')} = {value}\n" for key, value in keys.items())
                   for name, keys in routes.items())


def write(s, routes, **settings):
    """Replaces the routes of its file, and keys of [stent]."""
    text = s.ini_path.read_text()
    head = text[:text.index("[route")] if "[route" in text else text
    for key, value in settings.items():
        head = re.sub(rf"(?m)^{key} = .*\n", "", head)
        head = head.rstrip("\n") + f"\n{key} = {value}\n"
    s.ini_path.write_text(head.rstrip("\n") + "\n\n" + sections(routes))


def reload(s, routes, **settings):
    """Returns the changes, when every open flow has them."""
    write(s, routes, **settings)
    done = s.ask("reload")
    assert "errors" not in done, done
    settle(s)
    return done["changes"]


def settle(s, timeout=harness.PATIENCE):
    harness.wait_for(lambda: not s.ask("status")["load"]["moving_flows"], timeout, "all flows to have the settings")


class Talker(threading.Thread):
    """Says something, and expects what belongs to it, again and again, until stop()."""

    def __init__(self, talk):
        super().__init__(daemon=True)
        self._talk, self._ends = talk, threading.Event()
        self.exchanges, self.error = 0, None		# error: what was wrong, as text
        self.start()

    def run(self):
        try:
            while not self._ends.is_set():
                self._talk(self.exchanges)
                self.exchanges += 1
                self._ends.wait(0.002)
        except Exception:		# told by stop()
            self.error = traceback.format_exc()

    def stop(self):
        self._ends.set()
        self.join(30 * harness.SLOW)
        assert not self.is_alive() and self.error is None, self.error


def expect(peer, wanted):
    got = peer.recv_exact(len(wanted))
    assert got == wanted, f"{got[:300]!r} came, not {wanted[:300]!r}"


def tcp(peer, seed):
    """Bytes of a pattern that a misplaced one breaks, through an echo."""
    def talk(i):
        data = (i * 7919 + seed).to_bytes(8, "big") * (1 + i % 700)
        peer.send_all(data)
        expect(peer, data)
    return talk


class LineServer(threading.Thread):
    """Echoes lines; answers those heartbeats that it knows."""

    def __init__(self, peer, answers):
        super().__init__(daemon=True)
        self.peer, self.answers, self.heard = peer, answers, []
        self.start()

    def run(self):
        held = b""
        self.peer.sock.settimeout(None)
        try:
            while data := self.peer.sock.recv(65536):
                held += data
                while b"\n" in held:
                    line, held = held.split(b"\n", 1)
                    line += b"\n"
                    if line in self.answers:
                        self.heard.append(line)
                    self.peer.sock.sendall(self.answers.get(line, line))
        except OSError:
            pass


def line(peer, seed):
    def talk(i):
        text = b"%d:%d:%s\n" % (seed, i, b"x" * (i % 300))
        peer.send_all(text)
        expect(peer, text)
    return talk


class SocketServer(threading.Thread):
    """A WebSocket server by hand: echoes messages, answers pings."""

    def __init__(self, peer):
        super().__init__(daemon=True)
        self.ws, self.pings = WebSocket(peer, masks=False), 0
        self.start()

    def run(self):
        try:
            while True:
                opcode, payload = self.ws.read(timeout=60)
                if opcode == PING:
                    self.pings += 1
                    self.ws.send(PONG, payload)
                elif opcode in MESSAGES:
                    self.ws.send(opcode, payload)
        except (OSError, AssertionError):
            pass


def websocket(peer, backend, seed):
    upgrade(peer, backend)
    server, ws = SocketServer(backend), WebSocket(peer, masks=True)

    def talk(i):
        data = b"%d %d " % (seed, i) + os.urandom(i % 200)
        ws.send(BINARY, data)
        while True:
            opcode, payload = ws.read()
            if opcode == PING:
                ws.send(PONG, payload)
            elif opcode != PONG:	# one that is unasked is a heartbeat, too
                break
        assert (opcode, payload) == (BINARY, data), f"{opcode} {payload!r} came, not {data!r}"
    talk.server = server
    return talk


def redis(peer, seed):
    def talk(i):
        value = b"%d-%d-" % (seed, i) + b"v" * (i % 500)
        reply = b"+OK\r\n$%d\r\n%s\r\n" % (len(value), value)
        peer.send_all(command("SET", f"k{seed}", value) + command("GET", f"k{seed}"))
        expect(peer, reply)
    return talk
