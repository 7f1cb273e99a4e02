"""
The image, and the compose files as the README names them, in a real engine.

The images are made once for all tests here, at the same time: it is the
engine that takes the minutes, not stent.
"""

import asyncio
import concurrent.futures
import json
import os
import pathlib
import socket
import time

import engine as engine_module
import harness
import pytest
import websockets

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]

DOCKER = harness.ROOT / "docker"
IMAGE = "stent-under-test"
SERVER_IMAGE = "stent-under-test-websocket"
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def engine():
    e = engine_module.Engine()
    try:
        e.need_base()
        with concurrent.futures.ThreadPoolExecutor() as at_once:
            works = [at_once.submit(e.build, IMAGE, harness.ROOT, DOCKER / "Dockerfile"),
                     at_once.submit(e.build, SERVER_IMAGE, DOCKER / "websocket"),
                     at_once.submit(e.need, "postgres:15", pathlib.Path(__file__).parent / "postgres")]
        for work in works:
            work.result()
        yield e
    finally:
        for image in (IMAGE, SERVER_IMAGE):
            e.docker_status("image", "rm", "-f", image)
        e.stop()


@pytest.fixture
def container(engine):
    """Starts a container of the image in the machine's network: container(docker options, stent's words)."""
    started = []

    def run(options, *words):
        started.append(engine.docker("run", "-d", "--network=host", *options, IMAGE, *words))
        return started[-1]
    yield run
    for name in started:
        print(engine.docker("logs", name))
        engine.docker("rm", "-f", "-v", name)


@pytest.fixture
def compose(engine):
    """Brings a compose file up; returns how to call compose on it. Takes all of it away again."""
    files = []

    def call(file, *words, **how):
        return engine.compose(DOCKER / file, "stent-test-" + file.split(".")[1], *words,
                              STENT_IMAGE=IMAGE, SERVER_IMAGE=SERVER_IMAGE, **how)

    def up(file, **env):
        files.append((file, env))
        call(file, "up", "-d", "--no-build", **env)
        return lambda *words: call(file, *words, **env)
    yield up
    for file, env in files:
        print(call(file, "logs", **env))
        call(file, "down", "-v", "-t", "2", **env)


def health(engine, name):
    return engine.inspect(name, "{{.State.Health.Status}}")


def test_image_is_small_and_bare(engine):
    assert int(engine.inspect(IMAGE, "{{.Size}}")) < 8 * MEBIBYTE	# OpenSSL and the CA certificates are most of it
    config = json.loads(engine.inspect(IMAGE, "{{json .Config}}"))
    assert config["User"] == "65534:65534"
    assert config["Entrypoint"] == ["/stent"] and config["Cmd"] == ["run"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "/stent", "healthcheck"]
    assert engine.docker_status("run", "--rm", "--entrypoint=/bin/sh", IMAGE, "-c", "true") != 0, "there is a shell"


def test_the_command_line_is_stents(engine):
    assert "stent" in engine.docker("run", "--rm", "--network=none", "--read-only", IMAGE, "--version")
    assert engine.docker_status("run", "--rm", "--network=none", IMAGE, "no-such-command") == 2


def test_health_check_fails_where_no_stent_runs(engine):
    assert engine.docker_status("run", "--rm", "--network=none", IMAGE, "healthcheck") == 1


@pytest.mark.parametrize("hardening", [[], ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"],
                                       ["--read-only", "--user=4242:4242", "--tmpfs=/run/stent"]],
                         ids=["plain", "read-only", "another-user"])
def test_relays_becomes_healthy_and_ends_at_sigterm(engine, container, echo, hardening):
    listen = f"{harness.HOST}:{harness.free_port()}"
    name = container(["--health-interval=500ms", *hardening], "relay", listen, echo.text, "--admin=off")
    pid = int(engine.inspect(name, "{{.State.Pid}}"))
    harness.wait_for(lambda: can_connect(listen), what="stent in the container to listen")
    with harness.connect(listen) as client:
        client.send_all(b"through the container")
        assert client.recv_exact(21) == b"through the container"
        client.half_close()
        client.expect_fin()
    harness.wait_for(lambda: health(engine, name) == "healthy", 10, "the container to be healthy", step=0.2)
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["Uid"].split()[0] == ("4242" if "--user=4242:4242" in hardening else "65534")
    assert int(status["CapEff"], 16) == 0
    began = time.monotonic()
    engine.docker("stop", "-t", "20", name)
    assert time.monotonic() - began < 5 * harness.SLOW
    assert engine.inspect(name, "{{.State.ExitCode}}") == "0"
    assert "flow end" in engine.docker("logs", name)


def can_connect(address):
    try:
        harness.connect(address).close()
        return True
    except OSError:
        return False


def flow_ends(call):
    """The ends of flows that the stent of a compose file has logged."""
    records = [line[line.index("{"):] for line in call("logs", "--no-color", "stent").splitlines() if "{" in line]
    return [r for r in map(json.loads, records) if r.get("event") == "flow end"]


def test_postgres_through_the_sidecar(engine, compose):
    call = compose("compose.postgres.yml")
    query = ("exec", "-T", "app", "psql", "-Atc", "select 6 * 7")

    def answer():
        try:
            return call(*query)
        except AssertionError as not_yet:
            print(not_yet)
    assert harness.wait_for(answer, 30, "PostgreSQL to answer", step=0.5) == "42"
    end = harness.wait_for(lambda: [e for e in flow_ends(call) if e["backend_bytes"] > 100], what="the flow's end")[-1]
    assert end["route"] == "db" and end["protocol"] == "postgres"
    stent = call("ps", "-q", "stent")
    harness.wait_for(lambda: health(engine, stent) == "healthy", 25, "the sidecar to be healthy", step=0.5)
    call("stop", "stent")
    assert engine.inspect(stent, "{{.State.ExitCode}}") == "0"


def test_websocket_through_the_sidecar(compose):
    with socket.socket() as probe:
        probe.bind((harness.HOST, 0))
        port = probe.getsockname()[1]
    call = compose("compose.websocket.yml", WEBSOCKET_PORT=str(port))

    async def round_trip():
        async with websockets.connect(f"ws://{harness.HOST}:{port}/", ping_interval=None) as connection:
            for message in ("hello", os.urandom(100_000)):
                await connection.send(message)
                assert await asyncio.wait_for(connection.recv(), 10) == message
        return True

    def works():
        try:
            return asyncio.run(round_trip())
        except (OSError, websockets.InvalidMessage) as not_yet:
            print(not_yet)
    harness.wait_for(works, 30, "the WebSocket server to answer", step=0.5)
    end = harness.wait_for(lambda: [e for e in flow_ends(call) if e["client_bytes"] > 100_000], what="the flow's end")[-1]
    assert end["route"] == "web" and end["protocol"] == "websocket"
