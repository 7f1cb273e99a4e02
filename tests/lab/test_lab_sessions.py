"""
Idle sessions of MariaDB and Redis behind a firewall that forgets a flow after 4 s without payload.

Toward a MySQL client no heartbeat is legal, nor toward a Redis client that does not speak RESP3: there the
firewall stands between stent and the server. A second stent, plain, brings the server's UNIX socket into
the network.
"""

import time

import pymysql
import pytest
from servers.mariadb import DATABASE, PASSWORD, USER, Mariadb
from servers.redis import Redis

QUIET = 9       # of the firewall's 4
HEARTBEATEN, PLAIN = 7001, 7003
PUSH = b">2\r\n$2\r\nhb\r\n$1\r\n1\r\n"


def stents(lab, stent, protocol, path, keys=""):
    server = f"{lab.address['backend']}:7000"
    stent(f"[route server]\nlisten = {server}\nbackend = unix:{path}\n", prefix=lab.inside("backend"))
    stent("".join(f"[route r{port}]\nlisten = {lab.address['stent']}:{port}\nbackend = {server}\nkeepalive = 1s/1s/3\n"
                  f"user_timeout = 3s\nprotocol = {name}\n{more}" for port, name, more in
                  ((HEARTBEATEN, protocol, "backend.heartbeat = 1s\n" + keys), (PLAIN, "tcp", ""))),
          prefix=lab.inside("stent"))


@pytest.fixture
def mariadb():
    server = Mariadb()
    yield server
    server.close()


@pytest.fixture
def redis_server(tmp_path):
    server = Redis("--unixsocket", tmp_path / "redis.sock", "--unixsocketperm", "777")
    yield server
    server.close()


def test_an_idle_session_of_mariadb(lab, stent, mariadb):
    lab.forgetful("fwb", count_only_payload=True)
    stents(lab, stent, "mysql", mariadb.socket)

    def connect(port):
        return lab.call("client", lambda: pymysql.connect(
            host=lab.address["stent"], port=port, user=USER, password=PASSWORD, database=DATABASE, ssl_disabled=True,
            read_timeout=4, autocommit=True))
    living, dying = connect(HEARTBEATEN), connect(PLAIN)
    for session in (living, dying):
        with session.cursor() as cursor:
            cursor.execute("select 1")
    time.sleep(QUIET)
    with living.cursor() as cursor:
        cursor.execute("select 7")
        assert cursor.fetchone() == (7,)
    with pytest.raises(pymysql.OperationalError), dying.cursor() as cursor:
        cursor.execute("select 7")


def test_an_idle_session_of_redis_in_resp2(lab, stent, redis_server, tmp_path):
    """By default: nothing goes to the client."""
    lab.forgetful("fwb", count_only_payload=True)
    stents(lab, stent, "redis", tmp_path / "redis.sock")
    ping, pong = b"PING\r\n", b"+PONG\r\n"
    living, dying = (lab.connect("client", (lab.address["stent"], port)) for port in (HEARTBEATEN, PLAIN))
    for session in (living, dying):
        session.send_all(ping)
        assert session.recv_exact(len(pong)) == pong
    time.sleep(QUIET)
    living.send_all(ping)
    assert living.recv_exact(len(pong)) == pong
    living.expect_quiet()
    dying.send_all(ping)
    with pytest.raises((AssertionError, OSError)):
        dying.recv_exact(len(pong), timeout=3)


@pytest.mark.parametrize("firewall", ["fwb", "fwc"])
def test_an_idle_session_of_redis(lab, stent, redis_server, tmp_path, firewall):
    lab.forgetful(firewall, count_only_payload=True)
    stents(lab, stent, "redis", tmp_path / "redis.sock", "client.heartbeat = 1s\nclient.heartbeat_kind = oneway\n")
    hello, ping = b"HELLO 3\r\n", b"PING\r\n"       # pushes toward the client are for RESP3
    living = lab.connect("client", (lab.address["stent"], HEARTBEATEN))
    dying = lab.connect("client", (lab.address["stent"], PLAIN))
    for session in (living, dying):
        session.send_all(hello)
        assert session.recv_some().startswith(b"%")
    time.sleep(QUIET)
    living.send_all(ping)
    got = b""
    while not got.endswith(b"+PONG\r\n"):
        got += living.recv_some(timeout=4)
    pushes = got[:-len(b"+PONG\r\n")]
    assert pushes and pushes.replace(PUSH, b"") == b""
    dying.send_all(ping)
    with pytest.raises((AssertionError, OSError)):
        assert dying.recv_exact(7, timeout=3) == b"+PONG\r\n"
