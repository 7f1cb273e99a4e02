"""`stent doctor` against servers of all manners, all measured at once; through firewalls: tests/lab/test_lab_doctor.py."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import socketserver
import subprocess
import threading
import time

import harness
import jsonschema
import programs
import pytest
from servers.redis import Redis

SCHEMA = json.loads((harness.ROOT / "docs" / "schemas" / "doctor.json").read_text())
QUICK = ("--quick", "--max=3s")
MYSQL_GREETING = b"\x4a\x00\x00\x00\x0a8.0.36\x00" + bytes(66)


class Server(socketserver.ThreadingTCPServer):
    """Does `behave` with each client, in a thread."""

    daemon_threads, allow_reuse_address, request_queue_size = True, True, 128

    def __init__(self, behave):
        outer = behave

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with contextlib.suppress(OSError):
                    outer(self.request)
        super().__init__((harness.HOST, harness.free_port()), Handler)
        self.text = f"{harness.HOST}:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True, kwargs={"poll_interval": 0.05}).start()

    def close(self):
        self.shutdown()
        self.server_close()


def until_closed(sock):
    while sock.recv(4096):
        pass


def close_when_idle(sock, seconds=1.5, reset=False):
    """An idle rule that bytes satisfy, and probes do not."""
    sock.settimeout(seconds)
    try:
        until_closed(sock)
    except TimeoutError:
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()		# at once: socketserver would send a FIN first


def live_for(sock):
    """A limit on the age of a connection, whatever comes."""
    sock.settimeout(0.1)
    end = time.monotonic() + 1.8
    while time.monotonic() < end:
        with contextlib.suppress(TimeoutError):
            if not sock.recv(4096):
                return


def probe(sock):
    for option, value in ((socket.TCP_KEEPIDLE, 2), (socket.TCP_KEEPINTVL, 2)):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    until_closed(sock)


def talk(sock):
    while True:
        sock.sendall(b"tick\n")
        time.sleep(0.8)


def answer_lines(sock):
    while data := sock.recv(4096):
        sock.sendall(b"pong\n" * data.count(b"\n"))


def greet(sock):
    sock.sendall(MYSQL_GREETING)
    until_closed(sock)


def refuse_upgrade(sock):
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    until_closed(sock)


SERVERS = {"keeps": until_closed, "closes-idle": close_when_idle, "resets-idle": lambda sock: close_when_idle(sock, reset=True),
           "ages": live_for, "probes": probe, "talks": talk, "lines": answer_lines, "at-once": lambda sock: None, "mysql": greet,
           "no-websocket": refuse_upgrade}
# What is measured: server, options.
RUNS = {
    "keeps": ("keeps", ()), "keeps-text": ("keeps", (r"--send=\n",)), "closes-idle": ("closes-idle", ()),
    "closes-idle-text": ("closes-idle", (r"--send=\n",)), "resets-idle-text": ("resets-idle", (r"--send=\n",)),
    "ages-text": ("ages", (r"--send=\n",)), "probes": ("probes", ()), "talks": ("talks", ()),
    "lines": ("lines", (r"--send=ping ; # \n", "--expect=pong")), "at-once": ("at-once", ()), "mysql": ("mysql", ()),
    "no-websocket": ("no-websocket", ("--protocol=websocket", "--path=/chat")), "postgres": ("keeps", ("--protocol=postgres",)),
    "silent-websocket": ("keeps", ("--protocol=websocket",)), "by-name": ("by-name", ()), "no-answer": ("no-answer", ()),
}
UNMEASURABLE = "at-once", "mysql", "no-websocket", "silent-websocket", "no-answer"


def start(*words, **popen):
    return subprocess.Popen([harness.stent_bin(), "doctor", *words], **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
                            "text": True, **popen})


@pytest.fixture(scope="module")
def measured():
    """name -> (status, report, progress), of text and JSON. All run at once."""
    servers = {name: Server(behave) for name, behave in SERVERS.items()}
    servers["no-answer"] = harness.BlackHole()
    targets = {name: server.text for name, server in servers.items()}
    targets["by-name"] = targets["keeps"].replace(harness.HOST, "localhost")
    try:
        running = {(name, form): start(targets[server], *QUICK, *words, *(["--json"] if form == "json" else []))
                   for name, (server, words) in RUNS.items() for form in ("text", "json")}
        outputs = {key: doctor.communicate(timeout=40 * harness.SLOW) for key, doctor in running.items()}
        yield {key: (running[key].returncode, *outputs[key]) for key in running}
    finally:
        for server in servers.values():
            server.close()


def report(measured, name):
    status, text, progress = measured[name, "text"]
    assert status == 0, progress
    return text


def found(measured, name):
    status, text, progress = measured[name, "json"]
    assert status == 0, progress
    told = json.loads(text)
    jsonschema.validate(told, SCHEMA)
    return told, {m["method"]: m for m in told["methods"]}


@pytest.mark.plain
def test_the_schema_is_one_and_refuses_what_is_wrong(measured):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    told, _ = found(measured, "keeps")
    del told["methods"][0]["points"][0]["survived"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(told, SCHEMA)


@pytest.mark.parametrize("name", ["keeps", "keeps-text", "lines"])
def test_a_path_without_a_limit(measured, name):
    told, methods = found(measured, name)
    assert told["complete"] and told["counts"] == "unknown"
    for method in methods.values():
        assert (method["limit"], method["lost"], method["longest_survived_seconds"]) == ("none", 0, 3), told
    assert ("heartbeats" in methods) == (name != "keeps")
    assert "no limit was found up to 3s" in report(measured, name)
    assert ("only with --protocol or --send" in report(measured, name)) == (name == "keeps")


def test_an_address_of_a_name_that_refuses_is_passed_over(measured):
    told, _ = found(measured, "by-name")		# ::1 comes before 127.0.0.1
    assert told["target"].startswith("localhost:") and told["address"].startswith(harness.HOST)
    assert f"{told['target']} ({told['address']}), tcp" in report(measured, "by-name")


@pytest.mark.parametrize("name", ["closes-idle", "closes-idle-text"])
def test_a_server_that_ends_idle_clients_is_told_from_a_path(measured, name):
    told, methods = found(measured, name)
    assert (methods["quiet"]["limit"], methods["quiet"]["how"]) == ("fixed", "fin"), told
    assert 1.1 <= methods["quiet"]["from_seconds"] <= methods["quiet"]["to_seconds"] <= 1.5 + 0.5 * harness.SLOW, told
    assert told["counts"] == ("payload" if name == "closes-idle-text" else "not-probes"), told
    assert "The server closes quiet flows (FIN) after" in report(measured, name)
    assert "a rule of the server, or of a proxy in front of it" in report(measured, name)


def test_a_reset_that_comes_by_itself(measured):
    told, methods = found(measured, "resets-idle-text")
    assert (methods["quiet"]["limit"], methods["quiet"]["how"], told["counts"]) == ("fixed", "reset", "payload"), told
    assert "A reset comes by itself at that time." in report(measured, "resets-idle-text")


def test_a_limit_on_age_is_kept_by_nothing(measured):
    told, methods = found(measured, "ages-text")
    assert told["counts"] == "nothing" and methods["heartbeats"]["lost"] > 0, told
    assert told["settings"] == {} and "No settings follow" in report(measured, "ages-text")


@pytest.mark.parametrize("name", ["probes", "talks"])
def test_flows_on_which_the_server_sends_are_not_quiet(measured, name):
    told, methods = found(measured, name)
    assert told["flows_not_quiet"] > 0 and methods["quiet"]["lost"] == 0, told
    assert (methods["quiet"]["longest_survived_seconds"] or 0) <= 2, told
    assert "not quiet, as the server itself sent data or TCP probes" in report(measured, name)


@pytest.mark.parametrize(("name", "text"), [
    ("at-once", r"closes a connection at once \(after 0\.\d s\): measure against a port whose server keeps idle clients"),
    ("mysql", "is a MySQL or MariaDB server.*max_connect_errors"),
    ("no-websocket", 'does not accept the beginning of websocket .*"HTTP/1.1 404 Not Found".*--path'),
    ("silent-websocket", "does not accept the beginning of websocket .*says nothing"),
    ("no-answer", "does not answer: no connection within 5 s"),
])
def test_a_server_that_cannot_be_measured(measured, name, text):
    for form in ("text", "json"):
        status, out, err = measured[name, form]
        assert (status, out) == (1, "") and re.search(text, err), err


def test_a_protocol_that_needs_a_login_is_measured_by_probes(measured):
    told, methods = found(measured, "postgres")
    assert set(methods) == {"quiet", "probes"} and methods["probes"]["longest_survived_seconds"] == 3
    assert "legal only after a login: TCP probes alone are measured" in report(measured, "postgres")


@pytest.mark.parametrize("name", [name for name in RUNS if name not in UNMEASURABLE])
def test_its_settings_pass_the_check(measured, name, tmp_path):
    text = re.findall(r"^    (\S+ = .+)$", report(measured, name), re.MULTILINE)
    told = [f"{key} = {value}" for key, value in found(measured, name)[0]["settings"].items()]
    expected = {"keeps": 1, "keeps-text": 3, "lines": 4, "closes-idle-text": 3, "closes-idle": 0}
    for lines in (text, told):
        assert len(lines) == expected.get(name, len(lines)), lines
        ini = tmp_path / "stent.ini"
        ini.write_text("\n".join(["[route measured]", "listen = 127.0.0.1:1", "backend = 127.0.0.1:2", *lines, ""]))
        done = harness.run_stent("check", "-c", ini)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        shown = dict(re.findall(r"^(\S+) = (.*)$", done.stdout, re.MULTILINE))
        for line in lines:
            key, _, value = line.partition(" = ")
            assert value in (shown.get(key), shown.get(f"backend.{key}")), (line, shown)


def test_redis(redis):
    """Its PING keeps an idle client, as its own rule (timeout) counts commands."""
    with contextlib.closing(Redis("--timeout", 2)) as idle, contextlib.closing(Redis("--requirepass", "secret")) as locked:
        words = "--quick", "--protocol=redis", "--json"
        # Its rule is applied once in a second or later: a redis that gets no processor ends idle clients after 4 s, too.
        doctors = [start(f"{harness.HOST}:{server.port}", *words, f"--max={most}s") for server, most in ((redis, 6), (idle, 12), (locked, 6))]
        out = [doctor.communicate(timeout=60 * harness.SLOW) for doctor in doctors]
    told = [json.loads(text) for text, _ in out[:2]]
    assert [m["longest_survived_seconds"] for m in told[0]["methods"]] == [6, 6, 6], told
    assert told[1]["counts"] == "payload" and told[1]["methods"][0]["how"] == "fin", told
    assert doctors[2].returncode == 1 and '"-NOAUTH Authentication required."' in out[2][1]


def test_interrupted_it_tells_what_it_knows(tmp_path):
    with programs.Program(harness.stent_bin(), "doctor", f"--listen={harness.HOST}:{(port := harness.free_port())}") as keeper:
        keeper.wait_line("keeps every client")
        where = f"{harness.HOST}:{port}"
        doctors = [start(where, "--quick", "--max=60s"), start(where, "--quick", "--max=60s", "--json")]
        for doctor in doctors:
            while "s, nothing sent: survived" not in doctor.stderr.readline():
                assert doctor.poll() is None
        for doctor, number in zip(doctors, (signal.SIGINT, signal.SIGTERM)):
            doctor.send_signal(number)
        text, told = [doctor.communicate(timeout=10 * harness.SLOW)[0] for doctor in doctors]
        assert [doctor.returncode for doctor in doctors] == [0, 0]
        assert "Interrupted: this is what is known so far." in text and "no limit was found up to" in text
        told = json.loads(told)
        jsonschema.validate(told, SCHEMA)
        assert told["complete"] is False and told["methods"][0]["limit"] == "none"
        assert told["methods"][0]["longest_survived_seconds"] >= 1
        keeper.process.send_signal(signal.SIGINT)
        assert keeper.process.wait(5 * harness.SLOW) == 0


def test_on_a_terminal_one_line_is_redrawn():
    server = Server(until_closed)
    master, slave = pty.openpty()
    try:
        doctor = start(server.text, "--quick", "--max=60s", stderr=slave)
        os.close(slave)
        drawn = b""
        while drawn.count(b"\r\x1b[K") < 5 or b"survived 1s" not in drawn:
            drawn += os.read(master, 4096)
        doctor.send_signal(signal.SIGINT)
        assert "no limit was found" in doctor.communicate(timeout=10 * harness.SLOW)[0]
        assert b"\n" not in drawn and b"flows wait" in drawn
    finally:
        os.close(master)
        server.close()


@pytest.mark.parametrize(("words", "status", "text"), [
    (["127.0.0.1:1"], 1, "127.0.0.1:1: Connection refused; is a server listening there"),
    (["no-such-host.invalid:80"], 1, 'no address of "no-such-host.invalid" was found'),
    (["127.0.0.1"], 2, "has no port"),
    (["unix:/tmp/x"], 2, "write one HOST:PORT"),
    (["127.0.0.1:1, 127.0.0.1:2"], 2, "write one HOST:PORT"),
    (["127.0.0.1:1", "--max=1s"], 2, "--max needs a duration from 2s to 24h"),
    (["127.0.0.1:1", "--max=soon"], 2, "--max needs a duration from 2s to 24h"),
    (["127.0.0.1:1", "--protocol=websockets"], 2, 'did you mean "websocket"'),
    (["127.0.0.1:1", "--protocol=mysql"], 2, "max_connect_errors"),
    (["127.0.0.1:1", "--protocol=line"], 2, "needs the text of a heartbeat"),
    (["127.0.0.1:1", "--protocol=redis", "--send=x"], 2, "are for --protocol=line"),
    (["127.0.0.1:1", "--send=no line end"], 2, "line"),
    (["127.0.0.1:1", "--path=/x"], 2, "--path is for --protocol=websocket"),
    (["127.0.0.1:1", "--protocol=websocket", "--path=x y"], 2, "begins with a slash"),
    ([], 2, "needs the server to measure"),
    (["127.0.0.1:1", "--listen=:1"], 2, "needs the server to measure"),
    (["--listen=nonsense"], 2, "--listen=nonsense"),
])
def test_wrong_calls(words, status, text):
    done = harness.run_stent("doctor", *words)
    assert (done.returncode, done.stdout) == (status, "") and text in done.stderr, done.stderr
