"""
MySQL with TLS on either leg, before a real MariaDB that demands it: the login of
each client, heartbeats inside, what a session does, and what is said when it
cannot begin. How MySQL 8 asks for passwords is in test_tls_mysql_passwords.py.
"""

import os
import pathlib
import subprocess
import threading
import time

import harness
import pymysql
import pytest
from programs import PYTHON
from servers.mariadb import PASSWORD, USER, Mariadb
from servers.mysql_like import MysqlLike

pytestmark = pytest.mark.plain

HERE = pathlib.Path(__file__).resolve().parent
ED25519 = "ed"		# a user
BOTH = {"heartbeat": "5ms", "backend__heartbeat_in_transaction": "on"}

# client.tls, backend.tls, and whether the client begins TLS
LEGS = [("off", "verify", False), ("off", "insecure", False), ("accept", "off", False), ("accept", "off", True), ("accept", "verify", False),
        ("accept", "verify", True), ("require", "off", True), ("require", "verify", True)]
MIXED = [("off", "verify", False), ("accept", "off", True), ("require", "verify", True)]


class TlsMariadb(Mariadb):
    """Its own sessions use TLS, unless told otherwise."""

    def connect(self, *args, **more):
        return super().connect(*args, **{"ssl_disabled": False, "ssl": {"check_hostname": False}, **more})


@pytest.fixture(scope="module")
def server(certificates):
    server = TlsMariadb("--plugin-load-add=auth_ed25519", "--require-secure-transport=ON", certificate=certificates.good)
    server.sql(*(s for host in ("127.0.0.1", "localhost") for s in (
        f"create user {ED25519}@{host} identified via ed25519 using password('{PASSWORD}')", f"grant all on *.* to {ED25519}@{host}")))
    yield server
    server.close()


def keys(certificates, client, backend):
    found = dict(BOTH)
    if client != "off":
        found.update(client__tls=client, client__tls_cert=certificates.good.cert, client__tls_key=certificates.good.key)
    if backend != "off":
        found["backend__tls"] = backend
    if backend == "verify":
        found["backend__tls_ca"] = certificates.ca
    return found


@pytest.fixture
def through(stent, server, certificates):
    """Starts stent before the server, which demands TLS where stent has it."""
    def start(client, backend, **more):
        server.sql(f"set global require_secure_transport = {backend != 'off'}")
        return stent.route(server.port, protocol="mysql", **{**keys(certificates, client, backend), **more})
    return start


def tls_of(certificates, tls):
    """For PyMySQL and MySQLdb."""
    return {"ssl_disabled": False, "ssl": {"ca": str(certificates.ca)}} if tls else {"ssl_disabled": True, "ssl": None}


def log_in(server, s, certificates, tls, **more):
    return server.connect(port=s.port, **{**tls_of(certificates, tls), **more})


def refusal(server, s, certificates, tls, **more):
    """The error of a login: its number and text. PyMySQL keeps the connection for as long as the exception lives."""
    try:
        log_in(server, s, certificates, tls, **more).close()
    except pymysql.OperationalError as refused:
        return refused.args
    raise AssertionError("the login was not refused")


def value(session, statement):
    with session.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()


def cipher(session):
    return value(session, "show status like 'Ssl_cipher'")[1]


def expect_followed(s, client_tls, backend_tls, heartbeats=1):
    end = s.flow_end(10)
    assert (end["protocol"], end["reason"], end["client_heartbeats"]) == ("mysql", "client-fin", 0)
    assert end["backend_heartbeats"] >= heartbeats
    assert ("client_tls" in end, "backend_tls" in end) == (client_tls, backend_tls)
    assert "truncated" not in end
    return end


# --- sessions ---

@pytest.mark.parametrize(("client", "backend", "tls"), LEGS)
def test_a_session(through, server, certificates, client, backend, tls):
    s = through(client, backend)
    session = log_in(server, s, certificates, tls)
    assert (cipher(session) != "") == (backend != "off")
    with session.cursor() as cursor:
        cursor.execute("insert into t(v) values (1), (2), (3)")
        time.sleep(0.3 * harness.SLOW)			# heartbeats, which leave no trace
        cursor.execute("select row_count()")
        assert cursor.fetchone() == (3,)
        cursor.execute("select repeat('x', 300000), 1")
        assert cursor.fetchone() == ("x" * 300000, 1)
    session.close()
    end = expect_followed(s, tls, backend != "off", 5)
    assert end["backend_replies"] >= 5


