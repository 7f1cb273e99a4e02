"""Peers that use TLS as few do: keys renewed all the time, tickets that come late, certificates of every kind, and 500 at once."""

import concurrent.futures
import ctypes
import functools
import ssl
import subprocess
import time

import harness
import pytest
import tls_ends
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from test_tls import client_context, is_listened_on, metric, talk

MANY = 500


@pytest.fixture
def route(stent, certificates):
    def route(backend, legs, **keys):
        admin = f"127.0.0.1:{harness.free_port()}"
        s = stent.route(backend, settings={"admin": admin}, **{**tls_ends.keys(certificates, legs), **keys})
        s.admin = admin
        return s
    return route


# --- certificates ---

@functools.lru_cache
def rsa_2048(certificates):
    return certificates.make("rsa2048", "localhost", key=rsa.generate_private_key(65537, 2048))


def ed_25519(certificates):
    return certificates.make("ed25519", "localhost", key=ed25519.Ed25519PrivateKey.generate())


def long_chain(certificates):
    """Of eight intermediate authorities."""
    return certificates.make_chain("deep", 8, "localhost")


def very_large(certificates):
    """60 KB of names: four records of a handshake."""
    return certificates.make("large", "localhost", *(f"host-{i}.of-a-large-company.test" for i in range(1500)))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("kind", [rsa_2048, ed_25519, long_chain, very_large])
def test_certificates_of_every_kind_on_both_legs(route, certificates, kind, version):
    pair = kind(certificates)
    with tls_ends.TlsBackend(certificates, pair, version) as backend:
        s = route(f"localhost:{backend.port}", "both", client__tls_cert=pair.cert, client__tls_key=pair.key)
        client = tls_ends.connect(s, certificates, version)
        server = backend.accept()
        talk(client, server, b"through a certificate of its kind" * 1000)
        client.close()
        server.expect_fin()
        server.close()
    end = s.flow_end()
    assert end["reason"] == "client-fin" and "truncated" not in end


# --- ciphers ---

@pytest.mark.parametrize("cipher", ["ECDHE-RSA-AES256-SHA384", "AES128-SHA", "AES256-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"])
def test_an_old_server(route, certificates, cipher):
    """That knows TLS 1.2 and one cipher, perhaps of a kind that stent leaves to OpenSSL. Bulk, small messages and a half-close."""
    with tls_ends.TlsEcho(certificates) as echo:
        pair = rsa_2048(certificates)
        echo.context.load_cert_chain(pair.cert, pair.key)
        echo.context.maximum_version = ssl.TLSVersion.TLSv1_2
        echo.context.set_ciphers(cipher)
        s = route(f"localhost:{echo.port}", "backend", backend__tls_name="localhost")
        with s.connect() as client:
            for size in 1, 100, 16384, 16385, 300_000:
                client.send_all(b"z" * size)
                assert client.recv_exact(size) == b"z" * size
            client.half_close()
            assert client.recv_all() == b""
        end = s.flow_end()
    assert end["backend_tls"] == f"TLSv1.2 {cipher}" and end["reason"] == "client-fin" and "truncated" not in end


# --- keys that are renewed ---

