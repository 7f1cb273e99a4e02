"""The PROXY protocol with those who speak it: HAProxy, nginx and MariaDB, on either side; and databases behind it."""

import json

import psycopg2
import pytest
import tls_ends
from harness import HOST, Peer, connect, free_port, run_stent, wait_for
from pgwire import Raw, message, query
from proxy_headers import read
from servers.haproxy import Haproxy, NginxStream
from servers.mariadb import Mariadb

pytestmark = pytest.mark.plain

# What HAProxy and nginx have read in the header, as the body of a response.
TELLS = '"%[src]:%[src_port] %[dst]:%[dst_port] %[fc_pp_unique_id] %[fc_pp_authority]"'
NGINX_TELLS = "$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr:$proxy_protocol_server_port"


def get(sock):
    """The words of the body of a response."""
    sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    got = b""
    while piece := sock.recv(65536):
        got += piece
    return got.split(b"\r\n\r\n", 1)[1].decode().split()


# --- they send ---

@pytest.mark.parametrize("how", ("send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c", "send-proxy-v2-ssl-cn",
                                 "send-proxy-v2-ssl-cn proxy-v2-options unique-id,ssl,cert-cn,ssl-cipher,crc32c"))
def test_haproxy_before_stent(stent, echo, certificates, how):
    s = stent.route(echo.text, accept_proxy="require", proxy_from=HOST)
    port = free_port()
    with Haproxy(f"""
frontend f
	bind {HOST}:{port} ssl crt {certificates.good.pem}
	unique-id-format %[src]-%[src_port]
	default_backend b
backend b
	server s {HOST}:{s.port} {how}
""", port):
        with tls_ends.client_context(certificates).wrap_socket(connect(port).sock, server_hostname="localhost") as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
            flow, = s.ask("flows")
            assert flow["client"]["address"] == f"{HOST}:{client.getsockname()[1]}" and flow["client_peer"]
            assert flow["client"]["bytes"] == 5


def test_the_checks_of_haproxy_are_no_errors(stent, echo):
    s = stent.route(echo.text, accept_proxy="require", proxy_from=HOST, protocol="redis")
    port = free_port()
    with Haproxy(f"""
frontend f
	bind {HOST}:{port}
	default_backend b
backend b
	server s {HOST}:{s.port} send-proxy-v2 check check-send-proxy inter 50ms
	server t {HOST}:{s.port} send-proxy check check-send-proxy inter 50ms
""", port):
        ends = [s.flow_end() for _ in range(6)]
        assert {e["reason"] for e in ends} <= {"client-fin", "client-reset"}, ends
        with connect(port) as client:		# they are up
            client.send_all(b"PING\r\n")
            assert client.recv_exact(6) == b"PING\r\n"
        assert not s.logged("denied")


def test_nginx_before_stent(stent, echo):
    s = stent.route(echo.text, accept_proxy="require", proxy_from=HOST)
    port = free_port()
    with NginxStream(f"stream {{ server {{ listen {HOST}:{port}; proxy_pass {HOST}:{s.port}; proxy_protocol on; }} }}", port):
        with connect(port) as client:
            client.send_all(b"hello")
            assert client.recv_exact(5) == b"hello"
            flow, = s.ask("flows")
            assert flow["client"]["address"] == f"{HOST}:{client.port}"


@pytest.mark.parametrize("how", ("send-proxy", "send-proxy-v2"))
def test_tls_passes_haproxy_and_ends_at_stent(stent, echo, certificates, how):
    s = stent.route(echo.text, accept_proxy="require", proxy_from=HOST, client__tls="require",
                    client__tls_cert=certificates.good.cert, client__tls_key=certificates.good.key)
    port = free_port()
    with Haproxy(f"listen l\n\tbind {HOST}:{port}\n\tserver s {HOST}:{s.port} {how}\n", port):
        with tls_ends.client_context(certificates).wrap_socket(connect(port).sock, server_hostname="localhost") as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
            flow, = s.ask("flows")
            assert flow["client"]["address"] == f"{HOST}:{client.getsockname()[1]}"


# --- they receive ---

