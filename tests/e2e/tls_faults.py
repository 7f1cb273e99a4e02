"""
tls_faults.py - conversations with TLS on some legs, for test_tls_faults.py, and backends that judge what they get.

As in machine_faults.py a conversation returns when all was exchanged, and raises Ended when its flow was ended: by a
reset, by an alert, or within the handshake. An orderly end (a close_notify, or a FIN without TLS) behind missing bytes is
an AssertionError on either side.
"""

import collections
import contextlib
import errno
import http.client
import os
import re
import ssl
import struct
import threading
import time

import harness
import machine_faults
import pgwire
import tls_ends
from machine_faults import BULK, Ended

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
SAID = (b"hello", BULK, b"again")
WHOLE = b"".join(SAID)
SSL_REQUEST = struct.pack(">II", 8, 80877103)
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"
METRIC = re.compile(r"^(stent_(?:flows_ended|tls_failures)_total{[^}]*}) (\d+)$", re.M)
METRIC_LABELS = re.compile(r'stent_(\w+)_total{.*?route="(\w+)".*(?:reason|cause)="([\w-]+)"}')
LACK_OF_MEMORY = {os.strerror(error) for error in (errno.ENOMEM, errno.ENOBUFS)}
ALERT = re.compile(r"ALERT|EOF occurred|FIN in the handshake")


class Way:
    """How a flow goes: which legs have TLS, and of which version."""

    def __init__(self, legs, version=TLS13, resumes=True, certified=False):
        self.legs, self.version = legs, version
        self.client, self.backend = legs in ("client", "both"), legs in ("backend", "both")
        self.resumes = resumes		# the server takes sessions of stent, so that certificates are seen once only
        self.certified = certified	# the client shows a certificate, and the backend is told of it in a PROXY header


WAYS = {
    "client13": Way("client"),
    "client12": Way("client", TLS12),
    "backend13": Way("backend"),
    "backend12": Way("backend", TLS12),
    "both13": Way("both", resumes=False),
    "both12": Way("both", TLS12, resumes=False, certified=True),
}


def secured(raw, context):
    """TLS on a client's socket."""
    try:
        return tls_ends.TlsSocket(raw, context, False, "localhost", timeout=machine_faults.STUCK)
    except (ConnectionError, ssl.SSLError) as problem:
        raw.close()
        raise judged(problem) from None


def judged(problem, heard=False):
    """
    What an exception of a socket means: Ended, unless TLS complains of what it got. In the handshake it may: the alert of
    an OpenSSL that failed between two sets of keys is neither in clear text nor under the right ones.
    """
    if heard and isinstance(problem, ssl.SSLError) and not ALERT.search(str(problem)):
        return AssertionError(f"wrong bytes: {problem}")
    return Ended(str(problem))


class TlsClient(machine_faults.Client):
    """With a reset or an alert its flow was ended. A FIN does not end it once its handshake is over, also without a close_notify."""

    def __init__(self, address, context):
        super().__init__(address)
        self.heard = False
        self.sock = secured(self.sock, context)

    def say(self, data):
        try:
            super().say(data)
        except ssl.SSLError as problem:
            raise judged(problem, self.heard) from None

    def hear(self, wanted, noise=None, goodbye=None):
        try:
            super().hear(wanted, noise, goodbye)
            self.heard = True
        except ssl.SSLError as problem:
            raise judged(problem, self.heard) from None

    def ends(self, noise=b"", goodbye=None):
        try:
            super().ends(noise, goodbye)
        except ssl.SSLError as problem:
            raise judged(problem, self.heard) from None
        assert self.sock.notified, "a FIN came without a close_notify"


def echoed(make):
    def talk(address, pause):
        with make(address) as c:
            first, *more = SAID
            c.say(first)
            c.hear(first)
            yield
            for data in more:
                c.say(data)
                c.hear(data)
            c.ends()
    return talk


def postgres(context):
    """By PostgreSQL's own request for TLS."""
    def talk(address, pause):
        try:
            raw = machine_faults.opened(address)
            with contextlib.closing(raw):
                raw.sendall(SSL_REQUEST)
                answer = raw.recv(1)
                if answer != b"S":
                    raise Ended(answer + raw.recv(1000))
                sock = secured(raw, context)
                with pgwire.Raw(address[1], sock=sock) as session:
                    machine_faults.told(session)
                    yield
                    for sql, rows in (("select 1", [["1"]]), ("select repeat('x', 40000)", [["x" * 40000]])):
                        time.sleep(pause)
                        session.send(pgwire.query(sql))
                        assert machine_faults.told(session) == rows
        except (ConnectionError, ssl.SSLError) as problem:
            raise judged(problem) from None
    return talk


