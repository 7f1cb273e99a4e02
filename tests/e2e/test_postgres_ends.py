"""When one end of a PostgreSQL session is dead: what the other is told, and the work that nobody waits for."""

import asyncio
import contextlib
import os
import signal
import struct
import subprocess
import sys
import threading
import time

import harness
import psycopg
import psycopg2
import pytest
from pgwire import Raw, copy_data, error, query

SENTENCE = "terminating connection: stent found the database server dead (backend-heartbeat-timeout, idle for"


@pytest.fixture
def asking(stent, postgres):
    """A server that does not answer two asks is dead."""
    return stent.route(postgres.port, protocol="postgres", heartbeat="100ms", heartbeat_timeout="200ms",
                       backend__heartbeat_kind="ping", backend__heartbeat_misses="2")


@contextlib.contextmanager
def hung(pid, s):
    """A server's process that has replied before, and hangs: its kernel answers probes, it answers nothing."""
    harness.wait_for(lambda: s.ask("flows")[0]["backend"]["replies"] > 0, what="a reply")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("protocol", ["postgres", "auto"])
def test_a_servers_own_end_is_no_evidence_against_heartbeats(stent, postgres, protocol):
    """Sessions that an administrator ends in place of the reply to their first Sync. The next one is asked as ever."""
    s = stent.route(postgres.port, protocol=protocol, backend__heartbeat="100ms", client__heartbeat="off")

    def leg():
        return s.ask("flows")[0]["backend"]
    for _ in range(4):
        with Raw(s.port, database="postgres") as c:
            pid = struct.unpack(">I", c.until(b"K")[5:9])[0]
            os.kill(pid, signal.SIGSTOP)
            try:
                harness.wait_for(lambda: leg()["heartbeats"] > 0, what="a ping")
                postgres.sql(f"select pg_terminate_backend({pid})")
            finally:
                os.kill(pid, signal.SIGCONT)
            assert error(c.until(b"E"))["C"] == "57P01"
            assert c.get() == b""
        assert s.flow_end()["backend_replies"] == 0
    with Raw(s.port, database="postgres") as c:
        c.until(b"Z")
        harness.wait_for(lambda: leg()["replies"] > 0, what="a reply")
        assert c.ask("select 1") == ([["1"]], "I")


def dsn(s, **more):
    words = {"host": harness.HOST, "port": s.port, "user": "postgres", "dbname": "postgres", "sslmode": "disable",
             "gssencmode": "disable", **more}
    return " ".join(f"{key}={value}" for key, value in words.items())


def test_the_farewell_is_an_error_of_the_protocol(asking):
    with Raw(asking.port, database="postgres") as c:
        c.until(b"Z")
        pid = int(c.ask("select pg_backend_pid()")[0][0][0])
        with hung(pid, asking):
            said = error(c.until(b"E"))
            assert c.get() == b""
        assert said["S"] == "FATAL" and said["C"] == "08006" and said["M"].startswith(SENTENCE)
    assert asking.flow_end(reason="backend-heartbeat-timeout")["backend_replies"] >= 0