@pytest.mark.parametrize("version", ("v1", "v2"))
@pytest.mark.parametrize("tls", ("plain", "tls"))
def test_stent_before_haproxy(stent, certificates, version, tls):
    port = free_port()
    more = {"backend__tls": "verify", "backend__tls_ca": certificates.ca, "client__tls": "require",
            "client__tls_cert": certificates.good.cert, "client__tls_key": certificates.good.key} if tls == "tls" else {}
    with Haproxy(f"""
frontend f
	mode http
	bind {HOST}:{port} accept-proxy {f"ssl crt {certificates.good.pem}" if tls == "tls" else ""}
	http-request return status 200 content-type text/plain lf-string {TELLS}
""", port):
        s = stent.route(f"{HOST}:{port}", send_proxy=version, **more)
        sock = connect(s.port).sock
        if tls == "tls":
            sock = tls_ends.client_context(certificates).wrap_socket(sock, server_hostname="db.test")
        with sock:
            own = f"{HOST}:{sock.getsockname()[1]}"
            source, destination, *more = get(sock)
        assert (source, destination) == (own, f"{HOST}:{s.port}")
        if version == "v2":
            assert more[0].endswith(f"-{s.flow_end()['id']}") and more[1:] == (["db.test"] if tls == "tls" else [])


@pytest.mark.parametrize("version", ("v1", "v2"))
@pytest.mark.parametrize("tls", ("plain", "tls"))
def test_stent_before_nginx(stent, certificates, version, tls):
    port = free_port()
    secure = f"ssl_certificate {certificates.good.cert}; ssl_certificate_key {certificates.good.key};" if tls == "tls" else ""
    more = {"backend__tls": "verify", "backend__tls_ca": certificates.ca} if tls == "tls" else {}
    with NginxStream(f'http {{ access_log off; server {{ listen {HOST}:{port} {"ssl" if secure else ""} proxy_protocol; {secure} '
                     f'location / {{ return 200 "{NGINX_TELLS}"; }} }} }}', port):
        s = stent.route(f"{HOST}:{port}", send_proxy=version, **more)
        with connect(s.port).sock as sock:
            own = f"{HOST}:{sock.getsockname()[1]}"
            assert get(sock) == [own, f"{HOST}:{s.port}"]


def test_from_haproxy_through_two_to_nginx(stent):
    """The first client's address arrives at the last server."""
    first, last = free_port(), free_port()
    with NginxStream(f'http {{ access_log off; server {{ listen {HOST}:{last} proxy_protocol; location / {{ return 200 "{NGINX_TELLS}"; }} }} }}', last):
        s = stent.route(f"{HOST}:{last}", accept_proxy="require", proxy_from=HOST, send_proxy="v2", name="second")
        r = stent.route(f"{HOST}:{s.port}", accept_proxy="require", proxy_from=HOST, send_proxy="v2", name="first")
        with Haproxy(f"listen l\n\tbind {HOST}:{first}\n\tserver s {HOST}:{r.port} send-proxy-v2\n", first):
            with connect(first).sock as sock:
                own = f"{HOST}:{sock.getsockname()[1]}"
                assert get(sock) == [own, f"{HOST}:{first}"]


# --- databases ---

@pytest.fixture
def between(stent, postgres, certificates):
    """A port: HAProxy > stent > HAProxy > PostgreSQL, with a header on both sides of stent."""
    front, back = free_port(), free_port()
    with Haproxy(f"listen l\n\tbind {HOST}:{back} accept-proxy\n\tserver s {HOST}:{postgres.port}\n", back):
        s = stent.route(f"{HOST}:{back}", protocol="postgres", accept_proxy="require", proxy_from=HOST, send_proxy="v2", heartbeat="20ms",
                        client__tls="accept", client__tls_cert=certificates.good.cert, client__tls_key=certificates.good.key)
        with Haproxy(f"listen l\n\tbind {HOST}:{front}\n\tserver s {HOST}:{s.port} send-proxy-v2\n", front):
            yield s, front


@pytest.mark.parametrize("sslmode", ("disable", "require"))
def test_postgres_between_two_haproxies(between, postgres, sslmode):
    """Its negotiation behind one header, and heartbeats behind another."""
    s, port = between
    c = psycopg2.connect(postgres.dsn(port=port, sslmode=sslmode))
    with c.cursor() as cursor:
        cursor.execute("select 40 + 2")
        assert cursor.fetchone() == (42,)
        c.commit()
        wait_for(lambda: s.ask("flows")[0]["backend"]["replies"] > 2, what="heartbeats")
        cursor.execute("select sum(n) from generate_series(1, 1000) n")
        assert cursor.fetchone() == (500500,)
    c.close()


