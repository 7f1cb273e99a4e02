"""The PROXY protocol, from clients and to backends: whose address counts, and that not a byte of the stream is touched."""

import contextlib
import signal
import socket
import ssl
import subprocess
import time

import harness
import pytest
import tls_ends
from harness import HOST, connect, free_port, wait_for
from proxy_headers import (ALPN, AUTHORITY, NOOP, SSL_CIPHER, SSL_CN, SSL_VERSION, UNIQUE_ID, raw_v2, read, v1, v2)

REAL, TO = "203.0.113.7", "198.51.100.2"
HEADERS = {
    "v1": (v1(REAL, TO, 1234, 443), f"{REAL}:1234"),
    "v1-ipv6": (v1("2001:db8::7", "2001:db8::1", 1234, 443), "[2001:db8::7]:1234"),
    "v2": (v2(REAL, TO, 1234, 443), f"{REAL}:1234"),
    "v2-ipv6": (v2("2001:db8::7", "2001:db8::1", 1234, 443), "[2001:db8::7]:1234"),
    "v2-tlvs": (v2(REAL, TO, 1234, 443, [(NOOP, b""), (0xee, b"x" * 300), (UNIQUE_ID, b"id")], with_crc=True), f"{REAL}:1234"),
    "v2-unix": (raw_v2(0x21, 0x31, b"\0" * 216), "unix"),
}
LOCAL = {
    "v1-unknown": b"PROXY UNKNOWN\r\n",
    "v1-unknown-with-more": b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n",
    "v2-local": raw_v2(0x20, 0, b""),
    "v2-local-with-more": raw_v2(0x20, 0x11, b"x" * 20),
    "v2-unspec": raw_v2(0x21, 0, b""),
}
WRONG = {
    "none": (b"GET / HTTP/1.1\r\n\r\n", "no PROXY header"),
    "v1-family": (b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", "TCP4"),
    "v1-address": (b"PROXY TCP4 1.2.3.456 1.2.3.4 1 2\r\n", "address"),
    "v1-port": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "port"),
    "v1-no-cr": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "CR LF"),
    "v1-too-long": (b"PROXY UNKNOWN " + b"x" * 100, "107"),
    "v2-version": (raw_v2(0x31, 0x11, b"\0" * 12), "version"),
    "v2-command": (raw_v2(0x22, 0x11, b"\0" * 12), "command"),
    "v2-family": (raw_v2(0x21, 0x41, b"\0" * 12), "family"),
    "v2-short": (raw_v2(0x21, 0x21, b"\0" * 12), "too short"),
    "v2-tlv": (raw_v2(0x21, 0x11, b"\0" * 12 + b"\4\0\5ab"), "TLV"),
    "v2-crc": (v2(REAL, TO, 1, 2, with_crc=True)[:-1] + b"\0", "checksum"),
    "v2-huge": (raw_v2(0x21, 0x11, b"\0" * 9000), "8192"),
}


def proxied(stent, backend, mode="require", **keys):
    return stent.route(backend.text, accept_proxy=mode, **{"proxy_from": "127.0.0.0/8, ::1", **keys})


def flows(s):
    return s.ask("flows")


# --- from the client ---

@pytest.mark.parametrize("name", HEADERS)
def test_the_client_is_the_one_that_the_header_names(stent, raw_backend, name):
    header, real = HEADERS[name]
    s = proxied(stent, raw_backend)
    client = s.connect()
    client.send_all(header + b"PROXY not a second header")
    backend = raw_backend.accept()
    assert backend.recv_exact(25) == b"PROXY not a second header"
    backend.send_all(b"answer")
    assert client.recv_exact(6) == b"answer"
    flow, = flows(s)
    assert (flow["client"]["address"], flow["client_peer"]) == (real, f"{HOST}:{client.port}")
    assert (flow["client"]["bytes"], flow["backend"]["bytes"]) == (25, 6)
    peer = f"{HOST}:{client.port}"
    client.half_close()
    backend.expect_fin()
    backend.close()
    client.expect_fin()
    end = s.flow_end()
    assert (end["client"], end["client_peer"], end["reason"], end["client_bytes"]) == (real, peer, "client-fin", 25)


