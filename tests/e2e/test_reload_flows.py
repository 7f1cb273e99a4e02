"""
Reloads and what must not be noticed: errors that change nothing; listeners that
stay, come, go and move; thousands of sockets; a hundred reloads in a row under load.
"""

import contextlib
import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import harness
import pytest
from test_legs import handed_over, listening
from reloading import LineServer, Talker, line, probes, redis, reload, settle, sections, tcp, websocket, write


# --- errors ---

@pytest.mark.parametrize("wrong", ["no such key = 1", "keepalive = 7", "protocol = smtp", "[route t]\nlisten = :1"])
def test_an_error_changes_nothing_and_is_told_where_it_was_asked(stent, echo, wrong):
    s = stent.route(echo.text)
    with s.connect() as peer:
        peer.send_all(b"x")
        assert peer.recv_exact(1) == b"x"
        text = s.ini_path.read_text()
        s.ini_path.write_text(text + f"client.keepalive = 3s/1s/2\nlog_levle = x\n{wrong}\n")
        done = harness.run_stent("reload", "--control", s.control)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.count(f"{s.ini_path}:") >= 2 and "log_levle" in done.stderr
        assert done.stderr.endswith("stent reload: nothing has changed\n")
        assert harness.run_stent("reload", "--dry-run", "--control", s.control).returncode == 2
        with s.leg(peer) as leg:
            assert probes(leg)["idle"] == 25
        assert s.ask("status")["load"]["last_failed"]
        assert "the last reload failed" in harness.run_stent("status", "--control", s.control).stdout
        s.signal(signal.SIGHUP)
        s.wait_logged("reload: .*log_levle")
        s.ini_path.write_text(text)
        assert harness.run_stent("reload", "--control", s.control).returncode == 0
        assert not s.ask("status")["load"]["last_failed"]
        peer.send_all(b"y")
        assert peer.recv_exact(1) == b"y"


def test_a_dry_run_tells_and_changes_nothing(stent, echo):
    s = stent.route(echo.text)
    write(s, {"t": {"listen": f"{harness.HOST}:{s.port}", "backend": echo.text, "client__keepalive": "20s/10s/6"},
              "new": {"listen": f"{harness.HOST}:{harness.free_port()}", "backend": echo.text}}, workers=2)
    done = harness.run_stent("reload", "--dry-run", "--control", s.control)
    assert done.returncode == 0
    assert done.stdout.splitlines()[:3] == [
        "workers = 2 (now 1); needs a restart", "route t: client.keepalive = 20s/10s/6 (now 25s/10s/6)",
        "route t: client.user_timeout = 80s (now 85s)"]
    assert "route new: new\n4 changes; a reload would use" in done.stdout
    assert s.ask("status")["load"]["reloads"] == 0 and len(s.ask("status")["routes"]) == 1


def test_a_listener_that_cannot_be_opened_is_an_error_and_the_others_stay_as_they_were(stent, echo):
    s = stent.route(echo.text)
    keys = {"listen": f"{harness.HOST}:{s.port}", "backend": echo.text}
    taken, free = socket.socket(), harness.free_port()
    with taken:
        taken.bind((harness.HOST, 0))
        taken.listen()
        at = "%s:%d" % taken.getsockname()
        write(s, {"new": {"listen": f"{harness.HOST}:{free}", "backend": echo.text}, "t": {**keys, "listen": at}})
        done = s.ask("reload")
    assert done["errors"] == [f"route t: cannot listen on {at}: address already in use"]
    assert set(listeners(s)) == {s.port}
    write(s, {"t": {**keys, "listen": f"0.0.0.0:{s.port}"}})
    assert "remove that with one reload" in s.ask("reload")["errors"][0]
    with s.connect() as peer:
        peer.send_all(b"x")
        assert peer.recv_exact(1) == b"x"


def test_a_file_that_is_missing(stent, echo):
    s = stent.route(echo.text)
    s.ini_path.rename(s.ini_path.with_suffix(".away"))
    assert "No such file" in s.ask("reload")["errors"][0]


