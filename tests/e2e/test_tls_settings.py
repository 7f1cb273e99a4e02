"""
Settings of TLS: which keys go together, what is said of wrong ones and of certificates, and that what is printed
reads back.
"""

import os
import re

import harness
import pytest

ROUTE = "[route r]\nlisten = 127.0.0.1:1\nbackend = db.test:2\n"
CLIENT_TLS = "client.tls = require\nclient.tls_cert = GOOD.pem\nclient.tls_key = GOOD.key\n"


@pytest.fixture
def check(tmp_path, certificates):
    """`stent check` on a text in which GOOD, EXPIRED, ... name files of certificates: (status, stdout, ["LINE: ...", ...])."""

    def check(text, *words, **popen):
        for name in ("GOOD", "EXPIRED", "EXPIRES_SOON", "NOT_YET_VALID", "CA"):
            text = text.replace(name + ".", f"{certificates.directory}/{name.lower()}.")
        path = tmp_path / "stent.ini"
        path.write_text("[stent]\nuser = root\n" + text if not text.startswith("[stent]") else text)
        done = harness.run_stent("check", "-c", path, **popen)
        first = 0 if text.startswith("[stent]") else 2
        lines = [re.fullmatch(rf"{re.escape(str(path))}:(\d+): (.*)", line) for line in done.stderr.splitlines()]
        assert all(lines), done.stderr
        return done.returncode, done.stdout, [f"{int(m[1]) - first}: {m[2]}" for m in lines]

    return check


