"""
Flows that a firewall brings to stent, and flows that come from the client's address: both families, over real hosts.
"""

import contextlib
import os
import pathlib
import re
import subprocess

import harness
import pytest
from trio import text

FAMILIES = pytest.mark.parametrize("family", ["4", "6"])
PORT = 6432
IN_ORDER = "client-fin", "backend-fin"		# the test closes both ends
WAYS = ["redirect", "dnat"]
LISTEN = {"both": f":{PORT}", "4": f"0.0.0.0:{PORT}", "6": f"[::]:{PORT}"}


def stent_in(trio, stent, keys, listen="both", **settings):
    return stent(f"[route t]\nlisten = {LISTEN[listen]}\n{keys}\n", prefix=trio.inside("stent"), **settings)


def talk(client, server):
    for a, b in ((client, server), (server, client)):
        a.send_all(b"hello")
        assert b.recv_exact(5) == b"hello"


def expect_refusal(trio, host, address, port):
    """A reset, in connect() or shortly after."""
    with contextlib.suppress(ConnectionResetError), trio.connect(host, (address, port)) as client:
        client.expect_reset()


def rule_of(trio, way, family):
    if way == "redirect":
        return f"redirect to :{PORT}"
    return f"dnat ip to {trio.gateway['4']}:{PORT}" if family == "4" else f"dnat ip6 to [{trio.gateway['6']}]:{PORT}"


def tproxy(trio):
    """As the kernel's documentation has it (Documentation/networking/tproxy.rst)."""
    trio.nft("stent", "add table inet t; add chain inet t p { type filter hook prerouting priority mangle; }; "
             "add rule inet t p meta l4proto tcp socket transparent 1 meta mark set 1 accept; "
             f"add rule inet t p tcp dport {{ 7777, {PORT} }} tproxy to :{PORT} meta mark set 1 accept")
    for family in "-4", "-6":
        trio.ip("stent", family, "rule", "add", "fwmark", 1, "lookup", 100)
        trio.ip("stent", family, "route", "add", "local", "default", "dev", "lo", "table", 100)


@pytest.mark.parametrize("way", WAYS)
def test_a_flow_goes_where_it_wanted_to(trio, stent, way):
    """A listener of one family, and one of both, whose IPv4 clients have IPv4-mapped addresses."""
    s = {listen: stent(f"[route t]\nlisten = {LISTEN[listen].replace(str(PORT), str(port))}\nbackend = original\n",
                       prefix=trio.inside("stent")) for listen, port in (("both", PORT), ("4", PORT + 1), ("6", PORT + 1))}
    trio.nft("stent", "add table inet t; add chain inet t p { type nat hook prerouting priority dstnat; }")
    for family in "46":
        with trio.backend(family) as server:
            for listen in "both", family:
                rule = rule_of(trio, way, family).replace(str(PORT), str(PORT if listen == "both" else PORT + 1))
                nfproto = "ipv4" if family == "4" else "ipv6"
                trio.nft("stent", f"flush chain inet t p; add rule inet t p meta nfproto {nfproto} tcp dport 7777 {rule}")
                with trio.connect("client", (trio.address["server"][family], 7777)) as client:
                    with server.accept() as at_server:
                        talk(client, at_server)
                assert s[listen].flow_end()["backend"] == text(trio.address["server"][family], 7777)


def test_tproxy_brings_flows_of_both_families(trio, stent):
    tproxy(trio)
    s = stent_in(trio, stent, "backend = original\ntransparent = on", user="nobody")
    for family in "46":
        with trio.backend(family) as server, trio.connect("client", (trio.address["server"][family], 7777)) as client:
            with server.accept() as at_server:
                talk(client, at_server)
                assert at_server.sock.getpeername()[0] != trio.address["client"][family]
        assert s.flow_end()["backend"] == text(trio.address["server"][family], 7777)