def test_a_file_that_the_user_cannot_read(stent, echo):
    s = stent.route(echo.text, settings={"user": "nobody", "control": "off"})
    os.chmod(s.ini_path, 0o600)
    s.signal(signal.SIGHUP)
    s.wait_logged("reload: .*Permission denied")
    s.wait_logged(r"reload: stent runs as user \d+ now, which must be able to read")


def test_a_relay_without_a_file_says_so(stent, echo, tmp_path):
    control, port = tmp_path / "c.sock", harness.free_port()
    s = harness.Stent([harness.stent_bin(), "relay", f"{harness.HOST}:{port}", echo.text, f"--control={control}", "--admin=off",
                       "--log_format=json"], tmp_path, [f"{harness.HOST}:{port}"], own_listen=[f"unix:{control}"])
    stent.started.append(s)
    s.wait_listening()
    done = harness.run_stent("reload", "--control", control)
    assert done.returncode == 2 and "there is no settings file" in done.stderr


# --- listeners ---

def listeners(s):
    """{port: inode} of its listeners."""
    mine = set()
    for fd in os.listdir(f"/proc/{s.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            mine.add(os.readlink(f"/proc/{s.pid}/fd/{fd}"))
    rows = [row.split() for row in pathlib.Path(f"/proc/{s.pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(r[1].split(":")[1], 16): r[9] for r in rows if r[3] == harness.TCP_LISTEN and f"socket:[{r[9]}]" in mine}


def test_listeners_are_kept_opened_closed_and_moved(stent, echo):
    ports = [harness.free_port() for _ in range(4)]
    at = [f"{harness.HOST}:{p}" for p in ports]
    s = stent(sections({"a": {"listen": f"{at[0]}, {at[1]}", "backend": echo.text}, "b": {"listen": at[2], "backend": echo.text}}))
    before = listeners(s)
    flows = {p: harness.connect(p) for p in ports[:3]}
    changes = reload(s, {"a": {"listen": at[0], "backend": echo.text}, "c": {"listen": f"{at[1]}, {at[3]}", "backend": echo.text}})
    assert {(c["route"], c["key"]) for c in changes} == {("b", None), ("a", "listen"), ("c", None)}
    now = listeners(s)
    assert now.keys() == {ports[0], ports[1], ports[3]}
    assert now[ports[0]] == before[ports[0]] and now[ports[1]] == before[ports[1]]
    for port, peer in flows.items():
        peer.send_all(b"still")
        assert peer.recv_exact(5) == b"still"
    with harness.connect(ports[1]) as new:
        new.send_all(b"x")
        assert new.recv_exact(1) == b"x"
        assert {f["route"] for f in s.ask("flows")} == {"a", "b", "c"}
    with pytest.raises(ConnectionRefusedError):
        harness.connect(ports[2])
    flows[ports[2]].close()
    assert s.flow_end(route="b")["reason"] == "client-fin"
    for port in ports[:2]:
        flows[port].close()


def test_a_socket_from_systemd_is_left_and_taken_again(stent, echo):
    with listening() as web:
        s = handed_over(stent, f"[route t]\nlisten = fd:web\nbackend = {echo.text}\n", web=[web])
        here = {"listen": f"{harness.HOST}:{harness.free_port()}", "backend": echo.text}
        for _ in range(2):
            reload(s, {"t": here})
            s.wait_logged("no route listens on.*fd:web")
            with harness.connect(web.getsockname()) as waits:	# until a route takes it again
                waits.send_all(b"x")
                reload(s, {"u": {**here, "listen": "fd:web"}})
                assert waits.recv_exact(1) == b"x"
        write(s, {"t": {**here, "listen": "fd:other"}})
        assert "systemd passed no socket of this name" in s.ask("reload")["errors"][0]


def test_a_listener_hands_its_changed_options_down(stent, raw_backend):
    s = stent.route(raw_backend.text)
    keys = {"listen": f"{harness.HOST}:{s.port}", "backend": raw_backend.text}
    for changed, wanted in [({"client__keepalive": "11s/2s/3", "client__user_timeout": "off"},
                             {"idle": 11, "interval": 2, "probes": 3, "user_timeout": 0}), ({"client__keepalive": "off"}, {"SO_KEEPALIVE": 0})]:
        reload(s, {"t": {**keys, **changed}})
        with s.connect() as peer:
            raw_backend.accept()
            with s.leg(peer) as leg:
                assert wanted.items() <= probes(leg).items()


def test_clients_in_the_queue_at_a_reload_get_the_new_options(stent, raw_backend):
    s = stent.route(raw_backend.text)
    s.ask("pause t")
    peers = [s.connect() for _ in range(3)]
    reload(s, {"t": {"listen": f"{harness.HOST}:{s.port}", "backend": raw_backend.text, "client__keepalive": "13s/2s/3"}})
    assert s.ask("status")["routes"][0]["paused"]["clients_waiting"] == 3	# a reload keeps the pause
    s.ask("resume t")
    for _ in peers:
        raw_backend.accept()
    for peer in peers:
        with peer, s.leg(peer) as leg:
            assert probes(leg)["idle"] == 13


def test_a_flow_that_connects_during_a_reload_has_the_new_settings(stent):
    with harness.BlackHole() as hole:
        keys = {"listen": f"{harness.HOST}:{harness.free_port()}", "connect_timeout": "20s"}
        s = stent.route(hole.text, **keys)
        with s.connect() as peer:
            harness.wait_for(lambda: s.ask("flows"), 5)
            reload(s, {"t": {**keys, "backend": hole.text, "keepalive": "14s/2s/3"}})
            hole.open()
            far = hole.accept()
            for end in (peer, far):
                def changed(end=end):
                    with s.leg(end) as leg:
                        return probes(leg)["idle"] == 14
                harness.wait_for(changed, 5)


# --- pause ---

def test_clients_of_a_paused_route_wait_in_their_order(stent, raw_backend):
    s = stent.route(raw_backend.text)
    first = s.connect()
    raw_backend.accept()
    done = harness.run_stent("pause", "t", "--control", s.control)
    assert done.returncode == 0 and "stent resume t" in done.stdout
    waiting = []
    for i in range(20):
        waiting.append(s.connect())
        waiting[-1].send_all(b"%03d" % i)
    raw_backend.expect_no_connection(0.1)
    pause = s.ask("status")["routes"][0]["paused"]
    assert pause["clients_waiting"] == 20 and pause["clients_limit"] >= 128 and pause["seconds_left"] is None
    assert "paused, 20 of at most" in harness.run_stent("status", "--control", s.control).stdout
    first.send_all(b"open flows go on")
    assert raw_backend.accepted[0].recv_exact(16) == b"open flows go on"
    done = harness.run_stent("resume", "t", "--control", s.control)
    assert done.returncode == 0 and "20 clients waited" in done.stdout
    assert [raw_backend.accept().recv_exact(3) for _ in waiting] == [b"%03d" % i for i in range(20)]
    assert s.ask("status")["routes"][0]["paused"] is None
    for peer in [first, *waiting]:
        peer.close()


def test_a_pause_ends_by_itself(stent, raw_backend):
    s = stent.route(raw_backend.text)
    assert s.ask("pause for=300 t")["for_seconds"] == 0.3
    with s.connect():
        raw_backend.expect_no_connection(0.1)
        raw_backend.accept()
    harness.wait_for(lambda: s.ask("status")["routes"][0]["paused"] is None, 2)
    s.wait_logged("resumed, as its time is over; 1 clients waited")


def test_a_pause_that_cannot_be(stent, raw_backend):
    s = stent.route(raw_backend.text)
    for words, status, why in [(["pause", "x"], 1, 'no route "x"'), (["resume", "t"], 1, "not paused"), (["pause"], 2, "name of a route"),
                               (["pause", "t", "--for", "soon"], 2, "duration")]:
        done = harness.run_stent(*words, "--control", s.control)
        assert done.returncode == status and why in done.stderr


# --- many flows ---

# Round trips through stent, from a process that does nothing else: milliseconds each, until its input ends.
ROUND_TRIPS = """
import json, select, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
near = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
far, _ = listener.accept()
took = []
while not select.select([sys.stdin], [], [], 0)[0]:
    began = time.monotonic()
    near.send(b"x")
    far.recv(1)
    took.append((time.monotonic() - began) * 1000)
print(json.dumps(took))
"""


@contextlib.contextmanager
def round_trips(listen, backend):
    """A list that is filled at the end."""
    took = []
    with subprocess.Popen([sys.executable, "-c", ROUND_TRIPS, str(backend), str(listen)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        yield took
        process.stdin.close()
        took += json.loads(process.stdout.read())


@pytest.mark.plain
def test_thousands_of_open_sockets_are_changed_within_a_second_and_relaying_goes_on(stent):
    """As many as the descriptors of this process, which has both ends and duplicates of stent's, allow."""
    n = min(4500, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1000) // 4)
    ports = [harness.free_port() for _ in range(3)]
    routes = {"t": {"listen": f"{harness.HOST}:{ports[0]}", "keepalive": "20s/5s/4"},
              "m": {"listen": f"{harness.HOST}:{ports[1]}", "backend": f"{harness.HOST}:{ports[2]}"}}
    with harness.RawBackend(backlog=4096) as backend:
        routes["t"]["backend"] = backend.text
        s = stent(sections(routes), log_level="warn")
        pairs = []
        for _ in range(n):
            near = s.connect()
            pairs.append((near, backend.accept(10)))
        time.sleep(0.1)
        routes["t"].update(client__keepalive="31s/6s/3", backend__keepalive="off")
        del routes["t"]["keepalive"]
        with round_trips(ports[1], ports[2]) as took:
            began = time.monotonic()
            reload(s, routes)
            seconds = time.monotonic() - began
        want = [{"SO_KEEPALIVE": 1, "idle": 31, "interval": 6, "probes": 3, "user_timeout": 49000}, {"SO_KEEPALIVE": 0}]
        found = [0, 0]
        for sock in s.sockets():
            with sock:
                ends = {sock.getsockname()[1], sock.getpeername()[1]}
                if not ends & {ports[1], ports[2]}:
                    side = 0 if s.port in ends else 1
                    assert want[side].items() <= probes(sock).items()
                    found[side] += 1
        took.sort()
        print(f"{n} flows in {seconds * 1000:.0f} ms; {len(took)} round trips meanwhile: median {took[len(took) // 2]:.2f}, "
              f"95 % {took[len(took) * 95 // 100]:.2f}, longest {took[-1]:.2f} ms")
        assert found == [n, n]
        assert seconds < 1 * harness.SLOW
        # One at a time: had relaying stood still until the reload was over, there would be one.
        assert took[len(took) // 2] < 5 * harness.SLOW and len(took) > 10
        assert took[len(took) * 95 // 100] < 50 * harness.SLOW		# with turns of other processes
        for near, far in pairs:
            near.close()
            far.close()


@pytest.mark.workers
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.plain), 3])
def test_a_hundred_reloads_under_load_lose_no_flow_and_no_byte(stent, request, workers):
    server = request.getfixturevalue("redis")
    with harness.EchoBackend() as echo, harness.RawBackend() as lines, harness.RawBackend() as sockets:
        at = {name: f"{harness.HOST}:{harness.free_port()}" for name in ("tcp", "line", "ws", "redis", "more")}
        base = {"tcp": {"listen": at["tcp"], "backend": echo.text},
                "line": {"listen": at["line"], "backend": lines.text, "protocol": "line", "backend__heartbeat": "20ms",
                         "backend__heartbeat_send": r"hb1\n", "backend__heartbeat_expect": "ok1"},
                "ws": {"listen": at["ws"], "backend": sockets.text, "protocol": "websocket", "heartbeat": "20ms"},
                "redis": {"listen": at["redis"], "backend": f"{harness.HOST}:{server.port}", "protocol": "auto", "backend__heartbeat": "20ms"}}
        s = stent(sections(base), workers=workers, log_level="error")
        talkers, peers = [], []
        for i in range(6):
            for name in ("tcp", "line", "ws", "redis"):
                peer = harness.connect(at[name])
                peer.timeout = 20
                peers.append(peer)
                if name == "line":
                    LineServer(lines.accept(), {b"hb1\n": b"ok1\n", b"hb2\n": b"ok2\n"})
                talk = websocket(peer, sockets.accept(), i) if name == "ws" else {"tcp": tcp, "line": line, "redis": redis}[name](peer, i)
                talkers.append(Talker(talk))
        for i in range(100):
            write(s, other_routes(base, at["more"], i))
            done = s.ask("reload")
            assert done["reloaded"], done
        settle(s)
        for talker in talkers:
            before = talker.exchanges
            harness.wait_for(lambda t=talker, n=before: t.error or t.exchanges > n, 10, "an exchange after the last reload")
            talker.stop()
        assert s.ask("status")["flows_open"] == len(talkers)
        assert min(t.exchanges for t in talkers) > 10
        for peer in peers:
            peer.close()


def other_routes(base, more, i):
    """Routes that differ from the ones before in many ways; every fourth time as they were."""
    routes = {name: dict(keys) for name, keys in base.items()}
    if i % 4 == 0:
        for keys in routes.values():
            keys.update(keepalive=f"{i % 30 + 1}s/2s/3", urgent="off", on_dead="reset", client__idle_timeout="1h")
        routes["line"].update(backend__heartbeat_send=r"hb2\n", backend__heartbeat_expect="ok2", backend__heartbeat="5ms")
        routes["ws"]["heartbeat"] = "5ms"
    elif i % 4 == 1:
        routes["line"] = {"listen": base["line"]["listen"], "backend": base["line"]["backend"]}	# open flows keep their codec
        routes["redis"]["protocol"] = "redis"
        routes["more"] = {"listen": more, "backend": base["tcp"]["backend"]}
    elif i % 4 == 2:
        routes = {"other" if name == "tcp" else name: keys for name, keys in reversed(routes.items())}
        routes["ws"]["heartbeat"] = "off"
    return routes


@pytest.mark.workers
def test_sighup_under_load_of_new_flows_refuses_none(stent, echo):
    s = stent.route(echo.text, settings={"workers": 2, "log_level": "warn"})
    stop, errors, count = threading.Event(), [], [0]

    def come_and_go():
        while not stop.is_set():
            try:
                with s.connect() as peer:
                    peer.send_all(b"hello")
                    assert peer.recv_exact(5) == b"hello"
                    count[0] += 1
            except (OSError, AssertionError) as error:
                errors.append(error)
    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    text = s.ini_path.read_text()
    for i in range(50):
        s.ini_path.write_text(text + f"\nclient.keepalive = {i + 2}s/1s/3\n")
        s.signal(signal.SIGHUP)
        time.sleep(0.01)
    harness.wait_for(lambda: s.ask("status")["load"]["reloads"] > 10, 5)
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors and count[0] > 20


def test_the_metrics_tell_of_the_last_reload(stent, echo):
    port = harness.free_port()
    s = stent.route(echo.text, settings={"admin": f"{harness.HOST}:{port}"})

    def metric(name):
        with harness.connect(port) as web:
            web.send_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return float(re.search(rf"(?m)^{name} (\S+)$", web.recv_all().decode().replace("\r", ""))[1])
    assert abs(metric("stent_config_last_reload_timestamp_seconds") - time.time()) < 60
    assert metric("stent_config_last_reload_successful") == 1
    text = s.ini_path.read_text()
    s.ini_path.write_text(text + "nonsense = 1\n")
    s.ask("reload")
    assert metric("stent_config_last_reload_successful") == 0
    s.ini_path.write_text(text)
    s.ask("reload")
    assert metric("stent_config_last_reload_successful") == 1
