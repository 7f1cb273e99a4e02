"""
How MySQL 8 asks for passwords, where stent ends TLS on one leg: by caching_sha2_password, sha256_password and
mysql_clear_password the password itself may be sent. It gets there where both ends believe the same of their
connections; else the client is told what to do, and the password does not leave TLS.
"""

import os
import pathlib
import socket
import ssl
import subprocess
import time

import harness
import pymysql
import pytest
from servers.mysql_sha2 import PASSWORD, MysqlSha2

pytestmark = pytest.mark.plain

HERE = pathlib.Path(__file__).resolve().parent


@pytest.fixture
def start(stent, certificates, tmp_path):
    """
    A server and stent before it. client, backend: "plain", "tls" or "unix".
    """
    servers = []

    def run(client, backend, method="caching_sha2_password", name="PyMySQL", **how):
        keys, context, path = {}, None, None
        if client == "tls":
            keys.update(client__tls="accept", client__tls_cert=certificates.good.cert, client__tls_key=certificates.good.key)
        if backend == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.good.cert, certificates.good.key)
            keys.update(backend__tls="verify", backend__tls_ca=certificates.ca)
        if backend == "unix":
            path = tmp_path / "server"
        server = MysqlSha2(method, context=context, path=path, **how)
        servers.append(server)
        server.end_of_nonce = b"" if name == "PyMySQL" else b"\0"
        if client == "unix":
            keys.update(listen=f"unix:{tmp_path}/stent", unix_mode="600")
        s = stent.route(f"unix:{path}" if path else server.port, protocol="mysql", heartbeat="20ms", **keys)
        return server, s

    yield run
    for server in servers:
        server.close()


# --- clients: "ok", or the error ---

def by_pymysql(s, certificates, client, password=PASSWORD):
    where = {"unix_socket": s.address[5:]} if client == "unix" else {"host": harness.HOST, "port": s.port}
    more = {"ssl": {"ca": str(certificates.ca)}} if client == "tls" else {"ssl_disabled": True}
    try:
        session = pymysql.connect(user="app", password=password, connect_timeout=10, read_timeout=10, autocommit=None, **where, **more)
    except pymysql.OperationalError as e:
        return str(e)
    for _ in range(3):
        session.cursor().execute("set @a = 1")
        time.sleep(0.05)
    session.close()
    return "ok"


def by_mysql2(s, certificates, client, password=PASSWORD):
    env = {**os.environ, "TLS_CA": str(certificates.ca) if client == "tls" else ""}
    where = s.address[5:] if client == "unix" else s.port
    return subprocess.run(["node", HERE / "clients" / "mysql_once.js", str(where), password], capture_output=True, text=True, env=env,
                          timeout=30 * harness.SLOW, check=True).stdout.strip()


def by_command_line(s, certificates, client, password=PASSWORD):
    where = ["--socket", s.address[5:]] if client == "unix" else ["-h", harness.HOST, "-P", str(s.port)]
    tls = [f"--ssl-ca={certificates.ca}", "--ssl-verify-server-cert"] if client == "tls" else ["--skip-ssl"]
    done = subprocess.run(["mariadb", "--no-defaults", *where, *tls, "-uapp", f"-p{password}", "-e", "set @a = 1"], capture_output=True, text=True,
                          timeout=30 * harness.SLOW, check=False)
    return "ok" if done.returncode == 0 else done.stderr.strip()


CLIENTS = {"PyMySQL": by_pymysql, "mysql2": by_mysql2, "mariadb": by_command_line}
EACH = pytest.mark.parametrize("name", CLIENTS)
REFUSED = [("plain", "tls", "Connect with TLS"), ("tls", "plain", "Set backend.tls")]
ALIKE = [("tls", "tls"), ("unix", "tls"), ("tls", "unix")]



@EACH
@pytest.mark.parametrize("switch", [False, True])
@pytest.mark.parametrize(("client", "backend"), [*ALIKE, ("plain", "tls"), ("tls", "plain")])
def test_the_fast_way_works(start, certificates, client, backend, switch, name):
    server, s = start(client, backend, cached=True, switch=switch, name=name)
    assert CLIENTS[name](s, certificates, client) == "ok"
    assert server.logins == 1
    assert s.flow_end()["protocol"] == "mysql"