@pytest.mark.parametrize("listen", ["both", "one"])
def test_a_client_of_a_transparent_listener_itself_is_denied(trio, stent, listen):
    """And a destination elsewhere that has the listener's port is not the listener."""
    tproxy(trio)
    keys = "backend = original\ntransparent = on"
    s = stent_in(trio, stent, keys) if listen == "both" else \
        stent(f"[route t]\nlisten = 0.0.0.0:{PORT}, [::]:{PORT}\n{keys}\n", prefix=trio.inside("stent"))
    for family in "46":
        expect_refusal(trio, "stent", trio.gateway[family], PORT)
        assert s.flow_end()["reason"] == "denied"
        with trio.backend(family, PORT) as server, trio.connect("client", (trio.address["server"][family], PORT)) as client:
            with server.accept() as at_server:
                talk(client, at_server)
        assert s.flow_end()["reason"] in IN_ORDER
    assert s.wait_logged("a client connected to the listener itself")
    assert not s.logged("loop")


@pytest.mark.parametrize("way", ["redirect", "tproxy"])
@FAMILIES
def test_rules_that_redirect_stent_to_itself_end_in_denied(trio, stent, way, family):
    """Its user is not exempt. No storm: one flow more, and that is refused."""
    s = stent_in(trio, stent, "backend = original\n" + ("transparent = on" if way == "tproxy" else ""))
    if way == "tproxy":
        tproxy(trio)
        trio.nft("stent", "add chain inet t o { type route hook output priority mangle; }; "
                 "add rule inet t o tcp dport 7777 meta mark set 1")
    else:
        trio.nft("stent", "add table inet t; add chain inet t p { type nat hook prerouting priority dstnat; }; "
                 f"add rule inet t p tcp dport 7777 redirect to :{PORT}; add chain inet t o {{ type nat hook output "
                 f"priority -100; }}; add rule inet t o tcp dport 7777 redirect to :{PORT}")
    fds = s.fds()
    with trio.backend(family) as server:
        expect_refusal(trio, "client", trio.address["server"][family], 7777)
        server.expect_no_connection()
    assert sorted(s.flow_end()["reason"] for _ in range(2)) == ["backend-reset", "denied"]
    s.expect_no_event("flow end")
    assert s.wait_logged("loop: a flow of our own came back .*exempt stent's user from the redirection")
    harness.wait_for(lambda: s.fds() == fds, what="the descriptors are closed")


def test_rules_that_redirect_stent_to_itself_from_the_clients_address_are_no_storm(trio, stent):
    """The handshake cannot be completed: its second packet goes to the client."""
    s = stent_in(trio, stent, "backend = original\nsource = client\nconnect_timeout = 500ms")
    trio.nft("stent", f"add table inet t; add chain inet t p {{ type nat hook prerouting priority dstnat; }}; add rule inet t p tcp dport 7777 "
             f"redirect to :{PORT}; add chain inet t o {{ type nat hook output priority -100; }}; add rule inet t o tcp dport 7777 "
             f"redirect to :{PORT}")
    expect_refusal(trio, "client", trio.address["server"]["4"], 7777)
    assert s.flow_end()["reason"] == "backend-connect-timeout"
    s.expect_no_event("flow end")


# --- source = client ---

def commands(s):
    """What `stent check --explain` prints, to be run as it is."""
    done = harness.run_stent("check", "--explain", "-c", str(s.ini_path))
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_return_path(trio, s):
    subprocess.run([*trio.inside("stent"), "bash", "-e"], input=commands(s), text=True, check=True)


