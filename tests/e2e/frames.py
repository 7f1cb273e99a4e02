"""
frames.py - one end of a WebSocket by hand, for tests in which each frame counts.

    upgrade(client, backend)
    ws = WebSocket(client, masks=True)
    ws.send(TEXT, b"hello")
    assert ws.read()[0] == PING
"""

import os
import threading
import time

import harness

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MESSAGES = (CONTINUATION, TEXT, BINARY)
REQUEST = (b"GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
RESPONSE = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")


def upgrade(client, backend, behind=b""):
    """The handshake, through whatever is between the two peers. behind: what the backend sends with it."""
    client.send_all(REQUEST)
    assert backend.recv_exact(len(REQUEST)) == REQUEST
    backend.send_all(RESPONSE + behind)
    assert client.recv_exact(len(RESPONSE)) == RESPONSE


class WebSocket:
    def __init__(self, peer, masks):
        self.peer = peer
        self.masks = masks	# a client's frames are masked, a server's not

    def frame(self, opcode, payload=b"", fin=True):
        n, bit = len(payload), 0x80 if self.masks else 0
        head = bytes([opcode | (0x80 if fin else 0)])
        if n < 126:
            head += bytes([bit | n])
        elif n < 65536:
            head += bytes([bit | 126]) + n.to_bytes(2, "big")
        else:
            head += bytes([bit | 127]) + n.to_bytes(8, "big")
        if not self.masks:
            return head + payload
        key = os.urandom(4)
        return head + key + self._masked(payload, key)

    @staticmethod
    def _masked(payload, key):
        n = len(payload)
        pad = (key * (n // 4 + 1))[:n]
        return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(n, "big")

    def send(self, opcode, payload=b"", timeout=None):
        self.peer.send_all(self.frame(opcode, payload), timeout)

    def send_part(self, opcode, payload):
        """A frame behind which its message goes on."""
        self.peer.send_all(self.frame(opcode, payload, fin=False))

    def read(self, timeout=None):
        """One frame: its opcode and its payload, unmasked. It must be masked as the other end has to."""
        start = self.peer.recv_exact(2, timeout)
        return self._rest(start, timeout)

    def _rest(self, start, timeout):
        n = start[1] & 0x7f
        if n >= 126:
            n = int.from_bytes(self.peer.recv_exact(2 if n == 126 else 8, timeout), "big")
        assert bool(start[1] & 0x80) == (not self.masks), f"masked on the wrong side: {start!r}"
        key = b"" if self.masks else self.peer.recv_exact(4, timeout)
        payload = self.peer.recv_exact(n, timeout)
        return start[0] & 0x0f, payload if self.masks else self._masked(payload, key)

    def read_or_none(self, timeout):
        """A frame, or None when none begins in so long."""
        self.peer.sock.settimeout(timeout)
        try:
            start = self.peer.sock.recv(1)
        except TimeoutError:
            return None
        assert start, "a FIN came"
        return self._rest(start + self.peer.recv_exact(1), None)

    def read_until(self, opcode, timeout=harness.PATIENCE):
        """The next frame of that opcode; before it pings and pongs only. The pings are answered."""
        deadline = time.monotonic() + timeout
        while True:
            got = self.read(max(deadline - time.monotonic(), 0.1))
            if got[0] == opcode:
                return got
            assert got[0] in (PING, PONG), got
            if got[0] == PING:
                self.send(PONG, got[1])

    def read_until_ping(self, timeout=harness.PATIENCE):
        """The payload of the next ping; before it nothing but pongs."""
        deadline = time.monotonic() + timeout
        while True:
            opcode, payload = self.read(max(deadline - time.monotonic(), 0.1))
            if opcode == PING:
                return payload
            assert opcode == PONG, (opcode, payload)

    def read_message(self, timeout=harness.PATIENCE):
        deadline = time.monotonic() + timeout
        while True:
            got = self.read(max(deadline - time.monotonic(), 0.1))
            if got[0] in MESSAGES:
                return got
            assert got[0] in (PING, PONG), got
            if got[0] == PING:
                self.send(PONG, got[1])

    def answer_in_background(self):
        return Answering(self)


class Answering:
    """Reads from now on and answers each ping; all else goes into `messages`."""

    def __init__(self, ws):
        self.ws = ws
        self.messages = []
        self.heartbeats = []		# when each ping or pong came
        self.end = None		# "fin" or "reset", once it came
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stopping:
            try:
                frame = self.ws.read_or_none(timeout=0.1)
            except ConnectionResetError:
                self.end = "reset"
                return
            except AssertionError as problem:
                self.end = "fin" if "FIN" in str(problem) else str(problem)
                return
            if frame is None:
                continue
            if frame[0] in (PING, PONG):
                self.heartbeats.append(time.monotonic())
            else:
                self.messages.append(frame)
            if frame[0] == PING:
                self.ws.send(PONG, frame[1])

    def stop(self):
        self._stopping = True
        self._thread.join(5)

    def wait_end(self, timeout=harness.PATIENCE):
        self._thread.join(timeout)
        return self.end
