"""protocol = auto: what is found by the first bytes is beaten as if it had been named."""

import subprocess

import harness
import pytest

GREETING = b"\x4a\0\0\0\n5.5.5-10.11.19-MariaDB\0" + bytes(50)


def route(stent, backend, **keys):
    return stent.route(backend, protocol="auto", heartbeat="5ms", **keys)


def test_redis_is_found_and_told(stent, redis):
    s = route(stent, redis.port)
    with s.connect() as client:
        client.send_all(b"*1\r\n$4\r\nPI")
        client.expect_quiet(0.1)
        client.send_all(b"NG\r\n")
        assert client.recv_exact(7) == b"+PONG\r\n"
        client.expect_quiet(0.2)
    end = s.flow_end()
    assert end["protocol"] == "redis" and end["backend_heartbeats"] > 10


def test_mysql_is_found_by_what_the_server_says(stent, mariadb):
    s = route(stent, mariadb.port, heartbeat_while_busy="on")
    session = mariadb.connect(port=s.port)
    with session.cursor() as cursor:
        cursor.execute("select sleep(0.3)")
        cursor.execute("select 7")
        assert cursor.fetchone() == (7,)
    session.close()
    end = s.flow_end()
    assert end["protocol"] == "mysql" and end["backend_heartbeats"] > 5


def test_http_is_found_and_its_events_are_kept_alive(stent, raw_backend):
    s = route(stent, raw_backend.text)
    with s.connect() as client, raw_backend.accept() as backend:
        client.send_all(b"GET /events HTTP/1.1\r\nHost: h\r\n\r\n")
        backend.recv_exact(33)
        event = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                 b"9\r\ndata: 1\n\n\r\n")
        backend.send_all(event)
        assert client.recv_exact(len(event) + 24) == event + b"3\r\n:\n\n\r\n" * 3
    assert s.flow_end()["protocol"] == "http"


def test_websocket_is_named_once_it_is_one(stent, raw_backend):
    s = route(stent, raw_backend.text)
    accept = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
    with s.connect() as client, raw_backend.accept() as backend:
        client.send_all(b"GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        backend.recv_some()
        backend.send_all(accept)
        assert client.recv_exact(len(accept) + 2)[:-1] == accept + b"\x89"	# a ping
    assert s.flow_end()["protocol"] == "websocket"


@pytest.mark.parametrize("data, why", [
    (b"\x10\x0c\0\4MQTT\4\2\0\x3c\0\0", "no heartbeats for MQTT"),
    (b"\x16\3\1\0\5hello", "TLS"),
    (b"SSH-2.0-test\r\n", "no heartbeats for SSH"),
    (b"what is this\n", "no known protocol"),
])
def test_what_has_no_codec_goes_through_and_is_named(stent, echo, data, why):
    s = route(stent, echo.text)
    with s.connect() as client:
        for at in range(len(data)):		# byte by byte, each on its way at once
            client.send_all(data[at:at + 1])
            assert client.recv_exact(1) == data[at:at + 1]
        assert s.next_event("protocol passthrough")["reason"] == why
        client.send_all(data * 1000)
        assert client.recv_exact(1000 * len(data)) == data * 1000
    end = s.flow_end()
    assert (end["protocol"], end["client_heartbeats"], end["backend_heartbeats"]) == ("tcp", 0, 0)


def test_a_server_that_speaks_first_in_pieces(stent, raw_backend):
    s = route(stent, raw_backend.text)
    with s.connect() as client, raw_backend.accept() as backend:
        for at in range(len(GREETING)):
            backend.send_all(GREETING[at:at + 1])
            assert client.recv_exact(1) == GREETING[at:at + 1]
        assert not s.logged("protocol passthrough")
    assert s.flow_end()["protocol"] == "mysql"


def test_a_real_client_goes_through(stent, redis):
    s = route(stent, redis.port)
    done = subprocess.run(["redis-cli", "-p", str(s.port), "ping"], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=20 * harness.SLOW)
    assert done.stdout == "PONG\n"
    assert s.flow_end()["protocol"] == "redis"