def test_the_server_sees_the_clients_address(trio, stent):
    s = stent_in(trio, stent, "\n".join((
        f"backend = {trio.address['server']['4']}:7777, [{trio.address['server']['6']}]:7777", "source = client", "protocol = line",
        r"heartbeat_send = PING\n", "backend.heartbeat = 100ms", "client.heartbeat = off")), user="nobody", workers=2)
    before = trio.dump()
    make_return_path(trio, s)
    made = trio.dump()
    subprocess.run([*trio.inside("stent"), "bash"], input=commands(s), text=True)		# again, as at a restart
    assert trio.dump() == made
    for family in "46":
        with trio.backend(family) as server, trio.connect("client", (trio.gateway[family], PORT)) as client:
            with server.accept() as at_server:
                assert at_server.sock.getpeername()[0] == client.sock.getsockname()[0] == trio.address["client"][family]
                client.send_all(b"hello\n")
                assert at_server.recv_exact(6) == b"hello\n"
                at_server.send_all(b"hello\n")
                assert client.recv_exact(6) == b"hello\n"
                assert at_server.recv_exact(10) == b"PING\n" * 2
        end = s.flow_end()
        assert end["backend"] == text(trio.address["server"][family], 7777) and end["reason"] in IN_ORDER, end
    undo = "\n".join(line[1:] for line in commands(s).split("To take them back:\n")[1].splitlines() if line.startswith("#   "))
    subprocess.run([*trio.inside("stent"), "bash", "-e"], input=undo, text=True, check=True)
    assert trio.dump() == before


def test_the_server_sees_the_address_of_a_proxy_header(trio, stent, tmp_path):
    """Of a client behind a balancer, over TCP or a UNIX socket. Without an address there is no connection."""
    s = stent_in(trio, stent, f"backend = {trio.address['server']['4']}:7777\nsource = client\naccept_proxy = require\n"
                 f"proxy_from = 10.98.0.0/24, unix\n[route u]\nlisten = unix:{tmp_path}/in\nbackend = {trio.address['server']['4']}:7777\n"
                 "source = client\naccept_proxy = require\nproxy_from = unix")
    make_return_path(trio, s)
    header = b"PROXY TCP4 10.98.0.77 10.98.0.2 4444 6432\r\n"
    with trio.backend("4") as server:
        for connect in (lambda: trio.connect("client", (trio.gateway["4"], PORT))), (lambda: harness.connect(f"unix:{tmp_path}/in")):
            with connect() as client:
                client.send_all(header)
                with server.accept() as at_server:
                    assert at_server.sock.getpeername()[0] == "10.98.0.77"
                    talk(client, at_server)
            assert s.flow_end()["reason"] in IN_ORDER
        with harness.connect(f"unix:{tmp_path}/in") as client:
            client.send_all(b"PROXY UNKNOWN\r\n")
            assert s.flow_end()["reason"] == "denied"
            server.expect_no_connection()


@pytest.mark.parametrize("family, addresses", [("4", ("0.0.0.0", "224.0.0.1", "255.255.255.255")), ("6", ("::", "ff02::1"))])
def test_an_address_that_no_host_has_is_not_replaced_by_ones_own(trio, stent, family, addresses):
    """The kernel would take the one of stent's host, to which a server may allow more."""
    s = stent_in(trio, stent, f"backend = {text(trio.address['server'][family], 7777)}\nsource = client\naccept_proxy = require\n"
                 "proxy_from = 10.98.0.0/24, fd98::/64")
    with trio.backend(family) as server:
        for address in addresses:
            with trio.connect("client", (trio.gateway[family], PORT)) as client:
                client.send_all(f"PROXY TCP{family} {address} {address} 1 1\r\n".encode())
                assert s.flow_end()["reason"] == "denied"
        server.expect_no_connection()
    assert s.wait_logged("names an address that no host has")


def test_a_client_whose_replies_do_not_come_back_says_nothing_of_the_backend(trio, stent):
    """Its connection times out; the backend stays up for all others."""
    s = stent_in(trio, stent, f"backend = {trio.address['server']['4']}:7777\nsource = client\nconnect_timeout = 500ms\n"
                 "accept_proxy = require\nproxy_from = 10.98.0.0/24")
    make_return_path(trio, s)
    trio.ip("server", "route", "add", "blackhole", "203.0.113.0/24")
    with trio.backend("4"), trio.connect("client", (trio.gateway["4"], PORT)) as client:
        client.send_all(b"PROXY TCP4 203.0.113.7 10.98.0.2 4444 6432\r\n")
        assert s.flow_end()["reason"] == "backend-connect-timeout"
    assert s.ask("ready")["ready"]
    with trio.connect("client", (trio.gateway["4"], PORT)) as client:		# nothing listens there any more
        client.send_all(b"PROXY TCP4 10.98.0.77 10.98.0.2 4444 6432\r\n")
        assert s.flow_end()["reason"] == "backend-refused"
    assert not s.ask("ready")["ready"]