def test_a_header_may_be_cut_anywhere(stent, echo):
    """Many flows at once: each header cut at one byte, the rest of it comes with the payload."""
    header = v2(REAL, TO, 1234, 443, [(UNIQUE_ID, b"x" * 20)], with_crc=True)
    cases = [(header, cut) for cut in range(1, len(header))] + [(v1(REAL, TO, 1, 2), cut) for cut in range(1, len(v1(REAL, TO, 1, 2)))]
    s = proxied(stent, echo)
    clients = [s.connect() for _ in cases]
    for client, (header, cut) in zip(clients, cases):
        client.send_all(header[:cut])
    wait_for(lambda: len(flows(s)) == len(cases), what="all flows")
    assert all(flow["state"] == "waiting-for-client" and flow["backend"]["verdict"] == "waiting" for flow in flows(s))
    assert echo.connections == 0
    for client, (header, cut) in zip(clients, cases):
        client.send_all(header[cut:] + b"payload of %d" % cut)
    for client, (header, cut) in zip(clients, cases):
        assert client.recv_exact(len(b"payload of %d" % cut)) == b"payload of %d" % cut
        client.close()


def test_a_header_may_come_byte_by_byte(stent, echo):
    s = proxied(stent, echo)
    client = s.connect()
    for byte in v2(REAL, TO, 1234, 443) + b"xyz":
        client.send_all(bytes([byte]))
        time.sleep(0.001)
    assert client.recv_exact(3) == b"xyz"


@pytest.mark.parametrize("name", LOCAL)
def test_a_health_check_is_relayed_as_itself(stent, echo, name):
    s = proxied(stent, echo)
    client = s.connect()
    peer = f"{HOST}:{client.port}"
    client.send_all(LOCAL[name] + b"check")
    assert client.recv_exact(5) == b"check"
    flow, = flows(s)
    assert (flow["client"]["address"], flow["client_peer"]) == (peer, None)
    client.close()
    end = s.flow_end()
    assert end["client"] == peer and "client_peer" not in end


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_header_is_denied(stent, raw_backend, name):
    data, why = WRONG[name]
    s = proxied(stent, raw_backend)
    client = s.connect()
    with contextlib.suppress(ConnectionError):
        client.send_all(data)
    client.expect_reset()
    end = s.flow_end()
    assert end["reason"] == "denied" and why in end["cause"]
    raw_backend.expect_no_connection(0.05)


def test_who_may_send_a_header(stent, echo):
    s = stent.route(echo.text, accept_proxy="require", proxy_from="10.0.0.0/8, 127.0.0.2")
    s.expect_refusal()
    end = s.flow_end()
    assert end["reason"] == "denied" and "proxy_from" in end["cause"] and end["client"].startswith(HOST)
    balancer = s.connect(source=("127.0.0.2", 0))
    balancer.send_all(HEADERS["v1"][0] + b"x")
    assert balancer.recv_exact(1) == b"x"
    assert flows(s)[0]["client_peer"].startswith("127.0.0.2:")


def test_accept_takes_clients_with_and_without(stent, echo):
    s = stent.route(echo.text, accept_proxy="accept", proxy_from=HOST, handshake_timeout="300ms")
    with s.connect() as client:
        client.send_all(HEADERS["v2"][0] + b"with")
        assert client.recv_exact(4) == b"with"
    assert s.flow_end()["client"] == f"{REAL}:1234"
    for data in (b"plain", b"PROXY", b"PROXYTCP4 ", b"\r\n\r\n", b"P"):
        with s.connect() as client:
            client.send_all(data)
            assert client.recv_exact(len(data)) == data	# what may begin a header: after handshake_timeout
            assert flows(s)[0]["client"]["address"] == f"{HOST}:{client.port}"
        assert "client_peer" not in s.flow_end()
    # A stranger's header is its stream.
    with s.connect(source=("127.0.0.3", 0)) as client:
        client.send_all(HEADERS["v1"][0])
        assert client.recv_exact(len(HEADERS["v1"][0])) == HEADERS["v1"][0]
    # One that has begun must be completed.
    with s.connect() as client:
        client.send_all(b"PROXY TCP4 ")
        client.expect_reset()
    assert "handshake_timeout" in s.flow_end(reason="denied")["cause"]


def test_accept_does_not_hold_a_client_whose_server_speaks_first(stent, raw_backend):
    s = stent.route(raw_backend.text, accept_proxy="accept", proxy_from=HOST, handshake_timeout="200ms")
    client = s.connect()
    backend = raw_backend.accept()
    backend.send_all(b"greeting")
    assert client.recv_exact(8) == b"greeting"
    client.send_all(v1(REAL, TO, 1, 2))		# too late to be one
    assert backend.recv_exact(len(v1(REAL, TO, 1, 2))) == v1(REAL, TO, 1, 2)


