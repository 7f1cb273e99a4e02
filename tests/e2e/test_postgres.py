"""
PostgreSQL's heartbeats, where each was found legal or dangerous: nothing that
a session can see changes. Each test with a danger's name is that danger's.
"""

import random
import socket
import struct
import subprocess
import threading
import time

import harness
import psycopg2
import pytest
from pgwire import (BIND, COPY_DONE, DESCRIBE, EXECUTE, FLUSH, SYNC, Raw, bind, copy_data, error, execute, message, parse, query)
from servers.postgres import PgBouncer, PgPool

KINDS = {"oneway": {}, "ping": {"backend__heartbeat_kind": "ping"}}
PAUSE = 0.25	# seconds in which many heartbeats go out


def route(stent, server, heartbeat="5ms", **keys):
    keys = {"heartbeat_while_busy": "on", **keys}
    return stent.route(server.port, protocol="postgres", heartbeat=heartbeat, **keys)


@pytest.fixture(params=KINDS)
def through(stent, postgres, request):
    """stent before the server, with heartbeats as often as it will, told or asked."""
    return route(stent, postgres, **KINDS[request.param])


@pytest.fixture
def table(postgres):
    postgres.sql("drop table if exists t", "create table t(a int primary key)")
    return postgres


def heartbeats_of(s, timeout=5):
    end = s.flow_end(timeout)
    assert end["protocol"] == "postgres", "the protocol passthrough"
    return end["client_heartbeats"], end["backend_heartbeats"]


# --- what a session sees ---

def test_an_idle_session_sees_nothing(through):
    with Raw(through.port, database="postgres") as c:
        c.until(b"Z")
        first = len(c.seen)
        before = c.ask("select pg_backend_pid()")
        assert state_after(c, 1) is None
        assert c.ask("select pg_backend_pid()") == before
        assert c.kinds(first) == "TDCZTDCZ"
        told = {m for m in c.seen[first:] if m[:1] == b"S"}
    assert told == {message(b"S", b"integer_datetimes\0on\0")}
    client, backend = heartbeats_of(through)
    assert client > 20 and backend > 20


def test_nothing_before_login(through, postgres):
    with Raw(through.port, user="scram", database="postgres") as c:
        assert c.until(b"R")[5:9] == struct.pack(">I", 10)	# SASL, and now it waits for us
        assert c.get(timeout=PAUSE) is None
    assert heartbeats_of(through) == (0, 0)


def test_the_unnamed_statement_is_kept(through):
    with Raw(through.port, database="postgres") as c:
        c.until(b"Z")
        c.send(parse("select 42"), SYNC)
        c.until(b"Z")
        time.sleep(PAUSE)
        c.send(BIND, EXECUTE, SYNC)
        c.until(b"Z")
        assert c.kinds().endswith("1Z2DCZ")


def test_sync_in_an_unsynced_batch_would_commit_its_first_half(through, table):
    with Raw(through.port, database="postgres") as c:
        c.until(b"Z")
        c.send(parse("insert into t values (1)"), BIND, EXECUTE, FLUSH)
        c.until(b"C")
        time.sleep(PAUSE)
        c.send(parse("insert into t values (1)"), BIND, EXECUTE, SYNC)
        assert error(c.until(b"E"))["C"] == "23505"
        c.until(b"Z")
    assert table.value("select count(*) from t") == 0


def test_sync_in_a_failed_batch_would_execute_the_rest(through, table):
    with Raw(through.port, database="postgres") as c:
        c.until(b"Z")
        c.send(parse("bogus"), FLUSH)
        c.until(b"E")
        time.sleep(PAUSE)
        c.send(parse("insert into t values (77)"), BIND, EXECUTE, SYNC)
        c.until(b"Z")
        assert c.kinds().endswith("EZ")
    assert table.value("select count(*) from t") == 0


PIECES = [parse("select 1"), parse("bogus"), parse("select 1 / 0") + BIND, BIND, EXECUTE, DESCRIBE, query("select 1; select 2"), query("bogus"),
          query("select 1; select 1 / 0"), SYNC, FLUSH]


