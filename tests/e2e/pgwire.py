"""pgwire.py - a PostgreSQL client of single messages, for what no driver does."""

import socket
import struct
import time

import harness


def message(kind, body=b""):
    return kind + struct.pack(">I", len(body) + 4) + body


def query(sql):
    return message(b"Q", sql.encode() + b"\0")


def parse(sql, name=""):
    return message(b"P", name.encode() + b"\0" + sql.encode() + b"\0\0\0")


def bind(portal="", statement=""):
    return message(b"B", portal.encode() + b"\0" + statement.encode() + b"\0" + bytes(6))


def execute(portal="", rows=0):
    return message(b"E", portal.encode() + b"\0" + struct.pack(">I", rows))


BIND = bind()
EXECUTE = execute()
DESCRIBE = message(b"D", b"P\0")
SYNC = message(b"S")
FLUSH = message(b"H")
COPY_DONE = message(b"c")
TERMINATE = message(b"X")


def copy_data(data):
    return message(b"d", data)


class Raw:
    """One session. `seen` is every message that the server sent."""

    def __init__(self, port, version=196608, user="postgres", sock=None, **params):
        self.sock = sock or socket.create_connection(("127.0.0.1", port), timeout=harness.PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = b""
        self.seen = []
        body = b"".join(f"{k}\0{v}\0".encode() for k, v in {"user": user, **params}.items()) + b"\0"
        self.sock.sendall(struct.pack(">II", len(body) + 8, version) + body)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, *messages):
        self.sock.sendall(b"".join(messages))

    def get(self, timeout=harness.PATIENCE):
        """The next message; None: none came in time; b"": the server has closed."""
        deadline = time.monotonic() + timeout
        while len(self.buf) < 5 or len(self.buf) < 1 + struct.unpack(">I", self.buf[1:5])[0]:
            self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                got = self.sock.recv(65536)
            except TimeoutError:
                return None
            if not got:
                return b""
            self.buf += got
        n = 1 + struct.unpack(">I", self.buf[1:5])[0]
        got, self.buf = self.buf[:n], self.buf[n:]
        self.seen.append(got)
        return got

    def until(self, kind, timeout=harness.PATIENCE):
        """Up to the next message of that kind, which is returned."""
        while True:
            got = self.get(timeout)
            assert got, f"no {kind!r} came: {[m[:1] for m in self.seen[-20:]]}"
            if got[:1] == kind:
                return got

    def ask(self, sql):
        """A query; the columns of its rows as text, and the state that the session is in then."""
        self.send(query(sql))
        first = len(self.seen)
        state = self.until(b"Z")[5:].decode()
        return [row(m) for m in self.seen[first:] if m[:1] == b"D"], state

    def kinds(self, since=0):
        """The kinds of the messages that came, but for the heartbeats."""
        return b"".join(m[:1] for m in self.seen[since:] if m[:1] != b"S").decode()

    def close(self):
        try:
            self.send(TERMINATE)
        except OSError:
            pass
        self.sock.close()


def row(data):
    at, columns = 7, []
    for _ in range(struct.unpack(">H", data[5:7])[0]):
        n = struct.unpack(">i", data[at:at + 4])[0]
        columns.append(data[at + 4:at + 4 + n].decode() if n >= 0 else None)
        at += 4 + max(n, 0)
    return columns


def error(data):
    """Fields of an ErrorResponse by their letters."""
    return {field[:1].decode(): field[1:].decode() for field in data[5:].split(b"\0") if field}
