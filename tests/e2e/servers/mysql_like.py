"""A server that speaks MySQL's protocol as a proxy might: each query is replied to by an OK that counts, so that none can be mistaken."""

import contextlib
import socket
import struct
import threading
import time

import harness

COM_QUIT, COM_QUERY, COM_STATISTICS, COM_PING, COM_STMT_CLOSE = 1, 3, 9, 0x0e, 0x19
PROTOCOL = 0x1 | 0x8 | 0x200 | 0x2000 | 0x8000	# long password, database, 4.1, transactions, secure connection
AS_MYSQL = PROTOCOL | 0x10 | 0x40 | 0x100 | 0x400 | 0x1000 | 0x4000	# with what real servers alone name: NO_SCHEMA, ODBC, ...
OK = b"\0\0\0\2\0\0\0"


def error(number, text):
    return b"\xff" + struct.pack("<H", number) + b"#42000" + text


UNKNOWN = error(1047, b"Unknown command")


class MysqlLike:
    """
    does: by command what it does: bytes to reply with, "close", or nothing; commands that are not named close the
    connection. delay: seconds before a reply to a ping. sock: what it listens on, else a port.
    """

    def __init__(self, does, capabilities=PROTOCOL, delay=0, sock=None):
        self.does, self.capabilities, self.delay = does, capabilities, delay
        self.seen = set()
        self.port = harness.free_port()
        self.sock = sock or socket.create_server((harness.HOST, self.port))
        self.peers = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.sock.accept()
                self.peers.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with sock, contextlib.suppress(OSError, EOFError), sock.makefile("rb") as stream:
            self._session(sock, stream)

    def _session(self, sock, stream):
        caps = self.capabilities
        self._send(sock, 0, b"\x0a8.0.11\0" + struct.pack("<I", 7) + b"12345678\0" + struct.pack("<HBHHB", caps & 0xffff, 33, 2, caps >> 16, 21)
                   + bytes(10) + b"123456789012\0")
        self._read(stream)
        self._send(sock, 2, OK)
        self._commands(sock, stream)

    def _commands(self, sock, stream):
        number = 0
        while True:
            command = self._read(stream)
            if not command or command[0] == COM_QUIT:
                return
            self.seen.add(command[0])
            if command[0] == COM_QUERY:
                number += 1
                self._send(sock, 1, bytes([0, number % 250, 0, 2, 0, 0, 0]))
                continue
            what = self.does.get(command[0], "close")
            if what == "close":
                return
            if what is not None:
                time.sleep(self.delay)
                self._send(sock, 1, what)

    @staticmethod
    def _send(sock, seq, payload):
        sock.sendall(len(payload).to_bytes(3, "little") + bytes([seq]) + payload)

    @staticmethod
    def _read(stream):
        head = stream.read(4)
        if len(head) < 4:
            raise EOFError
        return stream.read(int.from_bytes(head[:3], "little"))

    def close(self):
        for sock in [self.sock, *self.peers]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
