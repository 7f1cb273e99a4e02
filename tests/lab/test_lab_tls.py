"""
Idle sessions with TLS on both legs, behind a firewall that forgets a flow after 4 s without payload: heartbeats inside
TLS keep those of every protocol that has any for that side of stent, and `tcp`, which has none, is forgotten.

The servers of MariaDB and Redis are on UNIX sockets, which a second stent brings into the network. MariaDB's TLS is its
own; Redis has none there, so the second stent ends it.
"""

import contextlib
import time

import harness
import psycopg2
import pymysql
import pytest
import tls_ends
from certificates import Certificates
from frames import TEXT, WebSocket, upgrade
from servers.mariadb import DATABASE, PASSWORD, USER, Mariadb
from servers.postgres import Postgres
from servers.redis import Redis

QUIET = 9	# of the firewall's 4
PORTS = {name: 7001 + i for i, name in enumerate(("postgres", "mysql", "redis", "websocket", "sse", "tcp"))}
KEYS = {"postgres": "heartbeat = 1s", "mysql": "backend.heartbeat = 1s",
        "redis": "heartbeat = 1s\nclient.heartbeat_kind = oneway", "websocket": "heartbeat = 1s", "sse": "client.heartbeat = 1s"}
# A MySQL client can get no heartbeat, nor can a server of HTTP.
LIVING = {"fwb": {"postgres", "mysql", "redis", "websocket"}, "fwc": {"postgres", "redis", "websocket", "sse"}}


@pytest.fixture(scope="module")
def certificates():
    made = Certificates()
    yield made
    made.close()


# --- sessions: each is opened and later used ---

class Session:
    def __init__(self, world, name):
        self.lab, self.certificates = world.lab, world.certificates
        self.address = world.lab.address["stent"], PORTS[name]

    def connect(self):
        raw = self.lab.connect("client", self.address).sock
        return tls_ends.TlsPeer(tls_ends.TlsSocket(raw, tls_ends.client_context(self.certificates), False, "localhost"), timeout=4)

    def close(self):
        pass


class Postgresql(Session):
    def open(self):
        self.session = self.lab.call("client", lambda: psycopg2.connect(
            host=self.address[0], port=self.address[1], user="app", password="pw", dbname="postgres", gssencmode="disable",
            sslmode="verify-ca", sslrootcert=self.certificates.ca, tcp_user_timeout=3000))
        self.session.autocommit = True

    def use(self):
        with self.session.cursor() as cursor:
            cursor.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
            return cursor.fetchone() == (True,)


class Mysql(Session):
    def open(self):
        self.session = self.lab.call("client", lambda: pymysql.connect(
            host=self.address[0], port=self.address[1], user=USER, password=PASSWORD, database=DATABASE, read_timeout=4,
            ssl={"ca": str(self.certificates.ca), "check_hostname": False}))

    def use(self):
        with self.session.cursor() as cursor:
            cursor.execute("show status like 'Ssl_cipher'")
            return cursor.fetchone()[1].startswith("TLS_")


class RedisResp3(Session):
    def open(self):
        self.peer = self.connect()
        self.peer.send_all(b"HELLO 3\r\n")
        assert self.peer.recv_some().startswith(b"%")

    def use(self):
        self.peer.send_all(b"PING\r\n")
        got = b""
        while not got.endswith(b"+PONG\r\n"):
            got += self.peer.recv_some()
        return True

    def close(self):
        self.peer.close()


class ByHand(Session):
    """With a server of this test's own."""

    def __init__(self, world, name):
        super().__init__(world, name)
        self.backend = self.lab.call("backend", lambda: tls_ends.TlsBackend(
            self.certificates, host=self.lab.address["backend"], port=PORTS[name]))

    def open(self):
        self.client = self.connect()
        self.server = self.backend.accept()
        self.begin()

    def close(self):
        self.client.close()
        self.backend.close()


class Tcp(ByHand):
    def begin(self):
        self.use()

    def use(self):
        for a, b in ((self.client, self.server), (self.server, self.client)):
            a.send_all(b"hello")
            assert b.recv_exact(5, timeout=3) == b"hello"
        return True