def test_a_backend_of_another_family_is_not_used_with_the_clients_address(trio, stent):
    s = stent_in(trio, stent, f"backend = [{trio.address['server']['6']}]:7777\nsource = client")
    expect_refusal(trio, "client", trio.gateway["4"], PORT)
    assert s.flow_end()["reason"] == "denied"
    assert s.wait_logged("of another family than the client's")


def test_tproxy_and_the_clients_address_together_leave_no_trace_of_stent(trio, stent):
    """Neither the client nor the server sees another address than each other's."""
    tproxy(trio)
    s = stent_in(trio, stent, "backend = original\ntransparent = on\nsource = client", user="nobody")
    for family in "46":
        with trio.backend(family) as server, trio.connect("client", (trio.address["server"][family], 7777)) as client:
            with server.accept() as at_server:
                talk(client, at_server)
                assert at_server.sock.getpeername()[0] == trio.address["client"][family]
        assert s.flow_end()["reason"] in IN_ORDER


@pytest.mark.parametrize("listen, port", [("127.0.0.1:6432", 6432), (":6431, [fd00::1]:6432", 6432), (":6432", None), ("0.0.0.0:6432, [::]:6432", None)])
def test_a_listener_that_tproxy_does_not_find_is_warned_of(tmp_path, listen, port):
    path = tmp_path / "x.ini"
    path.write_text(f"[route t]\nlisten = {listen}\nbackend = original\ntransparent = on\n")
    done = harness.run_stent("check", "-c", path)
    assert done.returncode == 0 and ("transparent:" in done.stderr) == (port is not None), done.stderr
    assert port is None or f"4: warning: transparent: \"{listen.split(', ')[-1]}\" gets only what" in done.stderr and f"listen = :{port}\n" in done.stderr


# --- the capability ---

NET_ADMIN, NET_RAW = 1 << 12, 1 << 13


def without(*names):
    """Words before a command that leave root without these."""
    return "setpriv", "--bounding-set=" + ",".join(f"-{name}" for name in names)


def capabilities(pid):
    """Of each thread: its effective and permitted sets, together."""
    return {tuple(int(word, 16) for word in re.findall(r"^Cap(?:Inh|Prm|Eff|Amb):\s*(\w+)", (task / "status").read_text(), re.M))
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir()}


@pytest.mark.parametrize("keys, kept", [("source = client", NET_RAW), ("transparent = on", 0)])
def test_one_capability_is_kept_and_only_where_it_is_needed(stent, keys, kept):
    s = stent(f"[route t]\nlisten = 127.0.0.1:{harness.free_port()}\nbackend = 127.0.0.1:1\n{keys}\n", user="nobody", workers=3)
    s.wait_logged("runs with 3 workers")
    assert capabilities(s.pid) == {(0, kept, kept, 0)}


def test_the_other_capability_is_kept_where_the_first_is_missing(stent):
    s = stent(f"[route t]\nlisten = 127.0.0.1:{harness.free_port()}\nbackend = 127.0.0.1:1\nsource = client\n", user="nobody",
              prefix=without("net_raw"))
    assert capabilities(s.pid) == {(0, NET_ADMIN, NET_ADMIN, 0)}


