"""What /metrics counts, by route, and that Prometheus takes it."""

import contextlib
import os
import re
import signal
import subprocess
import time
import urllib.request

import harness
import pytest
from harness import HOST, SLOW, connect, free_port, wait_for


class Metrics:
    """The metrics of a stent that was started with `settings=metrics.settings`."""

    def __init__(self):
        self.port = free_port()
        self.settings = {"admin": f"{HOST}:{self.port}"}

    def text(self):
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/metrics", timeout=5 * SLOW) as answer:
            return answer.read().decode()

    def all(self):
        """{'name{label="value"}': number}"""
        return {series: float(value) for series, value in re.findall(r"^([^#\s].*) (\S+)$", self.text(), re.MULTILINE)}

    def __getitem__(self, series):
        return self.all()[series]


@pytest.fixture
def metrics():
    return Metrics()


def promtool(*args, stdin=None):
    done = subprocess.run(["promtool", *args], input=stdin, capture_output=True, text=True, timeout=60 * SLOW)
    return done.returncode, done.stdout + done.stderr


# --- by route ---

def test_each_route_has_its_own_counters(stent, metrics):
    with harness.EchoBackend() as one, harness.EchoBackend() as other:
        ports = free_port(), free_port()
        s = stent(f"[route one]\nlisten = {HOST}:{ports[0]}\nbackend = {one.text}\n"
                  f"[route other]\nlisten = {HOST}:{ports[1]}\nbackend = {other.text}\n", **metrics.settings, workers=2)
        clients = [connect(ports[0]), connect(ports[0]), connect(ports[1])]
        for client in clients:
            client.send_all(b"x" * 100)
            client.recv_exact(100)
        told = metrics.all()
        assert told['stent_flows_open{route="one"}'] == told['stent_flows_total{route="one"}'] == 2
        assert told['stent_flows_open{route="other"}'] == 1
        assert told['stent_bytes_total{route="one",side="client"}'] == 200
        assert told['stent_bytes_total{route="other",side="backend"}'] == 100
        assert told['stent_connects_total{route="one",result="ok"}'] == 2
        assert told['stent_connect_seconds_count{route="one"}'] == told['stent_connect_seconds_bucket{route="one",le="+Inf"}'] == 2
        assert 0 < told['stent_connect_seconds_sum{route="one"}'] < 2 * SLOW
        assert sum(told[f'stent_worker_flows{{worker="{i}"}}'] for i in range(2)) == 3
        clients[0].half_close()
        clients[0].expect_fin()
        s.flow_end()
        told = metrics.all()
        assert told['stent_flows_ended_total{route="one",reason="client-fin"}'] == 1
        assert told['stent_flows_ended_total{route="other",reason="client-fin"}'] == 0
        assert told['stent_flows_open{route="one"}'] == 1
        assert told['stent_flows_unopened_total{route="one"}'] == 0


def test_connects_that_fail_are_counted_by_result(stent, metrics):
    closed = free_port()
    s = stent.route(f"{HOST}:{closed}", settings=metrics.settings)
    with contextlib.suppress(ConnectionError):
        s.connect()
    assert s.flow_end()["reason"] == "backend-refused"
    told = metrics.all()
    assert told['stent_connects_total{route="t",result="refused"}'] == 1
    assert told['stent_connects_total{route="t",result="ok"}'] == told['stent_connect_seconds_count{route="t"}'] == 0
    assert told['stent_flows_unopened_total{route="t"}'] == 1
    assert told['stent_flows_ended_total{route="t",reason="backend-refused"}'] == 1


def test_a_flow_above_the_limit_is_counted(stent, metrics, raw_backend):
    s = stent.route(raw_backend.text, settings={"max_flows": 1, **metrics.settings})
    first = s.connect()
    raw_backend.accept()
    with contextlib.suppress(ConnectionError):
        s.connect()
    wait_for(lambda: metrics['stent_flows_ended_total{route="t",reason="limit"}'] == 1, what="the refusal to be counted")
    assert metrics['stent_flows_unopened_total{route="t"}'] == 1
    first.close()


