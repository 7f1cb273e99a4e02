"""The image, as the README of docker/ describes it, in a real engine; and the one for arm64, under emulation."""

import json
import pathlib
import subprocess
import time

import arm64
import arm64_machine
import harness
import pytest
from containers import IMAGE, health

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]

MEGABYTE = 1000 * 1000
HARDENED = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]


def can_connect(address):
    try:
        harness.connect(address).close()
        return True
    except OSError:
        return False


def bytes_pass(listen):
    harness.wait_for(lambda: can_connect(listen), 15, "stent in the container to listen")
    with harness.connect(listen) as client:
        client.send_all(b"through the container")
        assert client.recv_exact(21) == b"through the container"
        client.half_close()
        client.expect_fin()


def test_image_is_small_and_bare(engine):
    assert int(engine.inspect(IMAGE, "{{.Size}}")) < 12 * MEGABYTE	# OpenSSL and the CA certificates are most of it
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


@pytest.mark.parametrize("hardening", [[], HARDENED,
                                       ["--read-only", "--user=4242:4242", "--tmpfs=/run/stent"]],
                         ids=["plain", "read-only", "another-user"])
def test_relays_becomes_healthy_and_ends_at_sigterm(engine, container, echo, hardening):
    listen = f"{harness.HOST}:{harness.free_port()}"
    name = container(["--health-interval=500ms", *hardening], "relay", listen, echo.text, "--admin=off")
    pid = int(engine.inspect(name, "{{.State.Pid}}"))
    bytes_pass(listen)
    harness.wait_for(lambda: health(engine, name) == "healthy", 10, "the container to be healthy", step=0.2)
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["Uid"].split()[0] == ("4242" if "--user=4242:4242" in hardening else "65534")
    assert int(status["CapEff"], 16) == 0
    # every thread is in the sandbox: the engine's default profile is one filter, stent's own another
    threads = [dict(line.split(":", 1) for line in file.read_text().splitlines()) for file in pathlib.Path(f"/proc/{pid}/task").glob("*/status")]
    assert {int(thread["Seccomp_filters"]) for thread in threads} == {2} and {int(thread["NoNewPrivs"]) for thread in threads} == {1}
    began = time.monotonic()
    engine.docker("stop", "-t", "20", name)
    assert time.monotonic() - began < 5 * harness.SLOW
    assert engine.inspect(name, "{{.State.ExitCode}}") == "0"
    log = engine.docker("logs", name)
    assert "flow end" in log and "sandbox: seccomp" in log


def test_starts_in_a_fifth_of_a_second(engine, container):
    """From the moment when the engine has started the process to its first listener; the best of three, on a busy machine."""
    took = []
    for _ in range(3):
        listen = f"{harness.HOST}:{harness.free_port()}"
        name = container(HARDENED, "relay", listen, f"{harness.HOST}:9", "--admin=off", "--log_format=json")
        log = harness.wait_for(lambda: [line for line in engine.docker("logs", "-t", name).splitlines() if "listening" in line],
                               what="stent to listen")
        started = engine.inspect(name, "{{.State.StartedAt}}")
        took.append(seconds(log[0].split()[0]) - seconds(started))
    print("starts in", took)
    assert min(took) < 0.2 * harness.SLOW


def seconds(time_of_day):
    """2026-11-28T19:18:51.372123456Z -> seconds of that day."""
    hours, minutes, rest = time_of_day.rstrip("Z").split("T")[1].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def test_stop_waits_for_the_flows_of_the_drain_time(engine, container, raw_backend):
    """`docker stop`: no new flows, the open one goes on to its end, and the container is gone at once then."""
    listen = f"{harness.HOST}:{harness.free_port()}"
    name = container(HARDENED, "relay", listen, raw_backend.text, "--admin=off", "--drain_timeout=100s")
    harness.wait_for(lambda: "listening" in engine.docker("logs", name), what="stent to listen")
    with harness.connect(listen) as client, raw_backend.accept() as backend:
        stop = subprocess.Popen(["docker", "stop", "-t", "110", name], env=engine.env, stdout=subprocess.DEVNULL)
        harness.wait_for(lambda: "draining" in engine.docker("logs", name), what="stent to drain")
        assert not can_connect(listen)
        client.send_all(b"the last request")
        assert backend.recv_exact(16) == b"the last request"
        backend.send_all(b"its answer")
        assert client.recv_exact(10) == b"its answer"
        assert stop.poll() is None
        client.half_close()
        backend.expect_fin()
    assert stop.wait(10) == 0
    assert engine.inspect(name, "{{.State.ExitCode}}") == "0"
    assert "client-fin" in engine.docker("logs", name)


# --- arm64 ---

@pytest.fixture
def emulated():
    """Options that run an arm64 program in a container of this machine: emulation is its entry point."""
    return ["-v", f"{arm64.QEMU}:/qemu:ro", "--entrypoint=/qemu"]


def test_the_arm64_image_relays(engine, container, echo, arm64_image, emulated):
    assert engine.inspect(arm64_image, "{{.Architecture}}") == "arm64"
    assert int(engine.inspect(arm64_image, "{{.Size}}")) < 12 * MEGABYTE
    listen = f"{harness.HOST}:{harness.free_port()}"
    config = f"STENT_CONFIG=[stent]\nadmin = off\n[route r]\nlisten = {listen}\nbackend = {echo.text}\n"
    checked = engine.docker("run", "--rm", "--network=none", "-e", config, *emulated, arm64_image, "/stent", "check")
    assert echo.text in checked
    name = container([*HARDENED, "-e", config, *emulated], "/stent", "run", image=arm64_image)
    bytes_pass(listen)
    assert engine.docker("exec", name, "/qemu", "/stent", "healthcheck") == "healthy"
    engine.docker("stop", "-t", "20", name)
    assert engine.inspect(name, "{{.State.ExitCode}}") == "0"


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_the_unit_tests_pass_on_arm64(tmp_path):
    assert "Fail:               0" in arm64.unit_tests(tmp_path)


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_the_sandbox_holds_on_an_arm64_kernel(tmp_path, certificates):
    """User emulation knows neither seccomp nor Landlock: a whole machine does. Its kernel is 6.1, with Landlock ABI 2."""
    console = arm64_machine.run(tmp_path, certificates.good)
    for text in ("info sandbox: seccomp, Landlock ABI 2 (files)\n", "guest: filters: 4 of 4 threads\n", "guest: plain: over plain\n",
                 "guest: tls: over tls\n", "guest: reloaded: over reloaded\n", "the sandbox allows only the folders that the settings named at the start",
                 "guest: stent ended: 0\n", *(f"guest: /test_sandbox{name} ended: 0\n" for name in ("", "_files", "_kernels"))):
        assert text in console.replace("\r", ""), f"{text}\n{console}"