def test_clients_that_leave_before_their_header_is_complete(stent, raw_backend):
    s = proxied(stent, raw_backend, handshake_timeout="300ms")
    client = s.connect()
    client.close()
    assert s.flow_end()["reason"] == "client-fin"
    client = s.connect()
    client.send_all(b"PROXY TCP4")
    client.half_close()
    client.expect_reset()
    end = s.flow_end()
    assert end["reason"] == "denied" and "inside its PROXY header" in end["cause"]
    client = s.connect()
    client.send_all(b"PROXY TCP4")
    wait_for(lambda: flows(s), what="the flow")
    client.reset()
    assert s.flow_end()["reason"] == "client-reset"
    client = s.connect()
    client.expect_reset()
    assert "handshake_timeout" in s.flow_end(reason="denied")["cause"]
    raw_backend.expect_no_connection(0.05)


def test_a_balancer_on_a_unix_socket(stent, echo, tmp_path):
    path = tmp_path / "front.sock"
    s = stent.route(echo.text, listen=f"unix:{path}", accept_proxy="require", proxy_from="unix")
    client = connect(f"unix:{path}")
    client.send_all(HEADERS["v2"][0] + b"hello")
    assert client.recv_exact(5) == b"hello"
    flow, = flows(s)
    assert (flow["client"]["address"], flow["client_peer"]) == (f"{REAL}:1234", "unix")
    client.close()
    assert s.flow_end()["client_peer"] == "unix"


def test_thousands_of_flows_find_their_own_balancer(stent, echo):
    s = proxied(stent, echo)
    clients = []
    for i in range(300):
        client = s.connect()
        client.send_all(v1(f"10.0.{i // 250}.{i % 250}", TO, 1000 + i, 443) + b"%03d" % i)
        clients.append(client)
    for i, client in enumerate(clients):
        assert client.recv_exact(3) == b"%03d" % i
    ports = {f"10.0.{i // 250}.{i % 250}:{1000 + i}": f"{HOST}:{client.port}" for i, client in enumerate(clients)}
    shown = s.ask("flows limit=1000")
    assert {f["client"]["address"]: f["client_peer"] for f in shown} == ports
    for client in clients:
        client.close()
    for _ in clients:
        end = s.flow_end()
        assert ports[end["client"]] == end["client_peer"]


# --- to the backend ---

@pytest.mark.parametrize("version", (1, 2))
def test_the_backend_gets_the_client_s_address_first(stent, raw_backend, version):
    s = stent.route(raw_backend.text, send_proxy=f"v{version}", listen=f"{HOST}:{free_port()}, [::1]:{free_port()}")
    for address in s.listen:
        client = connect(address)
        backend = raw_backend.accept()
        header = read(backend)
        name = f"[::1]:{client.port}" if "::1" in address else f"{HOST}:{client.port}"
        assert (header.version, header.command, header.source, header.destination) == (version, "PROXY", name, address)
        assert bool(header.tlvs.get(UNIQUE_ID)) == (version == 2) and header.ssl is None
        client.send_all(b"abc")
        assert backend.recv_exact(3) == b"abc"
        backend.send_all(b"de")
        assert client.recv_exact(2) == b"de"
        client.close()
        backend.expect_fin()
        backend.close()
        end = s.flow_end()
        assert (end["client_bytes"], end["backend_bytes"]) == (3, 2)


def test_each_flow_has_an_id_of_its_own_that_the_log_knows(stent, raw_backend):
    s = stent.route(raw_backend.text, send_proxy="v2", settings={"workers": 2})
    ids = set()
    for _ in range(20):
        with s.connect(), raw_backend.accept() as backend:
            ids.add(read(backend).tlvs[UNIQUE_ID].decode())
    assert len(ids) == 20 and {int(text.split("-")[1]) for text in ids} == {s.flow_start()["id"] for _ in ids}


def test_a_unix_client_has_no_address(stent, raw_backend, tmp_path):
    for version, expected in ((1, (None, None)), (2, ("unix", f"{tmp_path}/l2.sock"))):
        s = stent.route(raw_backend.text, listen=f"unix:{tmp_path}/l{version}.sock", send_proxy=f"v{version}")
        with connect(s.listen[0]) as client:
            backend = raw_backend.accept()
            header = read(backend)
            assert (header.command, header.source, header.destination) == ("PROXY", *expected)
            client.send_all(b"x")
            assert backend.recv_exact(1) == b"x"