class Wss(ByHand):
    def begin(self):
        upgrade(self.client, self.server)
        self.ends = WebSocket(self.client, masks=True), WebSocket(self.server, masks=False)
        self.heard = [ws.answer_in_background() for ws in self.ends]

    def use(self):
        for ws, other in zip(self.ends, reversed(self.heard)):
            ws.send(TEXT, b"still here")
            harness.wait_for(lambda other=other: other.messages == [(TEXT, b"still here")], what="the message")
        return all(len(h.heartbeats) >= QUIET - 3 for h in self.heard)

    def close(self):
        for h in self.heard:
            h.stop()
        super().close()


class Events(ByHand):
    def begin(self):
        self.client.send_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert self.server.recv_some().startswith(b"GET / ")
        sent = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
        self.server.send_all(sent)
        assert self.client.recv_exact(len(sent)) == sent

    def use(self):
        self.server.send_all(b"data: 2\n\n")
        got, deadline = b"", time.monotonic() + 3 * harness.SLOW
        while not got.endswith(b"data: 2\n\n") and time.monotonic() < deadline:
            got += self.client.recv_some()
        assert got.endswith(b"data: 2\n\n"), "comments go on: the server's kernel answers probes, and they pass the firewall"
        comments = got[:-len(b"data: 2\n\n")]
        return comments.count(b":\n\n") >= QUIET - 3 and comments.replace(b":\n\n", b"") == b""


SESSIONS = {"postgres": Postgresql, "mysql": Mysql, "redis": RedisResp3, "websocket": Wss, "sse": Events, "tcp": Tcp}


# --- the world around them ---

class World:
    def __init__(self, lab, certificates, stack, directory):
        self.lab, self.certificates = lab, certificates
        postgres, mariadb = Postgres(lab=lab), Mariadb(certificate=certificates.good)
        self.redis_socket = directory / "redis.sock"
        redis = Redis("--unixsocket", self.redis_socket, "--unixsocketperm", "777")
        self.mariadb_socket, self.postgres = mariadb.socket, postgres
        for server in (postgres, mariadb, redis):
            stack.callback(server.close)
        postgres.use_certificate(certificates.good, certificates.ca)

    def start_stents(self, stent):
        backend, good = self.lab.address["backend"], self.certificates.good
        stent(f"[route mysql]\nlisten = {backend}:{PORTS['mysql']}\nbackend = unix:{self.mariadb_socket}\n"
              f"[route redis]\nlisten = {backend}:{PORTS['redis']}\nbackend = unix:{self.redis_socket}\n"
              f"client.tls = require\nclient.tls_cert = {good.cert}\nclient.tls_key = {good.key}\n", prefix=self.lab.inside("backend"))
        ini = (f"[defaults]\nkeepalive = 1s/1s/3\nuser_timeout = 3s\nclient.tls = require\nclient.tls_cert = {good.cert}\n"
               f"client.tls_key = {good.key}\nbackend.tls = verify\nbackend.tls_ca = {self.certificates.ca}\nbackend.tls_name = localhost\n")
        for name, port in PORTS.items():
            to = f"{self.postgres.host}:{self.postgres.port}" if name == "postgres" else f"{backend}:{port}"
            ini += f"[route {name}]\nlisten = {self.lab.address['stent']}:{port}\nbackend = {to}\nprotocol = {name}\n{KEYS.get(name, '')}\n"
        return stent(ini, prefix=self.lab.inside("stent"))


def is_alive(session):
    try:
        return session.use()
    except (OSError, AssertionError, psycopg2.Error, pymysql.Error):
        return False


@pytest.mark.parametrize("firewall", ["fwb", "fwc"])
def test_idle_sessions_with_tls(lab, stent, certificates, tmp_path, firewall):
    with contextlib.ExitStack() as stack:
        world = World(lab, certificates, stack, tmp_path)
        s = world.start_stents(stent)
        lab.forgetful(firewall, count_only_payload=True)
        sessions = {name: kind(world, name) for name, kind in SESSIONS.items()}
        for session in sessions.values():
            session.open()
            stack.callback(session.close)
        time.sleep(QUIET)
        s.expect_no_event("flow end")
        assert {name for name, session in sessions.items() if is_alive(session)} == LIVING[firewall]
