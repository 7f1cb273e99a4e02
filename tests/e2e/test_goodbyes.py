"""
A side that said goodbye in its protocol has left in order, although its kernel
reset: heartbeats, or anything else, lay unread when it closed.
"""

import fcntl
import re
import signal
import struct
import subprocess
import termios
import time

import harness
import MySQLdb
import psycopg
import pymysql
import pytest
import redis as pyredis
from frames import CLOSE, PING, PONG, WebSocket, upgrade
from pgwire import TERMINATE, Raw
from servers.mariadb import DATABASE, PASSWORD, USER
from servers.postgres import tool
from servers.redis import command

NAMED = pytest.mark.parametrize("named", [True, False], ids=["named", "auto"])


def unread(sock):
    return struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]


def wait_unread(sock, more_than=0):
    harness.wait_for(lambda: unread(sock) > more_than, what="bytes to lie unread")


def route(stent, backend, protocol, named, **keys):
    return stent.route(backend, protocol=protocol if named else "auto", heartbeat="50ms", **keys)


def expect_client_fin(s, protocol):
    end = s.flow_end()
    assert (end["reason"], end["protocol"]) == ("client-fin", protocol)
    return end


@NAMED
@pytest.mark.parametrize("side", ["client", "backend"])
def test_websocket_close(stent, raw_backend, side, named):
    s = route(stent, raw_backend.text, "websocket", named)
    client, backend = s.connect(), raw_backend.accept()
    upgrade(client, backend)
    leaving, other = (client, backend) if side == "client" else (backend, client)
    wait_unread(leaving)
    leaving.send_all(WebSocket(leaving, masks=side == "client").frame(CLOSE, b"\x03\xe8"))
    leaving.close()				# a reset: the ping is unread
    there = WebSocket(other, masks=side != "client")
    opcodes = [there.read()[0]]
    while opcodes[-1] != CLOSE:
        opcodes.append(there.read()[0])
    assert set(opcodes[:-1]) <= {PING, PONG}
    other.expect_fin()
    assert s.flow_end()["reason"] == f"{side}-fin"


@NAMED
@pytest.mark.parametrize("side", ["client", "backend"])
def test_who_says_goodbye_first_ends_it_whoever_closes_first(stent, raw_backend, side, named):
    s = route(stent, raw_backend.text, "websocket", named)
    client, backend = s.connect(), raw_backend.accept()
    upgrade(client, backend)
    leaving, other = (client, backend) if side == "client" else (backend, client)
    here, there = WebSocket(leaving, masks=side == "client"), WebSocket(other, masks=side != "client")
    leaving.send_all(here.frame(CLOSE, b"\x03\xe8"))
    while there.read()[0] != CLOSE:
        pass
    other.send_all(there.frame(CLOSE, b"\x03\xe8"))
    other.half_close()
    while here.read()[0] != CLOSE:
        pass
    leaving.expect_fin()
    leaving.close()
    assert s.flow_end()["reason"] == f"{side}-fin"


@NAMED
def test_a_terminate_that_waits_for_the_servers_fin(stent, postgres, named):
    s = route(stent, f"127.0.0.1:{postgres.port}", "postgres", named)
    c = Raw(s.port, database="postgres")
    c.until(b"Z")
    c.send(TERMINATE)
    while c.sock.recv(1000):
        pass
    c.sock.close()
    expect_client_fin(s, "postgres")


@NAMED
def test_a_reset_inside_websocket_without_close_is_a_reset(stent, raw_backend, named):
    s = route(stent, raw_backend.text, "websocket", named)
    client, backend = s.connect(), raw_backend.accept()
    upgrade(client, backend)
    wait_unread(client)
    client.close()
    assert s.flow_end()["reason"] == "client-reset"
    with pytest.raises(ConnectionResetError):
        backend.recv_all()


@NAMED
def test_postgres_terminate(stent, postgres, named):
    s = route(stent, f"127.0.0.1:{postgres.port}", "postgres", named, client__heartbeat="50ms")
    c = Raw(s.port, database="postgres")
    c.until(b"Z")
    wait_unread(c.sock)
    c.send(TERMINATE)
    c.sock.close()
    end = expect_client_fin(s, "postgres")
    assert end["client_heartbeats"] > 0


@NAMED
def test_mysql_com_quit(stent, mariadb, named):
    s = route(stent, f"127.0.0.1:{mariadb.port}", "mysql", named)
    c = pymysql.connect(host="127.0.0.1", port=s.port, user=USER, password=PASSWORD, database=DATABASE)
    sock = c._sock
    query = b"\x03SELECT REPEAT('x', 1000)"
    sock.sendall(len(query).to_bytes(3, "little") + b"\0" + query)
    wait_unread(sock, 1000)
    sock.sendall(b"\1\0\0\0\1")			# COM_QUIT, with the rows unread
    c._force_close()
    expect_client_fin(s, "mysql")


@NAMED
def test_redis_quit(stent, redis, named):
    s = route(stent, f"127.0.0.1:{redis.port}", "redis", named)
    c = s.connect()
    c.send_all(command("PING"))
    wait_unread(c)
    c.send_all(command("QUIT"))
    c.close()
    expect_client_fin(s, "redis")


# --- stent ends the session itself: by max_age, at rest ---