def test_a_chain_passes_on_what_the_first_one_knew(stent, raw_backend):
    """client > stent > stent > stent > backend: address, destination and id of the first arrive."""
    ports = [free_port() for _ in range(3)]
    s = stent(f"""
[route first]
listen = {HOST}:{ports[0]}
backend = {HOST}:{ports[1]}
send_proxy = v2
[route second]
listen = {HOST}:{ports[1]}
backend = {HOST}:{ports[2]}
accept_proxy = require
proxy_from = {HOST}
send_proxy = v2
[route third]
listen = {HOST}:{ports[2]}
backend = {raw_backend.text}
accept_proxy = require
proxy_from = {HOST}
send_proxy = v2
""")
    client = connect(ports[0])
    client.send_all(b"hello")
    backend = raw_backend.accept()
    header = read(backend)
    assert (header.source, header.destination) == (f"{HOST}:{client.port}", f"{HOST}:{ports[0]}")
    assert backend.recv_exact(5) == b"hello"
    shown = {f["route"]: f for f in flows(s)}
    assert {f["client"]["address"] for f in shown.values()} == {f"{HOST}:{client.port}"}
    assert shown["first"]["client_peer"] is None and shown["second"]["client_peer"] != shown["third"]["client_peer"]
    assert header.tlvs[UNIQUE_ID].decode().endswith(f"-{shown['first']['id']}")


def test_health_checks_stay_health_checks_in_a_chain(stent, raw_backend):
    s = stent.route(raw_backend.text, accept_proxy="require", proxy_from=HOST, send_proxy="v2")
    for name, command in (("v2-local", "LOCAL"), ("v1-unknown", "PROXY"), ("v2-unspec", "PROXY")):
        with s.connect() as client:
            client.send_all(LOCAL[name] + b"x")
            with raw_backend.accept() as backend:
                header = read(backend)
                assert (header.command, header.source, header.destination) == (command, None, None)
                assert backend.recv_exact(1) == b"x"


def test_a_backend_that_refuses_with_a_message_is_heard(stent, raw_backend):
    """It sends its error and is gone, perhaps before it got the header."""
    s = stent.route(raw_backend.text, send_proxy="v2")
    for _ in range(20):
        client = s.connect()
        backend = raw_backend.accept()
        backend.send_all(b"too many connections")
        backend.close()			# the header is unread: a reset
        with contextlib.suppress(ConnectionResetError):
            got = b""
            while piece := client.recv_some():
                got += piece
        assert got == b"too many connections"
        client.close()


SHORT_WRITES = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/socket.h>