WRONG = {
    # words of other programs
    ROUTE + "backend.tls = require\n": '4: backend.tls: "require" is not one of off | verify | insecure; did you mean "verify"?',
    ROUTE + "backend.tls = verify-full\n":
        '4: backend.tls: "verify-full" is not one of off | verify | insecure; did you mean "verify"?',
    ROUTE + "backend.tls = on\n": '4: backend.tls: "on" is not one of off | verify | insecure; did you mean "verify"?',
    ROUTE + "backend.tls = disable\n": '4: backend.tls: "disable" is not one of off | verify | insecure; did you mean "off"?',
    ROUTE + "client.tls = verify\n": '4: client.tls: "verify" is not one of off | accept | require; did you mean "require"?',
    ROUTE + "client.tls = allow\n": '4: client.tls: "allow" is not one of off | accept | require; did you mean "accept"?',
    ROUTE + "tls = verify\n": '4: unknown key "tls"; did you mean "client.tls" or "backend.tls"?',
    ROUTE + "server.tls = verify\n": '4: unknown key "server.tls"; did you mean "client.tls" or "backend.tls"?',
    ROUTE + "sslmode = require\n": '4: unknown key "sslmode"; did you mean "client.tls" or "backend.tls"?',
    ROUTE + "backend.sslmode = require\n": '4: unknown key "backend.sslmode"; did you mean "backend.tls"?',
    ROUTE + "sslrootcert = /x\n": '4: unknown key "sslrootcert"; did you mean "client.tls_ca" or "backend.tls_ca"?',
    ROUTE + "client.sni = x\n": '4: unknown key "client.sni"; did you mean "backend.tls_name"?',
    ROUTE + "backend.tls_naem = x\n": '4: unknown key "backend.tls_naem"; did you mean "backend.tls_name"?',
    ROUTE + "handshake_timout = 1s\n": '4: unknown key "handshake_timout"; did you mean "handshake_timeout"?',
    ROUTE + "backend.tls_min = TLSv1.3\n": '4: backend.tls_min: "TLSv1.3" is not one of 1.2 | 1.3; did you mean "1.3"?',
    ROUTE + "backend.tls_min = 1.1\n": '4: backend.tls_min: "1.1" is not one of 1.2 | 1.3; did you mean "1.2"?',
    # values
    ROUTE + "backend.tls_ca = systm\n": '4: backend.tls_ca: "systm" is neither system nor a path; did you mean "system"?',
    ROUTE + "backend.tls_ca = ca.crt\n":
        '4: backend.tls_ca: "ca.crt" is not a path; write one such as /etc/stent/ca.crt, or system',
    ROUTE + "backend.tls = verify\nbackend.tls_name = db.test:5432\n":
        '5: backend.tls_name: "db.test:5432" is not a host name; write one of the names in the server\'s certificate, '
        "such as db1.example, without a port",
    ROUTE + "handshake_timeout = 0\n": '4: handshake_timeout: "0" is out of range; write 1ms to 60m',
    # keys that belong together
    ROUTE + "client.tls = require\n":
        "4: client.tls: a server shows a certificate; write client.tls_cert = FILE and client.tls_key = FILE",
    ROUTE + "client.tls = require\nclient.tls_cert = GOOD.pem\n":
        "5: client.tls_cert: the private key is missing; write client.tls_key = FILE, or the same file if it holds both",
    ROUTE + "client.tls = require\nclient.tls_key = GOOD.key\n":
        "5: client.tls_key: the certificate is missing; write client.tls_cert = FILE, or the same file if it holds both",
    ROUTE + "backend.tls = verify\nbackend.tls_cert = GOOD.pem\n":
        "5: backend.tls_cert: the private key is missing; write backend.tls_key = FILE, or the same file if it holds both",
    ROUTE + "backend.tls_ca = CA.pem\n":
        "4: backend.tls_ca: there is no TLS on the backend leg; write backend.tls = verify, or remove this",
    ROUTE + "client.tls_cert = GOOD.pem\n":
        "4: client.tls_cert: there is no TLS on the client leg; write client.tls = require, or remove this",
    ROUTE + "tls_min = 1.3\n": "4: tls_min: there is no TLS on the client leg; write client.tls = require, or remove this",
    ROUTE + "backend.tls = insecure\nbackend.tls_ca = CA.pem\n":
        "5: backend.tls_ca: backend.tls = insecure verifies nothing; write backend.tls = verify, or remove this",
    "[route r]\nlisten = 127.0.0.1:1\nbackend = db:1, unix:/x\nbackend.tls = verify\n":
        "4: backend.tls: backend = unix:/x has no name that could be verified; write backend.tls_name = NAME",
    ROUTE + "backend.tls = verify\nurgent = on\n": "5: urgent: TLS carries no urgent bytes; remove this",
    # keys and protocols
    **{ROUTE + CLIENT_TLS.replace("require", "accept") + f"protocol = {name}\n{more}":
       f"4: client.tls: accept is for protocols whose clients speak first; with protocol = {name} one may wait for the server; "
       "write client.tls = require" for name, more in (("tcp", ""), ("auto", ""), ("line", "heartbeat_send = x\\n\n"))},
    **{ROUTE + f"backend.tls = verify\nbackend.tls_start = direct\nprotocol = {name}\n":
       f"5: backend.tls_start: with protocol = {name} there is one way to begin TLS; remove this" for name in ("tcp", "mysql", "auto")},
    # files
    ROUTE + CLIENT_TLS.replace("GOOD.key", "EXPIRED.key"):
        "6: client.tls_key: DIR/expired.key: the key does not belong to the first certificate of DIR/good.pem",
    ROUTE + CLIENT_TLS.replace("GOOD.key", "GOOD.kye"): "6: client.tls_key: DIR/good.kye: cannot be read: No such file or directory",
    ROUTE + CLIENT_TLS.replace("GOOD.pem", "GOOD.key"):
        '5: client.tls_cert: DIR/good.key: holds no certificate in PEM ("-----BEGIN CERTIFICATE-----")',
    ROUTE + "backend.tls = verify\nbackend.tls_ca = /dev/zero\n":
        '5: backend.tls_ca: "/dev/zero" is not a regular file; write the path of a PEM file',
    ROUTE + "backend.tls = verify\nbackend.tls_ca = /etc/ssl\n":
        '5: backend.tls_ca: "/etc/ssl" is not a regular file; write the path of a PEM file',
    ROUTE + "backend.tls = verify\nbackend.tls_ca = GOOD.key\n":
        '5: backend.tls_ca: DIR/good.key: holds no certificate in PEM ("-----BEGIN CERTIFICATE-----")',
}