def lines(stent, raw_backend, metrics, **keys):
    s = stent.route(raw_backend.text, protocol="line", backend__heartbeat="50ms", backend__heartbeat_send='"PING\\n"',
                    backend__heartbeat_expect='"PONG\\n"', client__heartbeat="off", settings=metrics.settings, **keys)
    client = s.connect()
    client.send_all(b"hello\n")		# there before a heartbeat is due
    backend = raw_backend.accept()
    assert backend.recv_exact(6) == b"hello\n"
    backend.send_all(b"welcome\n")
    assert client.recv_exact(8) == b"welcome\n"
    return s, client, backend


def test_flows_by_protection(stent, raw_backend, metrics):
    _, client, _ = lines(stent, raw_backend, metrics)
    name = 'stent_flows_protected{route="t",protection="%s"}'
    wait_for(lambda: [metrics[name % p] for p in ("both", "one", "probes")] == [0, 1, 0], what="a flow with heartbeats on one leg")
    client.close()
    wait_for(lambda: metrics[name % "one"] == 0, what="no flow")


def test_round_trips_and_misses(stent, raw_backend, metrics):
    s, client, backend = lines(stent, raw_backend, metrics, backend__heartbeat_timeout="100ms", backend__heartbeat_misses=3)
    for _ in range(3):
        assert backend.recv_exact(5) == b"PING\n"
        time.sleep(0.02)
        backend.send_all(b"PONG\n")
    wait_for(lambda: metrics['stent_heartbeat_replies_total{route="t",side="backend"}'] >= 3, what="three replies")
    told = metrics.all()
    name = 'stent_heartbeat_round_trip_seconds_%s{route="t",side="%s"}'
    assert told[name % ("count", "backend")] == 3 and told[name % ("count", "client")] == 0
    assert told[name % ("sum", "backend")] >= 0.06
    assert told['stent_heartbeat_round_trip_seconds_bucket{route="t",side="backend",le="0.01"}'] == 0
    assert s.flow_end(timeout=10)["reason"] == "backend-heartbeat-timeout"
    client.close()
    told = metrics.all()
    assert told['stent_heartbeat_misses_total{route="t",side="backend"}'] == 3
    assert told['stent_peer_deaths_total{route="t",side="backend"}'] == 1
    assert told['stent_peer_deaths_total{route="t",side="client"}'] == 0


# --- the process ---

def test_figures_of_the_process(stent, echo, metrics):
    s = stent.route(echo.text, settings=metrics.settings)
    told = metrics.all()
    assert abs(told["process_start_time_seconds"] - time.time()) < 60 * SLOW
    assert told["process_max_fds"] >= told["process_open_fds"] > 5
    assert told["process_virtual_memory_bytes"] > told["process_resident_memory_bytes"] > 1e6
    assert told["process_cpu_seconds_total"] > 0
    with s.connect() as client:
        client.send_all(b"x")
        client.recv_exact(1)
        assert metrics["process_open_fds"] == told["process_open_fds"] + 2


def test_the_delay_of_the_event_loop_is_measured_while_somebody_scrapes(stent, echo, metrics):
    s = stent.route(echo.text, settings={"workers": 2, **metrics.settings})
    count = 'stent_worker_loop_delay_seconds_count{worker="1"}'
    assert metrics[count] == 0
    wait_for(lambda: metrics[count] >= 3, what="delays")
    os.kill(s.pid, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(s.pid, signal.SIGCONT)
    slow = 'stent_worker_loop_delay_seconds_bucket{worker="1",le="0.25"}'
    wait_for(lambda: (told := metrics.all())[count] > told[slow], what="a delay of more than 0.25 s")


# --- Prometheus ---

def test_promtool_has_nothing_to_say(stent, echo, metrics):
    s = stent.route(echo.text, name="o.d-d_1", settings=metrics.settings)
    with s.connect() as client:
        client.send_all(b"x")
        client.recv_exact(1)
        assert promtool("check", "metrics", stdin=metrics.text()) == (0, "")