class Openssl:
    """s_client or s_server at work: lines to it are sent, but k and K, at which it renews its keys, or both sides'."""

    def __init__(self, *words):
        self.process = subprocess.Popen(["openssl", *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def say(self, line):
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()
        time.sleep(0.02)	# it looks for a command at the beginning of what it reads

    def expect(self, line):
        for got in self.process.stdout:
            if line in got:
                return
        raise AssertionError(f"it ended before {line!r}")


def converse(openssl, peer, name):
    for i in range(10):
        line = b"%s of number %d" % (name, i)
        openssl.say(b"kK"[i % 2:i % 2 + 1])
        openssl.say(line)
        assert peer.recv_exact(len(line) + 1) == line + b"\n"
        peer.send_all(line + b" in return\n")
        openssl.expect(line + b" in return")


def test_a_server_that_renews_keys_before_each_message(route, certificates):
    port = harness.free_port()
    with Openssl("s_server", "-accept", f"127.0.0.1:{port}", "-cert", certificates.good.cert, "-key", certificates.good.key,
                 "-cert_chain", certificates.good.cert, "-tls1_3") as server:
        harness.wait_for(lambda: is_listened_on(port), what="s_server")
        s = route(f"localhost:{port}", "backend")
        client = s.connect()
        client.send_all(b"hello\n")
        server.expect(b"hello")
        converse(server, client, b"server")
        client.close()
        assert s.flow_end()["reason"] == "client-fin"


def test_a_client_that_renews_keys_before_each_message(route, raw_backend, certificates):
    s = route(raw_backend.port, "client")
    with Openssl("s_client", "-connect", f"127.0.0.1:{s.port}", "-CAfile", certificates.ca, "-verify_return_error", "-tls1_3") as client:
        backend = raw_backend.accept()
        backend.send_all(b"hello\n")
        client.expect(b"hello")
        converse(client, backend, b"client")
        backend.close()
        s.flow_end()


# --- tickets ---

class LateSocket(tls_ends.TlsSocket):
    """A server whose tickets, which OpenSSL makes at the end of its handshake, come later and in pieces."""
    holds = False

    def _handshake(self):
        while not self.holds:
            try:
                self.ssl.do_handshake()
                self.holds = True
            except ssl.SSLWantReadError:
                self._flush()
                self._in.write(self.raw.recv(65536))
        self._decrypt()

    def _flush(self, waits=True):
        if not self.holds:
            super()._flush(waits)

    def send_tickets(self):
        tickets = self._out.read()
        assert len(tickets) > 200
        for at in range(0, len(tickets), 50):
            self.raw.sendall(tickets[at:at + 50])
            time.sleep(0.005)
        self.holds = False


def test_a_server_whose_tickets_come_late(route, raw_backend, certificates):
    """Bytes of the client pass meanwhile, and the tickets are good for the next connection."""
    s = route(f"localhost:{raw_backend.port}", "backend")
    context, resumed = tls_ends.server_context(certificates), []
    for _ in range(3):
        client = s.connect()
        raw = raw_backend.accept()
        server = tls_ends.TlsPeer(LateSocket(raw.sock, context, True))
        client.send_all(b"first")
        assert server.recv_exact(5) == b"first"
        client.expect_quiet(0.1)
        server.sock.send_tickets()
        talk(client, server)
        client.close()
        server.expect_fin()
        server.close()
        end = s.flow_end()
        assert end["reason"] == "client-fin"
        resumed.append(end["backend_tls"].endswith("resumed"))
    assert resumed == [False, True, True]


# --- many at once ---

def at_once(work):
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        return list(pool.map(work, range(MANY)))


@pytest.mark.malloc
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_500_that_reconnect_at_once_resume_their_sessions(route, certificates, version):
    with tls_ends.TlsEcho(certificates) as echo:
        echo.context.maximum_version = version
        s = route(f"localhost:{echo.port}", "backend")

        def connect(i):
            client = s.connect(timeout=20)
            client.send_all(b"%d" % i)
            assert client.recv_exact(len(b"%d" % i), timeout=20) == b"%d" % i
            return client

        for wave in range(2):
            for client in at_once(connect):
                client.close()
            harness.wait_for(lambda wave=wave: len(s.logged("^flow end$")) == MANY * (wave + 1), 20, "the ends")
        ends = s.logged("^flow end$")
        assert {end["reason"] for end in ends} == {"client-fin"}
        assert metric(s, "stent_tls_handshakes_total", side="backend", kind="resumed") >= MANY
        assert metric(s, "stent_tls_failures_total") == 0


@pytest.mark.malloc
def test_500_clients_resume_at_once(route, echo, certificates):
    s = route(echo.port, "client")
    context = client_context(certificates.ca)

    def connect(i, session=None):
        sock = context.wrap_socket(s.connect(timeout=20).sock, server_hostname="localhost", session=session)
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"
        return sock

    first = connect(0)
    clients = at_once(lambda i: connect(i, first.session))
    assert all(client.session_reused for client in clients)
    for client in [first, *clients]:
        client.close()
    assert metric(s, "stent_tls_handshakes_total", side="client", kind="resumed") == MANY


# --- records ---

@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
@pytest.mark.parametrize("size", [512, 4096])
def test_a_client_that_takes_small_records_only(route, raw_backend, certificates, size, version):
    """As small devices do: max_fragment_length, RFC 6066, section 4. OpenSSL's client refuses a larger record."""
    s = route(raw_backend.port, "client")
    with Openssl("s_client", "-connect", f"127.0.0.1:{s.port}", "-CAfile", certificates.ca, "-verify_return_error", f"-{version}",
                 "-maxfraglen", size) as client:
        backend = raw_backend.accept()
        for line in b"first", b"second":
            backend.send_all(b"x" * 100_000 + line + b"\n")
            client.expect(b"x" + line)
        client.say(b"y" * 5000 + b"third")
        assert backend.recv_exact(5006) == b"y" * 5000 + b"third\n"
        backend.close()
        assert s.flow_end()["reason"] == "backend-fin"


class LibsslServer:
    """A server by OpenSSL's own functions, for what Python's do not give."""

    def __init__(self, peer, pair):
        self.lib = lib = ctypes.CDLL("libssl.so.3")
        lib.TLS_server_method.restype = lib.SSL_CTX_new.restype = lib.SSL_new.restype = ctypes.c_void_p
        lib.SSL_CTX_new.argtypes = lib.SSL_new.argtypes = lib.SSL_accept.argtypes = lib.SSL_new_session_ticket.argtypes = [ctypes.c_void_p]
        lib.SSL_CTX_use_certificate_chain_file.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        lib.SSL_CTX_use_PrivateKey_file.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
        lib.SSL_set_fd.argtypes = lib.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
        lib.SSL_write.argtypes = lib.SSL_read.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
        context = lib.SSL_CTX_new(lib.TLS_server_method())
        assert lib.SSL_CTX_use_certificate_chain_file(context, str(pair.cert).encode()) == 1
        assert lib.SSL_CTX_use_PrivateKey_file(context, str(pair.key).encode(), 1) == 1
        self.ssl = lib.SSL_new(context)
        peer.sock.setblocking(True)
        lib.SSL_set_fd(self.ssl, peer.sock.fileno())
        assert lib.SSL_accept(self.ssl) == 1

    def send(self, data):
        assert self.lib.SSL_write(self.ssl, data, len(data)) == len(data)

    def receive(self, n):
        room = ctypes.create_string_buffer(n)
        assert self.lib.SSL_read(self.ssl, room, n) == n
        return room.raw


def test_a_server_that_sends_tickets_and_key_updates_at_any_time(route, raw_backend, certificates):
    """Behind the first bytes nobody reads tickets any more; they harm nothing there."""
    s = route(f"localhost:{raw_backend.port}", "backend")
    client = s.connect()
    peer = raw_backend.accept()
    server = LibsslServer(peer, certificates.good)
    for i in range(20):
        line = b"line %02d" % i
        if i % 2:
            assert server.lib.SSL_new_session_ticket(server.ssl) == 1
        else:		# every second one asks for the like
            assert server.lib.SSL_key_update(server.ssl, i // 2 % 2) == 1
        server.send(line)
        assert client.recv_exact(len(line)) == line
        client.send_all(line * 1000)
        got = b""
        while len(got) < 1000 * len(line):
            got += server.receive(len(line))
        assert got == line * 1000
    client.close()
    peer.recv_all()		# as bytes: a close_notify and the FIN
    peer.close()
    assert s.flow_end()["reason"] == "client-fin"


RECORDS = {
    "padded to 16 KiB": ["-record_padding", 16384], "of 600 bytes": ["-max_send_frag", 600],
    "after a HelloRetryRequest": ["-groups", "P-384"], "TLS 1.2 of 600 bytes": ["-tls1_2", "-max_send_frag", 600],
}


def exchange(openssl, peer):
    for i in range(3):
        peer.send_all(b"x" * 20_000 + b"number %d\n" % i)
        openssl.expect(b"xnumber %d" % i)
        openssl.say(b"y" * 20_000)
        assert peer.recv_exact(20_001) == b"y" * 20_000 + b"\n"


@pytest.mark.parametrize("how", RECORDS)
def test_records_of_a_server(route, certificates, how):
    """Two flows, the second with a session of the first."""
    port = harness.free_port()
    with Openssl("s_server", "-accept", f"127.0.0.1:{port}", "-cert", certificates.good.cert, "-key", certificates.good.key,
                 "-cert_chain", certificates.good.cert, *RECORDS[how]) as server:
        harness.wait_for(lambda: is_listened_on(port), what="s_server")
        s = route(f"localhost:{port}", "backend")
        for resumed in (False, True):
            client = s.connect()
            exchange(server, client)
            client.close()
            end = s.flow_end()
            assert end["reason"] == "client-fin" and end["backend_tls"].endswith(" resumed") == resumed


@pytest.mark.parametrize("how", RECORDS)
def test_records_of_a_client(route, raw_backend, certificates, how):
    s = route(raw_backend.port, "client")
    with Openssl("s_client", "-connect", f"127.0.0.1:{s.port}", "-CAfile", certificates.ca, "-verify_return_error", *RECORDS[how]) as client:
        backend = raw_backend.accept()
        exchange(client, backend)
        backend.close()
        assert s.flow_end()["reason"] == "backend-fin"
