"""PostgreSQL with TLS on either leg: a server that lets the role `app` in by TLS and SCRAM only, and real clients."""

import asyncio
import functools
import hashlib
import itertools
import os
import pathlib
import re
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time

import harness
import psycopg
import psycopg2
import pytest
from pgwire import message
from servers.postgres import tool

pytestmark = pytest.mark.plain

HERE = pathlib.Path(__file__).resolve().parent
PGJDBC = "/usr/share/java/postgresql.jar"
BEATS = {"heartbeat": "2ms", "heartbeat_while_busy": "on"}
IDLE = 0.6 * harness.SLOW	# seconds: many heartbeats, at one each 2 ms
SSL_REQUEST = struct.pack(">II", 8, 80877103)


@pytest.fixture(scope="module")
def server(certificates):
    from servers.postgres import Postgres
    server = Postgres()
    server.use_certificate(certificates.good, certificates.ca)
    yield server
    server.close()


class Routes:
    """Ways through stent, by name: which leg has TLS."""

    def __init__(self, stent, server, certificates):
        self.stent, self.server, self.certificates = stent, server, certificates

    def __call__(self, way, **keys):
        c = self.certificates
        shown = {"client__tls": "require", "client__tls_cert": c.good.cert, "client__tls_key": c.good.key}
        asked = {"backend__tls": "verify", "backend__tls_ca": c.ca}
        legs = {
            "plain": {}, "client": shown, "backend": asked, "both": {**shown, **asked},
            # a certificate of its own
            "different": {**shown, **asked, "client__tls_cert": c.ip_only.cert, "client__tls_key": c.ip_only.key},
        }
        return self.stent.route(self.server.port, **{"protocol": "postgres", **legs[way], **keys})


@pytest.fixture
def routes(stent, server, certificates):
    return Routes(stent, server, certificates)


def words(s, certificates, way, **more):
    """What libpq takes: for a route whose client's leg has TLS, verified; the role of those whose backend's has it."""
    tls = {"sslmode": "verify-full", "sslrootcert": certificates.ca} if way in ("client", "both", "different") else {"sslmode": "disable"}
    user = "app" if way in ("backend", "both", "different") else "scram"
    return {"host": harness.HOST, "port": s.port, "user": user, "password": "pw", "dbname": "postgres", "gssencmode": "disable",
            "connect_timeout": 10, **tls, **more}


def session(s, certificates, way, **more):
    return psycopg.connect(**words(s, certificates, way, **more), autocommit=True)


def environment(s, certificates, way, **more):
    names = {"dbname": "PGDATABASE"}
    return {**os.environ, **{names.get(key, f"PG{key}".upper()): str(value) for key, value in words(s, certificates, way, **more).items()}}


def server_sees_tls(c):
    return c.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone()[0]


def failure(make, *args, **keys):
    with pytest.raises(psycopg.OperationalError) as caught:
        make(*args, **keys).close()
    return str(caught.value)


# --- libpq's every mode ---

PLAIN, TLS = False, True
NO_SSL, MUST = "does not support SSL", "encrypted connections only"
MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
OUTCOMES = {		# by client.tls: encrypted or not, or what libpq says
    "off": [PLAIN, PLAIN, PLAIN, NO_SSL, NO_SSL, NO_SSL],
    "accept": [PLAIN, PLAIN, TLS, TLS, TLS, TLS],
    "require": [MUST, TLS, TLS, TLS, TLS, TLS],
}


@pytest.mark.parametrize("setting, way", [("off", "backend"), ("accept", "client"), ("accept", "both"), ("require", "client"), ("require", "both")])
def test_every_sslmode(routes, certificates, setting, way):
    s = routes(way, client__tls=setting)
    for mode, outcome in zip(MODES, OUTCOMES[setting], strict=True):
        more = {"sslmode": mode, "sslrootcert": certificates.ca}
        if isinstance(outcome, str):
            assert outcome in failure(session, s, certificates, way, **more), mode
            continue
        with session(s, certificates, way, **more) as c:
            assert bool(c.pgconn.ssl_in_use) == outcome, mode
            assert server_sees_tls(c) == (way != "client")


