"""Settings without a file of their own: STENT_CONFIG, variables in values, and secrets in files."""

import json
import os
import subprocess

import harness
import pytest

ROUTE = "[route r]\nlisten = 127.0.0.1:{}\nbackend = {}\n"
SECRET = "0123456789abcdef0123456789abcdef"


def check(text, path=None, **env):
    """`stent check` on STENT_CONFIG, or on a file."""
    words = ["-c", path] if path else []
    if path:
        path.write_text(text)
    else:
        env["STENT_CONFIG"] = text
    return harness.run_stent("check", *words, env={**os.environ, **env})


def errors(text, path, **env):
    done = check(text, path, **env)
    assert (done.returncode, done.stdout) == (2, "")
    return [line.removeprefix(f"{path}:") for line in done.stderr.splitlines()]


def test_the_variable_holds_the_text_of_the_file():
    done = check("; a comment\n" + ROUTE.format(1, "db:5432") + "  protocol = postgres\n")
    assert done.returncode == 0, done.stderr
    assert "backend = db:5432\n" in done.stdout and "protocol = postgres\n" in done.stdout


def test_its_errors_name_it_and_the_line():
    done = check("[route r]\nlisten = :1\nbackend = a\nkeepaliv = off\n")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        'STENT_CONFIG:3: backend: "a" has no port; write HOST:PORT, [V6]:PORT or unix:PATH',
        'STENT_CONFIG:4: unknown key "keepaliv"; did you mean "keepalive"?']


def test_a_path_in_it_is_told(tmp_path):
    done = check("/etc/stent.ini")
    assert (done.returncode, done.stderr) == (2, "STENT_CONFIG: holds no settings; it is the text of a settings file, not its path: "
                                              "name a file with -c\n")


def test_a_named_file_comes_before_it(tmp_path):
    done = check(ROUTE.format(1, "file:1"), tmp_path / "a.ini", STENT_CONFIG=ROUTE.format(1, "variable:1"))
    assert "backend = file:1\n" in done.stdout


def test_an_empty_one_is_none():
    if not os.path.exists("/etc/stent.ini"):
        assert check("").stderr.startswith("/etc/stent.ini: cannot be read: No such file or directory")
    assert "STENT_CONFIG" not in check("").stderr


def test_variables_stand_in_every_value(tmp_path):
    done = check("[stent]\nworkers = ${WORKERS}\ncontrol = ${DIR:-/run}/c.sock\n[defaults]\nclient.keepalive = ${IDLE:-9s}/${N:-2s}/3\n"
                 "[route r]\nlisten = ${HOST}:${PORT}\nbackend = db:5432${MORE:-}, ${EMPTY:-b:1}\nprotocol = line\n"
                 "heartbeat_send = \"$${a}$5${S}\\n\"\nheartbeat_expect = b\n",
                 tmp_path / "a.ini", WORKERS="3", HOST="127.0.0.1", PORT="1", IDLE="7s", EMPTY="", S=" ;x")
    assert done.returncode == 0, done.stderr
    for line in ["workers = 3", "control = /run/c.sock", "client.keepalive = 7s/2s/3", "listen = 127.0.0.1:1",
                 "backend = db:5432, b:1", r'client.heartbeat_send = "${a}$5 \x3bx\n"']:
        assert f"\n{line}\n" in done.stdout, line


@pytest.mark.parametrize("value, told", [
    ("${NO}", "the environment variable NO is not set; set it, or write ${NO:-DEFAULT}"),
    ("a${EMPTY}", "the environment variable EMPTY is empty; give it a value, or write ${EMPTY:-DEFAULT}"),
    ("${LINES2}", "the environment variable LINES2 has a control byte 0x0a in it; remove it (a line break: give the variable one line)"),
    ("${PORT", '"${PORT" has no closing }; write ${NAME}, or $${ for the characters ${'),
    ("${}", '"${}" is not a variable of the environment; write ${NAME} or ${NAME:-DEFAULT}, or $${ for the characters ${'),
    ("${1A}", '"${1A}" is not a variable of the environment; write ${NAME} or ${NAME:-DEFAULT}, or $${ for the characters ${'),
    ("${A:=b}", '"${A:=b}" is not a variable of the environment; write ${NAME} or ${NAME:-DEFAULT}, or $${ for the characters ${'),
    ("${A:-${B}}", "the default of ${A} has a variable in it; write a text without one"),
    ("${BAD}", '"x" has no port; write HOST:PORT, [V6]:PORT or unix:PATH'),
])
def test_what_is_wrong_with_a_variable_is_told_with_its_line(value, told, tmp_path):
    env = {"EMPTY": "", "LINES2": "a:1\nadmin = off", "PORT": "1", "BAD": "x"}
    assert errors(f"[route r]\nlisten = :1\nbackend = {value}\n", tmp_path / "a.ini", **env) == [f"3: backend: {told}"]


def test_a_variable_in_an_option_of_relay():
    done = harness.run_stent("relay", ":1", "${NO}", "--urgent=${NO2}")
    assert (done.returncode, done.stderr.splitlines()) == (2, [
        "stent relay: BACKEND: the environment variable NO is not set; set it, or write ${NO:-DEFAULT}",
        "stent relay: --urgent: the environment variable NO2 is not set; set it, or write ${NO2:-DEFAULT}"])


