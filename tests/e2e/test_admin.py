"""The administration of a running stent: what it tells over the control socket and HTTP, and what it is told."""

import contextlib
import fcntl
import http.client
import json
import os
import pty
import re
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import termios
import threading
import time

import devtools
import pytest
from harness import HOST, SLOW, RawBackend, connect, free_port, patient, run_stent, stent_bin, wait_for


def ask(s, *words, status=0):
    """One of the commands that talk to a running stent, by its settings file; its output."""
    done = run_stent(*words, "-c", s.ini_path)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout if status == 0 else done.stderr


def status_of(s):
    return json.loads(ask(s, "status", "--json"))


def talk(path, request):
    """The raw response of the control socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(request)
        response = b""
        while piece := sock.recv(65536):
            response += piece
    return json.loads(response)


class Http:
    """The HTTP side of a stent that was started with `settings=web.settings`."""

    def __init__(self):
        self.port = free_port()
        self.settings = {"admin": f"{HOST}:{self.port}"}

    def get(self, path, method="GET", **headers):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=patient(10))
        connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body


@pytest.fixture
def web():
    return Http()


# --- status and listings ---

@pytest.mark.workers
def test_status_and_listing_cover_every_worker(stent, echo):
    s = stent.route(echo.text, name="echo", settings={"workers": 3})
    clients = [s.connect() for _ in range(7)]
    for client in clients:
        client.send_all(b"x" * 1000)
        assert client.recv_exact(1000) == b"x" * 1000
    told = status_of(s)
    assert told["flows_open"] == told["flows_total"] == 7
    assert sorted(told["flows_by_worker"]) == [2, 2, 3]
    assert told["bytes"] == {"client": 7000, "backend": 7000}
    assert told["pid"] == s.pid and told["settings"] == str(s.ini_path)
    assert [r["name"] for r in told["routes"]] == ["echo"]
    assert told["routes"][0]["client"]["keepalive"] == {"idle_seconds": 25, "interval_seconds": 10, "probes": 6}

    listed = talk(s.control, b"flows\n")
    assert len({flow["id"] for flow in listed}) == 7
    assert {flow["client"]["address"] for flow in listed} == {f"{HOST}:{c.port}" for c in clients}
    assert {flow["backend"]["address"] for flow in listed} == {echo.text}
    assert all(flow["client"]["bytes"] == flow["backend"]["bytes"] == 1000 for flow in listed)
    assert all(flow["state"] == "open" and flow["client"]["rtt_ms"] is not None for flow in listed)

    text = ask(s, "status")
    assert "7 open (limit " in text and f"  tcp        from {s.listen[0]}, to {echo.text} (up)\n" in text
    for client in clients[:3]:
        client.half_close()
        client.expect_fin()
    wait_for(lambda: status_of(s)["ended"] == {"client-fin": 3}, what="three ends to be counted")
    assert "ended        client-fin 3\n" in ask(s, "status")


def test_a_half_closed_flow_is_called_so(stent, raw_backend):
    s = stent.route(raw_backend.text)
    client, backend = s.connect(), raw_backend.accept()
    client.half_close()
    backend.expect_fin()
    (flow,) = talk(s.control, b"flows\n")
    assert (flow["state"], flow["client"]["fin"], flow["backend"]["fin"]) == ("half-closed", True, False)


def test_top_is_a_listing_when_its_output_is_no_terminal(stent, echo):
    s = stent.route(echo.text)
    clients = [s.connect() for _ in range(3)]
    for i, client in enumerate(clients):
        client.send_all(b"x" * 1000 * (i + 1))
        client.recv_exact(1000 * (i + 1))
    head, *rows = ask(s, "top", "--sort", "bytes").splitlines()
    assert head.split()[:6] == ["ID", "ROUTE", "PROTOCOL", "STATE", "AGE", "CLIENT"]
    assert [row.split()[5] for row in rows] == [f"{HOST}:{c.port}" for c in reversed(clients)]
    assert [row.split()[10] for row in rows] == ["3.0k", "2.0k", "1.0k"]
    assert "--sort takes" in ask(s, "top", "--sort", "colour", status=2)


class Terminal:
    """A command on a terminal of 100 columns and 20 lines, which outlives it."""

    def __init__(self, *command):
        self.fd, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 100, 0, 0))
        self.text = ""
        self.process = subprocess.Popen(command, stdin=self.slave, stdout=self.slave, stderr=self.slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.fd)
        os.close(self.slave)

    def wait_for(self, pattern, timeout=10):
        def seen():
            if select.select([self.fd], [], [], 0)[0]:
                self.text += os.read(self.fd, 65536).decode()
            return re.search(pattern, self.text, re.S)
        wait_for(seen, timeout, f"{pattern!r} on the terminal")

    def echoes(self):
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)


@pytest.mark.parametrize("way", ["key", "signal"])
def test_top_is_live_on_a_terminal_and_leaves_it_as_it_was(stent, echo, way):
    s = stent.route(echo.text, name="live")
    with Terminal(stent_bin(), "top", "-c", str(s.ini_path)) as terminal:
        terminal.wait_for(r"\x1b\[\?1049h.*flows: 0 open")
        assert not terminal.echoes()
        client = s.connect()
        client.send_all(b"x")
        client.recv_exact(1)
        terminal.wait_for(rf"flows: 1 open.*live.*{HOST}:{client.port}")
        os.write(terminal.fd, b"b")
        terminal.wait_for(r"\x1b\[7mb bytes")
        if way == "key":
            os.write(terminal.fd, b"q")
        else:
            terminal.process.terminate()
        terminal.wait_for(r"\x1b\[\?25h\x1b\[\?1049l$")
        assert terminal.process.wait(10) == 0
        assert terminal.echoes()
        rows = re.split(r"\x1b\[H", terminal.text)[-1].split("\x1b[J")[0].split("\r\n")
        assert len(rows) <= 20 and all(len(re.sub(r"\x1b\[[?0-9]*[A-Za-z]", "", row)) <= 100 for row in rows[2:])


def test_a_listing_ends_at_its_limit(stent, echo):
    s = stent.route(echo.text)
    clients = [s.connect() for _ in range(5)]
    assert len(clients) == 5
    wait_for(lambda: status_of(s)["flows_open"] == 5)
    assert len(talk(s.control, b"flows limit=2 sort=new\n")) == 2


# --- what it is told ---

def test_kill_ends_one_flow_and_no_other(stent, raw_backend):
    s = stent.route(raw_backend.text)
    first, first_backend = s.connect(), raw_backend.accept()
    second, second_backend = s.connect(), raw_backend.accept()
    flows = {flow["client"]["address"]: flow["id"] for flow in wait_for(
        lambda: [f for f in talk(s.control, b"flows\n")] if len(talk(s.control, b"flows\n")) == 2 else None)}
    ask(s, "kill", flows[f"{HOST}:{first.port}"])
    first.expect_reset()
    first_backend.expect_reset()
    end = s.flow_end()
    assert (end["reason"], end["client"]) == ("admin-kill", f"{HOST}:{first.port}")
    second.send_all(b"still here")
    assert second_backend.recv_exact(10) == b"still here"
    assert "no flow with id" in ask(s, "kill", flows[f"{HOST}:{first.port}"], status=1)


@pytest.mark.parametrize("words", [["kill"], ["kill", "x"], ["kill", "1", "2"], ["kill", "-1"], ["status", "now"],
                                   ["drain", "--later"], ["top", "--sort"]])
def test_a_wrong_call_is_status_2_and_changes_nothing(stent, echo, words):
    s = stent.route(echo.text)
    assert ask(s, *words, status=2)
    assert status_of(s)["draining"] is False


def test_drain_waits_for_the_open_flow(stent, echo):
    s = stent.route(echo.text, settings={"drain_timeout": "20s"})
    client = s.connect()
    client.send_all(b"before")
    client.recv_exact(6)
    assert "1 flow open, ends within 20s" in ask(s, "drain")
    assert "draining" in ask(s, "healthcheck", status=1)
    with pytest.raises(ConnectionRefusedError):
        connect(s.address)
    ask(s, "drain")			# said twice is not said louder
    client.send_all(b"after")
    assert client.recv_exact(5) == b"after"
    client.half_close()
    client.expect_fin()
    assert s.wait() == 0
    assert s.flow_end()["reason"] == "client-fin"


def test_drain_now_does_not_wait(stent, echo):
    s = stent.route(echo.text, settings={"drain_timeout": "1h"})
    client = s.connect()
    client.send_all(b"x")
    client.recv_exact(1)
    assert "ends now" in ask(s, "drain", "--now")
    client.expect_reset()
    assert s.wait() == 0
    assert s.flow_end()["reason"] == "drain"


# --- health ---

def test_health_is_0_only_while_it_runs(stent, echo):
    s = stent.route(echo.text)
    assert ask(s, "healthcheck") == "healthy\n"
    assert run_stent("healthcheck", "--control", s.control).returncode == 0
    s.signal(signal.SIGSTOP)		# there, and does not respond
    done = run_stent("healthcheck", "-c", s.ini_path)
    assert (done.returncode, "does not respond" in done.stderr) == (1, True)
    s.signal(signal.SIGCONT)
    ask(s, "healthcheck")
    s.kill()
    assert "no stent listens there" in ask(s, "healthcheck", status=1)
    assert run_stent("healthcheck", "--cntrol", "x").returncode == 1


def test_a_full_one_is_healthy(stent, echo, web):
    """Whatever starts anew what is unhealthy would end the flows that are open."""
    s = stent.route(echo.text, settings={**web.settings, "max_flows": 1})
    with s.connect() as client:
        client.send_all(b"x")
        client.recv_exact(1)
        s.expect_refusal()
        assert ask(s, "healthcheck") == "healthy\n"
        assert web.get("/healthz") == (200, "ok\n")


def test_control_off_is_given_as_the_reason(stent, echo):
    s = stent.route(echo.text, settings={"control": "off"})
    assert "control = off" in ask(s, "status", status=2)


# --- the control socket ---

def test_socket_is_its_owners_alone_and_goes_with_its_stent(stent, echo, tmp_path):
    path = tmp_path / "made" / "control.sock"
    s = stent.route(echo.text, settings={"control": path})
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    s.stop()
    assert not path.exists()


def test_a_socket_left_behind_is_replaced(stent, echo, tmp_path):
    path = tmp_path / "control.sock"
    dead = stent.route(echo.text, settings={"control": path})
    dead.kill()
    assert path.exists()
    s = stent.route(echo.text, settings={"control": path})
    assert status_of(s)["pid"] == s.pid


def test_a_live_socket_is_not_taken(stent, echo, tmp_path):
    path = tmp_path / "control.sock"
    s = stent.route(echo.text, settings={"control": path})
    ini = tmp_path / "second.ini"
    ini.write_text(f"[stent]\ncontrol = {path}\nadmin = off\n[route t]\nlisten = {HOST}:{free_port()}\nbackend = {echo.text}\n")
    done = run_stent("run", "-c", ini)
    assert done.returncode == 1
    assert f"control = {path}: another stent listens there" in done.stderr
    assert status_of(s)["pid"] == s.pid


def test_clients_that_do_nothing_hold_up_nobody(stent, echo, web):
    s = stent.route(echo.text, settings=web.settings)
    idle = [connect(f"unix:{s.control}") for _ in range(20)] + [connect(web.port) for _ in range(20)]
    for peer in idle:
        peer.sock.send(b"GET")		# and no more
    client = s.connect()
    client.send_all(b"x")
    assert client.recv_exact(1) == b"x"
    assert ask(s, "healthcheck") == "healthy\n"
    assert web.get("/healthz") == (200, "ok\n")


@pytest.mark.parametrize("says", [b"", b"GET /healthz HTTP/1.1\r\n", b"GET /flows HTTP/1.1\r\nHost: localhost\r\n\r\n"],
                         ids=["nothing", "half a request", "a request"])
def test_a_hundred_that_hang_do_not_make_it_unhealthy(stent, echo, web, says):
    """They come again as soon as they are dropped; without a response to a health check stent would be restarted."""
    stent.route(echo.text, settings=web.settings)
    stop = threading.Event()

    def hang():
        while not stop.is_set():
            with contextlib.suppress(OSError), socket.create_connection((HOST, web.port), timeout=0.5) as sock:
                sock.sendall(says)
                stop.wait(0.5)

    threads = [threading.Thread(target=hang) for _ in range(100)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    began = time.monotonic()
    answers = {web.get("/healthz") for _ in range(5)}
    took = time.monotonic() - began
    stop.set()
    for thread in threads:
        thread.join(10)
    assert answers == {(200, "ok\n")} and took < 5 * SLOW, (answers, took)


def test_without_descriptors_it_still_responds(stent, echo, web):
    s = stent.route(echo.text, settings=web.settings)
    client = s.connect()
    client.send_all(b"x")
    client.recv_exact(1)
    resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (s.fds(), 20000))
    for _ in range(3):
        assert web.get("/healthz") == (200, "ok\n")
        assert ask(s, "healthcheck") == "healthy\n"
    hanging = [connect(web.port) for _ in range(3)]
    for peer in hanging:
        peer.sock.send(b"GET")
    assert web.get("/healthz") == (200, "ok\n")
    resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (20000, 20000))


def test_the_longest_listing_comes_whole(stent, echo):
    s = stent.route(echo.text)
    clients = [s.connect() for _ in range(1500)]
    wait_for(lambda: status_of(s)["flows_open"] == 1500, timeout=20)
    assert len(ask(s, "top").splitlines()) == 1501
    for client in clients:
        client.close()


# --- HTTP ---

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="[^"\\]*",?)+)\})? (-?[0-9.]+(?:e[+-]?[0-9]+)?)')


def metrics(web):
    """{name: {label value but the route's, or None: number}}; every line must be one of the format's. Histograms are left out."""
    families, samples = {}, {}
    status, body = web.get("/metrics")
    assert status == 200 and body.endswith("\n")
    for line in body.splitlines():
        if line.startswith("# HELP "):
            assert len(line.split(" ", 3)) == 4
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in families and kind in ("counter", "gauge", "histogram")
            families[name] = kind
        else:
            name, labels, value = SAMPLE.fullmatch(line).groups()
            if families.get(re.sub("_(bucket|sum|count)$", "", name)) == "histogram":
                continue
            assert name in families
            label = ",".join(v for k, v in re.findall('([a-z]+)="([^"]*)"', labels or "") if k != "route") or None
            assert label not in samples.setdefault(name, {})
            samples[name][label] = float(value)
    assert set(samples) == {name for name, kind in families.items() if kind != "histogram"}
    return samples


@pytest.mark.workers
def test_metrics_count_what_happened(stent, echo, web):
    s = stent.route(echo.text, settings={**web.settings, "workers": 2})
    before = metrics(web)
    assert set(before["stent_flows_ended_total"].values()) == {0}
    clients = [s.connect() for _ in range(4)]
    for client in clients:
        client.send_all(b"x" * 500)
        client.recv_exact(500)
    for client in clients[:2]:
        client.half_close()
        client.expect_fin()
    clients[2].reset()
    wait_for(lambda: sum(metrics(web)["stent_flows_ended_total"].values()) == 3, what="three ends to be counted")
    m = metrics(web)
    assert m["stent_flows_total"][None] == 4
    assert sum(m["stent_worker_flows"].values()) == m["stent_flows_open"][None] == 1 and set(m["stent_worker_flows"]) == {"0", "1"}
    assert m["stent_flows_ended_total"]["client-fin"] == 2
    assert m["stent_flows_ended_total"]["client-reset"] == 1
    assert m["stent_bytes_total"] == {"client": 2000, "backend": 2000}
    assert m["stent_uptime_seconds"][None] > before["stent_uptime_seconds"][None]
    assert set(m["stent_flows_ended_total"]) == set(before["stent_flows_ended_total"])


def test_passthrough_flows_are_counted_by_reason(stent, echo, web):
    s = stent.route(echo.text, protocol="postgres", settings=web.settings)
    assert metrics(web)["stent_passthrough_flows_total"] == {"other": 0}
    for _ in range(2):
        with s.connect() as client:
            client.send_all(b"no PostgreSQL at all\n")
            reason = s.next_event("protocol passthrough")["reason"]
    assert metrics(web)["stent_passthrough_flows_total"] == {reason: 2, "other": 0}
    assert status_of(s)["passthrough"] == {reason: 2}
    assert f"passthrough  {reason} 2\n" in ask(s, "status")


def test_flows_refused_at_the_limit_are_counted_and_logged_as_others(stent, echo, web):
    s = stent.route(echo.text, settings={**web.settings, "max_flows": 1})
    with s.connect() as client:
        client.send_all(b"x")
        client.recv_exact(1)
        for _ in range(3):
            s.expect_refusal()
        refused = s.flow_end(reason="limit")
        assert metrics(web)["stent_flows_ended_total"]["limit"] == 3
        assert metrics(web)["stent_flows_total"][None] == 4
        assert status_of(s)["ended"] == {"limit": 3}
    end = s.flow_end(reason="client-fin")
    assert end.keys() - refused.keys() <= {"backend_rtt_ms"}	# it had no backend


def test_http_reads_and_never_changes(stent, echo, web):
    s = stent.route(echo.text, settings={**web.settings, "drain_timeout": "20s"})
    client = s.connect()
    client.send_all(b"x")
    client.recv_exact(1)
    assert json.loads(web.get("/status")[1])["flows_open"] == 1
    (flow,) = json.loads(web.get("/flows?limit=5")[1])
    assert flow["client"]["address"] == f"{HOST}:{client.port}"
    for method, path in (("POST", "/flows"), ("DELETE", f"/flows?id={flow['id']}"), ("PUT", "/status")):
        assert web.get(path, method)[0] == 405
    for path in ("/drain", "/kill", "/../etc/passwd", "//"):
        assert web.get(path)[0] == 404
    assert web.get("/status", Host="evil.example")[0] == 403
    assert web.get("/status", Host="localhost:1")[0] == 200
    ask(s, "drain")
    assert web.get("/healthz") == (503, "draining\n")
    client.half_close()
    client.expect_fin()
    assert s.wait() == 0


def test_host_names_of_the_machine_are_accepted(stent, echo, web, tmp_path):
    """As Prometheus asks, by the full name. Another's name may have been made to lead here."""
    hosts, resolv = tmp_path / "hosts", tmp_path / "resolv.conf"
    hosts.write_text("127.0.0.1 localhost\n127.0.1.1\tdb1.corp.example db1 # db1.comment.example\n10.0.0.2 db2.corp.example\n")
    resolv.write_text("nameserver 127.0.0.1\nsearch one.example two.example.\n")
    stent.route(echo.text, settings={**web.settings, "admin_hosts": "status.example, b.example", "prefix": (
        "unshare", "-mu", "bash", "-c", f'hostname db1 && mount --bind {hosts} /etc/hosts && mount --bind {resolv} '
        '/etc/resolv.conf && exec "$@"', "bash")})
    for name in ("db1", "db1.corp.example", "DB1.Corp.Example.", "db1.one.example", "db1.two.example", "status.example", "b.example"):
        assert web.get("/healthz", Host=f"{name}:{web.port}")[0] == 200, name
    for name in ("db1.evil.example", "db2.corp.example", "db1.comment.example", "corp.example", "one.example", "db1.one.example.evil.example",
                 "xdb1.one.example"):
        status, why = web.get("/healthz", Host=name)
        assert status == 403 and f"admin_hosts = {name}" in why, (name, status, why)


@pytest.mark.plain
def test_page_shows_the_flows_and_complains_of_nothing(stent, web):
    with RawBackend() as backend:
        s = stent.route(backend.text, name="page-route", settings=web.settings)
        client, there = s.connect(), backend.accept()
        client.send_all(b"x" * 12345)
        there.recv_exact(12345)
        other, gone = s.connect(), backend.accept()
        other.half_close()
        gone.half_close()
        s.flow_end()
        with devtools.browser() as page:
            page.open(f"http://{HOST}:{web.port}/")
            page.wait("document.title === '1 flows · stent' && document.querySelectorAll('#body tr').length === 1"
                      " && document.body.innerText.includes('client-fin')")
            text, console = page.text("body"), page.console
            page.wait("document.getElementById('trouble').hidden")
    assert console == []
    for part in ("page-route", f"{HOST}:{client.port}", backend.text, "12.3 kB", "running", "client-fin"):
        assert part in text, part


@pytest.fixture
def three_flows(stent, web):
    """A stent, and flows whose backends never replied to a heartbeat, reply to each, and have ceased to: by their ids."""
    with RawBackend() as backend:
        s = stent.route(backend.text, name="pings", protocol="line", heartbeat="100ms", client__heartbeat="off",
                        heartbeat_timeout="100ms", heartbeat_misses=1000, backend__heartbeat_send=r"PING\n", backend__heartbeat_expect="PONG",
                        settings=web.settings)
        kept, ends, ids = [], [], {}
        stop = threading.Event()

        def reply(peer):
            while not stop.is_set():
                try:
                    if peer.recv_some(timeout=0.05).endswith(b"PING\n"):
                        peer.send_all(b"PONG\n")
                except TimeoutError:
                    pass
        for name in "never", "always", "once":
            client = s.connect()
            kept.append(client)
            ends.append(backend.accept())
            client.send_all(b"hello\n")
            assert ends[-1].recv_exact(6) == b"hello\n"
            ids[name] = s.flow_start()["id"]
        ends[2].recv_exact(5)
        ends[2].send_all(b"PONG\n")
        replying = threading.Thread(target=reply, args=(ends[1],))
        replying.start()

        def backends():
            by_id = {f["id"]: f["backend"] for f in s.ask("flows")}
            return {name: by_id[ids[name]] for name in ids}

        def settled():
            b = backends()
            return b["never"]["why_none"] and b["always"]["replies"] > 2 and b["once"]["misses"] > 1
        wait_for(settled, what="the three to differ")
        yield s, ids, backends
        stop.set()
        replying.join()


def test_each_leg_has_its_verdict(three_flows):
    s, ids, backends = three_flows
    b = backends()
    assert [b[name]["verdict"] for name in ids] == ["alive", "alive", "probing"]
    assert (b["never"]["replies"], b["never"]["pings"], b["never"]["why_none"]) == (0, 1, "the peer never replied")
    rows = {int(line.split()[0]): line for line in ask(s, "top", "--once").splitlines()[1:]}
    assert re.search(r"alive [\d.]+m?s .* 1 \(0 replies\)  ", rows[ids["never"]])
    assert re.search(r"alive [\d.]+m?s .* \d+ \((\d+) replies\)  ", rows[ids["always"]])
    assert re.search(r"pinging \d+ of 1000 .* \d+ \(1 replies\)  ", rows[ids["once"]])


@pytest.mark.parametrize("keys", [{}, {"protocol": "line", "backend__heartbeat_send": r"x\n", "heartbeat": "60ms"}])
def test_a_delayed_acknowledgement_is_no_round_trip(stent, keys):
    """Single segments, of the application or heartbeats, to a host that waits 40 ms with each acknowledgement."""
    with RawBackend() as backend:
        s = stent.route(backend.text, **keys)
        client, there = s.connect(), backend.accept()
        for _ in range(30):
            there.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            if keys:
                there.recv_some()
            else:
                client.send_all(b"x")
                there.recv_exact(1)
                time.sleep(0.06)
        with s.leg(there) as leg:
            blurred = struct.unpack_from("I", leg.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 68)[0]
        assert blurred > 5000, "acknowledgements were not delayed"
        (flow,) = s.ask("flows")
        assert flow["backend"]["rtt_ms"] < 5


@pytest.mark.plain
def test_page_colours_a_leg_by_its_verdict(three_flows, web):
    s, ids, _ = three_flows
    with devtools.browser() as page:
        page.open(f"http://{HOST}:{web.port}/")
        page.wait("document.querySelectorAll('#body tr').length === 3")
        cells = {name: page.js(f"[...document.querySelector('button[data-flow=\"{ids[name]}\"]').closest('tr').cells].map(c => c.outerHTML)") for name in ids}
        assert page.console == []
    dots = {name: re.search(r'class="dot ?(\w*)"', cells[name][4])[1] for name in ids}
    assert dots == {"never": "good", "always": "good", "once": "wait"}
    assert "the peer never replied" in cells["never"][2]
    assert re.search(r"pinging \d+ of 1000", cells["once"][4])
    assert re.search(r"alive [\d.]+ s ago", cells["always"][4])


@pytest.mark.lab
def test_a_side_whose_host_is_gone_is_probed_then_dead(stent):
    """Its network goes: probes are counted, and what its leg is called follows."""
    name = f"stent-{os.getpid()}"

    def run(*command):
        subprocess.run(command, check=True, capture_output=True)
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", "stv0", "type", "veth", "peer", "name", "stv1", "netns", name)
        run("ip", "addr", "add", "10.213.7.1/24", "dev", "stv0")
        run("ip", "link", "set", "stv0", "up")
        run("ip", "-n", name, "addr", "add", "10.213.7.2/24", "dev", "stv1")
        run("ip", "-n", name, "link", "set", "stv1", "up")
        script = "import socket\ns = socket.create_server(('10.213.7.2', 7000))\nprint('ready', flush=True)\n" \
            "c, _ = s.accept()\nc.recv(9)\nc.recv(9)\n"
        server = subprocess.Popen(["ip", "netns", "exec", name, "/usr/bin/python3", "-c", script], stdout=subprocess.PIPE)
        try:
            assert server.stdout.readline() == b"ready\n"
            s = stent.route("10.213.7.2:7000", connect_timeout="3s", keepalive="1s/1s/4")

            def backend():
                flows = s.ask("flows")
                return flows[0]["backend"] if flows else None

            client = s.connect()
            client.send_all(b"x")
            s.flow_start()
            assert backend()["verdict"] == "alive"
            run("ip", "-n", name, "link", "set", "stv1", "down")
            asked = wait_for(lambda: (b := backend()) and b["verdict"] == "probing" and b, timeout=10, what="probes to be missed")
            assert 0 < asked["probes"] <= asked["probes_max"] == 4
            assert "probing " in ask(s, "top", "--once")
            assert s.flow_end(timeout=10)["reason"] == "backend-keepalive-timeout"
            client.close()
        finally:
            server.kill()
            server.wait()
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
        subprocess.run(["ip", "link", "del", "stv0"], capture_output=True)


# --- the log ---

def test_log_file_follows_rotation(stent, echo, tmp_path):
    path = tmp_path / "stent.log"
    s = stent.route(echo.text, settings={"log": f"file:{path}", "log_format": "text"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.rename(tmp_path / "stent.log.1")
    s.signal(signal.SIGUSR1)
    wait_for(path.exists, what="the log file to be made again")
    client = s.connect()
    client.half_close()
    client.expect_fin()
    wait_for(lambda: " reason=client-fin " in path.read_text(), what="the flow's end in the new file")
    (line,) = [line for line in path.read_text().splitlines() if " flow end " in line]
    assert re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info flow end .*route=t ", line)


def test_a_reader_of_the_log_that_stops_stops_no_flow(stent, echo, tmp_path):
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    s = stent.route(echo.text, settings={"log": f"file:{fifo}"})
    payload = b"x" * 100
    stop = threading.Event()

    def open_and_close():
        while not stop.is_set():
            with s.connect() as peer:
                peer.send_all(payload)
                peer.recv_exact(len(payload))
    thread = threading.Thread(target=open_and_close)
    thread.start()
    wait_for(lambda: status_of(s)["flows_total"] > 1000, timeout=20, what="more flows than the pipe and the log have room for")
    stop.set()
    thread.join(20)
    assert not thread.is_alive()

    lines = b""
    while piece := os.read(reader, 65536):
        lines += piece
        if len(piece) < 65536:
            break
    client = s.connect()
    client.half_close()
    client.expect_fin()

    def told():
        nonlocal lines
        try:
            lines += os.read(reader, 65536)
        except BlockingIOError:
            return False
        return b"log lost" in lines
    wait_for(told, what="the lost lines to be told")
    os.close(reader)			# nobody reads any more: that kills nobody either
    client = s.connect()
    client.send_all(b"x")
    assert client.recv_exact(1) == b"x"
