"""containers.py - names of what the tests run in an engine, and questions to it."""

import json
import pathlib

import harness

DOCKER = harness.ROOT / "docker"
HERE = pathlib.Path(__file__).parent
IMAGE = "stent-under-test"
SERVER_IMAGE = "stent-under-test-websocket"
ARM64_IMAGE = "stent-under-test-arm64"
QUERY = ("exec", "-T", "app", "psql", "-Atc", "select 6 * 7")


def health(engine, name):
    return engine.inspect(name, "{{.State.Health.Status}}")


def flow_ends(call):
    """The ends of flows that the stent of a compose file has logged."""
    records = [line[line.index("{"):] for line in call("logs", "--no-color", "stent").splitlines() if "{" in line]
    return [r for r in map(json.loads, records) if r.get("event") == "flow end"]


def answers(call):
    """Waits until the application gets an answer from its database."""
    def answer():
        try:
            return call(*QUERY)
        except AssertionError as not_yet:
            print(not_yet)
    assert harness.wait_for(answer, 30, "PostgreSQL to answer", step=0.5) == "42"
