"""
tls_ends.py - the ends of a connection with TLS on them, for tests that know each byte and each way to close.

TlsSocket is a socket like Python's own, but with every part of a close apart: half_close() is a close_notify and a
FIN, truncate() a FIN alone, reset() a reset; reading goes on after each. What comes is decrypted at once.

    with tls_ends.TlsBackend(certificates) as backend:
        s = tls_ends.route(stent, certificates, backend.text, legs="both")
        client, server = tls_ends.connect(s, certificates), backend.accept()
"""

import contextlib
import select
import socket
import ssl
import threading

import harness

LEGS = ("client", "backend", "both")


def server_context(certificates, pair=None, **how):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = pair or certificates.good
    context.load_cert_chain(pair.cert, pair.key)
    return _set_up(context, **how)


def client_context(certificates, **how):
    return _set_up(ssl.create_default_context(cafile=certificates.ca), **how)


def _set_up(context, version=None):
    if version:
        context.minimum_version = context.maximum_version = version
    return context


class TlsSocket:
    """TLS on a connected socket. One thread may send while another receives."""

    def __init__(self, raw, context, server_side, name=None, timeout=harness.PATIENCE):
        self.raw = raw
        self.family = raw.family
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self._in, self._out, server_side=server_side, server_hostname=name)
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._plain = bytearray()
        self._unsent = b""		# of a socket that does not block
        self.notified = False		# its close_notify has come
        self.ended = False		# its FIN
        self._shut = self._resets = self._closing = False
        self._finisher = None
        raw.settimeout(harness.patient(timeout))
        self._handshake()

    def _handshake(self):
        while True:
            try:
                self.ssl.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                data = self.raw.recv(65536)
                if not data:
                    raise ssl.SSLEOFError("FIN in the handshake") from None
                self._in.write(data)
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush()		# the alert
                raise
            else:
                self._flush()
                return self._decrypt()

    # --- sending ---

    def _flush(self, waits=True):
        """Sends what there is. Who does not wait leaves it to the thread that is sending: that may need this one to read."""
        while self._out.pending:
            if not self._sending.acquire(blocking=waits):
                return
            try:
                with self._lock:
                    data = self._out.read()
                self.raw.sendall(data)
            finally:
                self._sending.release()

    def sendall(self, data):
        if self._finisher:
            self._finisher.join()
        data = memoryview(data)
        for at in range(0, len(data), 1 << 18):
            with self._lock:
                self.ssl.write(data[at:at + (1 << 18)])
            self._flush()

    def send(self, data):
        """For a socket that does not block: takes one record, or nothing."""
        if not self._unsent:
            data = data[:16384]
            with self._lock:
                self.ssl.write(data)
                self._unsent = self._out.read()
        else:
            data = b""
        try:
            while self._unsent:
                self._unsent = self._unsent[self.raw.send(self._unsent):]
        except BlockingIOError:
            if not data:
                raise
        return len(data)

    def setblocking(self, on):
        self.raw.setblocking(on)
        if on and self._unsent:
            self._finisher = threading.Thread(target=self._finish, daemon=True)
            self._finisher.start()

    def _finish(self):
        """Sends the rest of a record, as the reader wants a whole one."""
        with contextlib.suppress(OSError):
            while self._unsent and not self._closing:
                if select.select([], [self.raw], [], 0.02)[1]:
                    self._unsent = self._unsent[self.raw.send(self._unsent, socket.MSG_DONTWAIT):]

    # --- receiving ---

    def _decrypt(self):
        with self._lock:
            try:
                while not self.notified:
                    piece = self.ssl.read(1 << 18)
                    self._plain += piece
                    self.notified = not piece
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                self.notified = True

    def recv(self, limit):
        while not self._plain and not self.notified and not self.ended:
            data = self.raw.recv(1 << 18)
            self.ended = not data
            with self._lock:
                self._in.write(data) if data else None
            self._decrypt()
            self._flush(waits=False)
        data = bytes(self._plain[:limit])
        del self._plain[:limit]
        return data

    # --- closing ---

    def _notify(self):
        if self._shut:
            return
        self._shut = True
        with self._lock, contextlib.suppress(ssl.SSLError):
            self.ssl.unwrap()		# says that it waits for the other's
        self._flush()

    def shutdown(self, how):
        assert how == socket.SHUT_WR
        self._notify()
        self.raw.shutdown(socket.SHUT_WR)

    def truncate(self):
        """A FIN without a close_notify."""
        self._shut = True
        self.raw.shutdown(socket.SHUT_WR)

    def close(self):
        self._closing = True
        if self._finisher:
            self._finisher.join()
        if not self._resets:
            with contextlib.suppress(OSError):
                self._notify()
                self.raw.setblocking(False)
                while self.raw.recv(1 << 18):	# session tickets left unread would make it a reset
                    pass
        self.raw.close()

    # --- like a socket ---

    def setsockopt(self, level, name, value):
        self._resets |= name == socket.SO_LINGER
        self.raw.setsockopt(level, name, value)

    def settimeout(self, seconds):
        self.raw.settimeout(seconds)

    def fileno(self):
        return self.raw.fileno()

    def getsockname(self):
        return self.raw.getsockname()

    def getpeername(self):
        return self.raw.getpeername()


