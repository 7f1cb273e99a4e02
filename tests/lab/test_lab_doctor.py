"""
`stent doctor` through firewalls: it names the limit, what counts, and how a flow is forgotten, as they are set here.

Four firewalls of a limit in one: what a packet passes depends on its port. Four doctors measure at once.
"""

import json
import subprocess

import harness
import programs
import pytest

# port -> (what refreshes a flow, what a packet on a forgotten one gets)
FIREWALLS = {7000: ("any-packet", "silent"), 7001: ("any-packet", "rejected"), 7002: ("payload", "silent"), 7003: ("payload", "rejected")}
BARE_ACK = "tcp flags & (fin | syn | rst | psh | ack) == ack meta length < 81"


def build_firewalls(lab, seconds):
    for name in ("established", "unacknowledged", "max_retrans"):
        lab.sysctl("fwc", f"net.netfilter.nf_conntrack_tcp_timeout_{name}", seconds)
    lab.sysctl("fwc", "net.netfilter.nf_conntrack_tcp_loose", 0)
    rules = ["add table ip fw", "add chain ip fw raw { type filter hook prerouting priority -300; policy accept; }",
             "add chain ip fw forward { type filter hook forward priority 0; policy accept; }",
             "add rule ip fw forward ct state untracked accept"]
    for port, (counts, how) in FIREWALLS.items():
        if counts == "payload":
            rules += [f"add rule ip fw raw tcp {end} {port} {BARE_ACK} notrack" for end in ("dport", "sport")]
        if how == "rejected":
            rules.append(f"add rule ip fw forward tcp dport {port} ct state invalid reject with tcp reset")
    lab.nft("fwc", "; ".join([*rules, "add rule ip fw forward ct state invalid drop"]))


def start_doctor(lab, *words):
    return subprocess.Popen([*lab.inside("client"), harness.stent_bin(), "doctor", *words], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def finish(doctor, timeout=60):
    out, progress = doctor.communicate(timeout=timeout * harness.SLOW)
    assert doctor.returncode == 0, progress
    return out, progress


@pytest.mark.parametrize("seconds", [3, 5, 9])
def test_limit_and_what_counts_and_how_are_named(lab, seconds):
    build_firewalls(lab, seconds)
    host = lab.address["backend"]
    with programs.Program(*lab.inside("backend"), programs.PYTHON, "../lab/websocket_servers.py", host, *FIREWALLS) as server:
        server.wait_line("ready")
        doctors = {port: start_doctor(lab, f"{host}:{port}", "--quick", "--max=12s", "--protocol=websocket", "--json")
                   for port in FIREWALLS}
        found = {port: json.loads(finish(doctor)[0]) for port, doctor in doctors.items()}
    for port, (counts, how) in FIREWALLS.items():
        quiet, probes, heartbeats = found[port]["methods"]
        said = json.dumps(found[port], indent=1)
        assert found[port]["complete"] and found[port]["counts"] == counts, said
        assert (quiet["limit"], quiet["how"]) == ("fixed", how), said
        assert seconds - 1 <= quiet["from_seconds"] <= seconds <= quiet["to_seconds"] + 0.2 <= seconds + 1.2, said
        assert heartbeats["lost"] == 0 and (probes["lost"] == 0) == (counts == "any-packet"), said