@pytest.mark.parametrize("seed", range(4))
def test_pipelines_of_all_sorts_leave_no_reply_uncounted(stent, postgres, seed):
    """What a server drops behind an error is dropped from the count of what it owes, and no more: asked at rest, it replies as without stent."""
    random.seed(seed)
    s = route(stent, postgres, heartbeat="10ms", client__heartbeat="off")
    with Raw(s.port, database="postgres") as c, Raw(postgres.port, database="postgres") as straight:
        for each in (c, straight):
            each.until(b"Z")
        for _ in range(12):
            pipeline = b"".join(random.choices(PIECES, k=random.randrange(2, 9))) + SYNC + query("select 'end'")
            for each in (c, straight):
                each.send(pipeline)
                while b"end" not in each.until(b"D"):
                    pass
                each.until(b"Z")
            answers = s.ask("flows")[0]["backend"]["replies"]
            harness.wait_for(lambda: s.ask("flows")[0]["backend"]["replies"] > answers + 1, what=f"a reply behind {pipeline}")
        assert c.kinds() == straight.kinds()


def test_a_suspended_portal_outside_a_transaction_lives_on(through):
    with Raw(through.port, database="postgres") as c:
        c.until(b"Z")
        c.send(parse("select generate_series(1, 9)"), bind("p"), execute("p", 2), FLUSH)
        c.until(b"s")
        time.sleep(PAUSE)
        c.send(execute("p", 2), SYNC)
        c.until(b"Z")
        assert c.kinds().endswith("DDsDDsZ")


def test_sync_in_a_copy_would_never_be_answered(through, table):
    with Raw(through.port, database="postgres") as c:
        c.until(b"Z")
        c.send(query("copy t from stdin"))
        c.until(b"G")
        for i in range(3):
            c.send(copy_data(b"%d\n" % i))
            time.sleep(PAUSE / 3)
        c.send(COPY_DONE)
        c.until(b"Z")
        assert c.ask("select count(*) from t") == ([["3"]], "I")


def test_extended_copy_has_two_syncs_and_one_answer(through, table):
    with Raw(through.port, database="postgres") as c:
        c.until(b"Z")
        for i in range(5):
            c.send(parse("copy t from stdin"), BIND, EXECUTE, SYNC)
            c.until(b"G")
            time.sleep(PAUSE / 5)
            c.send(copy_data(b"%d\n" % i), COPY_DONE, SYNC)
            c.until(b"Z")
            time.sleep(PAUSE / 5)
            assert c.ask("select count(*) from t") == ([[str(i + 1)]], "I")


def test_a_notification_comes_through_between_our_answers(through, postgres):
    with Raw(through.port, database="postgres") as c:
        c.until(b"Z")
        c.ask("listen ch")
        for i in range(30):
            time.sleep(0.003 * (i % 5))
            postgres.sql(f"notify ch, '{i}'")
            assert c.until(b"A").endswith(b"ch\0%d\0" % i)
        assert c.ask("select 1") == ([["1"]], "I")


def test_a_long_query_is_beaten_on_both_legs(stent, postgres):
    s = route(stent, postgres)
    with Raw(s.port, database="postgres") as c:
        c.until(b"Z")
        assert c.ask("select 1 from pg_sleep(1)") == ([["1"]], "I")
    client, backend = heartbeats_of(s)
    assert client > 20 and backend > 20		# of some 100, on a machine that is not busy


# --- the server's own idle rules ---