@EACH
@pytest.mark.parametrize("switch", [False, True])
@pytest.mark.parametrize(("client", "backend"), ALIKE)
def test_the_full_way_works_where_both_believe_the_same(start, certificates, client, backend, switch, name):
    server, s = start(client, backend, switch=switch, name=name)
    assert CLIENTS[name](s, certificates, client) == "ok"
    assert server.logins == 1
    assert PASSWORD.encode() not in server.in_the_clear or backend == "unix"


@EACH
@pytest.mark.parametrize("switch", [False, True])
@pytest.mark.parametrize(("client", "backend", "words"), REFUSED)
def test_the_full_way_is_refused_in_plain_words(start, certificates, client, backend, words, switch, name):
    server, s = start(client, backend, switch=switch, name=name)
    said = CLIENTS[name](s, certificates, client)
    assert "3159" in said and "the server wants the password itself" in said and words in said
    assert server.logins == 0 and PASSWORD.encode() not in server.in_the_clear
    assert s.wait_logged("login was refused by stent")
    assert s.flow_end()["reason"] == f"{'client' if client == 'plain' else 'backend'}-tls"


@pytest.mark.parametrize("switch", [False, True])
@pytest.mark.parametrize(("client", "backend", "words"), REFUSED)
def test_sha256_password_is_refused_in_plain_words(start, certificates, client, backend, words, switch):
    server, s = start(client, backend, "sha256_password", switch=switch)
    said = by_pymysql(s, certificates, client)
    assert "3159" in said and "sha256_password works" in said and words in said
    assert server.logins == 0 and PASSWORD.encode() not in server.in_the_clear


@pytest.mark.parametrize("switch", [False, True])
def test_sha256_password_works_with_tls_on_both(start, certificates, switch):
    server, s = start("tls", "tls", "sha256_password", switch=switch)
    assert by_pymysql(s, certificates, "tls") == "ok"
    assert server.logins == 1 and PASSWORD.encode() not in server.in_the_clear


@EACH
@pytest.mark.parametrize(("client", "backend"), ALIKE)
def test_a_wrong_password_is_refused_by_the_server(start, certificates, client, backend, name):
    server, s = start(client, backend)
    assert "Access denied" in CLIENTS[name](s, certificates, client, "wrong")
    assert server.logins == 0
    assert s.flow_end()["protocol"] == "mysql"


class Wire:
    """A client of mysql_clear_password by hand, as those are who have to turn it on."""

    def __init__(self, s, certificates, client):
        self.sock = socket.create_connection((harness.HOST, s.port), timeout=10)
        self.read()
        self.seq = 0
        if client == "tls":
            self.send(self.head(0x800))
            context = ssl.create_default_context(cafile=str(certificates.ca))
            self.sock = context.wrap_socket(self.sock, server_hostname=harness.HOST)

    @staticmethod
    def head(more):
        return (0x88201 | more).to_bytes(4, "little") + bytes(4) + b"\x21" + bytes(23)

    def send(self, payload):
        self.seq += 1
        self.sock.sendall(len(payload).to_bytes(3, "little") + bytes([self.seq]) + payload)

    def read(self):
        head = self.exactly(4)
        self.seq = head[3]
        return self.exactly(int.from_bytes(head[:3], "little"))

    def exactly(self, n):
        data = b""
        while len(data) < n:
            piece = self.sock.recv(n - len(data))
            assert piece, "closed"
            data += piece
        return data


@pytest.mark.parametrize("switch", [False, True])
@pytest.mark.parametrize(("client", "backend"), [("tls", "tls"), ("plain", "tls"), ("tls", "plain")])
def test_a_password_in_the_clear(start, certificates, client, backend, switch):
    """A network without TLS is not in this test: loopback passes it. See test_mysql_login.c for that."""
    server, s = start(client, backend, "mysql_clear_password", switch=switch)
    wire = Wire(s, certificates, client)
    secret = PASSWORD.encode() + b"\0"
    wire.send(wire.head(0x800 if client == "tls" else 0) + b"app\0" + (b"\0mysql_native_password\0" if switch else bytes([len(secret)]) + secret
              + b"mysql_clear_password\0"))
    answer = wire.read()
    if switch:
        assert answer == b"\xfemysql_clear_password\0" + answer[22:]
        wire.send(secret)
        answer = wire.read()
    assert answer[0] == 0
    wire.sock.close()
    assert server.logins == 1
