"""
The settings file as its reader treats it: what is wrong is told, all of it at
once, each with FILE:LINE and what to do; what is right is printed with every
default, and reads back the same.

As a program it writes the settings reference into docs/settings.md.
"""

import os
import re
import subprocess
import sys

import harness
import pytest

# Its reader is fuzzed with sanitizers, and has unit tests.
pytestmark = pytest.mark.plain

ROUTE = "[route r]\nlisten = 127.0.0.1:1\nbackend = 127.0.0.1:2\n"

REFERENCE = harness.ROOT / "docs" / "settings.md"
SAMPLE = harness.ROOT / "etc" / "stent.ini"
MINIMAL = harness.ROOT / "etc" / "stent-minimal.ini"


def check_bytes(tmp_path, data):
    """`stent check` on a file with these bytes, which is gone from its messages."""
    path = tmp_path / "stent.ini"
    path.write_bytes(data)
    done = harness.run_stent("check", "-c", path)
    assert done.returncode in (0, 2), done
    assert (done.returncode == 0) == (done.stderr == ""), done
    assert (done.returncode == 0) == (done.stdout != ""), done
    return done


@pytest.fixture
def errors_of(tmp_path):
    """What is told of a wrong file, as ["LINE: what is wrong; what to do", ...]."""

    def errors_of(text):
        done = check_bytes(tmp_path, text if isinstance(text, bytes) else text.encode())
        lines = done.stderr.splitlines()
        assert done.returncode == 2, "it was taken"
        prefix = f"{tmp_path}/stent.ini:"
        assert all(line.startswith(prefix) for line in lines), lines
        return [line.removeprefix(prefix) for line in lines]

    return errors_of


@pytest.fixture
def printed(tmp_path):
    """What `stent check` prints of a good file."""

    def printed(text):
        done = check_bytes(tmp_path, text if isinstance(text, bytes) else text.encode())
        assert done.returncode == 0, done.stderr
        return done.stdout

    return printed


# --- one error, and exactly that ---

NO_ROUTE = "no route; write a section [route NAME] with listen and backend"