def state_after(c, seconds):
    """What a session that is left alone so long has heard of its end: an SQLSTATE, or None."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        got = c.get(timeout=max(deadline - time.monotonic(), 0.01))
        if got and got[:1] == b"E":
            return error(got)["C"]
    return None


TIMED_OUT_IN_TRANSACTION, TIMED_OUT_IDLE = "25P03", "57P05"


def test_an_idle_transaction_keeps_its_timeout(through):
    with Raw(through.port, database="postgres") as c:
        c.until(b"Z")
        c.ask("set idle_in_transaction_session_timeout = 500")
        assert c.ask("begin")[1] == "T"
        assert state_after(c, 3) == TIMED_OUT_IN_TRANSACTION


def test_a_transaction_keeps_its_timeout_after_a_long_query(through):
    """A Flush that is read behind the query stops the timer; a Sync has started it again."""
    with Raw(through.port, database="postgres") as c:
        c.until(b"Z")
        c.ask("set idle_in_transaction_session_timeout = 500")
        c.ask("begin")
        assert c.ask("select 1 from pg_sleep(0.7)")[1] == "T"
        assert state_after(c, 3) == TIMED_OUT_IN_TRANSACTION
    assert heartbeats_of(through)[1] > 30


def batch(sql):
    return parse(sql) + BIND + EXECUTE + SYNC


AHEAD = {
    "queries": [query("select pg_sleep(0.5)"), query("begin")],
    "batches": [batch("select pg_sleep(0.5)"), batch("begin")],
    "one transaction behind another": [query("begin; select pg_sleep(0.5); commit"), query("begin")],
}


@pytest.mark.parametrize("early", AHEAD)
def test_a_transaction_sent_ahead_keeps_its_timeout(through, early):
    """A Flush behind a slow query is behind all that was sent with it: one that opens a transaction as well."""
    with Raw(through.port, database="postgres") as c:
        c.until(b"Z")
        c.ask("set idle_in_transaction_session_timeout = 500")
        c.send(*AHEAD[early])
        assert [c.until(b"Z")[5:] for _ in range(2)] == [b"I", b"T"]
        assert state_after(c, 3) == TIMED_OUT_IN_TRANSACTION
    assert heartbeats_of(through)[1] > 20


def test_a_transaction_may_be_beaten_on_demand(stent, postgres):
    s = route(stent, postgres, backend__heartbeat_in_transaction="on")
    with Raw(s.port, database="postgres") as c:
        c.until(b"Z")
        c.ask("set idle_in_transaction_session_timeout = 300")
        c.ask("begin")
        assert state_after(c, 1) is None
        assert c.ask("select 1") == ([["1"]], "T")
    assert heartbeats_of(s)[1] > 50


def test_idle_session_timeout_is_defeated_by_heartbeats_alone(stent, postgres):
    for keys, expected in (({}, None), ({"backend__heartbeat": "off"}, TIMED_OUT_IDLE)):
        s = route(stent, postgres, **keys)
        with Raw(s.port, database="postgres") as c:
            c.until(b"Z")
            c.ask("set idle_session_timeout = 300")
            assert state_after(c, 1) == expected


def test_an_ask_leaves_no_trace_in_the_server(stent, postgres):
    """Neither a line in its log, with everything logged, nor a transaction in its statistics."""
    postgres.sql("drop database if exists untouched", "create database untouched")
    s = route(stent, postgres, backend__heartbeat_kind="ping")

    def transactions(c):
        c.ask("select pg_stat_force_next_flush() from pg_class limit 1")	# of a table, else there is nothing to flush
        return postgres.value("select xact_commit + xact_rollback from pg_stat_database where datname = 'untouched'")
    with Raw(s.port, database="untouched", options="-c log_statement=all -c log_min_duration_statement=0 -c log_duration=on") as c:
        c.until(b"Z")
        (pid,), = c.ask("select pg_backend_pid()")[0]
        before = transactions(c)
        logged = postgres.log_path.read_text().count(f"[{pid}]")
        assert logged > 0
        assert state_after(c, 1) is None
        assert postgres.log_path.read_text().count(f"[{pid}]") == logged
        grown = harness.wait_for(lambda: transactions(c) - before, what="the statistics")
        assert grown < 10, "an ask counts as a transaction"
    assert s.flow_end()["backend_replies"] > 50


# --- who is at the other end ---

@pytest.fixture
def pgbouncer(postgres):
    pooler = PgBouncer(postgres.port)
    yield pooler
    pooler.close()


def test_a_pooler_is_known_and_not_beaten(stent, pgbouncer):
    """With the pool's one connection taken, a heartbeat on the idle session would have it thrown out."""
    s = route(stent, pgbouncer)
    with Raw(pgbouncer.port, database="postgres") as other, Raw(s.port, database="postgres") as c:
        c.until(b"Z")
        other.until(b"Z")
        assert other.ask("begin")[1] == "T"
        assert state_after(c, 2) is None
        other.ask("commit")
        assert c.ask("select 1") == ([["1"]], "I")
        s.wait_logged("pooler")
    client, backend = heartbeats_of(s)
    assert client > 50 and backend == 0