def test_a_cancel_request_passes_a_haproxy_that_wants_a_header(between, postgres):
    sleeping = "select count(*) from pg_stat_activity where query like 'select pg_sleep(77)%' and state = 'active'"
    with Raw(between[1]) as client:
        client.until(b"Z")
        client.send(query("select pg_sleep(77)"))
        wait_for(lambda: postgres.sql(sleeping)[0][0] == 1, what="the query")
        Peer(client.sock).reset()
        wait_for(lambda: postgres.sql(sleeping)[0][0] == 0, what="its end")


@pytest.fixture(scope="module")
def mariadb_with_headers():
    server = Mariadb("--proxy-protocol-networks=127.0.0.1")
    server.sql("create user far@'127.0.0.5' identified by 'pw'", "grant all on *.* to far@'127.0.0.5'")
    yield server
    server.close()


@pytest.mark.parametrize("version", ("v1", "v2"))
@pytest.mark.parametrize("tls", ("plain", "tls"))
def test_mariadb_knows_the_client(stent, mariadb_with_headers, certificates, version, tls):
    """It lets this user in from 127.0.0.5 alone, and stent connects from 127.0.0.1."""
    more = {"client__tls": "require", "client__tls_cert": certificates.good.cert, "client__tls_key": certificates.good.key} if tls == "tls" else {}
    s = stent.route(f"{HOST}:{mariadb_with_headers.port}", protocol="mysql", send_proxy=version, heartbeat="20ms", **more)
    how = {"ssl_disabled": False, "ssl": {"ca": certificates.ca}} if tls == "tls" else {}
    session = mariadb_with_headers.connect("far", "pw", port=s.port, database=None, bind_address="127.0.0.5", **how)
    with session.cursor() as cursor:
        cursor.execute("select user()")
        assert cursor.fetchone() == ("far@127.0.0.5",)
        wait_for(lambda: s.ask("flows")[0]["backend"]["replies"] > 2, what="heartbeats")
        cursor.execute("select 1")
        assert cursor.fetchone() == (1,)
    session.close()


# --- what the program says ---

def test_the_listing_of_the_command_line_has_the_balancer(stent, echo):
    s = stent.route(echo.text, accept_proxy="require", proxy_from=HOST)
    client = s.connect()
    client.send_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nx")
    assert client.recv_exact(1) == b"x"
    done = run_stent("flows", "--json", "-c", s.ini_path)
    flow, = json.loads(done.stdout)
    assert (flow["client"]["address"], flow["client_peer"]) == ("192.0.2.1:1", f"{HOST}:{client.port}")
    assert json.loads(run_stent("flows", "--json", "--client", "192.0.2.1", "-c", s.ini_path).stdout)
    assert not json.loads(run_stent("flows", "--json", "--client", "192.0.2.9", "-c", s.ini_path).stdout)


def test_a_cancel_request_has_the_header_of_its_client(stent, raw_backend):
    s = stent.route(raw_backend.text, protocol="postgres", accept_proxy="require", proxy_from=HOST, send_proxy="v2")
    client = s.connect()
    client.send_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + (8).to_bytes(4, "big") + (196608).to_bytes(4, "big"))
    backend = raw_backend.accept()
    header = read(backend)
    backend.recv_exact(8)
    backend.send_all(message(b"R", bytes(4)) + message(b"K", bytes([0, 0, 0, 1, 0, 0, 0, 2])) + message(b"Z", b"I"))
    client.recv_exact(9 + 13 + 6)
    client.send_all(query("select pg_sleep(9)"))
    backend.recv_exact(len(query("select pg_sleep(9)")))
    client.reset()
    cancel = raw_backend.accept()
    assert read(cancel) == header and (header.source, header.destination) == ("192.0.2.1:1", "192.0.2.2:2")
    assert cancel.recv_exact(16)[4:8] == (80877102).to_bytes(4, "big")
