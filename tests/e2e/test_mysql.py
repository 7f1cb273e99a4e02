"""
MySQL's heartbeats before a real MariaDB, where each was found legal or
dangerous: nothing that a session can see changes. Each test with a danger's
name is that danger's.
"""

import contextlib
import hashlib
import pathlib
import re
import select
import signal
import struct
import subprocess
import time
import warnings

import harness
import pymysql
import pytest
from servers.mariadb import DATABASE, PASSWORD, USER

HERE = pathlib.Path(__file__).resolve().parent
KINDS = {"oneway": {"backend__heartbeat_kind": "oneway"}, "ping": {}}	# asked where that is legal, else told
IDLE = 1.5 * harness.SLOW	# seconds: many more than 100 heartbeats, at one each 2 ms
PAUSE = 0.1 * harness.SLOW	# seconds in which many heartbeats go out
FILE_TEXT = "".join(f"row {n}\n" for n in range(1000))


def route(stent, server, heartbeat="2ms", **keys):
    return stent.route(server.port, protocol="mysql", backend__heartbeat=heartbeat,
                       **{"backend__heartbeat_in_transaction": "on", "backend__heartbeat_while_busy": "on", **keys})


@pytest.fixture(params=KINDS)
def through(stent, mariadb, request):
    """stent before the server, with heartbeats as often as it will, told or asked, in transactions too."""
    return route(stent, mariadb, **KINDS[request.param])


