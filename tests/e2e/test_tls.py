"""
TLS on either leg, with Python's ssl, the openssl command and stunnel as peers: who is accepted, who is refused and with
which words, and what the log and the metrics tell.
"""

import re
import socket
import ssl
import subprocess
import time
import urllib.request

import harness
import pytest

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


# --- peers ---

def server_context(pair, ca=None, maximum=TLS13):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.maximum_version = maximum
    if ca:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(ca, pair=None, version=None, alpn=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    if pair:
        context.load_cert_chain(pair.cert, pair.key)
    if version:
        context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def begin(peer, context, **how):
    """TLS on a connected Peer; returns the Peer of its plaintext."""
    peer.sock.settimeout(5 * harness.SLOW)
    peer.sock = context.wrap_socket(peer.sock, **how)
    return peer


def talk(client, backend, words=b"hello"):
    client.send_all(words)
    assert backend.recv_exact(len(words)) == words
    backend.send_all(words[::-1])
    assert client.recv_exact(len(words)) == words[::-1]


def metric(s, name, **labels):
    """The sum of a metric's samples that have these labels."""
    with urllib.request.urlopen(f"http://{s.admin}/metrics", timeout=5 * harness.SLOW) as answer:
        lines = answer.read().decode().splitlines()
    found = [line for line in lines if line.startswith(name + "{") and all(f'{k}="{v}"' in line for k, v in labels.items())]
    assert found, (name, labels)
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


@pytest.fixture
def route(stent, certificates):
    """A route with an admin address; CA, GOOD, ... in values name files. s.admin is its HOST:PORT."""

    def route(backend, **keys):
        admin = f"127.0.0.1:{harness.free_port()}"
        s = stent.route(backend, settings={"admin": admin}, **keys)
        s.admin = admin
        return s

    return route


@pytest.fixture
def to_clients(certificates):
    """The keys of TLS toward clients."""
    return {"client__tls": "require", "client__tls_cert": certificates.good.cert, "client__tls_key": certificates.good.key}


# --- toward the backend ---

@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])
def test_a_plain_client_and_tls_behind(route, raw_backend, certificates, version):
    s = route(f"localhost:{raw_backend.port}", backend__tls="verify", backend__tls_ca=certificates.ca)
    client = s.connect()
    backend = begin(raw_backend.accept(), server_context(certificates.good, maximum=version), server_side=True)
    talk(client, backend)
    client.close()
    backend.expect_fin()
    backend.sock.unwrap()
    end = s.flow_end()
    assert end["reason"] == "client-fin" and "client_tls" not in end
    assert end["backend_tls"].startswith("TLSv1.2 " if version == TLS12 else "TLSv1.3 ")
    assert metric(s, "stent_tls_handshakes_total", side="backend", kind="full") == 1
    assert metric(s, "stent_tls_failures_total") == 0


