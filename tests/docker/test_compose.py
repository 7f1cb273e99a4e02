"""The compose files as the README of docker/ names them, in a real engine."""

import asyncio
import os
import socket

import harness
import pytest
import websockets
from containers import DOCKER, HERE, IMAGE, answers, flow_ends

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]


def first_end(call, bytes_of, least):
    return harness.wait_for(lambda: [e for e in flow_ends(call) if e[bytes_of] > least], what="the flow's end", step=0.2)[-1]


def test_postgres_through_the_sidecar(engine, compose):
    call = compose("compose.postgres.yml")
    answers(call)
    end = first_end(call, "backend_bytes", 100)
    assert end["route"] == "db" and end["protocol"] == "postgres"
    stent = call("ps", "-q", "stent")
    assert call("exec", "-T", "stent", "/stent", "healthcheck") == "healthy"
    call("stop", "stent")
    assert engine.inspect(stent, "{{.State.ExitCode}}") == "0"


def test_a_database_with_tls(compose, certificates):
    """The server takes TLS only; the application does not know of it."""
    pair = certificates.make("db", "db")
    pair.key.chmod(0o644)	# for the user of the server in its container, who copies it
    call = compose("compose.tls.yml", "tls_database.yml", DATABASE_HOST="db", DATABASE_CA=str(certificates.ca), TLS_CERT=str(pair.cert),
                   TLS_KEY=str(pair.key), PGPASSWORD="example")
    answers(call)
    encrypted = call("exec", "-T", "app", "psql", "-Atc", "select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    assert encrypted == "t"
    end = first_end(call, "backend_bytes", 100)
    assert end["route"] == "db" and end["protocol"] == "postgres"


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
    end = first_end(call, "client_bytes", 100_000)
    assert end["route"] == "web" and end["protocol"] == "websocket"


@pytest.fixture
def swarm(engine):
    """Deploys a stack on a Swarm of this one machine; returns how to run a command in one of its services."""
    engine.docker("swarm", "init", "--advertise-addr=127.0.0.1", "--listen-addr=127.0.0.1:0")
    stack = "stent-test"

    def deploy(*files):
        named = [word for file in files for word in ("-c", file)]
        engine.docker("stack", "deploy", "--resolve-image=never", *named, stack, STENT_IMAGE=IMAGE)
        return in_service

    def in_service(service, *command):
        (task,) = engine.docker("ps", "-q", "--filter", f"name={stack}_{service}").split()
        return engine.docker("exec", task, *command)
    yield deploy
    print(engine.docker("service", "logs", f"{stack}_stent"))
    engine.docker("stack", "rm", stack)
    harness.wait_for(lambda: not engine.docker("ps", "-q", "--filter", f"name={stack}_"), 60, "the stack to end", step=0.5)
    engine.docker("swarm", "leave", "--force")


@pytest.mark.long
def test_the_stack_in_a_swarm(engine, swarm):
    """A kernel without IPVS, as here, has no address for a service: names lead to the containers themselves (no_ipvs.yml)."""
    in_service = swarm(DOCKER / "compose.swarm.yml", HERE / "no_ipvs.yml")

    def answer():
        try:
            return in_service("app", "psql", "-Atc", "select 6 * 7")
        except (AssertionError, ValueError) as not_yet:
            print(not_yet)
    assert harness.wait_for(answer, 60, "PostgreSQL to answer", step=0.5) == "42"
    harness.wait_for(lambda: "2/2" in engine.docker("service", "ls", "--filter", "name=stent-test_stent"), 60, "both to run", step=0.5)