WRONG = {
    # unknown words, and the nearest right one
    "[stent]\nwrokers = 3\n" + ROUTE: '2: unknown key "wrokers"; did you mean "workers"?',
    "[stent]\nfoo = 3\n" + ROUTE: '2: unknown key "foo"; `stent help keys` lists them all',
    ROUTE + "conect_timeout = 5s\n": '4: unknown key "conect_timeout"; did you mean "connect_timeout"?',
    ROUTE + "client.hearbeat = 5s\n": '4: unknown key "client.hearbeat"; did you mean "client.heartbeat"?',
    ROUTE + "server.heartbeat = 5s\n": '4: unknown key "server.heartbeat"; did you mean "client.heartbeat" or "backend.heartbeat"?',
    ROUTE + "clinet.keepalive = off\n": '4: unknown key "clinet.keepalive"; did you mean "client.keepalive"?',
    ROUTE + "KEEPALIVE = off\n": '4: unknown key "KEEPALIVE"; did you mean "keepalive"?',
    ROUTE + "client.connect_timeout = 5s\n":
        '4: unknown key "client.connect_timeout"; did you mean "connect_timeout"?',
    ROUTE + "client.heartbeat_in_transaction = on\n": '4: unknown key "client.heartbeat_in_transaction"; '
        'did you mean "backend.heartbeat_in_transaction"?',
    ROUTE + "protocol = tpc\n": '4: protocol: unknown protocol "tpc"; did you mean "tcp"?',
    ROUTE + "on_dead = rest\n": '4: on_dead: "rest" is not one of notify | reset | close; did you mean "reset"?',
    ROUTE + "on_dead = explode\n": '4: on_dead: "explode" is unknown; write one of notify | reset | close',
    "[stent]\nlog_level = warning\n" + ROUTE:
        '2: log_level: "warning" is not one of error | warn | info | debug; did you mean "warn"?',
    # sections
    "[stnet]\nworkers = 3\n" + ROUTE: "1: unknown section [stnet]; did you mean [stent]?",
    "[default]\nconnect_timeout = 3s\n" + ROUTE: "1: unknown section [default]; did you mean [defaults]?",
    "[rotue r]\nlisten = :1\nbackend = a:2\n": "1: unknown section [rotue r]; did you mean [route r]?",
    "[Route r]\nlisten = :1\nbackend = a:2\n": "1: unknown section [Route r]; did you mean [route r]?",
    "[kubernetes]\nconnect_timeout = 3s\n" + ROUTE:
        "1: unknown section [kubernetes]; there are [stent], [defaults] and [route NAME]",
    "[route]\nlisten = :1\nbackend = a:2\n": "1: [route] has no name; write [route NAME]",
    "[route a b]\nlisten = :1\nbackend = a:2\n":
        '1: the route\'s name "a b" contains " "; use letters, digits, - _ .',
    "[route a/b]\nlisten = :1\nbackend = a:2\n":
        '1: the route\'s name "a/b" contains "/"; use letters, digits, - _ .',
    f"[route {'x' * 41}]\nlisten = :1\nbackend = a:2\n": "1: the route's name has 41 characters; use at most 40",
    ROUTE + "[route r]\nurgent = on\n":
        "4: duplicate section [route r] (first at line 1); put its keys there",
    "[stent]\n" + ROUTE + "[stent]\n": "5: duplicate section [stent] (first at line 1); put its keys there",
    "[stent\n" + ROUTE: '1: "[stent" has no closing ]; write one, as in [route NAME]',
    "[stent ; yes]\n" + ROUTE: "1: unknown section [stent ; yes]; did you mean [stent]?",
    "[stent] workers = 3\n" + ROUTE: '1: "workers = 3" follows the section on the same line; write it on a line of its own',
    # a key where it does not belong, twice, or for nothing
    "workers = 3\n" + ROUTE:
        "1: workers comes before any section; write it under [stent], [defaults] or [route NAME]",
    "[stent]\nlisten = :1\n" + ROUTE:
        "2: key listen does not belong in this section; write it in a [route NAME] or in [defaults]",
    ROUTE + "log_level = debug\n": "4: key log_level does not belong in this section; write it in [stent]",
    ROUTE + "urgent = on\n\nurgent = off\n": "6: duplicate key urgent (first at line 4); remove one of them",
    ROUTE + "urgent =\n": "4: urgent: has no value; write one, or remove the line to use the default on",
    ROUTE + "urgent = ; on\n": "4: urgent: has no value; write one, or remove the line to use the default on",
    "[route r]\nlisten =\nbackend = a:1\n":
        "2: listen: has no value; write ADDRESS:PORT | :PORT | unix:PATH | fd:NAME, ...",
    # a route that lacks something
    "": "1: " + NO_ROUTE,
    "\n\n[stent]\nworkers = 3\n": "4: " + NO_ROUTE,
    "[stent]\n[route r]\nbackend = a:1\n": "2: [route r] has no listen; write listen = ADDRESS:PORT",
    "[route r]\nlisten = :1\n": "1: [route r] has no backend; write backend = HOST:PORT",
    "[route r]\nlistne = :1\nbackend = a:1\n": '2: unknown key "listne"; did you mean "listen"?',
    # lines with a syntax error
    ROUTE + "urgent\n": '4: "urgent" has no =; write KEY = VALUE',
    "[route r]\nbackend = 127.0.0.1:2\nlisten 127.0.0.1:1\n": '3: "listen 127.0.0.1:1" has no =; write KEY = VALUE',
    ROUTE + "protocol = wss\n": '4: protocol: unknown protocol "wss"; did you mean "websocket"?',
    ROUTE + "protocol = mariadb\n": '4: protocol: unknown protocol "mariadb"; did you mean "mysql"?',
    ROUTE + "urgent: on\n": '4: "urgent: on" has : instead of =; write KEY = VALUE',
    ROUTE + "backend.host:80 = on\n": '4: "backend.host:80 = on" has : instead of =; write KEY = VALUE',
    ROUTE + "= on\n": "4: no key before the =; write KEY = VALUE",
    ROUTE + "urgent ; = on\n": '4: "urgent ; = on" has no =; write KEY = VALUE',
    ROUTE + "urgent = on # yes\n":
        '4: urgent: a comment after a value begins with " ;", not with " #"; write ; there',
    ROUTE + "    , 127.0.0.1:3\n": '4: ", 127.0.0.1:3" has no =; write KEY = VALUE',
    ROUTE + "urgent = o\0n\n": "4: NUL byte in the line; save the file as plain UTF-8 text",
    "[route r]\rlisten = :1\rbackend = a:1\r": "1: control byte 0x0d in the line; remove it",
    ROUTE + "urgent = \x1b[31mon\n": "4: control byte 0x1b in the line; remove it",
    # values
    ROUTE + "urgent = yes\n": '4: urgent: "yes" is neither on nor off; write one of them',
    ROUTE + "connect_timeout = 5\n":
        '4: connect_timeout: "5" has no unit; write 5ms, 5s, 5m, 5h or 5d',
    ROUTE + "connect_timeout = 0\n": '4: connect_timeout: "0" is out of range; write 1ms to 24h',
    ROUTE + "connect_timeout = 2d\n": '4: connect_timeout: "2d" is out of range; write 1ms to 24h',
    ROUTE + "connect_timeout = 5 s\n":
        '4: connect_timeout: "5 s" has an unknown unit " s"; the units are ms, s, m, h, d',
    ROUTE + "connect_timeout = off\n":
        '4: connect_timeout: "off" is not a duration; write a number and a unit, such as 25s',
    ROUTE + "idle_timeout = of\n": '4: idle_timeout: "of" is not one of off | DURATION; did you mean "off"?',
    ROUTE + "keepalive = 500ms/10s/6\n": '4: keepalive: the idle time "500ms" is not in whole seconds, '
        "as the kernel needs it; write 1s",
    ROUTE + "heartbeat_misses = 0\n": '4: heartbeat_misses: "0" is out of range; write 1 to 1000',
    ROUTE + "heartbeat = 25s\n": "4: heartbeat: protocol = tcp has no heartbeats; name the protocol, such as "
        "protocol = websocket, or remove this: TCP probes do not need it",
    # what a heartbeat has that there is none of
    **{ROUTE + f"{key} = {value}\n": f"4: {key}: protocol = tcp has no heartbeats; name the protocol, such as "
       "protocol = websocket, or remove this: TCP probes do not need it"
       for key, value in (("heartbeat_timeout", "30s"), ("heartbeat_misses", "3"), ("heartbeat_limit", "off"),
                          ("client.heartbeat_timeout", "5s"), ("backend.heartbeat_misses", "2"),
                          ("backend.heartbeat_limit", "1h"), ("backend.heartbeat_in_transaction", "on"))},
    ROUTE + "protocol = mysql\nheartbeat_limit = 1h\nclient.heartbeat_misses = 2\n":
        "6: client.heartbeat_misses: protocol = mysql has no heartbeats toward the client; remove this",
    **{ROUTE + f"protocol = {name}\n{more}backend.heartbeat_in_transaction = on\n":
       f"{6 if more else 5}: backend.heartbeat_in_transaction: with protocol = {name} heartbeats do not depend on transactions; "
       "remove this" for name, more in (("redis", ""), ("websocket", ""), ("http", ""), ("sse", ""),
                                           ("line", "heartbeat_send = noop\\n\n"))},
    **{ROUTE + f"protocol = {name}\nclient.{key} = {value}\n": f"5: client.{key}: with protocol = {name} there are no event "
       "streams; remove this, or write protocol = http" for name in ("redis", "websocket")
       for key, value in (("heartbeat_text", r":\n"), ("heartbeat_at_start", "on"))},
    ROUTE + "protocol = sse\nclient.heartbeat_text = \"data: x\\n\\n\"\n":
        '5: client.heartbeat_text: "data: x\\n\\n" does not begin with a colon, as a comment in an event stream does; write '
        'one such as ":stent\\n\\n"',
    "[stent]\nworkers = 0\n" + ROUTE: '2: workers: "0" is out of range; write 1 to 256',
    "[stent]\nworkers = many\n" + ROUTE: '2: workers: "many" is not a whole number; write digits only',
    "[stent]\nlog = /var/log/x\n" + ROUTE:
        '2: log: "/var/log/x" is not a log target; write stderr, syslog or file:PATH',
    "[stent]\nlog = file:\n" + ROUTE: '2: log: "file:" has no path; write one such as file:/var/log/stent.log',
    "[stent]\nuser = no-such-user\n" + ROUTE: '2: user: unknown user "no-such-user"; write a user of '
        "this machine, or off to stay as started",
    "[stent]\ncontrol = 9000\n" + ROUTE:
        '2: control: "9000" is not a path; write one such as /run/stent/control.sock, or off',
    "[stent]\ncontrol = unix:/run/c.sock\n" + ROUTE:
        '2: control: "unix:/run/c.sock" begins with unix:; write the path alone: /run/c.sock',
    f"[stent]\ncontrol = /{'x' * 107}\n" + ROUTE:
        f'2: control: "/{"x" * 107}" is too long; a socket\'s path has at most 107 bytes',
    "[stent]\nadmin = 9464\n" + ROUTE:
        '2: admin: "9464" is a port without a host; write HOST:PORT',
    "[stent]\nadmin = unix:/x\n" + ROUTE:
        '2: admin: "unix:/x" is not a TCP address; write one such as 127.0.0.1:9464, or off',
    # places
    "[route r]\nlisten = :1\nbackend = a:1, original\n":
        '3: backend: "original" cannot be combined; remove the other backends',
    "[route r]\nlisten = :1\nbackend = fd:x\n": '3: backend: "fd:x" can only be listened on; write '
        "HOST:PORT or unix:PATH",
    "[route r]\nlisten = original\nbackend = a:1\n":
        '2: listen: "original" cannot be listened on; write it as the backend of redirected flows',
    # addresses that are not this machine's
    "[route r]\nlisten = :1, unix:/a\nbackend = original\ntransparent = on\n":
        '4: transparent: TPROXY delivers TCP alone, and "unix:/a" is a UNIX socket; give it a route of its own',
    "[route r]\nlisten = unix:/a\nbackend = a:1\nsource = client\n":
        '4: source: a client of the UNIX socket "unix:/a" has no address to connect from; give it a route of its own, or '
        "accept_proxy",
    "[route r]\nlisten = :1\nbackend = a:1, unix:/b\nsource = client\n":
        '4: source: a connection to the UNIX socket "unix:/b" has no source address; remove source, or name the backend\'s TCP '
        "address",
    "[route r]\nlisten = :1,\nbackend = a:1\n": "2: listen: an item of the list is empty; "
        "write HOST:PORT between the commas, or remove one",
    # listeners that clash
    "[route r]\nlisten = :1, 127.0.0.1:1\nbackend = a:1\n":
        '2: listen: "127.0.0.1:1" clashes with ":1" in the same list; remove one of them',
    "[route r]\nlisten = 0.0.0.0:9\nbackend = a:1\n[route s]\nlisten = 10.1.2.3:9\nbackend = a:1\n":
        '5: listen: "10.1.2.3:9" of [route s] clashes with "0.0.0.0:9" of [route r] (line 2); give one another port',
    "[route r]\nlisten = unix:/x\nbackend = a:1\n[route s]\nlisten = unix:/x\nbackend = a:1\n":
        '5: listen: "unix:/x" of [route s] clashes with "unix:/x" of [route r] (line 2); give one another port',
    "[route r]\nlisten = fd:x\nbackend = a:1\n[route s]\nlisten = fd:x\nbackend = a:1\n":
        '5: listen: "fd:x" of [route s] clashes with "fd:x" of [route r] (line 2); give one another port',
    "[stent]\nadmin = 127.0.0.1:1\n[route r]\nlisten = :1\nbackend = a:1\n":
        '4: listen: ":1" clashes with admin = 127.0.0.1:1 (line 2); change one of them',
    "[route r]\nlisten = :9464\nbackend = a:1\n":
        '2: listen: ":9464" clashes with admin = 127.0.0.1:9464 (its default); change one of them',
    "[stent]\ncontrol = /x/y\n[route r]\nlisten = unix:/x/y\nbackend = a:1\n":
        '4: listen: "unix:/x/y" clashes with control = /x/y (line 2); change one of them',
    "[route r]\nlisten = :1\nbackend = 127.0.0.1:1\n":
        '2: listen: ":1" is the route\'s own backend "127.0.0.1:1"; give one another port',
    # routes that form a loop
    "[route r]\nlisten = 127.0.0.1:9\nbackend = db:9, LocalHost:9\n":
        '2: listen: "127.0.0.1:9" is the route\'s own backend "LocalHost:9"; give one another port',
    "[route r]\nlisten = [::]:9\nbackend = localhost:9\n":
        '2: listen: "[::]:9" is the route\'s own backend "localhost:9"; give one another port',
    "[route r]\nlisten = 127.0.0.1:9\nbackend = [::ffff:127.0.0.1]:9\n":
        '2: listen: "127.0.0.1:9" is the route\'s own backend "[::ffff:127.0.0.1]:9"; give one another port',
    "[route r]\nlisten = 127.0.0.1:9\nbackend = 0.0.0.0:9\n":
        '2: listen: "127.0.0.1:9" is the route\'s own backend "0.0.0.0:9"; give one another port',
    "[route r]\nlisten = 0.0.0.0:9\nbackend = 127.1.2.3:9\n":
        '2: listen: "0.0.0.0:9" is the route\'s own backend "127.1.2.3:9"; give one another port',
    "[route a]\nlisten = :1\nbackend = 127.0.0.1:2\n[route b]\nlisten = 127.0.0.1:2\nbackend = db:1, unix:/c\n"
    "[route c]\nlisten = unix:/c\nbackend = localhost:1\n":
        '9: backend: "localhost:1" of [route c] leads back to ":1" of [route a] (line 2), a loop: a > b > c > a; '
        "name another backend in one of them",
}