REFUSED = {
    "name": ("wrong_name", "localhost", {}, r'the name is "localhost", but the certificate is for "other\.test"', "wrong-name"),
    "address": ("name_only", "127.0.0.1", {}, r'the name is "127\.0\.0\.1", but the certificate is for "localhost"', "wrong-name"),
    "tls_name": ("good", "localhost", {"backend__tls_name": "db9.test"}, r'the name is "db9\.test"', "wrong-name"),
    "expired": ("expired", "localhost", {}, r"the server's certificate expired on \d{4}-", "expired"),
    "not yet": ("not_yet_valid", "localhost", {}, r"the server's certificate is not valid before \d{4}-", "not-yet-valid"),
    "self-signed": ("self_signed", "localhost", {}, r"self-signed", "self-signed"),
    "CA": ("good", "localhost", {"backend__tls_ca": "OTHER"}, r"unknown CA: .*Test", "unknown-ca"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_certificate_is_refused_with_its_cause(route, raw_backend, certificates, what):
    pair, host, keys, cause, kind = REFUSED[what]
    keys = {k: certificates.other_ca if v == "OTHER" else v for k, v in keys.items()}
    s = route(f"{host}:{raw_backend.port}", **{"backend__tls": "verify", "backend__tls_ca": certificates.ca, **keys})
    client = s.connect()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        begin(raw_backend.accept(), server_context(getattr(certificates, pair)), server_side=True).recv_some()
    client.expect_reset()
    end = s.flow_end()
    assert end["reason"] == "backend-tls"
    assert re.search(cause, end["cause"]), end["cause"]
    assert metric(s, "stent_tls_failures_total", side="backend", cause=kind) == 1
    assert metric(s, "stent_flows_ended_total", reason="backend-tls") == 1


@pytest.mark.parametrize("pair, keys", [
    ("ip_only", {}), ("wrong_name", {"backend__tls_name": "other.test"}), ("name_only", {"backend__tls_name": "localhost"}),
])
def test_what_is_verified_of_a_backend_given_as_address(route, raw_backend, certificates, pair, keys):
    s = route(f"127.0.0.1:{raw_backend.port}", backend__tls="verify", backend__tls_ca=certificates.ca, **keys)
    client = s.connect()
    talk(client, begin(raw_backend.accept(), server_context(getattr(certificates, pair)), server_side=True))


@pytest.mark.parametrize("pair", ["wrong_name", "expired", "self_signed"])
def test_insecure_takes_any_certificate(route, raw_backend, certificates, pair):
    s = route(f"localhost:{raw_backend.port}", backend__tls="insecure")
    client = s.connect()
    talk(client, begin(raw_backend.accept(), server_context(getattr(certificates, pair)), server_side=True))


def test_a_unix_socket_behind(route, certificates, tmp_path):
    with harness.RawBackend(path=tmp_path / "b.sock") as backend:
        s = route(backend.text, backend__tls="verify", backend__tls_ca=certificates.ca, backend__tls_name="db.test")
        client = s.connect()
        talk(client, begin(backend.accept(), server_context(certificates.good), server_side=True))


def test_the_name_is_sent_and_may_be_another(route, raw_backend, certificates):
    s = route(f"127.0.0.1:{raw_backend.port}", backend__tls="verify", backend__tls_ca=certificates.ca, backend__tls_name="db.test")
    asked, context = [], server_context(certificates.good)
    context.sni_callback = lambda sock, name, ctx: asked.append(name)
    client = s.connect()
    talk(client, begin(raw_backend.accept(), context, server_side=True))
    assert asked == ["db.test"]


@pytest.mark.parametrize("name, does, cause, kind", [
    ("speaks no TLS", lambda b: b.send_all(b"220 mail.test ESMTP\r\n"), "", "no-tls"),
    ("closes", lambda b: b.close(), "closed the connection in the middle of the handshake", "closed"),
    ("resets", lambda b: b.reset(), "in the middle of the handshake", "reset"),
    ("stops", lambda b: None, "", "handshake-timeout"),
    ("stops in the middle", lambda b: b.send_all(b"\x16\x03\x03\x00\x7a\x02\x00"), "", "handshake-timeout"),
], ids=lambda value: value if isinstance(value, str) and value and "-" not in value else "")
def test_a_server_that_does_not_do_its_part(route, raw_backend, certificates, name, does, cause, kind):
    s = route(f"localhost:{raw_backend.port}", backend__tls="verify", backend__tls_ca=certificates.ca, handshake_timeout="300ms")
    client, began = s.connect(), time.monotonic()
    backend = raw_backend.accept()
    assert backend.recv_some()[0] == 0x16
    does(backend)
    client.expect_reset()
    end = s.flow_end()
    assert end["reason"] == "backend-tls" and end["cause"] and cause in end["cause"], end
    assert metric(s, "stent_tls_failures_total", side="backend", cause=kind) == 1
    if kind == "handshake-timeout":
        assert time.monotonic() - began > 0.25


def test_no_version_in_common(route, raw_backend, certificates):
    s = route(f"localhost:{raw_backend.port}", backend__tls="verify", backend__tls_ca=certificates.ca, backend__tls_min="1.3")
    client = s.connect()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        begin(raw_backend.accept(), server_context(certificates.good, maximum=TLS12), server_side=True)
    client.expect_reset()
    assert "version" in s.flow_end()["cause"]
    assert metric(s, "stent_tls_failures_total", side="backend", cause="no-common-version") == 1


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])
@pytest.mark.parametrize("shown", ["client", "other_client", None])
def test_a_client_certificate_for_the_backend(route, raw_backend, certificates, version, shown):
    keys = {"backend__tls_cert": getattr(certificates, shown).cert, "backend__tls_key": getattr(certificates, shown).key} if shown else {}
    s = route(f"localhost:{raw_backend.port}", backend__tls="verify", backend__tls_ca=certificates.ca, **keys)
    client = s.connect()
    context = server_context(certificates.good, certificates.ca, version)
    if shown == "client":
        backend = begin(raw_backend.accept(), context, server_side=True)
        assert ((("commonName", "client"),)) in backend.sock.getpeercert()["subject"]
        talk(client, backend)
        return
    with pytest.raises((ssl.SSLError, ConnectionError)):
        begin(raw_backend.accept(), context, server_side=True)
    client.expect_reset()
    end = s.flow_end()
    assert end["reason"] == "backend-tls" and "tls_cert" in end["cause"], end
    if version == TLS13 or shown:
        assert metric(s, "stent_tls_failures_total", side="backend", cause="client-certificate") == 1