@pytest.mark.parametrize("text", WRONG, ids=list(WRONG.values()))
def test_an_error_names_its_line_and_what_to_do(text, check, certificates):
    status, out, errors = check(text)
    errors = [e for e in errors if "warning: " not in e]
    assert (status, out) == (2, "")
    assert errors == [WRONG[text].replace("DIR", str(certificates.directory))]


def test_a_key_with_a_passphrase_is_an_error(check, certificates):
    key = certificates.encrypted_key(certificates.good)
    _, _, (error,) = check(ROUTE + CLIENT_TLS.replace("GOOD.key", str(key)))
    assert error.startswith(f"6: client.tls_key: {key}: the key has a passphrase")


GOOD = {
    "backend": ROUTE + "backend.tls = verify\nbackend.tls_ca = CA.pem\n",
    "backend, all": ROUTE + "protocol = postgres\nbackend.tls = verify\nbackend.tls_ca = CA.pem\nbackend.tls_name = x.test\n"
        "backend.tls_cert = GOOD.pem\nbackend.tls_key = GOOD.key\nbackend.tls_min = 1.3\nbackend.tls_start = direct\nhandshake_timeout = 3s\n",
    "client": ROUTE + CLIENT_TLS,
    "client, one file": ROUTE + "client.tls = require\nclient.tls_cert = GOOD.both.pem\nclient.tls_key = GOOD.both.pem\n",
    "client certificates": ROUTE + CLIENT_TLS + "client.tls_ca = CA.pem\n",
    "client, none behind": ROUTE + CLIENT_TLS + "backend.tls = off\n",
    **{f"accept, {name}": ROUTE + CLIENT_TLS.replace("require", "accept") + f"protocol = {name}\n"
       for name in ("postgres", "mysql", "redis", "http", "websocket", "sse")},
    "both": ROUTE + "tls_cert = GOOD.pem\ntls_key = GOOD.key\ntls_min = 1.3\nclient.tls = require\nbackend.tls = verify\n",
    "one key for both, TLS on one": ROUTE + "tls_cert = GOOD.pem\ntls_key = GOOD.key\nclient.tls = require\n",
    "off, kept": ROUTE + CLIENT_TLS.replace("require", "off") + "backend.tls = off\nbackend.tls_ca = /none/there\n",
    "of defaults": "[defaults]\nclient.tls_cert = GOOD.pem\nbackend.tls_start = direct\nbackend.tls_ca = /none/there\nurgent = on\n" +
        ROUTE + "[route s]\nlisten = 127.0.0.1:4\nbackend = original\nprotocol = redis\nbackend.tls_ca = system\nbackend.tls = verify\n",
    "an address": "[route r]\nlisten = 127.0.0.1:1\nbackend = 127.0.0.1:2, [::1]:3\nbackend.tls = verify\n",
    "a UNIX socket": "[route r]\nlisten = unix:/a\nbackend = unix:/x\nbackend.tls = verify\nbackend.tls_name = 10.0.0.1\n",
}


@pytest.mark.parametrize("name", GOOD)
def test_what_check_prints_means_the_same(name, check):
    status, once, told = check(GOOD[name])
    assert (status, told) == (0, [])
    assert check(once) == (0, once, [])