def test_psql_shows_a_sentence(asking, postgres):
    p = subprocess.Popen(["psql", "-X", "-At", dsn(asking, application_name="sentence")], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    p.stdin.write("select pg_backend_pid();\n")
    p.stdin.flush()
    with hung(int(p.stdout.readline()), asking):
        asking.flow_end(reason="backend-heartbeat-timeout")
        out, _ = p.communicate("select 1;\n", timeout=20)
    assert "FATAL:  " + SENTENCE in out


def test_psycopg_shows_a_sentence(asking):
    """(psycopg2 shows none, nor does it when a server ends the session itself.)"""
    c = psycopg.connect(dsn(asking), autocommit=True)
    with hung(c.execute("select pg_backend_pid()").fetchone()[0], asking):
        asking.flow_end(reason="backend-heartbeat-timeout")
        with pytest.raises(psycopg.OperationalError) as told:
            c.execute("select 1")
    assert SENTENCE in str(told.value)


def test_asyncpg_is_told_while_it_waits(asking):
    import asyncpg

    async def go():
        c = await asyncpg.connect(host=harness.HOST, port=asking.port, user="postgres", database="postgres", ssl=False)
        pid = await c.fetchval("select pg_backend_pid()")
        with hung(pid, asking):
            for _ in range(500):
                if c.is_closed():
                    break
                await asyncio.sleep(0.01)
            assert c.is_closed()
    asyncio.run(go())
    asking.flow_end(reason="backend-heartbeat-timeout")


def test_an_operators_end_is_called_by_its_name(stent, postgres):
    s = stent.route(postgres.port, protocol="postgres")
    c = psycopg.connect(dsn(s))
    threading.Timer(0.3, s.signal, [signal.SIGTERM]).start()
    with pytest.raises(psycopg.OperationalError, match="closed by stent .drain."):
        c.execute("select pg_sleep(30)")


# --- the client is dead ---

WORKER = """
import psycopg2, sys
c = psycopg2.connect(sys.argv[1])
k = c.cursor()
k.execute("lock table locked")
k.execute("select pg_sleep(60)")
"""


def lock_is_free(postgres):
    try:
        postgres.sql("begin", "lock table locked nowait")
        return True
    except psycopg2.errors.LockNotAvailable:
        return False


def kill_between_heartbeats(client, s):
    """An end right behind a heartbeat would be taken for what that heartbeat did, and none would follow."""
    harness.wait_for(lambda: s.ask("flows")[0]["client"]["heartbeats"] > 1, what="two heartbeats")
    time.sleep(0.15)
    client.kill()


@contextlib.contextmanager
def a_client_that_holds_a_lock(postgres, s):
    postgres.sql("create table if not exists locked(a int)")
    p = subprocess.Popen([sys.executable, "-c", WORKER, dsn(s)], stderr=subprocess.DEVNULL)
    try:
        harness.wait_for(lambda: postgres.value(
            "select count(*) from pg_stat_activity where query like 'select pg_sleep(60)%' and state = 'active'"),
            what="the query to run")
        assert not lock_is_free(postgres)
        yield p
    finally:
        p.kill()
        p.wait()
        postgres.sql("select pg_terminate_backend(pid) from pg_stat_activity where query like 'select pg_sleep(60)%'")


def test_a_killed_client_frees_its_lock(stent, postgres):
    s = stent.route(postgres.port, protocol="postgres", client__heartbeat="500ms", heartbeat_while_busy="on")
    with a_client_that_holds_a_lock(postgres, s) as client:
        kill_between_heartbeats(client, s)
        harness.wait_for(lambda: lock_is_free(postgres), 5, "the lock to be free")
        assert s.flow_end(reason="client-reset")


def test_a_killed_client_keeps_its_lock_if_so_wished(stent, postgres):
    s = stent.route(postgres.port, protocol="postgres", client__heartbeat="500ms", heartbeat_while_busy="on", cancel_on_death="off")
    with a_client_that_holds_a_lock(postgres, s) as client:
        kill_between_heartbeats(client, s)
        assert s.flow_end(reason="client-reset")
        time.sleep(0.5)
        assert not lock_is_free(postgres)


def kill_it(s):
    assert s.ask(f"kill {s.ask('flows')[0]['id']}")["killed"]


@pytest.mark.parametrize("reason, keys, end", [("admin-kill", {}, kill_it), ("client-idle", {"client__idle_timeout": f"{int(2000 * harness.SLOW)}ms"}, None)])
def test_a_flow_that_is_cut_off_frees_its_lock(stent, postgres, reason, keys, end):
    s = stent.route(postgres.port, protocol="postgres", **keys)
    with a_client_that_holds_a_lock(postgres, s):
        if end:
            end(s)
        assert s.flow_end(reason=reason)
        harness.wait_for(lambda: lock_is_free(postgres), 5, "the lock to be free")


def test_a_reset_in_a_copy_leaves_no_row(stent, postgres):
    s = stent.route(postgres.port, protocol="postgres")
    postgres.sql("drop table if exists half", "create table half(a int)")
    c = Raw(s.port, database="postgres")
    c.until(b"Z")
    c.send(query("copy half from stdin"))
    c.until(b"G")
    c.send(copy_data(b"1\n"))
    harness.Peer(c.sock).reset()
    s.flow_end(reason="client-reset")
    harness.wait_for(lambda: postgres.value("select count(*) from pg_stat_activity where query like 'copy half%'") == 0,
                     what="the server to give up")
    assert postgres.value("select count(*) from half") == 0