def test_routes_that_lead_to_others_without_a_loop(printed):
    """Also of one port, where the address is not the listener's, or not of its family, or not known from the file."""
    printed("[route a]\nlisten = 127.0.0.1:1\nbackend = localhost:2\n[route b]\nlisten = :2\nbackend = unix:/c, localhost:3\n"
            "[route c]\nlisten = unix:/c\nbackend = db:3\n[route d]\nlisten = 127.0.0.1:3\nbackend = 127.0.0.2:3\n"
            "[route e]\nlisten = [::]:4\nbackend = 127.0.0.1:4\n[route f]\nlisten = 0.0.0.0:5\nbackend = 192.0.2.1:5\n")


@pytest.mark.parametrize("text", WRONG, ids=[error for error in WRONG.values()])
def test_an_error_names_its_line_and_what_to_do(text, errors_of):
    assert errors_of(text) == [WRONG[text]]
    assert "; " in WRONG[text]


def test_every_protocol_is_near_to_its_misspelling(errors_of, protocols):
    for name in protocols:
        if len(name) > 3:
            wrong = name[:-2] + name[-1] + name[-2] if name[-1] != name[-2] else name + "x"
            assert errors_of(ROUTE + f"protocol = {wrong}\n") == [
                f'4: protocol: unknown protocol "{wrong}"; did you mean "{name}"?']
    known = ", ".join(protocols)
    assert errors_of(ROUTE + "protocol = 1234\n") == [f'4: protocol: unknown protocol "1234"; use one of {known}']


