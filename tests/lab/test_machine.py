"""
What `stent check` and a start say of the machine: ports, the queue of listeners, connection tracking. A namespace is a machine
with its own limits.
"""

import subprocess

import harness
from test_deaths import stent_in

SETTINGS = "[stent]\nuser = off\ncontrol = off\nadmin = off\n{stent}[route r]\nlisten = 127.0.0.1:1\nbackend = {backend}\n{route}"


def check(lab, tmp_path, stent="", route="", backend="10.0.0.1:2"):
    path = tmp_path / "stent.ini"
    path.write_text(SETTINGS.format(stent=stent, route=route, backend=backend))
    done = subprocess.run([*lab.inside("stent"), harness.stent_bin(), "check", "-c", path], capture_output=True, text=True)
    assert done.returncode == 0, done
    return [line.removeprefix("stent check: ") for line in done.stderr.splitlines()]


def test_a_usual_machine_is_not_warned_of(lab, tmp_path):
    assert check(lab, tmp_path) == []
    assert check(lab, tmp_path, stent="max_flows = 20000\n", route="detect = 40s\n") == []
    done = subprocess.run([*lab.inside("stent"), harness.stent_bin(), "check", "-c", harness.ROOT / "etc" / "stent-minimal.ini"],
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_more_flows_than_local_ports(lab, tmp_path):
    lab.sysctl("stent", "net.ipv4.ip_local_port_range", "40000 49999")
    told = check(lab, tmp_path, stent="max_flows = 10001\n")
    assert told == ["route r: max_flows = 10001, but this machine has 10000 local ports for each backend address "
                    "(net.ipv4.ip_local_port_range = 40000 49999) and the route 1 backend; widen that range, add backend addresses, "
                    "or lower max_flows"]
    assert check(lab, tmp_path, stent="max_flows = 10000\n") == []
    assert check(lab, tmp_path, stent="max_flows = 20000\n", backend="10.0.0.1:2, 10.0.0.2:2") == []
    assert check(lab, tmp_path, stent="max_flows = 20000\n", route="max_flows = 9000\n") == []
    assert check(lab, tmp_path, stent="max_flows = 20000\n", backend="unix:/run/x") == []
    assert "2 backends (a name counts as one)" in check(lab, tmp_path, route="max_flows = 20001\n", backend="10.0.0.1:2, db:2")[0]


def test_routes_to_one_backend_share_its_local_ports(lab, tmp_path):
    lab.sysctl("stent", "net.ipv4.ip_local_port_range", "40000 49999")

    def other(backend="10.0.0.1:2", more=""):
        return f"max_flows = 6000\n[route s]\nlisten = 127.0.0.1:3\nbackend = {backend}\nmax_flows = 6000\n{more}"

    told, = check(lab, tmp_path, route=other())
    assert told.startswith("route r and those with the same backends together: max_flows = 12000, but this machine has 10000 local ports"), told
    assert check(lab, tmp_path, stent="max_flows = 10000\n", route=other()) == []
    assert check(lab, tmp_path, route=other("10.0.0.2:2")) == check(lab, tmp_path, route=other("10.0.0.1:3")) == []
    assert check(lab, tmp_path, route=other("10.0.0.1:2, 10.0.0.2:2")) == []
    told, = check(lab, tmp_path, route="max_flows = 10001\n", backend="10.0.0.1:2, 10.0.0.1:2")
    assert "and the route 1 backend; widen" in told, told


def test_a_short_queue_of_listeners(lab, tmp_path):
    lab.sysctl("stent", "net.core.somaxconn", 128)
    told = check(lab, tmp_path)
    assert len(told) == 1 and told[0].startswith("net.core.somaxconn = 128 limits how many clients can wait to be accepted")


def test_connection_tracking_that_forgets_too_soon(lab, tmp_path):
    lab.sysctl("stent", "net.netfilter.nf_conntrack_tcp_timeout_established", 25)
    told = check(lab, tmp_path)
    assert told == ["net.netfilter.nf_conntrack_tcp_timeout_established = 25: connection tracking on this machine forgets a flow of route r "
                    "before anything is sent on its client leg; raise it, or lower client.keepalive"]
    assert check(lab, tmp_path, route="detect = 40s\n") == []
    lab.sysctl("stent", "net.netfilter.nf_conntrack_tcp_timeout_established", 3600)
    assert "before it ends, as nothing is sent on its backend leg" in check(lab, tmp_path, route="backend.keepalive = off\n")[0]
    lab.sysctl("stent", "net.netfilter.nf_conntrack_tcp_timeout_close_wait", 20)
    assert "tcp_timeout_close_wait = 20" in check(lab, tmp_path)[0]
    assert "leg once one side has closed" in check(lab, tmp_path)[0]


def test_a_table_that_is_too_small(lab, tmp_path):
    with open("/proc/sys/net/netfilter/nf_conntrack_max") as f:
        room = int(f.read())
    flows = room // 2 + 1
    told = check(lab, tmp_path, stent=f"max_flows = {flows}\n", backend="unix:/run/x")
    assert told == [f"max_flows = {flows} may take {2 * flows} entries of this machine's connection tracking, and it has {room}; where it "
                    f"is full, packets are dropped; sysctl -w net.netfilter.nf_conntrack_max={4 * flows}, or exclude these flows (notrack)"]
    assert check(lab, tmp_path, stent=f"max_flows = {flows - 1}\n", backend="unix:/run/x") == []


def test_a_start_tells_it_too(lab, stent):
    lab.sysctl("stent", "net.netfilter.nf_conntrack_tcp_timeout_established", 1)
    s = stent_in(lab, stent)
    assert s.wait_logged("nf_conntrack_tcp_timeout_established = 1: connection tracking on this machine forgets")
