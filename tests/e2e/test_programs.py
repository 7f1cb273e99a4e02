"""Other people's servers and clients through plain flows, on ports and on UNIX sockets: nothing of their bytes is changed."""

import asyncio
import concurrent.futures
import hashlib
import os
import subprocess

import harness
import pytest
import websockets
from servers.nginx import Nginx
from servers.postgres import tool

pytestmark = pytest.mark.plain

MEGABYTE = 1 << 20
BIG = 200 * MEGABYTE
TLS = {"tls": "require", "no-tls": "disable"}


def run(*command, timeout=60, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, timeout=harness.patient(timeout), **more)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    return done


def hash_of(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while piece := f.read(MEGABYTE):
            h.update(piece)
    return h.hexdigest()


# --- nginx and curl ---

@pytest.fixture(scope="module")
def nginx():
    server = Nginx()
    yield server
    server.close()


def random_file(path, size):
    """Bytes that nothing can make smaller; not every block is new."""
    block = os.urandom(MEGABYTE)
    with open(path, "wb") as f:
        for i in range(size // MEGABYTE):
            f.write(block[i:] + block[:i])
        f.write(block[:size % MEGABYTE])
    return path


@pytest.fixture(scope="module")
def big(nginx):
    """(the file that nginx serves, its hash)"""
    path = random_file(nginx.files / "big", BIG)
    yield path, hash_of(path)


def curl(s, *words):
    listen = s.listen[0]
    way = ["--unix-socket", listen[len("unix:"):]] if listen.startswith("unix:") else []
    host = "localhost" if way else f"{harness.HOST}:{s.port}"
    return run("curl", "-sS", "--fail", *way, *(str(word).replace("HOST", host) for word in words))


def down_and_up(s, nginx, big, tmp_path):
    path, digest = big
    curl(s, "-o", tmp_path / "down", "http://HOST/big")
    assert hash_of(tmp_path / "down") == digest
    curl(s, "-T", tmp_path / "down", "http://HOST/up")
    assert hash_of(nginx.files / "up") == digest
    (nginx.files / "up").unlink()


def test_a_big_file_down_and_up(stent, nginx, big, tmp_path):
    s = stent.route(nginx.text)
    down_and_up(s, nginx, big, tmp_path)
    down, up = s.flow_end(), s.flow_end()
    assert (down["protocol"], up["protocol"]) == ("tcp", "tcp")
    assert BIG < down["backend_bytes"] < BIG + 1000 and BIG < up["client_bytes"] < BIG + 1000


def test_a_big_file_down_and_up_with_heartbeats(stent, nginx, big, tmp_path):
    s = stent.route(nginx.text, protocol="http", heartbeat="5ms")
    down_and_up(s, nginx, big, tmp_path)
    assert [s.flow_end()["protocol"] for _ in range(2)] == ["http", "http"], "the protocol passthrough"


def test_a_big_file_down_and_up_by_unix_sockets(stent, nginx, big, tmp_path):
    s = stent.route(nginx.unix, listen=f"unix:{tmp_path}/front")
    down_and_up(s, nginx, big, tmp_path)
    assert s.flow_end()["client"] == "unix"


@pytest.mark.workers
def test_many_files_at_once_both_ways(stent, nginx, tmp_path):
    """Of every size, over connections that are kept, by four workers."""
    s = stent.route(nginx.text, settings={"workers": 4, "log_level": "info"})
    sizes = [0, 1, 4095, 65536, MEGABYTE + 1, 8 * MEGABYTE]
    digests = []
    for i, size in enumerate(sizes):
        digests.append(hash_of(random_file(nginx.files / f"file{i}", size)))

    def one(k):
        here = tmp_path / f"client{k}"
        here.mkdir()
        order = [(i + k) % len(sizes) for i in range(len(sizes))]
        curl(s, "--output-dir", here, *(w for i in order for w in ("-o", f"down{i}", f"http://HOST/file{i}")))
        assert [hash_of(here / f"down{i}") for i in order] == [digests[i] for i in order]
        curl(s, *(w for i in order for w in ("-T", here / f"down{i}", f"http://HOST/{k}-{i}")))
        assert [hash_of(nginx.files / f"{k}-{i}") for i in order] == [digests[i] for i in order]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    for _ in range(16):
        assert s.flow_end()["reason"] == "client-fin"


# --- PostgreSQL ---

@pytest.fixture(scope="module")
def database(postgres):
    """With TLS for whoever wants it, and pgbench's tables."""
    postgres.use_tls()
    run(tool("pgbench"), "-i", "-q", "-s", "1", env=environment(postgres.port))
    return postgres


def environment(port, tls="disable", host=harness.HOST):
    return {**os.environ, "PGHOST": str(host), "PGPORT": str(port), "PGUSER": "postgres", "PGDATABASE": "postgres",
            "PGSSLMODE": tls, "PGGSSENCMODE": "disable", "PGCONNECT_TIMEOUT": "10"}


def psql(env, *commands, **more):
    words = [word for command in commands for word in ("-c", command)]
    return run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *words, env=env, **more).stdout.decode()


@pytest.mark.parametrize("tls", TLS)
def test_pgbench(stent, database, tls):
    s = stent.route(database.port)
    env = environment(s.port, TLS[tls])
    assert psql(env, "select ssl from pg_stat_ssl where pid = pg_backend_pid()").strip() == ("t" if tls == "tls" else "f")
    out = run(tool("pgbench"), "-n", "-c", "8", "-j", "2", "-t", "50", env=env).stdout.decode()
    assert "actually processed: 400/400" in out and "failed transactions: 0 " in out
    assert psql(env, "select sum(abalance) = (select sum(bbalance) from pgbench_branches) from pgbench_accounts") == "t\n"


def test_pgbench_connects_for_each_transaction(stent, database):
    s = stent.route(database.port, settings={"log_level": "info"})
    out = run(tool("pgbench"), "-n", "-C", "-S", "-c", "4", "-t", "25", env=environment(s.port)).stdout.decode()
    assert "actually processed: 100/100" in out
    ends = [s.flow_end() for _ in range(100)]
    assert {end["reason"] for end in ends} <= {"client-fin", "backend-fin"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """100 MB as COPY writes them: (file, hash)."""
    path = tmp_path_factory.mktemp("rows") / "rows"
    block = os.urandom(500)
    with open(path, "w") as f:
        for i in range(100_000):
            f.write(f"{i}\t{(block[i % 500:] + block[:i % 500]).hex()}\n")
    return path, hash_of(path)


def copy_both_ways(env, rows, tmp_path):
    path, digest = rows
    psql(env, "create temp table copied(i int, t text)", f"\\copy copied from '{path}'",
         f"\\copy copied to '{tmp_path}/back'", timeout=120)
    assert hash_of(tmp_path / "back") == digest


@pytest.mark.parametrize("tls", TLS)
def test_copy_of_100_megabytes_both_ways(stent, database, rows, tmp_path, tls):
    s = stent.route(database.port)
    copy_both_ways(environment(s.port, TLS[tls]), rows, tmp_path)
    end = s.flow_end()
    assert end["client_bytes"] > 100_000_000 and end["backend_bytes"] > 100_000_000


def test_psql_by_a_unix_socket(stent, database, rows, tmp_path):
    """libpq looks for its socket by a name of its own."""
    s = stent.route(database.port, listen=f"unix:{tmp_path}/.s.PGSQL.5432")
    copy_both_ways(environment(5432, host=tmp_path), rows, tmp_path)
    assert s.flow_end()["client"] == "unix"


# --- WebSocket ---

MESSAGES = ["", "text", "ü" * 40_000, b"", b"\x00" * 126, os.urandom(65_536), os.urandom(MEGABYTE)]


async def echo_messages(websocket, path=None):
    async for message in websocket:
        await websocket.send(message)


async def talk(connecting):
    async with connecting as websocket:
        for message in MESSAGES:
            await websocket.send(message)
        assert [await websocket.recv() for _ in MESSAGES] == MESSAGES
        await asyncio.wait_for(await websocket.ping(), 10 * harness.SLOW)


HOW = {"max_size": None, "max_queue": None}


@pytest.mark.parametrize("protocol", ["tcp", "websocket"])
def test_websockets(stent, protocol):
    """Compressed as the library does by default, 6 clients at once."""
    port = harness.free_port()
    s = stent.route(port, protocol=protocol)

    async def conversation():
        async with websockets.serve(echo_messages, harness.HOST, port, **HOW):
            uri = f"ws://{harness.HOST}:{s.port}/"
            await asyncio.gather(*(talk(websockets.connect(uri, **HOW)) for _ in range(6)))
    asyncio.run(asyncio.wait_for(conversation(), 60 * harness.SLOW))
    for _ in range(6):
        assert s.flow_end()["protocol"] == protocol


def test_websockets_by_unix_sockets(stent, tmp_path):
    s = stent.route(f"unix:{tmp_path}/back", listen=f"unix:{tmp_path}/front", protocol="websocket")

    async def conversation():
        async with websockets.unix_serve(echo_messages, f"{tmp_path}/back", **HOW):
            await talk(websockets.unix_connect(f"{tmp_path}/front", **HOW))
    asyncio.run(asyncio.wait_for(conversation(), 60 * harness.SLOW))
    assert s.flow_end()["protocol"] == "websocket"