def test_a_line_that_inih_would_cut_is_an_error(errors_of):
    backends = ",".join(f"host{i}:1" for i in range(600))
    (error,) = errors_of(f"[route r]\nlisten = :1\nbackend = {backends}\n")
    assert error == f"3: the line has {len(backends) + 10} bytes, the limit is 4094; shorten it"


def test_a_utf16_file_is_an_error_on_each_line(errors_of):
    errors = errors_of(ROUTE.encode("utf-16"))
    assert errors == [f"{line}: NUL byte in the line; save the file as plain UTF-8 text"
                      for line in range(1, 5)]


def test_all_errors_are_reported_at_once_in_the_order_of_their_lines(errors_of):
    """Reading, values, and what needs the whole file are three passes: each reports its errors."""
    texts = list(WRONG)
    bad = "".join(f"[route r{i}]\nlistne = :{i}\nbackend = 127.0.0.1, :{i}\nkeepalive = 5\nfoo\n"
                  f"on_dead = rest\nheartbeat = 3s\n" for i in range(1, 501))
    errors = errors_of(bad + "[route last]\nlisten = :9, :9\n")
    assert len(texts) > 60
    assert len(errors) == 500 * 7 + 2
    lines = [int(error.split(":")[0]) for error in errors]
    assert lines == sorted(lines)
    assert [line for line in lines if line <= 7] == [2, 3, 3, 4, 5, 6, 7]
    assert lines[-2:] == [3501, 3502]


