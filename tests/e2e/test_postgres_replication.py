"""Standbys, subscribers and backups of PostgreSQL through stent, with heartbeats in every quiet moment on both legs."""

import signal
import subprocess
import time

import harness
import pytest
from pgwire import Raw, query
from servers.postgres import Postgres, tool

REPORT = "select write_lsn, flush_lsn, replay_lsn from pg_stat_replication where application_name = '{}'"


@pytest.fixture
def through(stent, postgres):
    return stent.route(postgres.port, protocol="postgres", heartbeat="5ms", heartbeat_while_busy="on")


def lsn(text):
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def heartbeats_of_the_others(s):
    """Of flows that have ended."""
    ends = [r for r in s.records if r.get("event") == "flow end"]
    assert ends and all(r["protocol"] == "postgres" for r in ends)
    return sum(r["client_heartbeats"] for r in ends), sum(r["backend_heartbeats"] for r in ends)


def reported(postgres, name):
    """How far a standby says that it is: positions that may only grow, and never be ahead of what was written."""
    rows = postgres.sql(REPORT.format(name))
    return [lsn(text or "0/0") for text in rows[0]] if rows and rows[0][0] else None


def watch_reports(postgres, name, seconds):
    last = harness.wait_for(lambda: reported(postgres, name), 10, f"{name} to report")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        now = reported(postgres, name)
        assert now is not None, "a report was erased"
        assert all(a <= b for a, b in zip(last, now)), "a report went back"
        assert max(now) <= lsn(postgres.value("select pg_current_wal_lsn()")), "a report ran ahead"
        last = now
        time.sleep(0.05)


def test_a_backup_and_the_standby_made_of_it(through, postgres):
    postgres.sql("drop table if exists followed", "create table followed(a int)",
                 "insert into followed select generate_series(1, 1000)")
    standby = Postgres(backup_through=through.port, hot_standby_feedback="on", wal_receiver_status_interval="1s",
                       cluster_name="standby")
    try:
        assert standby.value("select pg_is_in_recovery()")
        for n in (1000, 1001, 1002):
            harness.wait_for(lambda: standby.value("select count(*) from followed") == n, 10, "the standby to follow")
            watch_reports(postgres, "standby", 0.7)
            postgres.sql(f"insert into followed values ({n})")
        harness.wait_for(lambda: standby.value("select count(*) from followed") == 1003, 10, "the standby to follow")
    finally:
        standby.close()
    harness.wait_for(lambda: postgres.value("select count(*) from pg_stat_replication") == 0, what="the walsender to end")
    through.wait_logged("flow end")
    client, backend = heartbeats_of_the_others(through)
    assert client > 50 and backend > 50
    assert not through.logged("protocol passthrough")


def test_a_backup_is_whole(through, tmp_path):
    backup = tmp_path / "backup"
    subprocess.run([tool("pg_basebackup"), "-h", harness.HOST, "-p", str(through.port), "-U", "postgres", "-D", backup,
                    "-c", "fast", "-X", "fetch", "--no-sync"], check=True, timeout=60 * harness.SLOW)
    subprocess.run([tool("pg_verifybackup"), backup], check=True, timeout=60 * harness.SLOW)


@pytest.fixture
def subscriber(postgres):
    postgres.sql("drop database if exists subscriber", "create database subscriber")
    yield "subscriber"
    postgres.sql("alter subscription sub disable", "alter subscription sub set (slot_name = none)", "drop subscription sub",
                 dbname="subscriber")
    harness.wait_for(lambda: postgres.value("select not coalesce(bool_or(active), false) from pg_replication_slots"),
                     what="the slot to be left")
    postgres.sql("select pg_drop_replication_slot('sub')", "drop publication pub")


def test_a_subscriber_follows(through, postgres, subscriber):
    postgres.sql("drop table if exists published", "create table published(a int primary key, b text)",
                 "create publication pub for table published",
                 "select pg_create_logical_replication_slot('sub', 'pgoutput')")
    postgres.sql("create table published(a int primary key, b text)",
                 f"create subscription sub connection 'host={harness.HOST} port={through.port} user=postgres "
                 "dbname=postgres sslmode=disable gssencmode=disable' publication pub with (create_slot = false)",
                 dbname=subscriber)
    for i in range(3):
        postgres.sql(f"insert into published select i, repeat('x', 100) from generate_series({i * 500}, {i * 500 + 499}) i")
        harness.wait_for(lambda: postgres.value("select count(*) from published", dbname=subscriber) == (i + 1) * 500, 10,
                         "the subscriber to follow")
        watch_reports(postgres, "sub", 0.5)
    same = "select md5(string_agg(p::text, ',' order by a)) from published p"
    assert postgres.value(same, dbname=subscriber) == postgres.value(same)
    assert not through.logged("protocol passthrough")