def test_insecure_is_warned_of_by_check_and_at_the_start(check, stent):
    _, once, told = check(ROUTE + "backend.tls = insecure\n")
    assert told == ['4: warning: backend.tls: with "insecure" anyone on the path can pose as the backend; write verify, and '
                    "backend.tls_ca = FILE if its CA is your own"]
    assert check("[defaults]\nbackend.tls_ca = /none/there\n" + ROUTE + "backend.tls = insecure\n")[0] == 0
    s = stent(f"[route t]\nlisten = 127.0.0.1:{harness.free_port()}\nbackend = 127.0.0.1:1\nbackend.tls = insecure\n")
    (told,) = s.wait_logged("can pose as the backend")
    assert told["level"] == "warn"


def test_check_prints_each_certificate(check, certificates):
    _, out, _ = check(ROUTE + CLIENT_TLS + "backend.tls = verify\nbackend.tls_ca = CA.pem\n")
    comments = [line for line in out.splitlines() if line.startswith(";")]
    assert comments[0] == "; [route r] the backend's certificate must be for db.test, by a CA of backend.tls_ca"
    assert comments[1:6] == [
        f"; [route r] client.tls_cert = {certificates.directory}/good.pem", ";   subject CN=good,O=stent test",
        ";   names   localhost, db.test, 127.0.0.1, ::1", ";   issuer  CN=Test CA,O=stent test", comments[5]]
    assert re.fullmatch(r";   valid until \d{4}-\d\d-\d\d \d\d:\d\d UTC \(299 days\)", comments[5])
    assert comments[9] == f"; [route r] backend.tls_ca = {certificates.directory}/ca.pem"


@pytest.mark.parametrize("name, told", [
    ("EXPIRED", r'5: warning: client\.tls_cert: the certificate "CN=expired,O=stent test" expired on .* renew it'),
    ("EXPIRES_SOON", r'5: warning: client\.tls_cert: the certificate "CN=expires_soon,O=stent test" expires on .*, in 9 days; renew it'),
    ("NOT_YET_VALID", r'5: warning: client\.tls_cert: the certificate "CN=not_yet_valid,O=stent test" is not valid before '),
])
def test_a_certificate_out_of_its_time_is_warned_of(name, told, check):
    """A start must be possible: a restart at night with a certificate that expired is better than no service."""
    status, out, (warning,) = check(ROUTE + CLIENT_TLS.replace("GOOD", name))
    assert status == 0
    assert re.match(told, warning), warning
    if name != "EXPIRES_SOON":
        assert re.search(r"^;   (EXPIRED on|NOT VALID before) ", out, re.M)


def test_a_private_key_that_others_can_read_is_warned_of(check, certificates):
    pair = certificates.make("open", "localhost")
    pair.key.chmod(0o644)
    _, _, told = check(ROUTE + f"client.tls = require\nclient.tls_cert = {pair.cert}\nclient.tls_key = {pair.key}\n")
    assert told == [f'6: warning: client.tls_key: the private key "{pair.key}" can be read by every user of this machine; take that '
                    "right away (chmod o-rwx)"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_files_that_the_later_user_cannot_read_are_warned_of(check, certificates):
    """Root reads them at the start; a reload would fail. A directory on the way counts too, root's groups do not."""
    hidden = certificates.directory / "hidden"
    hidden.mkdir(mode=0o700)
    ca = hidden / "ca.pem"
    ca.write_bytes(certificates.ca.read_bytes())
    pair = certificates.make("group", "localhost")
    pair.key.chmod(0o640)
    text = f"[stent]\nuser = nobody\n{ROUTE}client.tls = require\nclient.tls_cert = {pair.cert}\nclient.tls_key = {pair.key}\n" \
        f"backend.tls = verify\nbackend.tls_ca = {ca}\n"
    status, _, told = check(text)
    assert status == 0
    assert [line.split(";")[0] for line in told] == [
        f'{line}: warning: {key}: "{path}" cannot be read by user nobody: Permission denied'
        for line, key, path in ((8, "client.tls_key", pair.key), (10, "backend.tls_ca", ca))]
    assert check(text.replace("nobody", "root"))[2] == []
