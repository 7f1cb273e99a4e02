"""
`stent redirect`: the rules it makes do what they say, of both families and modes, and nothing else; they are replaced in one
step, and leave nothing behind.
"""

import contextlib
import json
import os
import pathlib
import re
import subprocess

import harness
import pytest
from test_redirect import IN_ORDER, PORT, talk
from trio import text

MODES = pytest.mark.parametrize("mode", ["redirect", "tproxy"])
KEYS = {"redirect": "backend = original", "tproxy": "backend = original\ntransparent = on"}


def redirect(trio, *words, check=True, prefix=()):
    done = subprocess.run([*trio.inside("stent"), *prefix, harness.stent_bin(), "redirect", *map(str, words)], capture_output=True, text=True)
    assert not check or done.returncode == 0, done
    return done.stdout if check else done


def rules(trio, *words):
    """{(chain, rule): packets}"""
    return {(r["chain"], r["rule"]): r["packets"] for r in json.loads(redirect(trio, "show", "--json", *words))["rules"]}


def stent_of(trio, stent, mode):
    return stent(f"[route t]\nlisten = :{PORT}\n{KEYS[mode]}\n", prefix=trio.inside("stent"), user="nobody")


def goes_through(trio, s, host, family, port=7777):
    """Whether a connection to the server goes through stent. The server gets it in either case."""
    with trio.backend(family, port) as server, trio.connect(host, (trio.address["server"][family], port)) as client:
        with server.accept() as at_server:
            talk(client, at_server)
    with contextlib.suppress(AssertionError):
        end = s.flow_end(timeout=0.3)
        assert end["backend"] == text(trio.address["server"][family], port) and end["reason"] in IN_ORDER, end
        return True
    return False


@MODES
def test_connections_of_programs_beside_stent(trio, stent, mode):
    """A sidecar. stent's own connections are exempt by its user; loopback is left alone."""
    s = stent_of(trio, stent, mode)
    redirect(trio, "install", "--port", "7777,8000-8010", "--to", PORT, "--uid", "nobody", "--mode", mode)
    for family in "46":
        assert goes_through(trio, s, "stent", family)
        assert goes_through(trio, s, "stent", family, 8003)
        assert not goes_through(trio, s, "stent", family, 8011)
        assert not goes_through(trio, s, "client", family)
        address = "127.0.0.1" if family == "4" else "::1"
        with trio.backend_at("stent", address, 7777) as server, trio.connect("stent", (address, 7777)) as client:
            with server.accept() as own:
                talk(client, own)
    s.expect_no_event("flow end")
    did = rules(trio)
    assert did["output", "meta skuid 65534 return"] > 0 and did["output", "ip6 daddr ::1/128 return"] > 0
    if mode == "redirect":		# of NAT, the first packets
        assert did["output", f"tcp dport 7777 redirect to :{PORT}"] == did["output", f"tcp dport 8000-8010 redirect to :{PORT}"] == 2


@MODES
def test_connections_of_other_machines(trio, stent, mode):
    s = stent_of(trio, stent, mode)
    redirect(trio, "install", "--port", 7777, "--to", PORT, "--in", "--mode", mode)
    for family in "46":
        assert goes_through(trio, s, "client", family)
        assert not goes_through(trio, s, "client", family, 7778)
        assert not goes_through(trio, s, "stent", family)


@MODES
def test_only_some_destinations(trio, stent, mode):
    s = stent_of(trio, stent, mode)
    how = "--to", PORT, "--uid", "nobody", "--in", "--out", "--mode", mode
    v4, v6 = trio.address["server"]["4"], trio.address["server"]["6"]
    for words, through in ((("--cidr", "10.98.0.0/15,fd98:1::/64"), "46"), (("--cidr", f"{v4},fd99::/16"), "4"),
                           (("--cidr", "::/0", "--port", 7777), "6"), (("--port", 7777, "--except", "10.98.1.0/31"), "6"),
                           (("--cidr", "0.0.0.0/0,::/0", "--except", v6), "4")):
        redirect(trio, "install", *words, *how)
        for host in "stent", "client":
            assert {family for family in "46" if goes_through(trio, s, host, family)} == set(through), (words, host)