def test_a_secret_is_read_from_its_file_and_not_printed(tmp_path):
    secret = tmp_path / "token"
    for text in [SECRET, SECRET + "\n", SECRET + "\r\n"]:
        secret.write_text(text)
        done = check(f"[stent]\nadmin = :9464\nadmin_token = @{secret}\n" + ROUTE.format(1, "a:1"), tmp_path / "a.ini")
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout and "\n;admin_token = (set, not shown)\n" in done.stdout


@pytest.mark.parametrize("content, told", [
    (None, "cannot be read: No such file or directory; write @ and the path of a file that holds the secret"),
    ("", "is empty; it must hold the secret"), ("\n", "is empty; it must hold the secret"),
    ("a\nb\n", "has several lines, or a NUL byte; it must hold the secret alone, on one line"),
    ("a" * 5000, "has more than 4096 bytes; it must hold the secret alone"),
])
def test_what_is_wrong_with_the_file_of_a_secret_is_told(content, told, tmp_path):
    secret = tmp_path / "token"
    if content is not None:
        secret.write_text(content)
    assert errors(f"[stent]\nadmin_token = @{secret}\n" + ROUTE.format(1, "a:1"), tmp_path / "a.ini") == [
        f'2: admin_token: the file "{secret}" {told}']


def test_a_secret_that_is_no_file_does_not_hold_up_stent(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in tmp_path / "fifo", tmp_path, "/dev/zero":
        assert errors(f"[stent]\nadmin_token = @{path}\n" + ROUTE.format(1, "a:1"), tmp_path / "a.ini") == [
            f'2: admin_token: "{path}" is not a regular file; write @ and the path of a file that holds the secret']


@pytest.mark.parametrize("lines", [
    "admin_token = " + SECRET + " #x", "admin_token = x", "admin_token: " + SECRET, "admin_token " + SECRET, "admin_tokn " + SECRET,
    "adm_token: " + SECRET, "admin_token = ${" + SECRET, "admin_token = ${" + SECRET + ";}", "admin_token = ${A:-" + SECRET,
    "admin_token = ${TOKEN}!", "admin_token = ${A:-" + SECRET + "${B}}",
    "[defaults] admin_token = " + SECRET, "[route x] admin_token: " + SECRET,
])
def test_no_error_shows_a_secret(lines, tmp_path):
    told = errors(f"[stent]\n{lines}\n" + ROUTE.format(1, "a:1"), tmp_path / "a.ini", TOKEN=SECRET)
    assert told[0].startswith("2: ") and SECRET[:8] not in "".join(told)


def metrics(port, token):
    with harness.connect(port) as web:
        web.send_all(f"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n".encode())
        return web.recv_some().split()[1]


@pytest.fixture
def running(tmp_path):
    """A stent with nothing but the variable; stent(WORD, ...) asks it the same way."""
    started = []

    def running(text, **more):
        env = {**os.environ, "STENT_CONFIG": text, **more}
        with open(tmp_path / "log", "wb") as log:
            started.append(subprocess.Popen([harness.stent_bin(), "run"], env=env, stderr=log))

        def ask(*words):
            return harness.run_stent(*words, env=env)
        harness.wait_for(lambda: ask("healthcheck").returncode == 0, what="a healthy stent")
        return ask

    yield running
    for p in started:
        p.terminate()
        assert p.wait(20) == 0


def test_it_runs_and_reloads_without_a_file(running, tmp_path):
    admin, port, secret = harness.free_port(), harness.free_port(), tmp_path / "token"
    secret.write_text(SECRET)
    with harness.EchoBackend() as echo:
        ask = running(f"[stent]\nuser = off\nadmin = 127.0.0.1:{admin}\nadmin_token = @{secret}\ncontrol = {tmp_path}/c.sock\n"
                      + ROUTE.format("${PORT}", "${BACKEND}"), PORT=str(port), BACKEND=echo.text)
        with harness.connect(port) as client:
            client.send_all(b"ok")
            assert client.recv_exact(2) == b"ok"
        assert json.loads(ask("status", "--json").stdout)["settings"] == "STENT_CONFIG"
        assert metrics(admin, SECRET) == b"200" and metrics(admin, "x" * 32) == b"401"
        secret.write_text("x" * 32)
        done = ask("reload")
        assert done.returncode == 0, done.stderr
        assert "x" * 32 not in done.stdout and SECRET not in done.stdout and "admin_token" in done.stdout
        assert metrics(admin, SECRET) == b"401" and metrics(admin, "x" * 32) == b"200"
        log = (tmp_path / "log").read_text()
        assert "x" * 32 not in log and SECRET not in log


def test_relay_takes_every_key_as_an_option():
    keys = json.loads(harness.run_stent("help", "keys", "--format=json").stdout)["keys"]
    done = harness.run_stent("relay", ":1", "a:1", *(f"--{name}=" for k in keys for name in k["names"].split()))
    assert done.returncode == 2
    assert all(" has no value; write " in line or "duplicate option --" in line for line in done.stderr.splitlines()), done.stderr
    assert len(done.stderr.splitlines()) >= sum(len(k["names"].split()) for k in keys) - 2
