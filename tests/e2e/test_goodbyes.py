"""
A side that said goodbye in its protocol has left in order, although its kernel
reset: heartbeats, or anything else, lay unread when it closed.
"""

import fcntl
import struct
import termios

import harness
import pymysql
import pytest
from frames import CLOSE, PING, WebSocket, upgrade
from pgwire import TERMINATE, Raw
from servers.mariadb import DATABASE, PASSWORD, USER
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
    assert set(opcodes[:-1]) <= {PING}
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
