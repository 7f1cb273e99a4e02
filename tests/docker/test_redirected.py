"""An application that is not told of stent, and a firewall between two networks that forgets, in a real engine."""

import concurrent.futures
import pathlib
import subprocess

import pytest
from containers import answers, flow_ends

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]


def inside(engine, container, *command):
    """A command of this machine in a container's network."""
    pid = engine.inspect(container, "{{.State.Pid}}")
    done = subprocess.run(["nsenter", "-t", pid, "-n", *command], capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def forgetful_firewall(engine, call, seconds):
    """The only way between application and database; it drops packets of connections that were quiet for so long."""
    ids = {service: call("ps", "-q", service) for service in ("app", "direct", "db", "firewall")}
    for service, network, router in (("app", "10.89.2.0/24", "10.89.1.2"), ("direct", "10.89.2.0/24", "10.89.1.2"),
                                     ("db", "10.89.1.0/24", "10.89.2.2")):
        inside(engine, ids[service], "ip", "route", "replace", network, "via", router)
    inside(engine, ids["firewall"], "nft", "add table ip fw; add chain ip fw forward { type filter hook forward priority 0; }; "
           "add rule ip fw forward ct state invalid drop")
    names = {f"timeout_{state}": seconds for state in ("established", "unacknowledged", "max_retrans")}
    for name, value in {**names, "loose": 0}.items():
        inside(engine, ids["firewall"], "sysctl", "-qw", f"net.netfilter.nf_conntrack_tcp_{name}={value}")


POOL = """
for i in 1 2 3 4; do
    (echo "select 'before';"; sleep 8; echo "select 'after';") | timeout 14 psql -At &
done
wait
"""


def test_the_pool_of_an_unchanged_application_lives_behind_a_forgetful_firewall(engine, compose):
    call = compose("compose.redirect.yml", "firewall.yml")
    forgetful_firewall(engine, call, seconds=3)
    answers(call)
    with concurrent.futures.ThreadPoolExecutor() as at_once:
        with_stent = at_once.submit(call, "exec", "-T", "app", "sh", "-c", POOL)
        without = at_once.submit(call, "exec", "-T", "direct", "sh", "-c", POOL)
    assert without.result().count("before") == 4 and "after" not in without.result()
    assert with_stent.result().count("before") == with_stent.result().count("after") == 4
    ends = [e for e in flow_ends(call) if e["seconds"] > 7]
    assert len(ends) == 4 and all(e["backend"].startswith("10.89.2.10:") and e["backend_heartbeats"] > 2 for e in ends), ends
    stent, redirect = call("ps", "-q", "stent"), call("ps", "-a", "-q", "stent-redirect")
    status = pathlib.Path(f"/proc/{engine.inspect(stent, '{{.State.Pid}}')}/status").read_text()
    assert "CapEff:\t0000000000000000" in status and "Uid:\t65534\t" in status
    assert engine.inspect(stent, "{{.HostConfig.ReadonlyRootfs}}") == "true"
    assert engine.inspect(redirect, "{{.State.ExitCode}} {{.HostConfig.CapAdd}} {{.HostConfig.CapDrop}}") == "0 [NET_ADMIN] [ALL]"