def test_programs_are_exempt_by_group_and_by_cgroup(trio, stent):
    s = stent_of(trio, stent, "redirect")
    root = pathlib.Path(next(line.split()[1] for line in open("/proc/self/mounts") if line.split()[2] == "cgroup2"))
    group = root / f"stent-test-{os.getpid()}" / "inner"
    group.mkdir(parents=True)
    try:
        (group / "cgroup.procs").write_text(str(s.pid))
        for words in ("--gid", "nogroup"), ("--cgroup", group.relative_to(root)):
            # without `ip netns exec`, which mounts another /sys
            subprocess.run(["nsenter", f"--net=/run/netns/{trio.ns('stent')}", harness.stent_bin(), "redirect", "install", "--port", "7777", "--to",
                            str(PORT), *map(str, words)], check=True, stdout=subprocess.DEVNULL)
            assert goes_through(trio, s, "stent", "4") and goes_through(trio, s, "stent", "6"), words
    finally:
        (root / "cgroup.procs").write_text(str(s.pid))
        group.rmdir()
        group.parent.rmdir()


@MODES
def test_it_is_replaced_in_one_step_and_leaves_nothing_behind(trio, mode):
    before = trio.dump()
    first = "--port", "7777", "--to", PORT, "--uid", 65534, "--mode", mode
    redirect(trio, "install", *first)
    installed = trio.dump()
    assert "7777" in installed[0] and installed != before
    redirect(trio, "install", *first)
    assert trio.dump() == installed
    redirect(trio, "install", *first, "--in", "--out", "--name", "other")		# beside it
    redirect(trio, "install", "--port", "1-65535", "--to", 1, "--in")
    assert list(rules(trio)) == [("prerouting", f"ip daddr 127.0.0.0/8 return"), ("prerouting", "ip6 daddr ::1/128 return"),
                                 ("prerouting", "iifname != lo tcp dport 1-65535 redirect to :1")]
    redirect(trio, "remove")
    assert ("prerouting" in trio.dump()[0]) and (mode == "redirect" or "0x5354" in trio.dump()[1])
    redirect(trio, "remove", "--name", "other")
    assert trio.dump() == before
    redirect(trio, "remove")
    assert trio.dump() == before
    done = redirect(trio, "show", check=False)
    assert done.returncode == 1 and done.stderr == "stent redirect show: nothing is redirected here: there is no table inet stent\n"


def test_what_cannot_be_installed_changes_nothing(trio):
    redirect(trio, "install", "--port", "7777", "--to", PORT, "--uid", 65534)
    trio.ip("stent", "link", "set", "lo", "down")
    before = trio.dump()
    done = redirect(trio, "install", "--port", "1", "--to", PORT, "--uid", 65534, "--mode", "tproxy", "--name", "other", check=False)
    assert done.returncode == 1 and "loopback interface of this network namespace is down" in done.stderr
    assert trio.dump() == before


@MODES
def test_long_rules_are_shown_whole_and_can_be_saved(trio, mode):
    """nft takes no comment of more than 128 characters when it reads what it has written; then nothing of a saved firewall is loaded."""
    network, ports = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:0/112", ",".join(str(10000 + i) for i in range(15))
    words = f"--port 50000-50001,{ports} --to 65535 --cidr {network},0.0.0.0/0 --except 10.9.9.9 --uid 65534 --mode {mode} --in --out"
    assert 128 < len(words) < 250
    assert redirect(trio, "install", *words.split()) == f"table inet stent: {words}\n"
    assert redirect(trio, "show").startswith(f"table inet stent: {words}\n")
    last = {"redirect": "redirect to :65535", "tproxy": "tcp flags & (syn | ack) == syn meta mark set 0x5354ef24 tproxy ip6 to :65535 accept"}
    assert ("prerouting", f"iifname != lo ip6 daddr {network} tcp dport 50000-50001 {last[mode]}") in rules(trio)
    saved = trio.dump()[0]
    done = subprocess.run([*trio.inside("stent"), "nft", "-f", "-"], input="flush ruleset\n" + saved, text=True, capture_output=True)
    assert done.returncode == 0, done
    redirect(trio, "install", "--port", f"{ports},{ports},{ports}", "--to", 1, "--in")
    assert re.match(r"table inet stent: --port 10000,.*\.\.\.\n", redirect(trio, "show"))