def test_a_hundred_thousand_errors_are_reported_too(errors_of):
    assert len(errors_of("[stent]\n" + "x\n" * 100_000 + ROUTE)) == 100_000


def test_a_thousand_routes_on_one_port_are_a_thousand_errors(errors_of):
    """Not half a million: each names one that it clashes with."""
    errors = errors_of("".join(f"[route r{i}]\nlisten = :80\nbackend = a:1\n" for i in range(1000)))
    assert len(errors) == 999
    assert errors[-1] == ('2999: listen: ":80" of [route r999] clashes with ":80" of [route r0] (line 2); '
                          "give one another port")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    for path, why in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        done = harness.run_stent("check", "-c", path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"{path}: cannot be read: {why}; name another file with -c\n"


def test_messages_cannot_control_a_terminal(errors_of):
    """Bytes that are no control bytes pass: a name in Greek is printed as it is."""
    assert errors_of(ROUTE + "protocol = ελλ\n")[0].startswith('4: protocol: unknown protocol "ελλ"; use one of tcp')
    for byte in list(range(1, 9)) + list(range(11, 32)) + [127]:
        (error,) = errors_of(ROUTE.encode() + b"x" + bytes([byte]) + b"= 1\n")
        assert error == f"4: control byte 0x{byte:02x} in the line; remove it"
    for raw, shown in ((b"\xff", "\\xff"), (b"\x9b", "\\x9b"), (b"\xc2\x9b", "\\xc2\\x9b"), (b"\xe2\x80\xae", "\\xe2\\x80\\xae")):
        (error,) = errors_of(ROUTE.encode() + b"protocol = x" + raw + b"y\n")
        assert error.startswith(f'4: protocol: unknown protocol "x{shown}y"; use one of tcp')
        (error,) = errors_of(ROUTE.encode() + b"a" + raw + b"b = 1\n")
        assert error.startswith(f'4: unknown key "a{shown}b"')


def test_arguments_cannot_control_a_terminal_either(tmp_path):
    for words in (["check", "-c", tmp_path / "\x1b[31m"], ["\x1b[31m"], ["check", "--\x1b[31m"], ["check", "\x1b[31m"],
                  ["help", "\x1b[31m"], ["status", "--control", "/\x1b[31m"], ["relay", "\x1b[31m", "a:1"]):
        done = harness.run_stent(*words)
        assert done.returncode != 0
        assert "\x1b" not in done.stderr and "\\x1b[31m" in done.stderr, words


# --- what is good ---

@pytest.fixture
def protocols():
    return known_protocols()


def reference():
    done = harness.run_stent("help", "keys", "--format=markdown")
    assert done.returncode == 0
    return done.stdout


def rows(title):
    """The cells of the tables whose first heading is the title."""
    inside = False
    for line in reference().splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[0] == title:
            inside = True
        elif inside and not cells[0].startswith("---"):
            yield [cell.strip("`") for cell in cells]


def known_keys():
    """Every key's name and its default, "" for none; of a name in [stent] and in a route, that in [stent]."""
    return {name: default for name, _, default, _ in reversed(list(rows("key")))}


def known_protocols():
    return [row[0] for row in rows("protocol")]


GOOD = {
    "least": ROUTE,
    "indented, CRLF, BOM, comments": "\ufeff; c\r\n# c\r\n  [route r] ; c\r\n\tlisten=127.0.0.1:1\t; c\r\n"
        "  backend   =   127.0.0.1:2\r\n;x\r\n   # y",
    "both families, apart": "[route r]\nlisten = 0.0.0.0:1, [::]:1, unix:@a, unix:/a, fd:a\nbackend = original\n",
    "addresses that are not this machine's": "[defaults]\nsource = client\ntransparent = on\n[route r]\nlisten = :1, fd:a\nbackend = original\n"
        "[route s]\nlisten = unix:/a\nbackend = a:1\n[route t]\nlisten = :2\nbackend = unix:/b\ntransparent = off\n",
    "a backend at its own port elsewhere": "[route r]\nlisten = :5432\nbackend = db:5432, 192.0.2.1:5432\n",
    "a route to another route": "[route a]\nlisten = 127.0.0.1:1\nbackend = 127.0.0.1:2\n"
        "[route b]\nlisten = 127.0.0.1:2\nbackend = 127.0.0.1:3\n",
    "the default admin's port": "[stent]\nadmin = off\n[route a]\nlisten = :9464\nbackend = 127.0.0.1:3\n",
    "legs": ROUTE + "keepalive = off\nclient.keepalive = 30s/5s/3\nidle_timeout = 1.5h\nbackend.idle_timeout = off\n"
        "user_timeout = off\nclient.user_timeout = auto\nheartbeat_misses = off\non_dead = close\n",
    "of heartbeats, where there are none": "[defaults]\nheartbeat_timeout = 1s\nheartbeat_misses = 2\nheartbeat_limit = 1h\n"
        "heartbeat_in_transaction = on\n" + ROUTE + "[route s]\nlisten = 127.0.0.1:3\nbackend = a:1\nheartbeat = off\n"
        "client.heartbeat_timeout = 3s\n[route t]\nlisten = 127.0.0.1:4\nbackend = a:1\nprotocol = redis\n",
    "process": "[stent]\nworkers = 256\nlog = file:/tmp/a b.log\nlog_format = json\nlog_level = error\ncontrol = off\n"
        "admin = 127.0.0.1:1\nuser = root\nmax_flows = 10\ndrain_timeout = 0\n[route r]\nlisten = :2\nbackend = a:2\n",
    "defaults": "[route a]\nlisten = :1\n[defaults]\nbackend = a:1\nheartbeat = 3s\nheartbeat_kind = ping\n"
        "heartbeat_send = x\\n\nheartbeat_in_transaction = on\nheartbeat_text = :x\\n\nheartbeat_at_start = on\n[route b]\nlisten = :2\nurgent = on\n",
}


@pytest.mark.parametrize("name", GOOD)
def test_what_check_prints_means_the_same(name, printed):
    once = printed(GOOD[name])
    assert printed(once) == once


@pytest.mark.parametrize("path", [
    b"/a\xff", b"/\xc2\x9b31m", b"/\xe2\x80\xae", b'"/a b"', b'"/\\x1b[31m\\n\\\\ \\"\\x3b,\\xff"', b'"/\xc3\xa9"', b"/\xc3\xa9\\n",
    b'"/a ,"', b'/a"b', b"/a,b",
])
def test_a_path_reads_back_and_its_bytes_are_not_shown_raw(path, printed):
    texts = [b"[stent]\nlog = file:" + path + b"\ncontrol = " + path + b"\n" + ROUTE.encode()]
    if b" " not in path and b"," not in path:
        texts.append(b"[route r]\nlisten = 127.0.0.1:1, unix:" + path + b"\nbackend = a:1\n")
        texts.append(b"[route r]\nlisten = 127.0.0.1:1\nbackend = unix:" + path + b", a:1\n")
    for text in texts:
        once = printed(text)
        assert printed(once) == once
        assert all(c == "\n" or c.isprintable() for c in once), once


def test_a_path_in_quotes_is_that_path(printed, tmp_path):
    once = printed(f'[stent]\nlog = file:"/a\\x2cb"\ncontrol = "/c"\n[route r]\nlisten = unix:"/d,e" , fd:"f"\nbackend = unix:"/g",a:1\n')
    assert 'log = file:"/a,b"\n' in once
    assert "control = /c\n" in once
    assert 'listen = unix:"/d,e", fd:f\n' in once
    assert "backend = unix:/g, a:1\n" in once


def test_each_protocol_reads_back(printed, protocols):
    for name in protocols:
        text = ROUTE + f"protocol = {name}\n"
        if name == "line":
            text += 'heartbeat_send = " \\x3b\\xff\\0\\"\\\\PING\\n"\nbackend.heartbeat_expect = PONG\\n\n'
        once = printed(text)
        assert printed(once) == once
        assert f"\nprotocol = {name}\n" in once


def test_check_prints_every_default(printed):
    values = {}
    for line in printed(ROUTE).splitlines():
        if " = " in line:
            values.setdefault(*line.split(" = ", 1))
    assert re.search(r"(?s)\[route r\].*\nmax_flows = off\nwhen_full = refuse\n", printed(ROUTE))	# they are in [stent], too
    for name, default in known_keys().items():
        for leg in "", "client.", "backend.":
            if leg + name in values and default and name not in ("workers", "user_timeout", "heartbeat"):
                assert values[leg + name] == default, leg + name
    assert values["workers"] == str(len(os.sched_getaffinity(0)))
    assert values["client.user_timeout"] == values["backend.user_timeout"] == "85s"
    assert values["client.heartbeat"] == values["backend.heartbeat"] == "off"


def test_workers_are_the_cores_that_it_may_use(tmp_path):
    path = tmp_path / "stent.ini"
    path.write_text(ROUTE)
    core = str(min(os.sched_getaffinity(0)))
    done = subprocess.run(["taskset", "-c", core, harness.stent_bin(), "check", "-c", path], capture_output=True,
                          text=True, timeout=20, check=True)
    assert "workers = 1\n" in done.stdout


# --- the command line ---

@pytest.mark.parametrize("words, status, told", [
    ([], 2, "Usage: stent COMMAND"),
    (["chekc"], 2, 'unknown command "chekc"; did you mean "check"?'),
    (["--verion"], 2, 'unknown option "--verion"; did you mean "--version"?'),
    (["qqqqqqq"], 2, 'unknown command "qqqqqqq"; `stent help` lists them all'),
    (["check", "--confg", "x"], 2, 'unknown option "--confg"; did you mean "--config"?'),
    (["check", "-c"], 2, "-c needs a value; write one after it"),
    (["check", "--config="], 2, "--config= needs a value; write one after it"),
    (["check", "-c", "a", "--config=b"], 2, "stent check: --config is given twice; write it once\n"),
    (["flows", "--sort", "idle", "--sort", "age"], 2, "stent flows: --sort is given twice"),
    (["redirect", "install", "--port", "1", "--port=2"], 2, "--port is given twice; write it once, with commas in its value"),
    (["check", "a"], 2, 'unexpected argument "a"; see `stent check --help`'),
    (["help", "chekc"], 2, 'there is no help on "chekc"; did you mean "check"?'),
    (["status", "--json=3"], 2, "--json takes no value; write it without"),
    (["help", "--format=html"], 2, 'stent help: --format takes text, markdown or json, not "html"'),
    (["help", "--format=markdown"], 2, "stent help: --format=markdown is for `stent help keys`"),
    (["help", "run", "--format=json"], 2, "is for `stent help keys`, or for `stent help` without a topic"),
])
def test_a_wrong_call_is_an_error(words, status, told):
    done = harness.run_stent(*words)
    assert done.returncode == status
    assert done.stdout == ""
    assert told in done.stderr


def test_run_reports_all_errors_of_its_file_too(tmp_path):
    path = tmp_path / "stent.ini"
    path.write_text("[route r]\nlistne = :1\nbackend = a\n")
    done = harness.run_stent("run", "-c", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f'{path}:2: unknown key "listne"; did you mean "listen"?',
        f'{path}:3: backend: "a" has no port; write HOST:PORT, [V6]:PORT or unix:PATH']


HASTY = [
    ("heartbeat = 20ms", '4: warning: heartbeat: with "20ms" an idle flow costs at least 360000 packets per hour on each such leg; '
     "write 1s or more, such as 25s"),
    ("backend.heartbeat = 0.999s", '4: warning: backend.heartbeat: with "0.999s" an idle flow costs at least 7207 packets'),
    ("heartbeat_timeout = 5ms", '4: warning: heartbeat_timeout: with "5ms" a peer that is slow or hangs is pinged again, which '
     "costs up to 1440000 packets per hour"),
]


@pytest.mark.parametrize("key, warning", HASTY)
def test_a_short_period_is_warned_of(key, warning, tmp_path, stent):
    path = tmp_path / "stent.ini"
    path.write_text(ROUTE + f"{key}\nprotocol = redis\n[route s]\nlisten = 127.0.0.1:3\nbackend = a:1\n")
    done = harness.run_stent("check", "-c", path)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert done.stderr.startswith(f"{path}:{warning}")
    s = stent(f"[route t]\nlisten = 127.0.0.1:{harness.free_port()}\nbackend = 127.0.0.1:1\n{key}\nprotocol = redis\n")
    (told,) = s.wait_logged("warning: ")
    assert told["level"] == "warn" and warning.split(": with ")[1] in told["message"]
    assert s.other_lines == []


def test_a_period_of_a_second_is_not_warned_of(printed):
    printed(ROUTE + "protocol = redis\nheartbeat = 1s\nheartbeat_timeout = 1s\n")
    printed("[defaults]\nheartbeat = 20ms\nheartbeat_timeout = 1ms\n" + ROUTE)          # a protocol without heartbeats


def test_warnings_are_reported_with_the_errors(errors_of):
    errors = errors_of(ROUTE + "protocol = redis\nheartbeat = 1ms\nurgent = no\n")
    assert [e.split(" ")[1] for e in errors] == ["warning:", "urgent:"]


def test_one_line_is_warned_of_once(tmp_path):
    path = tmp_path / "stent.ini"
    path.write_text("[defaults]\nheartbeat = 1ms\nprotocol = redis\n" +
                    "".join(f"[route r{i}]\nlisten = 127.0.0.1:{i}\nbackend = a:1\n" for i in range(1, 9)))
    assert harness.run_stent("check", "-c", path).stderr.count("\n") == 1


def test_relay_reports_all_errors_of_its_arguments():
    done = harness.run_stent("relay", ":0", "db:5432", "--keepalve=off", "--client.heartbeat=25", "--workers=2",
                             "--workers=3", "--urgent", "--tls=verify")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        'stent relay: LISTEN: ":0" has a port out of range; write one from 1 to 65535',
        'stent relay: unknown option "--keepalve"; did you mean "--keepalive"?',
        'stent relay: --client.heartbeat: "25" has no unit; write 25ms, 25s, 25m, 25h or 25d',
        "stent relay: duplicate option --workers (first at --workers); remove one of them",
        'stent relay: unexpected argument "--urgent"; write --KEY=VALUE',
        'stent relay: unknown option "--tls"; did you mean "--client.tls" or "--backend.tls"?']