def test_a_pooler_in_front_is_told_only_while_a_query_runs(through):
    """At rest it would take what it is told for the beginning of a result, and wait for the rest."""
    pooler = PgBouncer(through.port)
    try:
        with Raw(pooler.port, database="postgres") as c:
            c.until(b"Z")
            first = c.ask("select pg_backend_pid()")
            assert state_after(c, 0.7) is None
            c.ask("set application_name = 'x'")
            assert c.ask("select pg_backend_pid()") == first
            assert c.ask("select 1 from pg_sleep(0.3)") == ([["1"]], "I")
            assert c.ask("select pg_backend_pid()") == first
        assert "not linked" not in pooler.log_path.read_text()
    finally:
        pooler.close()
    through.wait_logged("the client looks like a connection pooler")
    client, backend = heartbeats_of(through)
    assert 3 < client < 100 and backend > 50


class SlowPooler(harness.RawBackend):
    """Looks like a server, and lets each Sync wait until it is told otherwise: it has no connection to lend for it."""

    def __init__(self):
        super().__init__()
        self.sessions = []

    def login(self, s):
        """One more session through stent; its client."""
        c = Raw(s.port, database="postgres")
        peer = self.accept()
        peer.recv_some()
        peer.send_all(message(b"R", bytes(4)) + message(b"S", b"integer_datetimes\0on\0")
                      + message(b"K", struct.pack(">II", 4711, 1)) + message(b"Z", b"I"))
        c.until(b"Z")
        self.sessions.append(peer)
        return c

    def waiting(self):
        """The sessions from which a Sync has come."""
        def has_come(peer):
            peer.sock.settimeout(0)
            try:
                return peer.sock.recv(1, socket.MSG_PEEK) != b""
            except BlockingIOError:
                return False
        return [peer for peer in self.sessions if has_come(peer)]


TRIAL_FLOWS = 3


def test_an_exhausted_pooler_is_asked_by_few(stent):
    """As long as none of them has been replied to the others wait. It ends those that wait: no more die of it."""
    with SlowPooler() as pooler:
        s = stent.route(pooler.text, protocol="postgres", backend__heartbeat="200ms", client__heartbeat="off",
                        backend__heartbeat_timeout="300ms")
        clients = [pooler.login(s) for _ in range(8)]
        harness.wait_for(lambda: len(pooler.waiting()) >= TRIAL_FLOWS, what="the first pings")
        s.wait_logged("has never replied")
        time.sleep(3 * PAUSE)
        waiting = pooler.waiting()
        assert len(waiting) == TRIAL_FLOWS
        assert all(peer.recv_some() == SYNC for peer in waiting), "more than one heartbeat"
        for peer in waiting:
            peer.send_all(message(b"E", b"SFATAL\0C08P01\0Mquery_wait_timeout\0\0"))
            peer.close()
            pooler.sessions.remove(peer)
        s.wait_logged("heartbeats \\(ping\\) to the backend are off")
        time.sleep(3 * PAUSE)
        assert pooler.waiting() == []
        codes = [error(got)["C"] for got in (c.get(timeout=0.01) for c in clients) if got]
        assert codes == ["08P01"] * TRIAL_FLOWS