class TlsPeer(harness.Peer):
    """A Peer whose FIN has to come with a close_notify before it."""

    def truncate(self):
        self.sock.truncate()

    def expect_fin(self, timeout=None):
        super().expect_fin(timeout)
        assert self.sock.notified, "a FIN came without a close_notify"

    def recv_all(self, timeout=None):
        data = super().recv_all(timeout)
        assert self.sock.notified, "a FIN came without a close_notify"
        return data


def connect(s, certificates, version=None, context=None, name="localhost", **how):
    """A client with TLS, of stent or of anything else."""
    raw = (s.plain_connect if hasattr(s, "plain_connect") else s.connect)(**how).sock
    try:
        return TlsPeer(TlsSocket(raw, context or client_context(certificates, version=version), False, name))
    except BaseException:
        raw.close()
        raise


class TlsBackend(harness.RawBackend):
    def __init__(self, certificates, pair=None, version=None, **where):
        super().__init__(**where)
        self.context = server_context(certificates, pair, version=version)

    def accept(self, timeout=harness.PATIENCE):
        peer = super().accept(timeout)
        self.accepted.pop()
        peer = TlsPeer(TlsSocket(peer.sock, self.context, True, timeout=timeout))
        self.accepted.append(peer)
        return peer


class TlsEcho(harness.EchoBackend):
    def __init__(self, certificates, **where):
        self.context = server_context(certificates)
        super().__init__(**where)

    def _echo(self, sock):
        with contextlib.suppress(OSError):
            tls = TlsSocket(sock, self.context, True, timeout=20)
            with contextlib.closing(tls):
                tls.settimeout(None)
                while data := tls.recv(1 << 18):
                    tls.sendall(data)

def keys(certificates, legs):
    """The settings of a route with TLS on those legs."""
    found = {}
    if legs in ("client", "both"):
        found |= {"client__tls": "require", "client__tls_cert": certificates.good.cert, "client__tls_key": certificates.good.key}
    if legs in ("backend", "both"):
        found |= {"backend__tls": "verify", "backend__tls_ca": certificates.ca}
    return found


class TlsStarter(harness.Starter):
    """The `stent` fixture with TLS on some legs of every route; clients of those routes connect with TLS."""

    def __init__(self, directory, certificates, legs):
        super().__init__(directory)
        self.certificates, self.legs = certificates, legs

    def route(self, backend, **how):
        s = super().route(backend, **{**keys(self.certificates, self.legs), **how})
        if self.legs != "backend":
            s.plain_connect = s.connect
            s.connect = lambda **how: connect(s, self.certificates, **how)
        return s