def commands():
    done = harness.run_stent("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    return done.stdout, re.findall(r"^  ([a-z]+) +\S", done.stdout, re.MULTILINE)


def test_help_fits_a_screen():
    text, names = commands()
    assert "check" in names and "help" in names
    assert text.count("\n") <= 23
    assert max(map(len, text.splitlines())) < 80


def test_each_command_has_its_help():
    for name in commands()[1]:
        done = harness.run_stent(name, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith(f"Usage: stent {name}")
        assert done.stdout == harness.run_stent("help", name).stdout
        assert done.stdout.count("\n") <= 23
        assert max(map(len, done.stdout.splitlines())) < 80


def test_help_on_keys_fits_a_screens_width():
    done = harness.run_stent("help", "keys")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) < 80
    for name in known_keys():
        assert f"\n  {name} = " in done.stdout


def test_version():
    done = harness.run_stent("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"stent \d+\.\d+\.\d+\n", done.stdout)


def test_output_that_is_lost_is_a_failure():
    with open("/dev/full", "w") as full:
        done = subprocess.run([harness.stent_bin(), "help"], stdout=full, stderr=subprocess.PIPE, text=True,
                              timeout=20)
    assert done.returncode == 1
    assert "cannot write: No space left on device" in done.stderr


# --- the sample and the reference, held to the table ---

SETTING = re.compile(r"(;?)([a-z_.]+) = (.*)")


def settings_of(path):
    """Each line of a file that is a setting, commented out or not: (number, is it out, key, value)."""
    for number, line in enumerate(path.read_text().splitlines()):
        match = SETTING.fullmatch(line)
        if match:
            yield number, match[1] == ";", match[2], match[3]


def test_the_sample_has_every_key_with_its_default():
    seen = {}
    for _, _, key, value in settings_of(SAMPLE):
        seen.setdefault(key, []).append(value)
    for name, _, default, _ in rows("key"):	# one in [stent] and in a route is there twice
        written = [key for key in (name, f"client.{name}", f"backend.{name}") if key in seen]
        assert written, f"{name} is not in {SAMPLE}"
        if default and name != "protocol":
            assert default in seen[written[0]][:2]


def blocks(path):
    """
    The sample's commented parts that belong together, as sets of line numbers: a commented
    section with its keys, or a single key of a section that is in force.
    """
    lines = path.read_text().splitlines()
    block = None
    for number, line in enumerate(lines):
        if line.startswith("["):
            block = None
        elif line.startswith(";["):
            if block:
                yield block
            block = {number}
        elif SETTING.fullmatch(line) and line.startswith(";"):
            if block is None:
                yield {number}
            else:
                block.add(number)
    if block:
        yield block


@pytest.mark.parametrize("path", [SAMPLE, MINIMAL], ids=lambda path: path.name)
def test_the_samples_are_good(path, printed):
    printed(path.read_text())


def test_each_commented_part_of_the_sample_is_valid(printed, certificates):
    lines = SAMPLE.read_text().replace("/etc/stent/server.pem", str(certificates.readable.cert)).replace(
        "/etc/stent/server.key", str(certificates.readable.key)).splitlines()
    before = printed(SAMPLE.read_text())
    tried = 0
    for block in blocks(SAMPLE):
        text = "\n".join(line[1:] if number in block else line for number, line in enumerate(lines))
        after = printed(text + "\n")
        if len(block) == 1:
            assert after == before, f"line {min(block) + 1} is not the default"
        else:
            assert after.startswith(before)
        tried += 1
    assert tried >= 36


def reference_parts():
    match = re.fullmatch(r"(.*<!-- keys -->\n)(.*)(<!-- /keys -->\n.*)", REFERENCE.read_text(), re.DOTALL)
    assert match, "docs/settings.md has no part between <!-- keys --> and <!-- /keys -->"
    return match.groups()


def test_the_document_has_the_reference():
    assert reference_parts()[1] == reference(), "regenerate it: /usr/bin/python3 tests/e2e/test_settings.py"


if __name__ == "__main__":
    before, _, after = reference_parts()
    REFERENCE.write_text(before + reference() + after)
    sys.exit(0)
