"""Standbys, subscribers and backups of PostgreSQL through stent, with beats in every quiet moment on both legs."""

import subprocess
import time

import harness
import pytest
from servers.postgres import Postgres, tool

REPORT = "select write_lsn, flush_lsn, replay_lsn from pg_stat_replication where application_name = '{}'"


@pytest.fixture
def through(stent, postgres):
    return stent.route(postgres.port, protocol="postgres", heartbeat="5ms")


def lsn(text):
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def beats_of_the_others(s):
    """Of flows that have ended."""
    ends = [r for r in s.records if r.get("event") == "flow end"]
    assert ends and all(r["protocol"] == "postgres" for r in ends)
    return sum(r["client_beats"] for r in ends), sum(r["backend_beats"] for r in ends)


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
    client, backend = beats_of_the_others(through)
    assert client > 50 and backend > 50
    assert not through.logged("codec let go")


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
    assert not through.logged("codec let go")


@pytest.mark.long
def test_receivers_of_wal_and_changes(through, postgres, tmp_path):
    """pg_receivewal and pg_recvlogical for a while, most of it quiet."""
    postgres.sql("drop table if exists changed", "create table changed(a int)",
                 "select pg_create_logical_replication_slot('changes', 'test_decoding')")
    where = f"host={harness.HOST} port={through.port} user=postgres sslmode=disable gssencmode=disable dbname="
    wal, changes = tmp_path / "wal", tmp_path / "changes"
    wal.mkdir()
    receivers = [subprocess.Popen([tool(words[0]), *words[1:]], stderr=subprocess.PIPE, text=True) for words in (
        ["pg_receivewal", "-d", where + "replication", "-D", wal, "--no-sync", "-s", "1", "-v"],
        ["pg_recvlogical", "-d", where + "postgres", "--slot=changes", "--start", "-f", changes, "-s", "1", "-F", "1"])]
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
    text = changes.read_text()
    assert [f"a[integer]:{i}\n" in text for i in range(20)] == [True] * 20
    client, backend = beats_of_the_others(through)
    assert client > 500 and backend > 500