class Judge(harness.EchoBackend):
    """An echo that takes no orderly end for one unless all was there. `wrong`: what it has seen otherwise."""

    def __init__(self, way, certificates):
        self.way, self.certificates = way, certificates
        self.context = self.new_context()
        self.wrong = []
        self.lock = threading.Lock()
        super().__init__()

    def new_context(self):
        context = tls_ends.server_context(self.certificates, version=self.way.version)
        if not self.way.resumes:
            context.num_tickets = 0
            context.options |= ssl.OP_NO_TICKET
        return context

    def _echo(self, sock):
        got = bytearray()
        sock.settimeout(None)
        try:
            with contextlib.closing(self.begin(sock)) as s:
                while data := s.recv(1 << 18):
                    got += data
                    s.sendall(data)
                orderly = s.notified if self.way.backend else True
                if not orderly:		# nothing is said that could be taken for an answer to a whole request
                    resets(sock)
                elif got == WHOLE and not self.way.backend:
                    s.shutdown(1)
        except (OSError, EOFError):	# among them those of TLS
            orderly = False
        if not WHOLE.startswith(got) or (orderly and got not in (WHOLE, b"")):	# an attempt that is given up is closed
            with self.lock:
                self.wrong.append(f"{len(got)} bytes, {'a right beginning' if WHOLE.startswith(got) else 'not those that were sent'}, "
                                  f"then an {'' if orderly else 'un'}orderly end")

    def begin(self, sock):
        if self.way.certified:
            header = exactly(sock, 16)
            assert header[:12] == PROXY_V2
            exactly(sock, struct.unpack(">H", header[14:])[0])
        if not self.way.backend:
            return sock
        try:
            return tls_ends.TlsSocket(sock, self.context if self.way.resumes else self.new_context(), True, timeout=300)
        except BaseException:
            sock.close()
            raise


def exactly(sock, n):
    got = b""
    while len(got) < n:
        piece = sock.recv(n - len(got))
        if not piece:
            raise EOFError
        got += piece
    return got


def resets(sock):
    with contextlib.suppress(OSError):
        sock.setsockopt(harness.socket.SOL_SOCKET, harness.socket.SO_LINGER, struct.pack("ii", 1, 0))


class TlsScene(machine_faults.Scene):
    """Its flows have TLS. What their ends are called, beside what machine_faults.py takes for right: SIDE-tls, with that cause."""

    def __init__(self, stent, tmp_path, ports, certificates, name, **settings):
        self.certificates = certificates
        self.conversations = {name: self.conversation(name), "tcp": echoed(machine_faults.Client)}
        port = harness.free_port()
        # One connection all the time: libmicrohttpd ends the process if it cannot take one out of its epoll set.
        self.metrics = http.client.HTTPConnection(harness.HOST, port, timeout=5 * harness.SLOW)
        super().__init__(stent, tmp_path, ports, tuple(self.conversations), admin=f"{harness.HOST}:{port}", **settings)

    def conversation(self, name):
        way = WAYS.get(name, Way("both"))
        pair = self.certificates.good
        context = tls_ends.client_context(self.certificates, version=way.version)
        if way.certified:
            context.load_cert_chain(pair.cert, pair.key)
        if name == "postgres":
            return postgres(context)
        return echoed((lambda address: TlsClient(address, context)) if way.client else machine_faults.Client)

    def keys(self, name):
        if name == "tcp":
            return "protocol = tcp\n"
        way = WAYS.get(name, Way("both"))
        found = {key.replace("__", "."): value for key, value in tls_ends.keys(self.certificates, way.legs).items()}
        if way.certified:
            found |= {"client.tls_ca": self.certificates.ca, "send_proxy": "v2"}
        found["protocol"] = "postgres\nheartbeat = 4ms" if name == "postgres" else "tcp"
        return "".join(f"{key} = {value}\n" for key, value in found.items())

    def fail(self, name, number, variant, *calls):
        self.counted = self.count()
        return super().fail(name, number, variant, *calls)

    def count(self):
        """Of ended flows and of failures of TLS, by route and by reason or cause."""
        self.metrics.request("GET", "/metrics")
        return collections.Counter({key: int(n) for key, n in METRIC.findall(self.metrics.getresponse().read().decode())})

    def judge(self, name, whole, error, call):
        self.went_well = name if whole else None
        super().judge(name, whole, error, call)

    def reason(self, ended):
        """Not from the log, which only counts the ends of handshakes when there are many. The cause is a word here."""
        def new():
            found = [METRIC_LABELS.fullmatch(key) for key in (self.count() - self.counted).elements()]
            found = [(m[1], m[3]) for m in found if m[2] == ended.name]
            if self.went_well == ended.name:		# the conversation itself, on the same route
                if ("flows_ended", "client-fin") not in found:
                    return False
                found.remove(("flows_ended", "client-fin"))
            found = dict(found)
            return "flows_ended" in found and (found["flows_ended"], found.get("tls_failures", ""))
        return harness.wait_for(new, what=f"the end of {ended.client} to be counted")

    def judge_reason(self, error, side, reason, cause):
        # The second FIN and its close_notify, of a flow that has said all.
        if self.faults.hit()[0] in ("send", "shutdown") and reason == "client-fin" and error not in LACK_OF_MEMORY:
            return
        if not re.fullmatch(side + "-tls", reason):
            super().judge_reason(error, side, reason, cause)
            return
        wanted = "memory" if error in LACK_OF_MEMORY else "reset"
        assert cause == wanted, f"{reason} after {error!r}: {cause}"