@pytest.fixture
def file_path(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text(FILE_TEXT)
    return path


def heartbeats_of(s, timeout=5):
    end = s.flow_end(timeout)
    assert end["protocol"] == "mysql", "the protocol passthrough"
    assert end["client_heartbeats"] == 0
    return end["backend_heartbeats"]


def packet(payload, seq=0):
    return len(payload).to_bytes(3, "little") + bytes([seq]) + payload


class Wire:
    """Packets by hand, behind PyMySQL's login."""

    def __init__(self, server, port=None, **more):
        self.session = server.connect(port=port, **more)
        self.sock = self.session._sock
        self.held = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session._force_close()

    def send(self, payload, seq=0):
        self.sock.sendall(packet(payload, seq))

    def get(self, timeout=5):
        """The next packet: its number and its payload."""
        deadline = time.monotonic() + harness.patient(timeout)
        while True:
            end = 4 + int.from_bytes(self.held[:3], "little")
            if len(self.held) >= 4 and len(self.held) >= end:
                found, self.held = self.held[:end], self.held[end:]
                return found[3], found[4:]
            assert select.select([self.sock], [], [], max(deadline - time.monotonic(), 0))[0], "no packet in time"
            piece = self.sock.recv(65536)
            assert piece, "the connection was closed"
            self.held += piece

    def rest(self, seconds=PAUSE):
        """A pause full of heartbeats, in which nothing must come."""
        assert not self.held
        assert not select.select([self.sock], [], [], seconds)[0], self.sock.recv(100)

    def ask(self, payload):
        """A command that one packet answers."""
        self.send(payload)
        return self.get()[1]

    def prepare(self, statement):
        """The id of a statement; the definitions behind it are read."""
        ok = self.ask(b"\x16" + statement.encode())
        assert ok[0] == 0, ok
        columns, params = struct.unpack("<HH", ok[5:9])
        for n in (params, columns):
            for _ in range(n + 1 if n else 0):
                self.get()
        return ok[1:5]

    def rows(self):
        """Column count, definitions, EOF, rows, EOF: the rows."""
        _, count = self.get()
        assert count[0] not in (0, 0xff), count
        for _ in range(count[0] + 1):
            self.get()
        return self.fetched()

    def fetched(self):
        rows = []
        while True:
            _, row = self.get()
            assert row[0] != 0xff, row
            if row[0] == 0xfe and len(row) < 9:
                return rows
            rows.append(row)


# --- what a session sees ---

VISIBLE = {
    "ROW_COUNT": (["insert into t(v) values (1),(2),(3)"], ["select row_count()"]),
    "ROW_COUNT of a set": (["set @a = 1"], ["select row_count()"]),
    "LAST_INSERT_ID": (["truncate t", "insert into t(v) values (7),(8)"],
                       ["select last_insert_id(), @@identity, @@last_insert_id"]),
    "FOUND_ROWS": (["select sql_calc_found_rows * from information_schema.collations limit 2"], ["select found_rows()"]),
    "SHOW WARNINGS": (["select cast('abc' as int)"], ["show warnings"]),
    "warning_count": (["select cast('abc' as int)"], ["select @@warning_count"]),
    "SHOW ERRORS": (["bogus"], ["show errors", "select @@error_count"]),
    "GET DIAGNOSTICS": (["select cast('abc' as int)"], ["get diagnostics condition 1 @m = message_text", "select @m"]),
    "a transaction": (["begin", "insert into t(v) values (99)"], ["select @@in_transaction", "rollback"]),
    "a savepoint": (["begin", "savepoint s"], ["rollback to s", "rollback"]),
    "variables and temporary tables": (["set @a=5", "create temporary table tt(a int)"],
                                       ["select @a, (select count(*) from tt)"]),
    "a table's lock": (["lock tables t write"], ["select count(*) from l", "unlock tables"]),
    "GET_LOCK": (["do get_lock('x', 1)"], ["select is_used_lock('x') = connection_id()"]),
    "PREPARE": (["prepare s from 'select 7'"], ["execute s"]),
    "the isolation of the next": (["set transaction isolation level read uncommitted", "set @x = 1"],
                                  ["begin", "select count(*) from t where v = -1",
                                   "select trx_isolation_level from information_schema.innodb_trx"
                                   " where trx_mysql_thread_id = connection_id()", "rollback"]),
    "profiles": (["set profiling = 1", "select 1"], ["select count(*) from information_schema.profiling where seq = 2"]),
    "XA": (["xa start 'x'", "insert into t(v) values (5)"], ["select count(*) from t where v = 5", "xa end 'x'", "xa rollback 'x'"]),
    "XA, ended": (["xa start 'x'", "insert into t(v) values (5)", "xa end 'x'"], ["select 1", "xa commit 'x' one phase"]),
    "XA, prepared": (["xa start 'x'", "insert into t(v) values (5)", "xa end 'x'", "xa prepare 'x'"], ["xa recover", "xa rollback 'x'"]),
    "SLEEP": (["select sleep(0.2)"], ["select row_count()"]),
    "a HANDLER": (["truncate t", "insert into t(v) values (1), (2)", "handler t open", "handler t read first"],
                  ["handler t read next", "handler t close"]),
    "all tables' lock": (["flush tables with read lock"], ["insert into t(v) values (1)", "unlock tables"]),
    "a table's read lock": (["lock tables t read"], ["insert into t(v) values (1)", "unlock tables"]),
    "rows that are locked": (["begin", "select count(*) from t for update"], ["select @@in_transaction", "rollback"]),
    "two locks of one name": (["do get_lock('x', 1)", "do get_lock('x', 1)"], ["select release_lock('x')", "select release_lock('x')",
                              "select release_lock('x')"]),
    "autocommit off": (["set autocommit = 0", "insert into t(v) values (1)"], ["rollback", "set autocommit = 1"]),
}


def many_heartbeats(s, n=4):
    time.sleep(0.1)		# the server answers questions about transactions from a cache that becomes this old
    (flow,) = s.ask("flows")
    before = flow["backend"]["heartbeats"]
    harness.wait_for(lambda: s.ask("flows")[0]["backend"]["heartbeats"] >= before + n)


def seen(session, before, after, pause=lambda: None):
    """What a session is told, with or without a pause between two of its statements."""
    found = []
    with session.cursor() as cursor:
        for statements in (before, after):
            for statement in statements:
                try:
                    found.append((cursor.execute(statement), cursor.fetchall()))
                except pymysql.MySQLError as e:
                    found.append(e.args)
            if statements is before:
                pause()
    return found


def test_nothing_that_a_session_sees_changes(through, mariadb):
    for what, (before, after) in VISIBLE.items():
        plain, beaten = mariadb.connect(), mariadb.connect(port=through.port)
        expected = seen(plain, before, after)
        plain.close()
        assert seen(beaten, before, after, lambda: many_heartbeats(through)) == expected, what
        beaten.close()
        assert heartbeats_of(through) > 3, what


def test_nothing_before_login(stent, mariadb):
    s = route(stent, mariadb)
    with harness.connect(s.port) as c:
        head = c.recv_exact(4)
        assert c.recv_exact(int.from_bytes(head[:3], "little"))[0] == 10
        c.expect_quiet()
    assert heartbeats_of(s) == 0


def test_statements_are_kept(through, mariadb):
    """Of ffffffff the server thinks that it is the last prepared one."""
    with Wire(mariadb, through.port) as c:
        first, last = c.prepare("select 5"), c.prepare("select 6")
        c.rest()
        for statement in (first, last):
            c.send(b"\x17" + statement + b"\0\1\0\0\0")
            assert len(c.rows()) == 1
            c.rest()
        c.send(b"\x19" + last)
        c.rest()
        assert c.ask(b"\x17" + last + b"\0\1\0\0\0")[:3] == b"\xff\xdb\4"	# 1243: it is gone
        c.send(b"\x17" + first + b"\0\1\0\0\0")
        assert len(c.rows()) == 1
    assert heartbeats_of(through) > 3


def test_the_last_statement_by_its_own_name(through, mariadb):
    """MariaDB's pipelined execution: ffffffff is "the one just prepared"."""
    with Wire(mariadb, through.port) as c:
        c.prepare("select 5")
        c.rest()
        c.send(b"\x17\xff\xff\xff\xff\0\1\0\0\0")
        assert len(c.rows()) == 1
    heartbeats_of(through)


def test_long_data_waits_for_its_statement(through, mariadb):
    with Wire(mariadb, through.port) as c:
        statement = c.prepare("select concat(?, '!')")
        for piece in (b"a long ", b"value"):
            c.send(b"\x18" + statement + b"\0\0" + piece)
            c.rest()
        c.send(b"\x17" + statement + b"\0\1\0\0\0\0\1\xfc\0")
        assert c.rows()[0].endswith(b"\x0da long value!")
    assert heartbeats_of(through) > 3


def test_a_cursor_is_kept_between_fetches(through, mariadb):
    with Wire(mariadb, through.port) as c:
        statement = c.prepare("select seq from seq_1_to_9")
        c.send(b"\x17" + statement + b"\1\1\0\0\0")
        assert c.get()[1][0] == 1
        for _ in range(2):
            _, eof = c.get()
        assert eof[0] == 0xfe
        for expected in (4, 4, 1):
            c.rest()
            c.send(b"\x1c" + statement + b"\4\0\0\0")
            assert len(c.fetched()) == expected
        c.rest()
    assert heartbeats_of(through) > 3


def test_replies_in_one_packet(through, mariadb):
    with Wire(mariadb, through.port) as c:
        for command, first in ((b"\x0e", 0), (b"\x09", ord("U")), (b"\x0d", 0xfe), (b"\x1b\0\0", 0xfe), (b"\x02hb", 0),
                               (b"\x1f", 0)):
            assert c.ask(command)[0] == first, command
            c.rest(0.03)
    assert heartbeats_of(through) > 3


def test_commands_ahead_of_their_replies(through, mariadb):
    with Wire(mariadb, through.port) as c:
        for _ in range(10):
            c.sock.sendall(packet(b"\x03select 1") + packet(b"\x0e") + packet(b"\x03bogus") + packet(b"\x16select ?")
                           + packet(b"\x19\1\0\0\x77") + packet(b"\x0e"))
            assert c.rows() == [b"\0011"]
            assert c.get()[1][0] == 0
            assert c.get()[1][0] == 0xff
            assert c.get()[1][0] == 0
            for _ in range(4):
                c.get()
            assert c.get()[1][0] == 0
            c.rest(0.02)
    assert heartbeats_of(through) > 3


def test_a_long_running_statement(through, mariadb):
    session = mariadb.connect(port=through.port)
    with session.cursor() as cursor:
        cursor.execute("select sleep(0.3), 7")
        assert cursor.fetchall() == ((0, 7),)
        time.sleep(PAUSE)
        cursor.execute("select 8")
        assert cursor.fetchall() == ((8,),)
    session.close()
    assert heartbeats_of(through) > 3


def test_large_values(through, mariadb):
    """Of 16 MiB and more: packets that go on in the next, values that begin like the end of the rows."""
    session = mariadb.connect(port=through.port)
    with session.cursor() as cursor:
        for size in (100_000, 0xffffff - 10, 17_000_000):
            cursor.execute("select repeat('x', %s), 5", size)
            text, number = cursor.fetchone()
            assert text == "x" * size and number == 5
            time.sleep(0.03)
        text = "0123456789" * 1_700_000
        cursor.execute(f"select sha2('{text}', 256)")
        assert cursor.fetchone() == (hashlib.sha256(text.encode()).hexdigest(),)
        time.sleep(PAUSE)
        cursor.execute("select 6")
        assert cursor.fetchall() == ((6,),)
    session.close()
    assert heartbeats_of(through) > 3


def test_several_results_of_one_statement(through, mariadb):
    session = mariadb.connect(port=through.port, client_flag=0x10000)
    with session.cursor() as cursor:
        for statement, expected in (("select 1; select sleep(0.1); select 2", [((1,),), ((0,),), ((2,),)]),
                                    ("call two()", [((1,),), ((2,), (3,)), ()])):
            cursor.execute(statement)
            found = [cursor.fetchall()]
            while cursor.nextset():
                found.append(cursor.fetchall())
            assert found == expected
            time.sleep(PAUSE)
    session.close()
    assert heartbeats_of(through) > 3


def test_a_change_of_user(through):
    import MySQLdb
    session = MySQLdb.connect(host=harness.HOST, port=through.port, user=USER, passwd=PASSWORD, db=DATABASE)
    cursor = session.cursor()
    for _ in range(3):
        cursor.execute("set @a = 1")
        time.sleep(PAUSE)
        session.change_user(USER, PASSWORD, DATABASE)
        time.sleep(PAUSE)
        cursor.execute("select @a")
        assert cursor.fetchall() == ((None,),)
    with pytest.raises(MySQLdb.OperationalError, match="Access denied"):
        session.change_user(USER, "wrong", DATABASE)
    session.close()
    assert heartbeats_of(through) > 3


def test_heartbeats_go_on_after_a_refused_change_of_user(through):
    import MySQLdb
    session = MySQLdb.connect(host=harness.HOST, port=through.port, user=USER, passwd=PASSWORD, db=DATABASE)
    with pytest.raises(MySQLdb.OperationalError, match="Access denied"):
        session.change_user(USER, "wrong", DATABASE)
    many_heartbeats(through, 30)	# it took some 5 to come here
    cursor = session.cursor()
    cursor.execute("select 1")
    assert cursor.fetchall() == ((1,),)
    session.close()
    assert heartbeats_of(through) > 20


# --- LOAD DATA LOCAL: the server reads on ---

def loaded(mariadb):
    rows = mariadb.sql(f"select a from {DATABASE}.l order by length(a), a")
    return "".join(f"{row[0]}\n" for row in rows)


@pytest.mark.parametrize("statement", [
    "load data local infile '{}' into table l",
    "execute immediate concat('load data local inf', 'ile ''{}'' into table l')",
    "select sleep(0.1); load data local infile '{}' into table l; select 5",
    "do sleep(0.1); execute immediate concat('load data local inf', 'ile ''{}'' into table l')",
])
def test_a_file_is_loaded_whole(through, mariadb, file_path, statement):
    mariadb.sql(f"truncate {DATABASE}.l")
    session = mariadb.connect(port=through.port, local_infile=True, client_flag=0x10000)
    with session.cursor() as cursor:
        cursor.execute(statement.format(file_path))
        while cursor.nextset():
            pass
        time.sleep(PAUSE)
        cursor.execute("select count(*) from l")
        assert cursor.fetchall() == ((1000,),)
    session.close()
    assert loaded(mariadb) == FILE_TEXT
    assert heartbeats_of(through) > 3


def test_a_file_that_comes_slowly(through, mariadb):
    mariadb.sql(f"truncate {DATABASE}.l")
    with Wire(mariadb, through.port, local_infile=True) as c:
        statement = c.prepare("load data local infile 'x' into table l")
        for how in (b"\x03load data local infile 'x' into table l", b"\x17" + statement + b"\0\1\0\0\0"):
            c.send(how)
            assert c.get()[1] == b"\xfbx"
            c.rest()
            c.send(b"row 0\n", 2)
            c.rest()
            c.send(b"row 1\n", 3)
            c.rest()
            c.send(b"", 4)
            assert c.get()[1][0] == 0
            c.rest()
    assert loaded(mariadb) == "row 0\nrow 0\nrow 1\nrow 1\n"
    heartbeats_of(through)


# --- transactions ---

@pytest.mark.parametrize("kind", KINDS)
def test_a_transaction_is_left_to_the_server_s_limit(stent, mariadb, kind):
    s = route(stent, mariadb, backend__heartbeat_in_transaction="off", **KINDS[kind])
    session = mariadb.connect(port=s.port)
    with session.cursor() as cursor:
        cursor.execute("begin")
        cursor.execute("insert into t(v) values (1)")
        time.sleep(0.5)
        cursor.execute("rollback")
    session.close()
    assert heartbeats_of(s) < 60	# of some 200
    session = mariadb.connect(port=s.port)
    with session.cursor() as cursor:
        cursor.execute("select 1")
        time.sleep(0.5)
    session.close()
    assert heartbeats_of(s) > 3


def test_a_statement_of_a_transaction_is_beaten(stent, mariadb):
    """It is at work; and the server's limit on the idle session counts from its result, as without heartbeats."""
    s = route(stent, mariadb, heartbeat="20ms", backend__heartbeat_in_transaction="off")
    session = mariadb.connect(port=s.port)
    with session.cursor() as cursor:
        for statement in ("set wait_timeout = 1", "begin", "select count(*) from t", "do sleep(1)"):
            cursor.execute(statement)
    session._sock.settimeout(10 * harness.SLOW)
    with contextlib.suppress(ConnectionResetError):	# as this server ends it
        while session._sock.recv(1000):
            pass
    session._force_close()
    assert heartbeats_of(s) > 20


# --- what it lets go ---

def client(s, *more, statement="select 1"):
    return run("mariadb", "--no-defaults", "-h", harness.HOST, "-P", s.port, f"-u{USER}", f"-p{PASSWORD}", *more, "-N",
               "-e", statement, DATABASE)


@pytest.mark.parametrize("option, why", [("--compress", "compression"), ("--ssl", "TLS")])
def test_compression_and_tls_are_let_go(stent, mariadb, option, why):
    s = route(stent, mariadb)
    assert client(s, option, "" if option == "--ssl" else "--skip-ssl", statement="select sleep(0.1), 5").split() == ["0", "5"]
    assert s.wait_logged(why)
    assert s.flow_end()["backend_heartbeats"] == 0


def test_logins_of_other_kinds(stent, mariadb):
    """A plugin that the client did not expect, and one behind a first that refuses."""
    mariadb.sql("install soname 'auth_ed25519'")
    for host in ("localhost", "127.0.0.1"):
        mariadb.sql(f"create or replace user e@'{host}' identified via ed25519 using password('pw')",
                    f"create or replace user b@'{host}' identified via ed25519 using password('other') or mysql_native_password"
                    " using password('pw')")
    s = route(stent, mariadb)
    for user in ("e", "b"):
        out = run("mariadb", "--no-defaults", "-h", harness.HOST, "-P", s.port, f"-u{user}", "-ppw", "--skip-ssl", "-N",
                  "-e", "do sleep(0.1); select 5")
        assert out == "5\n"
        assert heartbeats_of(s) > 3


def test_replication_is_let_go(stent, mariadb):
    s = route(stent, mariadb)
    words = ["mariadb-binlog", "--no-defaults", "-h", harness.HOST, f"-u{USER}", f"-p{PASSWORD}", "--skip-ssl",
             "--read-from-remote-server", "--stop-never-slave-server-id=77", "binlog.000001", "-P"]
    mariadb.sql("flush logs")
    assert run(*words, s.port) == run(*words, mariadb.port)
    assert s.wait_logged("replication")


# --- ends ---

@pytest.mark.parametrize("death", ["fin", "reset", "kill"])
def test_the_server_sees_that_the_client_of_a_waiting_statement_is_gone(stent, mariadb, death):
    """MariaDB looks every five seconds; anything unread before the end would be a sign of life to it."""
    s = stent.route(mariadb.port, protocol="mysql", heartbeat="20ms")
    holder, waiting = mariadb.connect(), mariadb.connect(port=s.port)
    holder.cursor().execute("select get_lock('held', 1)")
    number = waiting.thread_id()
    harness.wait_for(lambda: s.ask("flows")[0]["backend"]["replies"] > 2, what="heartbeats before the statement")
    query = b"\x03select get_lock('held', 60)"
    waiting._sock.sendall(packet(query))
    is_there = f"select count(*) from information_schema.processlist where id = {number} and info like '%get_lock%'"
    harness.wait_for(lambda: mariadb.sql(is_there)[0][0] == 1, what="the statement to wait")
    time.sleep(PAUSE)
    flow = s.ask("flows")[0]
    assert flow["backend"]["why_none"] == "statement running"
    if death == "reset":
        harness.Peer(waiting._sock).reset()
    elif death == "kill":
        s.ask(f"kill {flow['id']}")
    waiting._force_close()
    harness.wait_for(lambda: mariadb.sql(is_there)[0][0] == 0, 12, "the server to end the statement")
    holder.close()


def test_a_killed_session_ends_as_without_stent(through, mariadb):
    session = mariadb.connect(port=through.port)
    time.sleep(PAUSE)
    mariadb.sql(f"kill {session.thread_id()}")
    with pytest.raises(pymysql.OperationalError) as lost, session.cursor() as cursor:
        cursor.execute("select 1")
    assert lost.value.args[0] in (2006, 2013)


def test_a_dead_server_is_told_to_an_open_statement(stent, mariadb):
    s = route(stent, mariadb, heartbeat="50ms", backend__heartbeat_kind="ping", backend__heartbeat_timeout="500ms",
              backend__heartbeat_misses=1, backend__heartbeat_while_busy="off")
    session = mariadb.connect(port=s.port)
    time.sleep(0.1)
    mariadb.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(0.2)	# it is asked; with a statement open it could not be
        with pytest.raises(pymysql.OperationalError) as told, session.cursor() as cursor:
            cursor.execute("select 1")
    finally:
        mariadb.process.send_signal(signal.SIGCONT)
    number, text = told.value.args
    assert number == 1053
    assert re.fullmatch(r"stent: lost the connection to the server \(backend-heartbeat-timeout\), which was idle for "
                        r"\d+\.\d s; the statement may have run", text)
    assert s.flow_end()["reason"] == "backend-heartbeat-timeout"


def test_every_client_shows_what_it_was_told(stent, mariadb):
    import MySQLdb
    s = route(stent, mariadb, heartbeat="50ms", backend__heartbeat_kind="ping", backend__heartbeat_timeout="1s",
              backend__heartbeat_misses=1, backend__heartbeat_while_busy="off")
    session = MySQLdb.connect(host=harness.HOST, port=s.port, user=USER, passwd=PASSWORD)
    commands = [["mariadb", "--no-defaults", "-h", harness.HOST, "-P", s.port, f"-u{USER}", f"-p{PASSWORD}", "--skip-ssl",
                 "-N", "--unbuffered"], *(["node", HERE / "clients" / "mysql.js", driver, s.port, 0] for driver in ("mysql2", "mariadb"))]
    clients = [subprocess.Popen([str(w) for w in words], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT) for words in commands]
    clients[0].stdin.write("select 'up';\n")
    clients[0].stdin.flush()
    assert [c.stdout.readline() for c in clients] == ["up\n"] * 3
    harness.wait_for(lambda: all(f["backend"]["replies"] > 0 for f in s.ask("flows")), what="each server process to have replied")
    mariadb.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(0.3)
        for c in clients:
            c.stdin.write("select 2;\n")
            c.stdin.flush()
        with pytest.raises(MySQLdb.OperationalError, match="stent: lost the connection"):
            session.cursor().execute("select 1")
        said = [c.communicate(timeout=10 * harness.SLOW)[0] for c in clients]
    finally:
        mariadb.process.send_signal(signal.SIGCONT)
        for c in clients:
            c.kill()
    for text in said:
        assert "stent: lost the connection to the server (backend-heartbeat-timeout)" in text
        assert "08S01" in text


@pytest.mark.long
def test_the_server_s_wait_timeout_is_defeated(stent, mariadb):
    for heartbeat, lives in (("off", False), ("20ms", True)):
        session = mariadb.connect(port=route(stent, mariadb, heartbeat=heartbeat).port)
        with session.cursor() as cursor:
            cursor.execute("set wait_timeout = 1")
            time.sleep(4)
            if lives:
                cursor.execute("select 1")
            else:
                with pytest.raises(pymysql.OperationalError):
                    cursor.execute("select 1")


# --- programs ---

def run(*words, timeout=60, **more):
    result = subprocess.run([str(w) for w in words if w != ""], capture_output=True, text=True,
                            timeout=harness.patient(timeout), check=False, **more)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def still_followed(s, flows=1):
    ends = [s.flow_end(10) for _ in range(flows)]
    assert all(end["protocol"] == "mysql" for end in ends)
    return sum(end["backend_heartbeats"] for end in ends)


def test_the_command_line_client(through):
    out = client(through, "--skip-ssl", statement="select 1; do sleep(0.1); insert into t(v) values (4); select row_count()")
    assert out.split() == ["1", "1"]
    assert still_followed(through) > 3


def test_dump_and_restore(through, mariadb):
    mariadb.sql("drop database if exists source", "drop database if exists copy", "create database source", "create database copy",
                "use source", "create table source.t(id int primary key, v varchar(100), b blob) engine=innodb",
                "insert into source.t select seq, repeat('x', seq % 100), unhex(sha2(seq, 256)) from seq_1_to_5000",
                "create view source.w as select id from source.t", "create procedure source.p() select 1")
    login = ["--no-defaults", "-h", harness.HOST, f"-u{USER}", f"-p{PASSWORD}", "--skip-ssl"]
    words = ["mariadb-dump", *login, "--single-transaction", "--routines", "--skip-dump-date", "--hex-blob", "source", "-P"]
    dump = run(*words, through.port)
    assert dump == run(*words, mariadb.port)
    run("mariadb", *login, "-P", through.port, "copy", input=dump)
    assert mariadb.sql("checksum table copy.t")[0][1] == mariadb.sql("checksum table source.t")[0][1]
    still_followed(through, 2)


def slap(s, queries, clients):
    out = run("mariadb-slap", "--no-defaults", "-h", harness.HOST, "-P", s.port, f"-u{USER}", f"-p{PASSWORD}", "--skip-ssl",
              "--auto-generate-sql", "--auto-generate-sql-load-type=mixed", f"--number-of-queries={queries}",
              f"--concurrency={clients}", "--create-schema=slap", timeout=300)
    assert "Average number of seconds" in out


def test_slap(through):
    slap(through, 300, 4)


@pytest.mark.long
def test_slap_at_length(through):
    slap(through, 5000, 10)


def mix(connect, file_path, rounds):
    """All sorts of work by one of the Python drivers."""
    c = connect(user=USER, passwd=PASSWORD, db=DATABASE, local_infile=1)
    k = c.cursor()
    k.execute("create temporary table tx(id int auto_increment primary key, v int)")
    k.execute("create temporary table li(a varchar(20))")
    for i in range(rounds):
        k.execute("insert into tx(v) values (%s), (%s), (%s)", (i, i, i))
        k.execute("select row_count(), last_insert_id()")
        assert k.fetchone() == (3, 3 * i + 1)
        k.execute("select seq from seq_1_to_500")
        assert len(k.fetchall()) == 500
        with pytest.raises(Exception, match="syntax"):
            k.execute("bogus")
        k.execute("select cast('x' as int)")
        k.fetchall()
        k.execute("show warnings")
        assert len(k.fetchall()) == 1
        k.execute("call two()")
        assert k.fetchall() == ((1,),)
        assert k.nextset() and k.fetchall() == ((2,), (3,))
        while k.nextset():
            pass
        k.execute(f"load data local infile '{file_path}' into table li")
        assert k.rowcount == 1000
        c.ping()
        k.execute("select repeat('z', 70000)")
        assert len(k.fetchone()[0]) == 70000
        c.commit()
        time.sleep(0.003)
    time.sleep(PAUSE)
    k.execute("select 8")
    assert k.fetchone() == (8,)
    c.close()


def python_drivers():
    import MySQLdb
    return {"PyMySQL": (pymysql.connect, {"ssl_disabled": True}), "MySQLdb": (MySQLdb.connect, {})}


@pytest.mark.parametrize("driver", ["PyMySQL", "MySQLdb"])
def test_python_drivers(through, driver, file_path):
    connect, more = python_drivers()[driver]
    mix(lambda **how: connect(host=harness.HOST, port=through.port, **how, **more), file_path, 10)
    assert still_followed(through) > 3


@pytest.mark.long
@pytest.mark.parametrize("driver", ["PyMySQL", "MySQLdb"])
def test_python_drivers_at_length(through, driver, file_path):
    connect, more = python_drivers()[driver]
    mix(lambda **how: connect(host=harness.HOST, port=through.port, **how, **more), file_path, 300)


# --- drivers at rest for a hundred heartbeats ---

def idle_python(s, driver):
    connect, more = python_drivers()[driver]
    session = connect(host=harness.HOST, port=s.port, user=USER, passwd=PASSWORD, db=DATABASE, **more)
    cursor = session.cursor()

    def rows(statement):
        cursor.execute(statement)
        return cursor.fetchall()
    with warnings.catch_warnings(record=True) as said:
        before = rows("select connection_id()")
        session.rollback()	# these drivers open a transaction with the first statement, where autocommit is off
        time.sleep(IDLE)
        assert rows("show warnings") == ()
        assert rows("select connection_id()") == before
    assert said == []
    session.close()


def idle_node(s, driver):
    assert run("node", HERE / "clients" / "mysql.js", driver, s.port, 1, int(IDLE * 1000)) == "ok 1\n"


def idle_connector_j(s, _):
    out = run("java", "-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/mariadb-java-client.jar",
              HERE / "clients" / "ConnectorJ.java", s.port, 0, int(IDLE * 1000), timeout=300)
    assert out == "ok 0\n"


AT_REST = {"PyMySQL": idle_python, "MySQLdb": idle_python, "mysql2": idle_node, "mariadb": idle_node, "Connector/J": idle_connector_j}


@pytest.mark.parametrize("driver", [pytest.param(d, marks=[pytest.mark.plain] if at_rest is not idle_python else []) for d, at_rest in AT_REST.items()])
def test_a_driver_idle_for_100_heartbeats(through, driver):
    AT_REST[driver](through, driver)
    assert still_followed(through) >= 100


# --- drivers at work ---

@pytest.mark.plain
@pytest.mark.parametrize("driver", ["mysql2", "mariadb"])
def test_node_drivers(through, driver):
    assert run("node", HERE / "clients" / "mysql.js", driver, through.port, 20) == "ok 20\n"
    assert still_followed(through) > 3


@pytest.mark.long
@pytest.mark.parametrize("driver", ["mysql2", "mariadb"])
def test_node_drivers_at_length(through, driver):
    assert run("node", HERE / "clients" / "mysql.js", driver, through.port, 500, timeout=300) == "ok 500\n"


@pytest.mark.plain
@pytest.mark.parametrize("rounds", [3, pytest.param(200, marks=pytest.mark.long)])
def test_connector_j(through, rounds):
    out = run("java", "-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/mariadb-java-client.jar", HERE / "clients" / "ConnectorJ.java",
              through.port, rounds, timeout=300)
    assert out == f"ok {rounds}\n"
    assert still_followed(through) > 3