def test_the_certificate_is_stents_own(routes, certificates):
    """verify-full is held against what stent shows, whatever the server has."""
    wrong = certificates.wrong_name
    s = routes("client", client__tls_cert=wrong.cert, client__tls_key=wrong.key)
    assert "does not match host name" in failure(session, s, certificates, "client")
    session(s, certificates, "client", sslmode="verify-ca").close()
    assert "certificate verify failed" in failure(session, s, certificates, "client", sslrootcert=certificates.other_ca)
    s.flow_end(reason="client-tls")


def test_where_a_client_asks_for_gssapi_first(routes, certificates):
    """GSSENCRequest is answered, and the SSLRequest behind it."""
    s = routes("backend")
    with socket.create_connection((harness.HOST, s.port), 10) as sock:
        sock.sendall(struct.pack(">II", 8, 80877104))
        assert sock.recv(9) == b"N"
        sock.sendall(SSL_REQUEST)
        assert sock.recv(9) == b"N"
        login = message(b"", struct.pack(">I", 196608) + b"user\0app\0\0")
        sock.sendall(login)
        assert sock.recv(9)[:1] == b"R"


def test_a_certificate_of_the_client(routes, certificates):
    """It is asked for with client.tls_ca; libpq shows one."""
    def with_certificate(pair):
        return {"sslcert": pair.cert, "sslkey": pair.key}
    s = routes("both", client__tls_ca=certificates.ca)
    session(s, certificates, "both", **with_certificate(certificates.client)).close()
    for more in ({"sslcert": "/nonexistent"}, with_certificate(certificates.other_client)):
        failure(session, s, certificates, "both", **more)
        assert s.next_event("flow end", reason="client-tls")


def test_a_certificate_toward_the_server(routes, certificates):
    """The server lets `app` in by stent's certificate, without a password."""
    mine = certificates.make("app", "app.test")
    s = routes("backend", backend__tls_cert=mine.cert, backend__tls_key=mine.key)
    with session(s, certificates, "backend", dbname="certified", password="") as c:
        assert c.execute("select client_dn from pg_stat_ssl where pid = pg_backend_pid()").fetchone() == ("/O=stent test/CN=app",)
    s = routes("backend")
    assert "client certificate" in failure(session, s, certificates, "backend", dbname="certified")


# --- SCRAM and its channel binding ---

BINDING = ["disable", "prefer", "require"]
REFUSED = "SCRAM channel binding negotiation error"
BOUND = {
    "backend": [None, None, "channel binding required"],
    "different": [None, REFUSED, "did not offer an authentication method that supports channel binding"],
    "both": [None, None, None],
}


@pytest.mark.parametrize("way", BOUND)
def test_channel_binding(routes, certificates, way):
    """It works where both legs show one certificate; elsewhere a client that insists fails, and is told."""
    s = routes(way)
    for binding, problem in zip(BINDING, BOUND[way], strict=True):
        if problem:
            assert problem in failure(session, s, certificates, way, channel_binding=binding), binding
            continue
        with session(s, certificates, way, channel_binding=binding) as c:
            assert server_sees_tls(c) and c.pgconn.used_password
    notes = s.logged("channel_binding=disable at the client")
    assert len(notes) == (1 if way == "different" else 0)


# --- who is at work ---

def idle_psycopg2(s, certificates, way):
    c = psycopg2.connect(**words(s, certificates, way))
    c.autocommit = True
    with c.cursor() as k:
        k.execute("select pg_backend_pid()")
        pid = k.fetchone()
        time.sleep(IDLE)
        k.execute("select pg_backend_pid()")
        assert k.fetchone() == pid
    assert c.notices == [] and c.notifies == []
    c.close()