@pytest.mark.parametrize(("client", "backend", "tls"), LEGS)
def test_a_wrong_password_is_refused_by_the_server(through, server, certificates, client, backend, tls):
    """Its error has the number that the client expects, or it would be "packet sequence number wrong"."""
    s = through(client, backend)
    number, text = refusal(server, s, certificates, tls, password="wrong")
    assert number == 1045 and "Access denied" in text
    assert s.flow_end()["protocol"] == "mysql"


@pytest.mark.parametrize(("client", "backend", "tls"), MIXED)
def test_a_change_of_the_user(through, server, certificates, client, backend, tls):
    s = through(client, backend)
    env = {"TLS_CA": str(certificates.ca)} if tls else {}
    assert run("node", HERE / "clients" / "mysql.js", "mysql2", s.port, 3, 100, env=env) == "ok 3\n"	# changes its user each time
    expect_followed(s, tls, backend != "off")


@pytest.mark.parametrize(("client", "backend", "tls"), MIXED)
def test_a_file_is_loaded(through, server, certificates, tmp_path, client, backend, tls):
    path = tmp_path / "rows"
    path.write_text("".join(f"row {n}\n" for n in range(20000)))
    s = through(client, backend)
    session = log_in(server, s, certificates, tls, local_infile=True)
    with session.cursor() as cursor:
        cursor.execute("truncate l")
        assert cursor.execute(f"load data local infile '{path}' into table l") == 20000
        cursor.execute("select count(*) from l where a like 'row %'")
        assert cursor.fetchone() == (20000,)
    session.close()
    expect_followed(s, tls, backend != "off", 0)


@pytest.mark.parametrize(("client", "backend", "tls"), MIXED)
def test_a_running_statement_is_killed(through, server, certificates, client, backend, tls):
    """The statement alone, by another session through stent, and then the whole session."""
    s = through(client, backend)
    session, other = (log_in(server, s, certificates, tls) for _ in range(2))

    def killed(statement):
        killer = threading.Timer(0.3, lambda: value(other, f"{statement} {session.thread_id()}"))
        killer.start()
        try:
            return value(session, "select sleep(20)")
        finally:
            killer.join()
    with pytest.raises(pymysql.OperationalError, match="interrupted"):
        killed("kill query")
    assert value(session, "select 5") == (5,)
    with pytest.raises(pymysql.OperationalError, match="killed|Lost connection"):
        killed("kill")
    assert value(other, "select 6") == (6,)
    other.close()


# --- programs ---

def run(*words, env=None, status=0, timeout=60):
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=harness.patient(timeout), check=False,
                          env={**os.environ, **(env or {})})
    assert (done.returncode == 0) == (status == 0), done.stdout + done.stderr
    return done.stdout if status == 0 else done.stdout + done.stderr


def command_line(s, certificates, tls, *words, user=USER, status=0):
    with_tls = [f"--ssl-ca={certificates.ca}", "--ssl-verify-server-cert"] if tls else ["--skip-ssl"]
    return run("mariadb", "--no-defaults", "-h", harness.HOST, "-P", s.port, f"-u{user}", f"-p{PASSWORD}", *with_tls, "-N", *words, status=status)


@pytest.mark.parametrize(("client", "backend", "tls"), LEGS)
def test_ed25519_which_the_server_switches_to(through, certificates, client, backend, tls):
    s = through(client, backend)
    out = command_line(s, certificates, tls, "-e", "select current_user()", user=ED25519)
    assert out.startswith(f"{ED25519}@")
    expect_followed(s, tls, backend != "off", 0)


@pytest.mark.parametrize(("client", "backend", "tls"), MIXED)
def test_compression_begins_behind_the_login(through, certificates, client, backend, tls):
    s = through(client, backend)
    out = command_line(s, certificates, tls, "--compress", "-e", "show status like 'Compression'; select repeat('z', 100000)").split()
    assert out[:2] == ["Compression", "ON"] and out[2] == "z" * 100000
    assert s.wait_logged("compression")


