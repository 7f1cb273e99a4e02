"""
Why a leg gets no heartbeats: each reason in the listing, in `stent top`, in the counts of `stent status` and in the log.
"""

import contextlib
import json
import re
import ssl

import harness
import psycopg2
import pymysql
import pytest
from harness import run_stent, wait_for
from pgwire import Raw, query
from servers.mariadb import DATABASE, PASSWORD, USER
from servers.postgres import PgBouncer

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"		# the beginning of a ClientHello
LINE = {"protocol": "line", "client__heartbeat": "off", "backend__heartbeat": "30ms", "backend__heartbeat_send": r"PING\n"}


def expect_told(s, side, why, logged=None):
    """The reason is given wherever somebody may look for it."""
    def told():
        (flow,) = s.ask("flows")
        return re.fullmatch(why, str(flow[side]["why_none"]))
    text = wait_for(told, 10, f"{why!r} for the {side}")[0]
    head, row = run_stent("flows", "--reason", text, "--control", s.control).stdout.splitlines()
    column = head.index(f"NONE TO {side.upper()}")
    assert row[column:].startswith(text)
    assert text in run_stent("top", "--once", "--control", s.control).stdout
    wait_for(lambda: s.ask("status")["why_none"].get(text, 0) >= 1, what="the count of the reason")
    assert f"{text} " in run_stent("status", "--control", s.control).stdout
    s.wait_logged(re.escape(logged or text))


def postgres_route(stent, port, **keys):
    return stent.route(port, protocol="postgres", backend__heartbeat="10ms", **keys)


def test_in_a_transaction(stent, postgres):
    s = postgres_route(stent, postgres.port)
    with Raw(s.port, database="postgres") as c:
        c.until(b"Z")
        assert c.ask("begin")[1] == "T"
        expect_told(s, "backend", "in a transaction")
        c.ask("commit")
        wait_for(lambda: s.ask("flows")[0]["backend"]["why_none"] is None, what="heartbeats behind the transaction")


def test_inside_a_message(stent, postgres):
    s = postgres_route(stent, postgres.port)
    with Raw(s.port, database="postgres") as c:
        c.until(b"Z")
        c.send(query("select 1")[:7])
        expect_told(s, "backend", "inside a message")
        c.send(query("select 1")[7:])
        c.until(b"Z")


def test_a_pooler_behind(stent, postgres):
    pooler = PgBouncer(postgres.port)
    try:
        s = postgres_route(stent, pooler.port)
        with Raw(s.port, database="postgres") as c:
            c.until(b"Z")
            assert c.ask("select 1") == ([["1"]], "I")
            expect_told(s, "backend", ".*pooler.*")
    finally:
        pooler.close()


def test_a_compressed_event_stream(stent, raw_backend):
    s = stent.route(raw_backend.text, protocol="http", client__heartbeat="20ms")
    with s.connect() as client:
        client.send_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        response = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: br\r\n\r\n\xff\n\n"
        raw_backend.accept().send_all(response)
        client.recv_exact(len(response))
        expect_told(s, "client", "compressed event stream")


@pytest.mark.parametrize("protocol", ["auto", "http", "websocket", "redis", "line"])
def test_tls_that_goes_through(stent, raw_backend, protocol):
    """stent does not end it, so it reads nothing of what is inside."""
    keys = LINE if protocol == "line" else {"protocol": protocol}
    s = stent.route(raw_backend.text, **keys)
    with s.connect() as client:
        client.send_all(HELLO + bytes(64))
        raw_backend.accept().recv_exact(len(HELLO) + 64)
        expect_told(s, "backend", "TLS")


def test_tls_of_postgres_that_goes_through(stent, postgres):
    postgres.use_tls()
    try:
        s = postgres_route(stent, postgres.port)
        with contextlib.closing(psycopg2.connect(host=harness.HOST, port=s.port, user="postgres", dbname="postgres", sslmode="require")):
            expect_told(s, "backend", "TLS")
            assert {flow["protocol"] for flow in s.ask("flows")} == {"tcp"}
    finally:
        postgres.sql("alter system set ssl = off", "select pg_reload_conf()")


def test_tls_of_mysql_that_goes_through(stent, mariadb):
    s = stent.route(mariadb.port, protocol="mysql", backend__heartbeat="20ms")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.closing(pymysql.connect(host=harness.HOST, port=s.port, user=USER, password=PASSWORD, database=DATABASE, ssl=context)):
        expect_told(s, "backend", "TLS")


def test_the_limit_is_over(stent, raw_backend):
    s = stent.route(raw_backend.text, **LINE, backend__heartbeat_limit="100ms")
    with s.connect():
        raw_backend.accept()
        expect_told(s, "backend", "heartbeat_limit exceeded")


def test_the_peer_never_replied(stent, raw_backend):
    s = stent.route(raw_backend.text, **LINE, backend__heartbeat_expect="PONG", heartbeat_timeout="50ms", heartbeat_misses=1000)
    with s.connect() as client:
        client.send_all(b"hello\n")
        raw_backend.accept().recv_exact(6)
        expect_told(s, "backend", "the peer never replied", "has never replied to a ping")


def test_no_reason_where_heartbeats_go(stent, raw_backend):
    s = stent.route(raw_backend.text, **LINE)
    with s.connect():
        raw_backend.accept().recv_exact(5)
        (flow,) = s.ask("flows")
        assert flow["backend"]["why_none"] is None
        assert json.loads(run_stent("flows", "--reason", "a", "--backend", "10.0.0.1", "--json", "--control", s.control).stdout) == []
