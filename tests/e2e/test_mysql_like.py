"""
Servers that are like MySQL and are none: Sphinx itself, and what proxies and
other programs do at the commands that heartbeats are made of. Whatever that
is, each reply goes to the command that drew it.
"""

import time

import harness
import pymysql
import pytest
from servers.mysql_like import AS_MYSQL, COM_PING, COM_STATISTICS, COM_STMT_CLOSE, OK, PROTOCOL, UNKNOWN, MysqlLike, error
from servers.sphinx import Sphinx

pytestmark = pytest.mark.plain

PAUSE = 0.2 * harness.SLOW	# seconds: many heartbeats at one each 20 ms


def route(stent, port, **keys):
    return stent.route(port, protocol="mysql", heartbeat="20ms", **keys)


def connect(port):
    return pymysql.connect(host=harness.HOST, port=port, user="u", autocommit=None, ssl_disabled=True, read_timeout=10)


@pytest.fixture(scope="module")
def sphinx():
    server = Sphinx()
    yield server
    server.close()


STATEMENTS = [
    "TRUNCATE RTINDEX t", "INSERT INTO t(id, text, v) VALUES (1, 'hello world', 7), (2, 'hello you', 8)",
    "SELECT id, v FROM t WHERE MATCH('hello')", "SHOW META", "SELECT 1+", "SHOW WARNINGS", "BEGIN", "DELETE FROM t WHERE id = 1",
    "COMMIT", "SELECT id FROM t", "SET @a = (1, 2)", "SELECT id FROM t WHERE id IN @a", "CALL KEYWORDS('hello you', 't')",
]


def said(port):
    """What a session is told, with a pause behind each statement."""
    found = []
    session = connect(port)
    with session.cursor() as cursor:
        for statement in STATEMENTS:
            try:
                found.append((statement, cursor.execute(statement), [row for row in cursor.fetchall() if row[0] != "time"]))
            except pymysql.MySQLError as e:
                found.append((statement, e.args))
            time.sleep(PAUSE / 4)
    session.close()
    return found


@pytest.mark.parametrize("kind", ["auto", "ping", "oneway"])
def test_sphinx(stent, sphinx, kind):
    s = route(stent, sphinx.port, backend__heartbeat_kind=kind)
    assert said(s.port) == said(sphinx.port)
    end = s.flow_end()
    assert end["protocol"] == "mysql"
    if kind == "oneway":		# it replies to what needs no reply: by an error, which is taken out
        assert end["backend_heartbeats"] == 1 and s.wait_logged("heartbeat refused")
    else:
        assert end["backend_replies"] > 10 and not s.logged("heartbeat refused")


def expect_own_replies(port, rounds=5):
    """Each query gets the OK that counts it, with pauses and without."""
    session = connect(port)
    with session.cursor() as cursor:
        for number in range(1, 20 * rounds + 1):
            assert cursor.execute("set @a = 1") == number % 250
            if number % 20 == 0:
                time.sleep(PAUSE)
    session.close()


LIKE = {
    "a proxy that closes at what it does not know": ({COM_PING: OK}, PROTOCOL, {}, None),
    "one whose ping takes a while": ({COM_PING: OK}, PROTOCOL, {"delay": 0.03}, None),
    "one that replies to a ping by an error": ({COM_PING: UNKNOWN}, PROTOCOL, {}, "refused"),
    "one that replies to a ping by another error": ({COM_PING: error(1105, b"no backend")}, PROTOCOL, {}, "refused"),
    "one that greets as MySQL and knows no COM_STATISTICS": ({COM_STATISTICS: UNKNOWN}, AS_MYSQL, {}, "refused"),
    "one that replies by OK to all": ({COM_STATISTICS: OK, COM_PING: OK, COM_STMT_CLOSE: OK}, AS_MYSQL, {}, "refused"),
    "one that replies to COM_STMT_CLOSE by an error": ({COM_STMT_CLOSE: UNKNOWN}, PROTOCOL, {"kind": "oneway"}, "refused"),
    "one that replies to COM_STMT_CLOSE by another error":
        ({COM_STMT_CLOSE: error(1243, b"Unknown prepared statement handler")}, AS_MYSQL, {"kind": "oneway"}, "refused"),
    "one that takes COM_STMT_CLOSE": ({COM_STMT_CLOSE: None}, AS_MYSQL, {"kind": "oneway"}, None),
}


@pytest.mark.parametrize("what", LIKE)
def test_replies_go_to_their_commands(stent, what):
    does, capabilities, more, refused = LIKE[what]
    server = MysqlLike(does, capabilities, delay=more.get("delay", 0))
    try:
        s = route(stent, server.port, backend__heartbeat_kind=more.get("kind", "auto"))
        expect_own_replies(s.port)
        end = s.flow_end()
        assert end["protocol"] == "mysql" and end["reason"] in ("client-fin", "backend-fin")	# at COM_QUIT both close
        if refused:
            assert end["backend_heartbeats"] == 1 and s.wait_logged("heartbeat refused")
        else:
            assert end["backend_heartbeats"] > 5 and not s.logged("heartbeat refused")
    finally:
        server.close()


def test_one_that_closes_at_a_ping_is_left_alone_after_a_few(stent):
    """The first flows tell; those behind them live by TCP probes."""
    server = MysqlLike({})
    try:
        s = route(stent, server.port)
        lost = 0
        for _ in range(12):
            session = connect(s.port)
            time.sleep(PAUSE / 2)
            try:
                session.cursor().execute("set @a = 1")
            except pymysql.MySQLError:
                lost += 1
            session._force_close()
        assert lost < 6
        expect_own_replies(s.port)
        assert s.logged("heartbeat refused")
    finally:
        server.close()
