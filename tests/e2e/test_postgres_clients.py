"""Real clients of PostgreSQL at work with heartbeats in every quiet moment on both legs: as they would without stent."""

import asyncio
import functools
import hashlib
import io
import os
import pathlib
import re
import subprocess
import tempfile
import time

import harness
import psycopg
import psycopg2
import pytest
from servers.postgres import dump_of, tool

pytestmark = pytest.mark.plain

HERE = pathlib.Path(__file__).resolve().parent
PGJDBC = "/usr/share/java/postgresql.jar"
KINDS = {"oneway": {}, "ping": {"backend__heartbeat_kind": "ping"}}
IDLE = 1.0 * harness.SLOW	# seconds: many more than 100 heartbeats, at one each 2 ms


@pytest.fixture(params=KINDS)
def through(stent, postgres, request):
    return stent.route(postgres.port, protocol="postgres", heartbeat="2ms", heartbeat_while_busy="on", **KINDS[request.param])


@pytest.fixture
def quiet(stent, postgres):
    return stent.route(postgres.port, protocol="postgres", heartbeat="2ms", heartbeat_while_busy="on")


@pytest.fixture(scope="session")
def bench_tables(postgres):
    run(postgres, tool("pgbench"), "-i", "-q", "-s", "1")


def environment(s):
    return {**os.environ, "PGHOST": harness.HOST, "PGPORT": str(s.port), "PGUSER": "postgres", "PGDATABASE": "postgres",
            "PGSSLMODE": "disable", "PGGSSENCMODE": "disable", "PGCONNECT_TIMEOUT": "10"}