/* The first send() of a header takes 5 bytes of it. */
ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	static ssize_t (*real)(int, const void *, size_t, int);
	static int calls;

	if (real == NULL)
		real = (ssize_t (*)(int, const void *, size_t, int))dlsym(RTLD_NEXT, "send");
	if (len > 16 && memcmp(buf, "\r\n\r\n\0\r\nQUIT\n", 12) == 0 && calls++ == 0)
		return real(fd, buf, 5, flags);
	return real(fd, buf, len, flags);
}
"""


@pytest.mark.plain
def test_a_header_that_the_socket_takes_in_parts(stent, raw_backend, tmp_path):
    """No byte of the client gets before the rest of it."""
    (tmp_path / "short.c").write_text(SHORT_WRITES)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "short.so", tmp_path / "short.c", "-ldl"], check=True, timeout=60)
    s = stent.route(raw_backend.text, send_proxy="v2", settings={"env": {"LD_PRELOAD": str(tmp_path / "short.so")}})
    client = s.connect()
    client.send_all(b"hello")
    backend = raw_backend.accept()
    begun = backend.recv_exact(5)
    backend.expect_quiet()
    backend.send_all(b"greeting")	# an event on the socket, as a full one has when it can be written to again
    length = int.from_bytes((begun + backend.recv_exact(11))[14:16], "big")
    backend.recv_exact(length)
    assert backend.recv_exact(5) == b"hello" and client.recv_exact(8) == b"greeting"
    client.close()
    backend.close()
    end = s.flow_end()
    assert (end["client_bytes"], end["backend_bytes"]) == (5, 8)


@pytest.mark.parametrize("version", (1, 2))
def test_a_health_check_has_a_header_of_its_own(stent, version):
    """But not on another port: what answers there is another program."""
    fast = {"health_interval": "100ms", "health_timeout": "2s"}
    with harness.RawBackend() as plain, harness.RawBackend() as web, harness.RawBackend() as other:
        s = stent.route(plain.text, send_proxy=f"v{version}", health="tcp", **fast)
        check = plain.accept()
        header = read(check)
        own = f"{HOST}:{check.sock.getpeername()[1]}"
        assert (header.command, header.source, header.destination) == (("PROXY", own, plain.text) if version == 1 else ("LOCAL", None, None))
        check.expect_fin()
        s = stent.route(web.text, send_proxy=f"v{version}", health="http:///ready", **fast)
        check = web.accept()
        assert read(check).version == version
        assert check.recv_exact(10) == b"GET /ready"
        check.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        s = stent.route(plain.text, send_proxy=f"v{version}", health=f"http://:{other.port}/", **fast)
        assert other.accept().recv_exact(5) == b"GET /"


# --- with TLS ---

def tls_client(sock, certificates, pair=None, alpn=None, name="localhost"):
    context = tls_ends.client_context(certificates)
    if pair:
        context.load_cert_chain(pair.cert, pair.key)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context.wrap_socket(sock, server_hostname=name)


def test_tls_of_the_client_begins_behind_the_header(stent, echo, certificates):
    s = proxied(stent, echo, client__tls="require", client__tls_cert=certificates.good.cert, client__tls_key=certificates.good.key)
    client = s.connect()
    client.send_all(HEADERS["v2-tlvs"][0])
    with tls_client(client.sock, certificates) as tls:
        tls.sendall(b"secret")
        assert tls.recv(100) == b"secret"
        assert flows(s)[0]["client"]["address"] == f"{REAL}:1234"
        assert flows(s)[0]["client"]["tls"].startswith("TLS")
    # A ClientHello in the same packet: by a socket that gathers.
    client = s.connect()
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    client.send_all(HEADERS["v1"][0])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    obj = tls_ends.client_context(certificates).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        obj.do_handshake()
    client.send_all(outgoing.read())
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    while True:
        incoming.write(client.recv_some())
        try:
            obj.do_handshake()
            break
        except ssl.SSLWantReadError:
            continue
    obj.write(b"again")
    client.send_all(outgoing.read())
    incoming.write(client.recv_some())
    with contextlib.suppress(ssl.SSLWantReadError):
        assert obj.read() == b"again"


@pytest.mark.parametrize("version", (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))
def test_the_header_tells_of_the_client_s_tls(stent, raw_backend, certificates, version):
    s = stent.route(raw_backend.text, send_proxy="v2", client__tls="require", client__tls_cert=certificates.good.cert,
                    client__tls_key=certificates.good.key, client__tls_ca=certificates.ca, protocol="http")
    context = tls_ends.client_context(certificates, version=version)
    context.load_cert_chain(certificates.client.cert, certificates.client.key)
    context.set_alpn_protocols(["http/1.1"])
    session = None
    for resumed in (False, True):
        with context.wrap_socket(s.connect().sock, server_hostname="db.test", session=session) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            backend = raw_backend.accept()
            header = read(backend)
            bits, verify, facts = header.ssl
            backend.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            tls.recv(100)
            session = tls.session
            assert (bits, verify) == (5 if tls.session_reused else 7, 0) and tls.session_reused == resumed
            assert facts[SSL_VERSION].decode() == tls.version() and facts[SSL_CIPHER].decode() == tls.cipher()[0]
            assert facts[SSL_CN] == b"client"
            assert header.tlvs[ALPN] == b"http/1.1"
            if not (resumed and version == ssl.TLSVersion.TLSv1_2):	# there OpenSSL does not say it
                assert header.tlvs[AUTHORITY] == b"db.test"
            backend.close()


def test_the_header_is_before_the_backend_s_tls(stent, raw_backend, certificates):
    s = stent.route(raw_backend.text, send_proxy="v2", backend__tls="verify", backend__tls_ca=certificates.ca)
    client = s.connect()
    client.send_all(b"hello")
    backend = raw_backend.accept()
    assert read(backend).source == f"{HOST}:{client.port}"
    with tls_ends.server_context(certificates).wrap_socket(backend.sock, server_side=True) as tls:
        assert tls.recv(100) == b"hello"
        tls.sendall(b"hi")
        assert client.recv_exact(2) == b"hi"


# --- settings ---

def test_new_settings_are_for_new_flows(stent, raw_backend):
    s = stent.route(raw_backend.text)
    old = s.connect()
    old.send_all(b"old")
    assert raw_backend.accept().recv_exact(3) == b"old"
    with open(s.ini_path, "a") as f:
        f.write("send_proxy = v1\naccept_proxy = require\nproxy_from = 127.0.0.1\n")
    s.signal(signal.SIGHUP)

    def sends():
        client = s.connect()
        client.send_all(HEADERS["v1"][0] + b"new")
        backend = raw_backend.accept()
        first = backend.recv_exact(len(HEADERS["v1"][0] + b"new"))
        return first == HEADERS["v1"][0] + b"new"
    wait_for(sends, what="the new settings")
    old.send_all(b"still")
    assert raw_backend.accepted[0].recv_exact(5) == b"still"


def test_limits_and_access_rules_go_by_the_real_client(stent, echo):
    s = stent.route(echo.text, accept_proxy="require", proxy_from=HOST, deny="203.0.113.0/24", max_flows_per_client="2")
    denied = s.connect()
    with contextlib.suppress(ConnectionError):
        denied.send_all(HEADERS["v2"][0] + b"x")
    denied.expect_reset()
    assert s.flow_end()["reason"] == "denied"
    taken = []
    for i in range(4):		# two of each, all from one balancer
        client = s.connect()
        client.send_all(v1(f"192.0.2.{i % 2}", TO, 1000 + i, 443) + b"x")
        assert client.recv_exact(1) == b"x"
        taken.append(client)
    for _ in range(2):
        third = s.connect()
        with contextlib.suppress(ConnectionError):
            third.send_all(v1("192.0.2.0", TO, 2000, 443) + b"x")
        third.expect_reset()
        assert s.flow_end()["reason"] == "limit"
    taken[0].close()
    s.flow_end(reason="client-fin")
    client = s.connect()
    client.send_all(v1("192.0.2.0", TO, 2001, 443) + b"x")
    assert client.recv_exact(1) == b"x"


def test_hash_client_goes_by_the_real_client(stent):
    with harness.EchoBackend() as one, harness.EchoBackend() as two:
        s = stent.route(f"{one.text}, {two.text}", accept_proxy="require", proxy_from=HOST, balance="hash-client")
        chosen = {}
        for i in range(40):
            with s.connect() as client:
                client.send_all(v1(f"192.0.2.{i % 10}", TO, 1000 + i, 443) + b"x")
                assert client.recv_exact(1) == b"x"
            end = s.flow_end()
            chosen.setdefault(end["client"].rsplit(":", 1)[0], set()).add(end["backend"])
        assert len(chosen) == 10 and all(len(backends) == 1 for backends in chosen.values())
        assert len(set.union(*chosen.values())) == 2


def test_an_address_mapped_into_ipv6_is_judged_as_ipv4(stent, echo):
    s = stent.route(echo.text, accept_proxy="require", proxy_from=HOST, deny=f"{REAL}/32")
    client = s.connect()
    with contextlib.suppress(ConnectionError):
        client.send_all(v2(f"::ffff:{REAL}", "::ffff:1.2.3.4", 1, 2))
    client.expect_reset()
    assert s.flow_end()["reason"] == "denied"


@pytest.mark.parametrize("lines, complaint", [
    ("accept_proxy = require", "proxy_from = NETWORK"),
    ("proxy_from = 10.0.0.0/8", "no PROXY header is read"),
    ("accept_proxy = require\nproxy_from = 10.0.0.0/33", "10.0.0.0/33"),
    ("accept_proxy = require\nproxy_from = 10.0.0.0/8,,unix", "write a network between the commas"),
    ("accept_proxy = maybe\nproxy_from = unix", "accept_proxy"),
    ("send_proxy = v3", "v1"),
])
def test_settings_that_do_not_fit_together(tmp_path, lines, complaint):
    path = tmp_path / "x.ini"
    path.write_text(f"[route t]\nlisten = 127.0.0.1:1\nbackend = 127.0.0.1:2\n{lines}\n")
    r = harness.run_stent("check", "-c", path)
    assert r.returncode == 2 and complaint in r.stderr, r.stderr


def test_settings_that_are_warned_of(tmp_path):
    path = tmp_path / "x.ini"
    path.write_text(f"[route t]\nlisten = 127.0.0.1:1, unix:{tmp_path}/x\nbackend = 127.0.0.1:2\nprotocol = mysql\n"
                    "accept_proxy = accept\nproxy_from = 10.0.0.0/8\n")
    r = harness.run_stent("check", "-c", path)
    assert r.returncode == 0 and "add the word" in r.stderr and "handshake_timeout" in r.stderr, r.stderr
    assert "proxy_from = 10.0.0.0/8" in r.stdout and "send_proxy = off" in r.stdout