def test_rules_of_others_are_shown_as_such(trio):
    redirect(trio, "install", "--port", "7777", "--to", PORT, "--uid", 65534)
    trio.nft("stent", "add rule inet stent output counter accept")
    assert "(not a rule of stent)" in redirect(trio, "show").splitlines()[-1]
    assert rules(trio)["output", None] == 0


@pytest.mark.parametrize("words", [("install", "--port", 1, "--to", 2, "--uid", 3), ("remove",), ("show",)])
def test_without_the_capability_it_says_what_to_do(trio, words):
    done = redirect(trio, *words, check=False, prefix=("setpriv", "--bounding-set=-net_admin"))
    assert done.returncode == 1
    assert re.search("needs CAP_NET_ADMIN in this network namespace.*--cap-add NET_ADMIN.*securityContext", done.stderr), done


@pytest.mark.parametrize("words, why", [
    ((), "write install, remove or show"),
    (("instal",), "write install, remove or show"),
    (("install",), "--to is missing"),
    (("install", "--to", 1), "--port or --cidr is missing"),
    (("install", "--to", 1, "--port", 2), "--uid is missing"),
    (("install", "--to", 0, "--port", 2), '--to: "0" is not a port'),
    (("install", "--to", 1, "--port", "5-4", "--in"), '--port: "5-4" is not a port'),
    (("install", "--to", 1, "--port", "5,,4", "--in"), "--port: an item of the list is empty"),
    (("install", "--to", 1, "--port", "x", "--in"), '--port: "x" is not a port'),
    (("install", "--to", 1, "--cidr", "10.0.0.1/8", "--in"), '--cidr: "10.0.0.1/8" has bits set after its prefix'),
    (("install", "--to", 1, "--port", 2, "--in", "--uid", 3), "connections of other machines have no --uid"),
    (("install", "--to", 1, "--port", 2, "--uid", "nobody-here"), '--uid: no user "nobody-here" here'),
    (("install", "--to", 1, "--port", 2, "--gid", "-1"), '--gid: no group "-1" here'),
    (("install", "--to", 1, "--port", 2, "--in", "--name", "a b"), '--name: "a b" is no name of a table'),
    (("install", "--to", 1, "--port", ",".join(map(str, range(1, 66))), "--in"), "--port: more than 64"),
    (("install", "--to", 1, "--port", ",".join(map(str, range(1, 65))), "--cidr", "1.1.1.1,2.2.2.2,3.3.3.3,4.4.4.4,5.5.5.5", "--in"),
     "make 320 rules, more than 256"),
    (("install", "--to", 1, "--port", 2, "--in", "--json"), "--json is for show"),
    (("install", "--to", 1, "--port", 2, "--mode", "dnat"), "--mode takes redirect or tproxy"),
    (("remove", "--port", 1), "only --name says what is meant"),
])
def test_wrong_options(words, why):
    done = subprocess.run([harness.stent_bin(), "redirect", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 2 and why in done.stderr, done


@MODES
def test_servers_beside_stent_are_reached_as_before(trio, stent, mode):
    """What they send to their clients has a destination of the rules, too."""
    stent_of(trio, stent, mode)
    redirect(trio, "install", "--cidr", "0.0.0.0/0,::/0", "--to", PORT, "--uid", "nobody", "--mode", mode)
    for family in "46":
        with trio.backend_at("stent", trio.gateway[family], 2222) as server, trio.connect("client", (trio.gateway[family], 2222)) as client:
            with server.accept() as own:
                talk(client, own)