def test_postgres_is_told_outside_a_transaction(stent, postgres):
    """psycopg is in a transaction when its time comes, psql is not: 57P01 for both; the server gets a Terminate."""
    before = len(postgres.log_path.read_text())
    s = route(stent, f"127.0.0.1:{postgres.port}", "postgres", True, max_age="2s")
    busy = psycopg.connect(postgres.dsn(port=s.port), autocommit=False)
    busy.execute("create temporary table t (i int)")
    with subprocess.Popen([tool("psql"), "-X", postgres.dsn(port=s.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as psql:
        psql.stdin.write("select 'first';\n")
        psql.stdin.flush()
        time.sleep(2.05)
        assert busy.execute("select 1").fetchone() == (1,)		# in its transaction
        busy.commit()
        time.sleep(0.4)			# a moment of silence is waited for
        with pytest.raises(psycopg.OperationalError):
            busy.execute("select 1")
        out, err = psql.communicate("select 'second';\n", timeout=20)
    assert "first" in out and "second" not in out
    assert "FATAL:  terminating connection: closed by stent (max-age)" in err
    assert {s.flow_end()["reason"] for _ in range(2)} == {"max-age"}
    assert "unexpected EOF" not in postgres.log_path.read_text()[before:]


def test_postgres_is_cut_off_when_a_transaction_lasts(stent, postgres):
    s = route(stent, f"127.0.0.1:{postgres.port}", "postgres", True, max_age="1s")
    c = psycopg.connect(postgres.dsn(port=s.port), autocommit=False)
    c.execute("select 1")
    time.sleep(1.1)
    assert c.execute("select 1").fetchone() == (1,)
    end = s.flow_end()
    assert end["reason"] == "max-age" and 1.8 < end["seconds"] < 4 * harness.SLOW
    with pytest.raises(psycopg.OperationalError):
        c.execute("select 1")


def mysql_clients(port):
    yield pymysql, pymysql.connect(host="127.0.0.1", port=port, user=USER, password=PASSWORD, database=DATABASE)
    yield MySQLdb, MySQLdb.connect(host="127.0.0.1", port=port, user=USER, password=PASSWORD, database=DATABASE)


def test_mysql_is_told_outside_a_transaction(stent, mariadb):
    """A FIN between two commands: each client reports a lost connection, by its own numbers for it."""
    s = route(stent, f"127.0.0.1:{mariadb.port}", "mysql", True, max_age="2s")
    aborted = mariadb.sql("show global status like 'Aborted_clients'")
    with subprocess.Popen(["mariadb", "-h127.0.0.1", f"-P{s.port}", f"-u{USER}", f"-p{PASSWORD}", "--skip-ssl", "-N", "--unbuffered"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as line:
        line.stdin.write("select 'first';\n")
        line.stdin.flush()
        assert line.stdout.readline() == "first\n"	# it may take a second to start: the others' age begins after that
        clients = list(mysql_clients(s.port))
        cursors = [c.cursor() for _, c in clients]
        for cursor in cursors:
            cursor.execute("select 1")
        cursors[0].execute("begin")
        time.sleep(2.1)
        cursors[0].execute("select 2")			# in its transaction
        assert cursors[0].fetchall()
        cursors[0].execute("commit")
        time.sleep(0.4)			# a moment of silence is waited for
        for (module, _), cursor in zip(clients, cursors):
            with pytest.raises(module.OperationalError) as lost:
                cursor.execute("select 1")
            assert lost.value.args[0] in (2006, 2013)
        out, err = line.communicate("select 'second';\n", timeout=20)
    assert out == "" and re.search("ERROR 20(06|13)", err), err
    assert [s.flow_end()["reason"] for _ in range(3)] == ["max-age"] * 3
    assert mariadb.sql("show global status like 'Aborted_clients'") == aborted


def test_redis_is_told_outside_a_transaction(stent, redis):
    """A FIN between two replies: redis-py connects again by itself. What was queued in a MULTI is still run."""
    s = route(stent, f"127.0.0.1:{redis.port}", "redis", True, max_age="1s")
    c, r = s.connect(), pyredis.Redis(port=s.port)
    assert r.set("age", "1") and r.client_id()
    first = r.client_id()
    c.send_all(command("MULTI") + command("INCR", "age"))
    assert c.recv_exact(len(b"+OK\r\n+QUEUED\r\n")) == b"+OK\r\n+QUEUED\r\n"
    time.sleep(1.1)
    c.send_all(command("EXEC"))
    assert c.recv_all() == b"*1\r\n:2\r\n"
    assert r.client_id() != first
    assert [s.flow_end()["reason"] for _ in range(2)] == ["max-age"] * 2


def test_a_drain_leaves_a_transaction_its_time(stent, postgres):
    """An idle session is told at once; one in a transaction may commit; stent ends then, long before the time is over."""
    s = route(stent, f"127.0.0.1:{postgres.port}", "postgres", True, settings={"drain_timeout": "8s"})
    idle = psycopg.connect(postgres.dsn(port=s.port), autocommit=True)
    busy = psycopg.connect(postgres.dsn(port=s.port), autocommit=False)
    busy.execute("create temporary table t (i int)")
    time.sleep(1.1)			# none is told in its first second
    s.signal(signal.SIGTERM)
    s.wait_logged("^draining")
    end = s.flow_end()
    assert end["reason"] == "drain" and end["seconds"] < 4 * harness.SLOW
    with pytest.raises(psycopg.OperationalError):
        idle.execute("select 1")
    time.sleep(2)			# it was told after 3.2 s
    busy.execute("insert into t values (1)")
    busy.commit()
    time.sleep(0.5)
    with pytest.raises(psycopg.OperationalError):
        busy.execute("select 1")
    assert s.flow_end()["reason"] == "drain"
    assert s.wait(5) == 0 and not s.logged("drain cut short")