def test_sessions_to_the_backend_are_resumed(route, raw_backend, certificates):
    s = route(f"localhost:{raw_backend.port}", backend__tls="verify", backend__tls_ca=certificates.ca)
    context = server_context(certificates.good)
    for i in range(3):
        client = s.connect()
        backend = begin(raw_backend.accept(), context, server_side=True)
        talk(client, backend)
        assert backend.sock.session_reused == (i > 0)
        client.close()
        backend.expect_fin()
        backend.close()
        assert s.flow_end()["backend_tls"].endswith(" resumed") == (i > 0)
    assert metric(s, "stent_tls_handshakes_total", side="backend", kind="resumed") == 2
    assert metric(s, "stent_tls_handshakes_total", side="backend", kind="full") == 1


# --- from clients ---

@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])
def test_tls_from_the_client_and_plain_behind(route, raw_backend, certificates, to_clients, version):
    s = route(raw_backend.port, **to_clients)
    client = begin(s.connect(), client_context(certificates.ca, version=version), server_hostname="localhost")
    backend = raw_backend.accept()
    talk(client, backend)
    backend.close()
    client.expect_fin()
    client.sock.unwrap()
    end = s.flow_end()
    assert end["reason"] == "backend-fin" and "truncated" not in end
    assert end["client_tls"].startswith("TLSv1.2 " if version == TLS12 else "TLSv1.3 ")


def test_both_legs(route, raw_backend, certificates, to_clients):
    s = route(f"localhost:{raw_backend.port}", backend__tls="verify", backend__tls_ca=certificates.ca, **to_clients)
    client = begin(s.connect(), client_context(certificates.ca), server_hostname="localhost")
    backend = begin(raw_backend.accept(), server_context(certificates.good), server_side=True)
    for i in range(50):
        talk(client, backend, bytes(range(i, 256)) * 100)


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])
@pytest.mark.parametrize("shown, cause", [
    ("client", None), ("other_client", "unknown CA"), (None, "the client sent no certificate, which client.tls_ca demands"),
])
def test_a_client_must_show_a_certificate(route, raw_backend, certificates, to_clients, version, shown, cause):
    s = route(raw_backend.port, client__tls_ca=certificates.ca, **to_clients)
    context = client_context(certificates.ca, getattr(certificates, shown) if shown else None, version)
    if cause is None:
        talk(begin(s.connect(), context, server_hostname="localhost"), raw_backend.accept())
        return
    with pytest.raises((ssl.SSLError, ConnectionError)):
        begin(s.connect(), context, server_hostname="localhost").recv_some()
    end = s.flow_end()
    assert end["reason"] == "client-tls" and cause in end["cause"], end
    raw_backend.expect_no_connection()


@pytest.mark.parametrize("sent, cause, kind", [
    (b"GET / HTTP/1.1\r\n\r\n", "HTTP without TLS", "no-tls"),
    (b"", "", "handshake-timeout"),
    (b"\x16\x03\x01\x02\x00\x01", "", "handshake-timeout"),
])
def test_a_client_that_does_not_do_its_part(route, raw_backend, to_clients, sent, cause, kind):
    s = route(raw_backend.port, handshake_timeout="300ms", **to_clients)
    client = s.connect()
    client.send_all(sent)
    end = s.flow_end()
    assert end["reason"] == "client-tls" and cause in end["cause"], end
    assert metric(s, "stent_tls_failures_total", side="client", cause=kind) == 1
    raw_backend.expect_no_connection()