def idle_psycopg(s, certificates, way):
    with session(s, certificates, way) as c:
        pid = c.execute("select pg_backend_pid()").fetchone()
        time.sleep(IDLE)
        assert c.execute("select pg_backend_pid()").fetchone() == pid


def asyncpg_session(s, certificates, way):
    import asyncpg
    w = words(s, certificates, way)
    context = ssl.create_default_context(cafile=certificates.ca) if "sslrootcert" in w else False
    return asyncpg.connect(host=w["host"], port=s.port, user=w["user"], password="pw", database="postgres", ssl=context)


def idle_asyncpg(s, certificates, way):
    async def go():
        c = await asyncpg_session(s, certificates, way)
        pid = await c.fetchval("select pg_backend_pid()")
        await asyncio.sleep(IDLE)
        assert await c.fetchval("select pg_backend_pid()") == pid
        assert len(await c.fetch("select generate_series(1, 50000)")) == 50000
        await c.close()
    asyncio.run(go())


def run(*command, env, timeout=60, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=env, timeout=harness.patient(timeout), **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def node(s, certificates, way):
    env = environment(s, certificates, way)
    if way != "backend":
        env["TEST_TLS_CA"] = str(certificates.ca)
    del env["PGSSLMODE"]
    env.pop("PGSSLROOTCERT", None)
    for mode, number in (("idle", int(IDLE * 1000)), ("mix", 5)):
        assert run("node", HERE / "clients" / "pg.js", s.port, mode, number, env=env, cwd=HERE, stdin=subprocess.DEVNULL) == "ok\n"


@functools.cache
def pgjdbc_classes():
    directory = tempfile.TemporaryDirectory(prefix="stent-pgjdbc-")
    subprocess.run(["javac", "-cp", PGJDBC, "-d", directory.name, HERE / "clients" / "Pgjdbc.java"], check=True,
                   timeout=60 * harness.SLOW)
    return directory


def pgjdbc(s, certificates, way):
    w = words(s, certificates, way)
    w["sslmode"] = f"{w['sslmode']}" + (f"&sslrootcert={w['sslrootcert']}" if "sslrootcert" in w else "")
    with_ = "&".join(f"{key}={w[key]}" for key in ("user", "password", "sslmode"))
    for mode, number in (("idle", int(IDLE * 1000)), ("mix", 5)):
        assert run("java", f"-Dwith={with_}", "-cp", f"{PGJDBC}:{pgjdbc_classes().name}", "Pgjdbc", s.port, mode, number,
                   env=os.environ) == "ok\n"


@pytest.mark.parametrize("driver", [idle_asyncpg, node, pgjdbc])
def test_drivers_without_channel_binding_need_no_certificate_of_the_server(routes, certificates, driver):
    s = routes("different")
    driver(s, certificates, "different")
    assert not s.logged("channel_binding")


# What starts slowly, with TLS on both legs only: one leg is the same to it, or as in test_postgres_clients.py.
@pytest.mark.parametrize(("driver", "way"), [
    *itertools.product([idle_psycopg2, idle_psycopg, idle_asyncpg], ["client", "backend", "both"]), (node, "both"), (pgjdbc, "both"),
    *(pytest.param(driver, way, marks=pytest.mark.long) for driver in (node, pgjdbc) for way in ("client", "backend"))])
def test_drivers_with_heartbeats_inside_tls(routes, certificates, driver, way):
    s = routes(way, **BEATS)
    driver(s, certificates, way)
    end = s.flow_end()
    assert end["protocol"] == "postgres"
    assert end["client_heartbeats"] >= 20 and end["backend_heartbeats"] >= 20


def test_pings_inside_tls_are_replied_to(routes, certificates):
    s = routes("both", heartbeat="2ms", backend__heartbeat_kind="ping")
    idle_psycopg(s, certificates, "both")
    end = s.flow_end()
    assert end["backend_replies"] >= 20
    assert end["client_heartbeats"] >= 20


@pytest.mark.parametrize("way", [pytest.param("client", marks=pytest.mark.long), pytest.param("backend", marks=pytest.mark.long), "both"])
def test_copy_and_big_results(routes, certificates, way, tmp_path):
    s = routes(way, **BEATS)
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_text("".join(f"{i}\t{hashlib.md5(str(i).encode()).hexdigest() * 3}\n" for i in range(50_000)))
    run("psql", "-X", "-q", "-c", "create temp table z(a int, b text)", "-c", f"\\copy z from '{source}'", "-c", "select pg_sleep(0.1)",
        "-c", f"\\copy z to '{back}'", env=environment(s, certificates, way))
    assert back.read_bytes() == source.read_bytes()
    with session(s, certificates, way) as c:
        assert len(c.execute("select repeat('x', 1000) from generate_series(1, 30000)").fetchall()) == 30000
        assert c.execute("select repeat('y', 30000000)").fetchone() == ("y" * 30_000_000,)


# --- cancel requests ---

def wait_for_query(server, sleep):
    harness.wait_for(lambda: server.value(f"select count(*) from pg_stat_activity where state = 'active' and query like '%sleep({sleep})%'"
                                          " and pid <> pg_backend_pid()") == 1, what="the query to run")


def wait_for_no_query(server, sleep):
    harness.wait_for(lambda: server.value(f"select count(*) from pg_stat_activity where state = 'active' and query like '%sleep({sleep})%'"
                                          " and pid <> pg_backend_pid()") == 0, what="the query to end")


@pytest.mark.parametrize("way", ["client", "backend", "both"])
def test_libpq_cancels(routes, server, certificates, way):
    """libpq 15 sends the request in the clear, whatever the session has; client.tls = require lets it pass."""
    s = routes(way)
    c = psycopg2.connect(**words(s, certificates, way))
    threading.Thread(target=lambda: (wait_for_query(server, 41), c.cancel())).start()
    with pytest.raises(psycopg2.errors.QueryCanceled):
        c.cursor().execute("select pg_sleep(41)")
    c.close()


def test_psql_is_interrupted(routes, server, certificates):
    s = routes("both")
    psql = subprocess.Popen(["psql", "-X", "-c", "select pg_sleep(42)"], env=environment(s, certificates, "both"), stderr=subprocess.PIPE)
    wait_for_query(server, 42)
    psql.send_signal(signal.SIGINT)
    assert b"canceling statement due to user request" in psql.communicate(timeout=20 * harness.SLOW)[1]


def test_asyncpg_cancels_over_tls(routes, server, certificates):
    s = routes("both")

    async def go():
        c = await asyncpg_session(s, certificates, "both")
        with pytest.raises(asyncio.TimeoutError):
            await c.fetchval("select pg_sleep(43)", timeout=0.3 * harness.SLOW)
        assert await c.fetchval("select 7") == 7
        await c.close()
    asyncio.run(go())
    wait_for_no_query(server, 43)


@pytest.mark.parametrize("way", ["client", "backend", "both"])
def test_a_dead_clients_query_is_cancelled_over_tls(routes, server, certificates, way):
    s = routes(way, cancel_on_death="on")
    c = session(s, certificates, way)
    c.pgconn.send_query(b"select pg_sleep(44)")
    wait_for_query(server, 44)
    sock = socket.socket(fileno=os.dup(c.fileno()))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(c.fileno())
    sock.close()
    wait_for_no_query(server, 44)
    assert s.flow_end()["reason"] == "client-reset"


# --- what goes wrong ---

WRONG = {	# of the server: what stent asks for, and what it says
    "ca": ({"backend__tls_ca": "other_ca"}, "self-signed|unknown|not signed|issuer"),
    "name": ({"backend__tls_name": "other.test"}, "other.test"),
}


@pytest.mark.parametrize("way", ["backend", "both"])
@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_server_is_told_to_the_client(routes, certificates, what, way):
    keys, cause = WRONG[what]
    s = routes(way, **{key: getattr(certificates, value, value) for key, value in keys.items()})
    text = failure(session, s, certificates, way)
    end = s.flow_end()
    assert end["reason"] == "backend-tls"
    assert "stent cannot connect to the database server" in text and re.search(cause, text), text


@pytest.fixture
def plain_postgres(postgres):
    """The server that all tests share; some of them turn its TLS on."""
    def turn(ssl):
        postgres.sql(f"alter system set ssl = {ssl}", "select pg_reload_conf()")
        harness.wait_for(lambda: postgres.value("show ssl") == ssl, what=f"ssl = {ssl}")
    before = postgres.value("show ssl")
    turn("off")
    yield postgres
    turn(before)


@pytest.mark.parametrize("way", ["backend", "both"])
def test_a_server_without_tls_is_told_to_the_client(stent, plain_postgres, certificates, way):
    s = Routes(stent, plain_postgres, certificates)(way)
    assert "the server offers no TLS" in failure(session, s, certificates, way)
    assert s.flow_end()["reason"] == "backend-tls"


@pytest.mark.parametrize("answer", [b"", b"E", b"HTTP/1.1 400", b"SR\0\0"])
def test_an_odd_server_is_told_to_the_client(stent, raw_backend, certificates, answer):
    s = stent.route(raw_backend.text, protocol="postgres", backend__tls="verify", backend__tls_ca=certificates.ca)
    got = []
    thread = threading.Thread(target=lambda: got.append(failure(session, s, certificates, "backend")))
    thread.start()
    with raw_backend.accept() as peer:
        assert peer.recv_exact(8) == SSL_REQUEST
        peer.send_all(answer)
        if not answer:
            peer.close()
        thread.join(10 * harness.SLOW)
    assert "stent cannot connect to the database server: the server " in got[0]
    assert s.flow_end()["reason"] == "backend-tls"


def test_bytes_in_the_clear_behind_a_request_are_refused(routes):
    s = routes("both")
    with s.connect() as c:
        c.send_all(SSL_REQUEST + b"\0\0\0\x0b\0\3\0\0x\0\0")
        assert b"received unencrypted data after SSL request" in c.recv_all()
    assert s.flow_end()["reason"] == "client-tls"


# --- TLS from the first byte, and chains ---

def test_direct_tls(routes, certificates):
    """As libpq 17 does with sslnegotiation=direct, which demands the ALPN name."""
    s = routes("both")
    context = ssl.create_default_context(cafile=certificates.ca)
    context.set_alpn_protocols(["postgresql"])
    with socket.create_connection((harness.HOST, s.port), 10) as sock, context.wrap_socket(sock, server_hostname="localhost") as c:
        assert c.selected_alpn_protocol() == "postgresql"
        c.sendall(message(b"", struct.pack(">I", 196608) + b"user\0app\0\0"))
        assert c.recv(100).startswith(b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0")	# one certificate: it is left in
    assert s.flow_end()["protocol"] == "postgres"


def test_direct_tls_toward_the_backend(stent, routes, certificates):
    """The backend is another stent, which takes it."""
    behind = routes("both")
    s = stent.route(behind.port, protocol="postgres", backend__tls="verify", backend__tls_ca=certificates.ca, backend__tls_start="direct")
    idle_psycopg(s, certificates, "backend")


@pytest.mark.parametrize("start", ["negotiate", "direct"])
def test_the_backend_is_told_what_is_spoken(stent, raw_backend, certificates, start):
    """ALPN, without which PostgreSQL 17 refuses TLS from the first byte."""
    serves = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serves.load_cert_chain(certificates.good.cert, certificates.good.key)
    serves.set_alpn_protocols(["http/1.1", "postgresql"])
    s = stent.route(raw_backend.text, protocol="postgres", backend__tls="verify", backend__tls_ca=certificates.ca, backend__tls_start=start)
    login = message(b"", struct.pack(">I", 196608) + b"user\0app\0\0")
    with s.connect() as c:
        c.send_all(login)
        with raw_backend.accept() as peer:
            if start == "negotiate":
                assert peer.recv_exact(8) == SSL_REQUEST
                peer.send_all(b"S")
            with serves.wrap_socket(peer.sock, server_side=True) as b:
                assert b.selected_alpn_protocol() == "postgresql"
                assert b.recv(100) == login


@pytest.mark.parametrize("way", ["client", "backend", "both"])
def test_auto(routes, certificates, way):
    s = routes(way, protocol="auto", **BEATS)
    idle_psycopg(s, certificates, way)
    end = s.flow_end()
    assert end["protocol"] == "postgres"
    assert end["client_heartbeats"] >= 20 and end["backend_heartbeats"] >= 20


def test_auto_finds_http_inside_tls(stent, raw_backend, certificates):
    """TLS from the first byte on both legs, when what is inside is no PostgreSQL."""
    good = certificates.good
    s = stent.route(raw_backend.text, protocol="auto", client__tls="require", client__tls_cert=good.cert, client__tls_key=good.key,
                    backend__tls="verify", backend__tls_ca=certificates.ca)
    serves, asks = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=certificates.ca)
    serves.load_cert_chain(good.cert, good.key)
    asks.set_alpn_protocols(["h2", "http/1.1"])
    got = []

    def backend():
        with raw_backend.accept() as peer, serves.wrap_socket(peer.sock, server_side=True) as b:
            got.append(b.recv(100))
            b.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    thread = threading.Thread(target=backend)
    thread.start()
    with socket.create_connection((harness.HOST, s.port), 10) as sock, asks.wrap_socket(sock, server_hostname="localhost") as c:
        assert c.selected_alpn_protocol() == "http/1.1"
        c.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert c.recv(100).endswith(b"hi")
        thread.join()
    assert got == [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]
    assert s.flow_end()["protocol"] == "http"


def test_a_pooler_behind(stent, server, certificates):
    """PgBouncer with TLS for its clients."""
    from servers.postgres import PgBouncer
    pooler = PgBouncer(server.port, client_tls_sslmode="allow", client_tls_cert_file=certificates.good.cert,
                       client_tls_key_file=certificates.good.key)
    try:
        s = stent.route(pooler.port, protocol="postgres", backend__tls="verify", backend__tls_ca=certificates.ca, **BEATS)
        with session(s, certificates, "plain", user="postgres") as c:
            assert c.execute("select 7").fetchone() == (7,)
            time.sleep(IDLE / 3)
            assert c.execute("select 8").fetchone() == (8,)
        assert s.flow_end()["backend_heartbeats"] == 0	# a pooler gets none
    finally:
        pooler.close()


def test_a_pooler_in_front(stent, routes, certificates):
    """PgBouncer asks for TLS as a client, and verifies stent."""
    from servers.postgres import PgBouncer
    s = routes("client")
    pooler = PgBouncer(s.port, server_tls_sslmode="verify-full", server_tls_ca_file=certificates.ca)
    try:
        with psycopg.connect(pooler.dsn(), autocommit=True) as c:
            assert c.execute("select 7").fetchone() == (7,)
    finally:
        pooler.close()
    assert s.flow_end(timeout=20)["reason"] in ("client-fin", "backend-fin", "client-reset")


def test_pgpool_behind(stent, server, certificates):
    from servers.postgres import PgPool
    pooler = PgPool(server.port, ssl="on", ssl_cert=certificates.good.cert, ssl_key=certificates.good.key)
    try:
        s = stent.route(pooler.port, protocol="postgres", backend__tls="verify", backend__tls_ca=certificates.ca, **BEATS)
        with session(s, certificates, "plain", user="postgres") as c:
            assert c.execute("select 7").fetchone() == (7,)
    finally:
        pooler.close()


def test_pgbench_over_tls(routes, certificates):
    s = routes("both", **BEATS)
    env = environment(s, certificates, "both")
    run(tool("pgbench"), "-i", "-q", "-s", "1", env=env)
    assert "actually processed: 240/240" in run(tool("pgbench"), "-n", "-c", "4", "-t", "60", "-M", "prepared", env=env)