def test_a_server_that_hangs_at_its_first_pings_is_asked_on(stent):
    """The replies come late: they were borne, and the others are asked, too."""
    with SlowPooler() as server:
        s = stent.route(server.text, protocol="postgres", backend__heartbeat="200ms", client__heartbeat="off",
                        backend__heartbeat_timeout="300ms")
        clients = [server.login(s) for _ in range(6)]
        s.wait_logged("has never replied")
        harness.wait_for(lambda: len(server.waiting()) == TRIAL_FLOWS, what="the first pings")

        def reply():
            for peer in server.waiting():
                peer.send_all(message(b"Z", b"I") * (len(peer.recv_some()) // len(SYNC)))
            return all(flow["backend"]["replies"] > 1 for flow in s.ask("flows"))
        harness.wait_for(reply, what="replies on every flow")
        assert all(c.get(timeout=0.01) is None for c in clients)


@pytest.fixture
def pgpool(postgres):
    pooler = PgPool(postgres.port)
    yield pooler
    pooler.close()


def test_a_pgpool_behind_is_asked_as_a_server(stent, pgpool):
    """It passes on what it is sent, in order: no session waits for another."""
    s = stent.route(pgpool.port, protocol="postgres", heartbeat="20ms")
    with Raw(s.port, database="postgres") as c, Raw(s.port, database="postgres") as other:
        for each in (c, other):
            each.until(b"Z")
        assert other.ask("begin")[1] == "T"
        harness.wait_for(lambda: sum(flow["backend"]["replies"] for flow in s.ask("flows")) > 20, what="replies")
        for i in range(5):
            assert c.ask(f"select {i} from pg_sleep(0.05)") == ([[str(i)]], "I")
            assert other.ask("select 1") == ([["1"]], "T")
    assert "FATAL" not in pgpool.log_path.read_text()


def test_a_pgpool_in_front_is_told_nothing_at_rest(stent, postgres):
    s = stent.route(postgres.port, protocol="postgres", heartbeat="20ms")
    pooler = PgPool(s.port)
    try:
        with Raw(pooler.port, database="postgres") as c:
            c.until(b"Z")
            first = c.ask("select pg_backend_pid()")
            assert state_after(c, 3 * PAUSE) is None
            assert c.ask("select pg_backend_pid()") == first
    finally:
        pooler.close()
    s.wait_logged("the client looks like a connection pooler")


@pytest.mark.parametrize("role", ["scram", "md5", "clear"])
def test_every_authentication(through, role):
    connection = psycopg2.connect(harness_dsn(through, user=role, password="pw"))
    time.sleep(PAUSE)
    with connection.cursor() as cursor:
        cursor.execute("select current_user")
        assert cursor.fetchone() == (role,)
    connection.close()
    client, backend = heartbeats_of(through)
    assert client > 5 and backend > 5


def test_a_refused_login_is_told_as_ever(through):
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(harness_dsn(through, user="scram", password="wrong"))
    assert heartbeats_of(through) == (0, 0)


def harness_dsn(s, **more):
    words = {"host": harness.HOST, "port": s.port, "user": "postgres", "dbname": "postgres", "sslmode": "disable",
             "gssencmode": "disable", **more}
    return " ".join(f"{key}={value}" for key, value in words.items())


def psql(s, *args, **more):
    done = subprocess.run(["psql", "-X", "-At", harness_dsn(s, **more), *args], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60 * harness.SLOW)
    return done.stdout, done.stderr, done.returncode


def test_encryption_refused_is_followed_in_the_clear(through):
    assert psql(through, "-c", "select pg_sleep(0.3)", "-c", "select 7", sslmode="prefer") == ("\n7\n", "", 0)
    client, backend = heartbeats_of(through)
    assert client > 5 and backend > 5


@pytest.mark.parametrize("sslmode", ["disable", "prefer"])
def test_it_is_recognised_by_its_first_bytes(stent, postgres, sslmode):
    s = stent.route(postgres.port, protocol="auto", heartbeat="5ms", heartbeat_while_busy="on")
    assert psql(s, "-c", "select pg_sleep(0.3)", "-c", "select 7", sslmode=sslmode) == ("\n7\n", "", 0)
    client, backend = heartbeats_of(s)
    assert client > 5 and backend > 5


def test_tls_goes_through_and_is_named(stent, postgres):
    postgres.use_tls()
    try:
        s = route(stent, postgres)
        assert psql(s, "-c", "select pg_sleep(0.3)", "-c", "select 7", sslmode="require") == ("\n7\n", "", 0)
        assert s.next_event("protocol passthrough")["reason"] == "TLS"
        end = s.flow_end()
        assert (end["client_heartbeats"], end["backend_heartbeats"]) == (0, 0)
    finally:
        postgres.sql("alter system set ssl = off", "select pg_reload_conf()")


def test_a_cancel_request_goes_through(through):
    connection = psycopg2.connect(harness_dsn(through))
    threading.Timer(PAUSE, connection.cancel).start()
    with connection.cursor() as cursor, pytest.raises(psycopg2.errors.QueryCanceled):
        cursor.execute("select pg_sleep(30)")
    end = through.flow_end(client_bytes=16)
    assert (end["client_heartbeats"], end["backend_heartbeats"]) == (0, 0)
    connection.rollback()
    connection.close()