def python(driver, s, certificates, tls):
    more = {"ssl": {"ca": str(certificates.ca)}} if tls else {}
    return run(PYTHON, "-c", f"import sys, {driver} as d; from ast import literal_eval as e\n"
               "c = d.connect(host=sys.argv[1], port=int(sys.argv[2]), user=sys.argv[3], password=sys.argv[4], **e(sys.argv[5]))\n"
               "k = c.cursor(); k.execute('select 7'); print(k.fetchone()[0]); c.close()",
               harness.HOST, s.port, USER, PASSWORD, more) == "7\n"


def node(driver, s, certificates, tls):
    env = {"TLS_CA": str(certificates.ca)} if tls else {}
    return run("node", HERE / "clients" / "mysql.js", driver, s.port, 2, 50, env=env) == "ok 2\n"


def connector_j(_, s, certificates, tls):
    return run("java", "-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/mariadb-java-client.jar", HERE / "clients" / "ConnectorJ.java",
               s.port, 1, 50, f"useSsl=true&serverSslCert={certificates.ca}" if tls else "useSsl=false") == "ok 1\n"


CLIENTS = {"pymysql": python, "MySQLdb": python, "mysql2": node, "mariadb": node, "Connector/J": connector_j}


# What starts slowly, by default with TLS on both legs only.
@pytest.mark.parametrize(("client", "backend", "tls", "name"), [
    pytest.param(*legs, name, marks=[pytest.mark.long] if CLIENTS[name] is not python and legs != MIXED[-1] else [])
    for name in CLIENTS for legs in MIXED])
def test_clients(through, certificates, client, backend, tls, name):
    s = through(client, backend)
    assert CLIENTS[name](name, s, certificates, tls)
    expect_followed(s, tls, backend != "off", 0)


# --- what cannot go on ---

def test_a_client_without_tls_where_it_is_required(through, server, certificates):
    s = through("require", "verify")
    number, text = refusal(server, s, certificates, False)
    assert number == 3159 and "client.tls = require" in text
    assert "client.tls = require" in command_line(s, certificates, False, "-e", "select 1", status=1)
    for _ in range(2):
        assert s.flow_end()["reason"] == "client-tls"


@pytest.mark.parametrize(("client", "tls"), [("off", False), ("accept", True), ("require", True)])
@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_a_certificate_that_is_not_the_server_s(stent, server, certificates, client, tls, wrong):
    more = {"authority": {"backend__tls_ca": certificates.other_ca}, "name": {"backend__tls_name": "wrong.test"}}[wrong]
    s = stent.route(server.port, protocol="mysql", **{**keys(certificates, client, "verify"), **more})
    number, text = refusal(server, s, certificates, tls)
    end = s.flow_end()
    assert number == 1043 and text == f"stent has no connection to the server: {end['cause']}"
    assert end["reason"] == "backend-tls"


@pytest.mark.parametrize(("client", "tls"), [("off", False), ("require", True)])
def test_a_server_without_tls(stent, certificates, client, tls):
    server = MysqlLike({})
    try:
        s = stent.route(server.port, protocol="mysql", **keys(certificates, client, "verify"))
        with pytest.raises(pymysql.OperationalError, match="the server offers no TLS, which backend.tls of the route demands"):
            pymysql.connect(host=harness.HOST, port=s.port, user="u", **tls_of(certificates, tls))
        assert s.flow_end()["reason"] == "backend-tls"
    finally:
        server.close()


def test_too_many_connections(through, server, certificates):
    s = through("require", "verify")
    admin = server.connect("root", "", database=None)
    before = value(admin, "select @@max_connections")[0]
    held = []
    try:
        admin.cursor().execute("set global max_connections = 10")
        with pytest.raises(pymysql.OperationalError, match="1040"):	# as without stent; PyMySQL cuts off the words' beginning
            for _ in range(20):
                held.append(log_in(server, s, certificates, True))
    finally:
        admin.cursor().execute(f"set global max_connections = {before}")
        for session in held:
            session.close()
        admin.close()


def test_a_health_check_is_no_failure_of_tls(through):
    s = through("require", "verify")
    with s.connect() as check:
        assert check.recv_some()[4] == 10		# the greeting
    assert s.flow_end()["reason"] in ("client-fin", "client-abort")
