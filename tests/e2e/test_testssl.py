"""What testssl.sh, a scanner of TLS servers, finds at the leg toward clients: nothing of severity MEDIUM or worse."""

import json
import subprocess

import harness
import pytest
import tls_ends
from cryptography.hazmat.primitives.asymmetric import rsa
from programs import PYTHON, Program

pytestmark = pytest.mark.plain

HARMLESS = {"OK", "INFO", "DEBUG", "LOW"}
CHECKS = {"SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3", "cipherlist_NULL", "cipherlist_STRONG", "cert_chain_of_trust",
          "heartbleed", "CCS", "ticketbleed", "ROBOT", "secure_renego", "secure_client_renego", "CRIME_TLS", "SWEET32", "FREAK", "DROWN",
          "LOGJAM", "BEAST", "LUCKY13", "RC4"}
ACCEPTED = {
    "cert_revocation": "the certificate of the tests names no list of revoked ones; stent shows what it is given",
    "sessionresumption_ticket": "the scanner may close before it has read the ticket; test_tls.py tests resumption",
}


def test_a_scanner_finds_nothing(stent, certificates, tmp_path):
    port, found = harness.free_port(), tmp_path / "found.json"
    # With an RSA key most of the old weaknesses would be possible.
    pair = certificates.make("rsa", "127.0.0.1", key=rsa.generate_private_key(65537, 2048))
    keys = {**tls_ends.keys(certificates, "client"), "client__tls_cert": pair.cert, "client__tls_key": pair.key}
    with Program(PYTHON, "servers/streams.py", port) as server:
        server.wait_line("^ready")
        s = stent.route(port, protocol="http", **keys)
        done = subprocess.run(["testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--add-ca", certificates.ca,
                               "--jsonfile", found, "-p", "-s", "-S", "-U", f"127.0.0.1:{s.port}"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110 * harness.SLOW)
    print(done.stdout)
    findings = {f["id"]: f for f in json.loads(found.read_text())}
    assert CHECKS <= findings.keys(), "not all was looked at"
    assert [f for name, f in findings.items() if f["severity"] not in HARMLESS and name not in ACCEPTED] == []
    assert findings["ALPN"]["finding"] == "http/1.1"