def test_a_client_that_distrusts_the_certificate(route, raw_backend, certificates, to_clients):
    s = route(raw_backend.port, **to_clients)
    with pytest.raises(ssl.SSLCertVerificationError):
        begin(s.connect(), client_context(certificates.other_ca), server_hostname="localhost")
    end = s.flow_end()
    assert end["reason"] == "client-tls" and "does not know the CA of our certificate" in end["cause"], end


def test_accept_serves_clients_with_and_without_tls(route, raw_backend, certificates, to_clients):
    s = route(raw_backend.port, protocol="redis", **{**to_clients, "client__tls": "accept"})
    plain = s.connect()
    plain.send_all(b"*1\r\n$4\r\nPING\r\n")
    backend = raw_backend.accept()
    assert backend.recv_exact(14) == b"*1\r\n$4\r\nPING\r\n"
    backend.send_all(b"+PONG\r\n")
    assert plain.recv_exact(7) == b"+PONG\r\n"
    tls = begin(s.connect(), client_context(certificates.ca), server_hostname="localhost")
    tls.send_all(b"*1\r\n$4\r\nPING\r\n")
    assert raw_backend.accept().recv_exact(14) == b"*1\r\n$4\r\nPING\r\n"


def test_http_is_chosen_by_alpn(route, raw_backend, certificates, to_clients):
    s = route(raw_backend.port, protocol="http", **to_clients)
    client = begin(s.connect(), client_context(certificates.ca, alpn=["h2", "http/1.1"]), server_hostname="localhost")
    assert client.sock.selected_alpn_protocol() == "http/1.1"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        begin(s.connect(), client_context(certificates.ca, alpn=["h2"]), server_hostname="localhost")
    s.wait_logged("offers by ALPN only protocols that this route does not speak")


def test_sessions_of_clients_are_resumed(route, raw_backend, certificates, to_clients):
    s = route(raw_backend.port, **to_clients)
    context, session = client_context(certificates.ca), None
    for i in range(3):
        client = begin(s.connect(), context, server_hostname="localhost", session=session)
        backend = raw_backend.accept()
        talk(client, backend)
        assert client.sock.session_reused == (i > 0)
        session = client.sock.session
        client.close()
        backend.expect_fin()
        backend.close()
        s.flow_end()
    assert metric(s, "stent_tls_handshakes_total", side="client", kind="resumed") == 2


def test_a_fin_without_close_notify_is_logged_as_truncated(route, raw_backend, certificates, to_clients):
    s = route(raw_backend.port, **to_clients)
    client = begin(s.connect(), client_context(certificates.ca), server_hostname="localhost")
    backend = raw_backend.accept()
    talk(client, backend)
    client.sock.shutdown(socket.SHUT_WR)
    backend.expect_fin()
    backend.close()
    end = s.flow_end()
    assert end["reason"] == "client-fin" and end["truncated"] == "client"


def test_when_certificates_expire_is_a_metric(route, raw_backend, certificates, to_clients):
    s = route(f"localhost:{raw_backend.port}", backend__tls="verify", backend__tls_ca=certificates.ca, **to_clients)
    now = time.time()
    for side, key, file, days in ("client", "tls_cert", certificates.good.cert, 300), ("backend", "tls_ca", certificates.ca, 400):
        at = metric(s, "stent_tls_certificate_expiry_seconds", side=side, key=key, file=file, route="t")
        assert abs(at - now - days * 86400) < 3600


# --- other programs ---

def openssl(*words, **popen):
    return subprocess.Popen(["openssl", *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, **popen)


def finish(process, timeout=5):
    process.kill()
    return process.communicate(timeout=harness.patient(timeout))[0]


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
def test_openssl_on_both_sides(route, certificates, to_clients, version):
    port = harness.free_port()
    server = openssl("s_server", "-accept", f"127.0.0.1:{port}", "-cert", certificates.good.cert, "-cert_chain", certificates.good.cert,
                     "-key", certificates.good.key, f"-{version}", "-rev", "-quiet")
    try:
        harness.wait_for(lambda: is_listened_on(port), what="s_server")
        s = route(f"localhost:{port}", backend__tls="verify", backend__tls_ca=certificates.ca, **to_clients)
        client = openssl("s_client", "-connect", f"127.0.0.1:{s.port}", "-CAfile", certificates.ca, "-verify_return_error",
                         "-verify_hostname", "localhost", f"-{version}", "-quiet")
        client.stdin.write("stressed\n")
        client.stdin.flush()
        harness.wait_for(lambda: "desserts" in client.stdout.readline(), what="the reply")
        finish(client)
        end = s.flow_end()
        assert end["client_tls"][4:7] == end["backend_tls"][4:7] == version[3:].replace("_", ".")
    finally:
        finish(server)


def is_listened_on(port):
    """Without a connection: the server would relay it."""
    with open("/proc/net/tcp") as table:
        return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == harness.TCP_LISTEN for line in table)