def test_an_ambient_capability_is_enough(stent):
    """As a systemd unit gives it to a user that is not root."""
    with subprocess.Popen(["setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=+net_raw", "--ambient-caps=+net_raw",
                           "--bounding-set=-all,+net_raw", harness.stent_bin(), "relay", f"127.0.0.1:{harness.free_port()}", "127.0.0.1:1",
                           "--admin=off", "--control=off", "--source=client", "--transparent=on"], stderr=subprocess.PIPE, text=True) as s:
        try:
            seen = next((line for line in s.stderr if "runs with" in line or "error" in line), "nothing")
            assert "runs with" in seen
            assert {caps[2] for caps in capabilities(s.pid)} == {NET_RAW}
        finally:
            s.terminate()
    assert s.returncode == 0


@pytest.mark.parametrize("keys, why", [
    ("source = client", "source = client needs CAP_NET_RAW or CAP_NET_ADMIN, and this process has neither: start stent as root"),
    ("transparent = on", "cannot listen on .*: transparent = on needs CAP_NET_RAW or CAP_NET_ADMIN when the listener is opened"),
])
def test_without_the_capability_it_does_not_start(stent, keys, why):
    done = subprocess.run([*without("net_raw", "net_admin"), harness.stent_bin(), "relay", f"127.0.0.1:{harness.free_port()}",
                           "127.0.0.1:1", "--admin=off", "--control=off", "--" + keys.replace(" ", "")], capture_output=True, text=True)
    assert done.returncode == 1 and re.search(why, done.stderr), done


@pytest.mark.parametrize("keys", ["source = client", "transparent = on"])
def test_a_reload_that_needs_the_capability_says_that_it_needs_a_restart(stent, keys):
    s = stent(f"[route t]\nlisten = 127.0.0.1:{harness.free_port()}\nbackend = 127.0.0.1:1\n",
              prefix=without("net_raw", "net_admin"))
    s.ini_path.write_text(s.ini_path.read_text() + keys + "\n")
    done = harness.run_stent("reload", "--control", s.control)
    assert done.returncode == 2 and re.search(
        f"route t: {keys} needs CAP_NET_RAW or CAP_NET_ADMIN, which this process gave up .*: restart it", done.stderr), done


# --- the document ---

SECTIONS = re.split(r"^## ", (harness.ROOT / "docs/redirect.md").read_text(), flags=re.M)[1:]


def block(section, kind, index=0):
    return re.findall(rf"^```{kind}\n(.*?)^```", next(s for s in SECTIONS if s.startswith(section)), re.M | re.S)[index]


@pytest.mark.parametrize("section, index, host", [
    ("Beside the application", 0, "stent"), ("On a gateway", 0, "client"), ("TPROXY", 0, "client"), ("TPROXY", 1, "client")])
def test_the_document_works_as_it_is_written(trio, stent, tmp_path, section, index, host):
    (tmp_path / "stent").symlink_to(harness.stent_bin())
    ini = block(section, "ini").replace("[stent]\nuser = nobody\n", "").replace("protocol = postgres\n", "")
    s = stent(ini, prefix=trio.inside("stent"), user="nobody")
    subprocess.run([*trio.inside("stent"), "bash", "-e"], input=block(section, "sh", index), text=True, check=True,
                   env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    for family in "46":
        with trio.backend(family, 5432) as server, trio.connect(host, (trio.address["server"][family], 5432)) as client:
            with server.accept() as at_server:
                talk(client, at_server)
        assert s.flow_end()["backend"] == text(trio.address["server"][family], 5432)


def test_the_document_says_what_explain_prints(trio, stent):
    s = stent(block("The client's address", "ini"), prefix=trio.inside("stent"))
    assert block("The client's address", "sh") == re.search(r"^\n(nft add.*?\n)\n", commands(s), re.M | re.S)[1]


def test_explain_names_the_redirection_that_a_route_needs(stent):
    port = harness.free_port()
    s = stent(f"[route a]\nlisten = 127.0.0.1:{port}\nbackend = original\n", user="nobody")
    assert f"\n#   stent redirect install --port PORT --to {port} --uid nobody\n" in commands(s)
    s = stent.route("127.0.0.1:1")
    assert commands(s) == "# These settings need no routing or firewall rules.\n"