def run(s, *command, timeout=60, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment(s),
                          timeout=harness.patient(timeout), **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def total_heartbeats(s, flows=1):
    ends = [s.flow_end() for _ in range(flows)]
    assert all(end["protocol"] == "postgres" for end in ends), "the protocol passthrough"
    return sum(end["client_heartbeats"] for end in ends), sum(end["backend_heartbeats"] for end in ends)


def dsn(s):
    return f"host={harness.HOST} port={s.port} user=postgres dbname=postgres sslmode=disable gssencmode=disable"


# --- pgbench ---

@pytest.mark.parametrize("mode", ["simple", pytest.param("extended", marks=pytest.mark.long), "prepared", "pipeline"])
def test_pgbench(through, bench_tables, tmp_path, mode):
    args = ["-M", mode]
    if mode == "pipeline":
        script = tmp_path / "pipeline"
        script.write_text("\\startpipeline\nselect 1;\nselect 2 from pg_sleep(0.003);\nselect 3;\n\\endpipeline\n"
                          "\\sleep 3 ms\n")
        args = ["-M", "prepared", "-f", script]
    out = run(through, tool("pgbench"), "-n", "-c", "4", "-t", "60", *args).stdout
    assert "actually processed: 240/240" in out
    client, backend = total_heartbeats(through, flows=5)
    assert client > 0 and backend > 0


# --- bulk ---

def copy_both_ways(s, tmp_path, rows):
    source, back = tmp_path / "source", tmp_path / "back"
    with open(source, "w") as f:
        for i in range(rows):
            f.write(f"{i}\t{hashlib.md5(str(i).encode()).hexdigest() * 3}\n")
    run(s, "psql", "-X", "-q", "-c", "create temp table z(a int, b text)", "-c", f"\\copy z from '{source}'",
        "-c", "select pg_sleep(0.1)", "-c", f"\\copy z to '{back}'", timeout=300)
    assert hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()


def test_copy_both_ways(through, tmp_path):
    copy_both_ways(through, tmp_path, 20_000)
    client, backend = total_heartbeats(through)
    assert client > 0 and backend > 0


@pytest.mark.long
def test_copy_of_100_megabytes_both_ways(through, tmp_path):
    copy_both_ways(through, tmp_path, 1_000_000)


def test_dump_and_restore(through, postgres, bench_tables):
    postgres.sql("create table if not exists odd(a text, b bytea); truncate odd; "
                 "insert into odd select chr(i), decode(md5(i::text), 'hex') from generate_series(1, 500) i; "
                 "select lo_from_bytea(0, 'large')")
    direct = run(postgres, "pg_dump").stdout
    dump = run(through, "pg_dump").stdout
    assert dump_of(dump) == dump_of(direct)
    postgres.sql("drop database if exists restored", "create database restored")
    run(through, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored", input=dump)
    assert dump_of(run(postgres, "pg_dump", "-d", "restored").stdout) == dump_of(direct)
    total_heartbeats(through, flows=2)


# --- drivers at rest for a hundred heartbeats ---

def idle_psycopg2(s):
    c = psycopg2.connect(dsn(s))
    c.autocommit = True
    with c.cursor() as k:
        k.execute("select pg_backend_pid()")
        pid = k.fetchone()
        time.sleep(IDLE)
        k.execute("select pg_backend_pid()")
        assert k.fetchone() == pid
    assert c.notices == [] and c.notifies == []
    c.close()


def idle_psycopg(s):
    c = psycopg.connect(dsn(s), autocommit=True)
    notices = []
    c.add_notice_handler(notices.append)
    pid = c.execute("select pg_backend_pid()").fetchone()
    time.sleep(IDLE)
    assert c.execute("select pg_backend_pid()").fetchone() == pid
    assert notices == []
    c.close()


def idle_asyncpg(s):
    import asyncpg

    async def go():
        c = await asyncpg.connect(host=harness.HOST, port=s.port, user="postgres", database="postgres", ssl=False)
        log = []
        c.add_log_listener(lambda _, what: log.append(what))
        c.add_termination_listener(lambda _: log.append("terminated"))
        pid = await c.fetchval("select pg_backend_pid()")
        await asyncio.sleep(IDLE)
        assert await c.fetchval("select pg_backend_pid()") == pid
        assert log == []
        await c.close()
    asyncio.run(go())


def node(s, mode, number):
    out = run(s, "node", HERE / "clients" / "pg.js", s.port, mode, number,
              cwd=HERE, stdin=subprocess.DEVNULL).stdout
    assert out == "ok\n"


@functools.cache
def pgjdbc_classes():
    directory = tempfile.TemporaryDirectory(prefix="stent-pgjdbc-")
    subprocess.run(["javac", "-cp", PGJDBC, "-d", directory.name, HERE / "clients" / "Pgjdbc.java"], check=True,
                   timeout=60 * harness.SLOW)
    return directory


def pgjdbc(s, mode, number):
    out = run(s, "java", "-cp", f"{PGJDBC}:{pgjdbc_classes().name}", "Pgjdbc", s.port, mode, number).stdout
    assert out == "ok\n"


def idle_node(s):
    node(s, "idle", int(IDLE * 1000))


def idle_pgjdbc(s):
    pgjdbc(s, "idle", int(IDLE * 1000))


@pytest.mark.parametrize("driver", [idle_psycopg2, idle_psycopg, idle_asyncpg, idle_node, idle_pgjdbc])
def test_a_session_idle_for_100_heartbeats(quiet, driver):
    driver(quiet)
    client, backend = total_heartbeats(quiet)
    assert client >= 100 and backend >= 100


# --- drivers at work ---

def psycopg_round(c):
    with c.transaction(), c.pipeline():
        cursors = [c.execute("select %s::int", (k,)) for k in range(5)]
        assert [k.fetchone()[0] for k in cursors] == list(range(5))
    with pytest.raises(psycopg.errors.SyntaxError), c.transaction():
        c.execute("bogus")
    c.execute("truncate q")
    with c.cursor().copy("copy q from stdin") as copy:
        for k in range(200):
            copy.write(f"{k}\n")
            if k % 70 == 0:
                time.sleep(0.007)
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        with c.transaction(), c.cursor().copy("copy q from stdin") as copy:
            copy.write("x\n")
    with c.cursor().copy("copy q to stdout") as copy:
        assert sum(bytes(piece).count(b"\n") for piece in copy) == 200
    with c.transaction(), c.cursor("k") as cursor:
        cursor.itersize = 60
        cursor.execute("select a from q order by a")
        for k, row in enumerate(cursor):
            assert row == (k,)
            if k % 50 == 0:
                time.sleep(0.007)
    assert c.execute("select count(*) from q").fetchone() == (200,)


def test_psycopg_mix(through):
    c = psycopg.connect(dsn(through), autocommit=True)
    c.execute("create temp table q(a int)")
    for _ in range(10):
        psycopg_round(c)
        time.sleep(0.007)
    c.close()
    client, backend = total_heartbeats(through)
    assert client > 10 and backend > 10


def test_psycopg_pipeline_with_many_syncs(through):
    c = psycopg.connect(dsn(through), autocommit=True)
    with c.pipeline() as p:
        cursors = []
        for i in range(1500):
            cursors.append(c.execute("select %s::int from pg_sleep(%s)", (i, 0.007 if i % 100 == 0 else 0)))
            if i % 3 == 0:
                p.sync()
        assert [k.fetchone()[0] for k in cursors] == list(range(1500))
    c.close()
    assert total_heartbeats(through)[0] > 5


async def asyncpg_round(c, i):
    import asyncpg
    async with c.transaction():
        rows = []
        async for row in c.cursor("select generate_series(1, 30)", prefetch=7):
            rows.append(row[0])
            await asyncio.sleep(0.0007)
        assert rows == list(range(1, 31))
    with pytest.raises(asyncpg.DivisionByZeroError):
        await c.fetch("select 1 / 0")
    await c.executemany("select $1::int", [(k,) for k in range(10)])
    await c.execute(f"notify chx, '{i}'")
    assert await c.copy_records_to_table("q", records=[(k,) for k in range(50)]) == "COPY 50"
    with pytest.raises(asyncpg.UndefinedTableError):
        await c.copy_records_to_table("nonesuch", records=[(1,)])
    await asyncio.sleep(0.007)


def test_asyncpg_mix(through):
    """It sends CopyDone before the server has said that it copies, and ends a batch by a Query."""
    import asyncpg

    async def go():
        heard = []
        c, listener = [await asyncpg.connect(host=harness.HOST, port=through.port, user="postgres", database="postgres",
                                             ssl=False) for _ in range(2)]
        await listener.add_listener("chx", lambda *what: heard.append(what[3]))
        await c.execute("create temp table q(a int)")
        for i in range(20):
            await asyncpg_round(c, i)
        assert await c.fetchval("select count(*) from q") == 20 * 50
        await c.close()
        assert await listener.fetchval("select 7") == 7
        await listener.close()
        assert heard == [str(i) for i in range(20)]
    asyncio.run(go())
    client, backend = total_heartbeats(through, flows=2)
    assert client > 10 and backend > 10


def test_asyncpg_would_lose_rows_of_a_copy_out_with_heartbeats_in_it(through):
    """Rows that trickle leave the time for heartbeats between them."""
    import asyncpg

    async def go():
        c = await asyncpg.connect(host=harness.HOST, port=through.port, user="postgres", database="postgres", ssl=False)
        out = io.BytesIO()
        await c.copy_from_query("select i from generate_series(1, 400) i where i % 5 > 0 or pg_sleep(0.005) is not null",
                                output=out)
        await c.close()
        assert out.getvalue() == b"".join(b"%d\n" % i for i in range(1, 401))
    asyncio.run(go())
    total_heartbeats(through)


def test_node_mix(through):
    node(through, "mix", 20)
    client, backend = total_heartbeats(through, flows=4)
    assert client > 10 and backend > 10


def test_pgjdbc_mix(through):
    pgjdbc(through, "mix", 10)
    client, backend = total_heartbeats(through)
    assert client > 10 and backend > 10


def test_cursors(through):
    c = psycopg2.connect(dsn(through))
    k = c.cursor()
    k.execute("declare held cursor with hold for select generate_series(1, 9); fetch 2 from held")
    assert k.fetchall() == [(1,), (2,)]
    c.commit()
    time.sleep(0.1)
    k.execute("fetch 2 from held")
    assert k.fetchall() == [(3,), (4,)]
    named = c.cursor(name="n")
    named.itersize = 3
    named.execute("select generate_series(1, 9)")
    for i, row in enumerate(named):
        assert row == (i + 1,)
        time.sleep(0.01)
    c.commit()
    c.close()
    assert total_heartbeats(through)[0] > 10


def test_listen_and_notify(through, postgres):
    import select
    c = psycopg2.connect(dsn(through))
    c.autocommit = True
    c.cursor().execute("listen ch")
    for i in range(20):
        time.sleep(0.003 * (i % 4))
        postgres.sql(f"notify ch, '{i}'")
        while not c.notifies:
            assert select.select([c], [], [], 5)[0], "no notification came"
            c.poll()
        assert c.notifies.pop().payload == str(i)
    assert c.notices == []
    c.close()


def test_pgjdbc_listens(quiet, postgres):
    """Waiting for notifications it takes nothing else: a ParameterStatus is an "Unknown Response Type" to it."""
    pgjdbc(quiet, "listen", postgres.port)
    total_heartbeats(quiet, flows=3)


# --- long ---

@pytest.mark.long
def test_all_at_once_for_a_minute(through, bench_tables):
    """Every client at once, again and again."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        bench = subprocess.Popen([tool("pgbench"), "-n", "-c", "4", "-T", "10", "-M", "prepared"], env=environment(through),
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        c = psycopg.connect(dsn(through), autocommit=True)
        c.execute("create temp table q(a int)")
        for _ in range(40):
            psycopg_round(c)
        c.close()
        node(through, "mix", 60)
        pgjdbc(through, "mix", 40)
        out = bench.communicate(timeout=60 * harness.SLOW)[0]
        assert re.search(r"number of failed transactions: 0 ", out), out