def test_renegotiation_is_refused(route, raw_backend, certificates, to_clients):
    s = route(raw_backend.port, **to_clients)
    client = openssl("s_client", "-connect", f"127.0.0.1:{s.port}", "-CAfile", certificates.ca, "-tls1_2", "-legacy_renegotiation")
    raw_backend.accept()
    client.stdin.write("R\n")
    out, _ = client.communicate(timeout=10 * harness.SLOW)
    assert "RENEGOTIATING" in out and "no renegotiation" in out
    assert metric(s, "stent_tls_handshakes_total", side="client") == 1
    s.flow_end()


@pytest.fixture
def stunnel(tmp_path):
    """stunnel(lines, port): one that runs until the end of the test."""
    started = []

    def start(lines, port):
        path = tmp_path / f"stunnel{len(started)}.conf"
        path.write_text(f"foreground = yes\npid =\noutput = {path}.log\n[t]\naccept = 127.0.0.1:{port}\n{lines}\n")
        started.append(subprocess.Popen(["stunnel", path], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        harness.wait_for(lambda: is_listened_on(port), what="stunnel")

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_stunnel_on_both_sides(route, raw_backend, certificates, to_clients, stunnel):
    behind, front = harness.free_port(), harness.free_port()
    stunnel(f"connect = {raw_backend.text}\ncert = {certificates.good.cert}\nkey = {certificates.good.key}", behind)
    s = route(f"localhost:{behind}", backend__tls="verify", backend__tls_ca=certificates.ca, **to_clients)
    stunnel(f"client = yes\nconnect = 127.0.0.1:{s.port}\nCAfile = {certificates.ca}\nverifyChain = yes\ncheckHost = localhost", front)
    client, backend = harness.connect(front), raw_backend.accept()
    talk(client, backend, bytes(range(256)) * 1000)
    client.half_close()
    backend.expect_fin()
    backend.send_all(b"more")
    assert client.recv_exact(4) == b"more"
    backend.close()
    client.expect_fin()
    harness.wait_for(lambda: s.logged(r"^flow end$") and any(r.get("client_bytes") == 256000 for r in s.logged("^flow end$")),
                     what="the end")


# --- renewal ---

def test_a_renewed_certificate_is_loaded_by_a_reload(route, raw_backend, certificates, to_clients, tmp_path):
    """The settings are the same, only the files are others. An open flow goes on; a wrong file changes nothing."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    renewed = certificates.make("renewed", "localhost", valid=(-1, 99))

    def install(pair):
        cert.write_bytes(pair.cert.read_bytes())
        key.write_bytes(pair.key.read_bytes())
        key.chmod(0o600)

    install(certificates.good)
    s = route(raw_backend.port, **{**to_clients, "client__tls_cert": cert, "client__tls_key": key})

    def shown():
        client = begin(s.connect(), client_context(certificates.ca), server_hostname="localhost")
        return client, dict(pair[0] for pair in client.sock.getpeercert()["subject"])["commonName"]

    client, name = shown()
    backend = raw_backend.accept()
    talk(client, backend)
    assert name == "good"
    cert.write_bytes(renewed.cert.read_bytes())
    (error,) = s.ask("reload")["errors"]
    assert "the key does not belong to the first certificate" in error
    assert shown()[1] == "good"
    install(renewed)
    assert "errors" not in s.ask("reload") or s.ask("reload")["errors"] == []
    assert shown()[1] == "renewed"
    talk(client, backend)
    at = metric(s, "stent_tls_certificate_expiry_seconds", side="client", key="tls_cert")
    assert abs(at - time.time() - 99 * 86400) < 3600