def receivers_of(s, directory, *words):
    """pg_receivewal and pg_recvlogical, the latter from the slot "changes" into the file "changes"."""
    where = f"host={harness.HOST} port={s.port} user=postgres sslmode=disable gssencmode=disable dbname="
    (directory / "wal").mkdir()
    return [subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True) for command in (
        [tool("pg_receivewal"), "-d", where + "replication", "-D", directory / "wal", "--no-sync"],
        [tool("pg_recvlogical"), "-d", where + "postgres", "--slot=changes", "--start", "-f", directory / "changes", "-F", "1"])]


def test_none_go_out_while_replication_streams(stent, postgres, tmp_path):
    """Each end watches for the other's own keepalives: a receiver that hangs must be found by wal_sender_timeout."""
    postgres.sql("drop table if exists streamed", "create table streamed(a int)",
                 "select pg_create_logical_replication_slot('changes', 'test_decoding')",
                 "alter system set wal_sender_timeout = '1s'", "select pg_reload_conf()")
    s = stent.route(postgres.port, protocol="postgres", heartbeat="20ms")
    receivers = receivers_of(s, tmp_path, "-n")
    try:
        def streams():
            return postgres.value("select count(*) from pg_stat_replication where state = 'streaming'") == len(receivers)
        harness.wait_for(streams, 10, "the receivers to stream")
        before = heartbeats(s)
        for i in range(3):
            postgres.sql(f"insert into streamed values ({i})")
            harness.wait_for(lambda: f"a[integer]:{i}\n" in (tmp_path / "changes").read_text(), what="the change")
            time.sleep(0.3)
        assert heartbeats(s) == before
        assert {flow["client"]["why_none"] for flow in s.ask("flows")} == {"replication: both ends send their own"}
        for p in receivers:
            p.send_signal(signal.SIGSTOP)
        harness.wait_for(lambda: postgres.value("select count(*) from pg_stat_replication") == 0, 10, "wal_sender_timeout")
    finally:
        for p in receivers:
            p.kill()
            p.wait(20)
        postgres.sql("alter system reset wal_sender_timeout", "select pg_reload_conf()")
        harness.wait_for(lambda: postgres.value("select not coalesce(bool_or(active), false) from pg_replication_slots"),
                         what="the slot to be left")
        postgres.sql("select pg_drop_replication_slot('changes')")


def heartbeats(s):
    return [(flow["client"]["heartbeats"], flow["backend"]["heartbeats"]) for flow in s.ask("flows")]


def test_a_walsender_that_awaits_commands_is_asked(stent, postgres):
    s = stent.route(postgres.port, protocol="postgres", heartbeat="5ms")
    with Raw(s.port, database="postgres", replication="database") as c:
        c.until(b"Z")
        harness.wait_for(lambda: s.ask("flows")[0]["backend"]["replies"] > 20, what="replies")
        for _ in range(5):
            c.send(query("IDENTIFY_SYSTEM"))
            c.until(b"Z")
        assert c.kinds().endswith("TDCZ" * 5)


@pytest.mark.long
def test_receivers_of_wal_and_changes(through, postgres, tmp_path):
    """pg_receivewal and pg_recvlogical for a while, most of it quiet."""
    postgres.sql("drop table if exists changed", "create table changed(a int)",
                 "select pg_create_logical_replication_slot('changes', 'test_decoding')")
    receivers = receivers_of(through, tmp_path, "-s", "1", "-v")
    try:
        for i in range(20):
            postgres.sql(f"insert into changed values ({i})")
            time.sleep(1)
        watch_reports(postgres, "pg_recvlogical", 2)
        assert all(p.poll() is None for p in receivers)
    finally:
        for p in receivers:
            p.terminate()
            p.wait(20)
        postgres.sql("select pg_drop_replication_slot('changes')")
    text = (tmp_path / "changes").read_text()
    assert [f"a[integer]:{i}\n" in text for i in range(20)] == [True] * 20
    client, backend = heartbeats_of_the_others(through)
    assert client > 500 and backend > 500
