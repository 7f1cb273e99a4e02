"""
A firewall that counts only packets with payload: TCP's probes pass it and
tell both ends that all is well, and the flow is forgotten all the same. Only
heartbeats keep it. On either side of stent.
"""

import socket
import time

import harness
import pytest
from frames import TEXT, WebSocket, upgrade

FORGETS_AFTER = 3
QUIET = 2 * FORGETS_AFTER
FIREWALLS = pytest.mark.parametrize("firewall", ["fwc", "fwb"])
PROBED = "1s/1s/2"


def passes(a, b, timeout=1.5):
    """A message each way."""
    try:
        for x, y in ((a, b), (b, a)):
            x.send_all(b"hello")
            if y.recv_exact(5, timeout=timeout) != b"hello":
                return False
        return True
    except (AssertionError, OSError):
        return False


def straight(lab, backend):
    """A connection through both firewalls, without stent between."""
    client = lab.connect("client", (lab.address["backend"], backend.port))
    server = backend.accept()
    assert passes(client, server)
    return client, server


def probe_each_second(peer):
    for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 9)):
        peer.sock.setsockopt(socket.IPPROTO_TCP, option, value)
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


@FIREWALLS
def test_the_firewall_counts_payload_alone(lab, firewall):
    """The lab itself: probes leave a flow to be forgotten, a byte each second in either direction keeps it."""
    lab.forgetful(firewall, FORGETS_AFTER, count_only_payload=True)
    with lab.backend() as a, lab.backend(port=7001) as b, lab.backend(port=7002) as c, lab.backend(port=7003) as d:
        quiet, probed = straight(lab, a), straight(lab, b)
        talking, answering = straight(lab, c), straight(lab, d)
        for peer in probed:
            probe_each_second(peer)
        for _ in range(QUIET):
            time.sleep(1)
            talking[0].send_all(b".")
            answering[1].send_all(b".")
        assert talking[1].recv_exact(QUIET) == answering[0].recv_exact(QUIET) == b"." * QUIET
        assert passes(*talking) and passes(*answering)
        assert not passes(*quiet)
        assert not passes(*probed)


@FIREWALLS
def test_a_firewall_that_counts_every_packet_is_content_with_probes(lab, firewall):
    """So what makes the difference above is the payload."""
    lab.forgetful(firewall, FORGETS_AFTER)
    with lab.backend() as backend:
        ends = straight(lab, backend)
        probe_each_second(ends[0])
        time.sleep(QUIET)
        assert passes(*ends)


def open_websocket(lab, s, backend, port):
    client = lab.connect("client", (lab.address["stent"], port))
    server = backend.accept()
    upgrade(client, server)
    return WebSocket(client, masks=True), WebSocket(server, masks=False)


@FIREWALLS
def test_websocket_lives_by_heartbeats_and_dies_by_probes_alone(lab, stent, firewall):
    lab.forgetful(firewall, FORGETS_AFTER, count_only_payload=True)
    routes = {"asked": "heartbeat = 1s\nheartbeat_kind = ping", "told": "heartbeat = 1s\nheartbeat_kind = oneway",
              "probed": "heartbeat = off"}
    ini, flows = f"[defaults]\nprotocol = websocket\nkeepalive = {PROBED}\n", {}
    for port, (name, keys) in enumerate(routes.items(), 7000):
        ini += (f"[route {name}]\nlisten = {lab.address['stent']}:{port}\n"
                f"backend = {lab.address['backend']}:{port}\n{keys}\n")
    s = stent(ini, prefix=lab.inside("stent"))
    with lab.backend() as asked, lab.backend(port=7001) as told, lab.backend(port=7002) as probed:
        for backend in (asked, told, probed):
            flows[backend.port] = open_websocket(lab, s, backend, backend.port)
        living = [flows[asked.port], flows[told.port]]
        answering = [[ws.answer_in_background() for ws in ends] for ends in living]
        time.sleep(QUIET)
        s.expect_no_event("flow end")
        for ends, heard in zip(living, answering):
            for ws, other in zip(ends, reversed(heard)):
                ws.send(TEXT, b"still here")
                harness.wait_for(lambda other=other: other.messages == [(TEXT, b"still here")], what="the message")
            assert all(len(h.heartbeats) >= QUIET - 2 for h in heard)
            for h in heard:
                h.stop()
        # The other looks as well as these did: its probes were answered to the end.
        client, server = flows[probed.port]
        far, sender, receiver = ("client", server, client) if firewall == "fwc" else ("backend", client, server)
        sender.send(TEXT, b"still here")
        assert s.flow_end(route="probed", timeout=10)["reason"] == f"{far}-user-timeout"
        with pytest.raises((AssertionError, ConnectionError)):
            receiver.read(timeout=0.5)


@pytest.mark.parametrize("dead", ["client", "backend"])
def test_the_living_side_is_beaten_no_longer_than_the_other_is_vouched_for(lab, stent, dead):
    """
    One side's path is broken without a word. Until TCP finds that (here late, or never) the other is not
    told that all is well: heartbeats to it end with the last sign of life's worth.
    """
    living = "backend" if dead == "client" else "client"
    signs = {"probed": (f"keepalive = 1s/1s/20\n{dead}.heartbeat = off", 1 + 1 + 1),
             "beaten": (f"keepalive = off\n{dead}.heartbeat = 200ms", 2 * 0.2 + 1)}
    ini = "[defaults]\nprotocol = websocket\nheartbeat_kind = oneway\nuser_timeout = off\n"
    ends, answering = {}, {}
    for port, (name, (keys, _)) in enumerate(signs.items(), 7000):
        ini += (f"[route {name}]\nlisten = {lab.address['stent']}:{port}\n"
                f"backend = {lab.address['backend']}:{port}\n{living}.heartbeat = 200ms\n{keys}\n")
    s = stent(ini, prefix=lab.inside("stent"))
    with lab.backend() as probed, lab.backend(port=7001) as beaten:
        for name, backend in (("probed", probed), ("beaten", beaten)):
            ends[name] = client, server = open_websocket(lab, s, backend, backend.port)
            answering[name] = (server if dead == "client" else client).answer_in_background()
        time.sleep(4)		# longer than either sign counts: new ones come, of the kernel alone
        lab.drop({"client": "fwc", "backend": "fwb"}[dead])
        broken = time.monotonic()
        assert all(broken - heard.heartbeats[-1] < 0.5 * harness.SLOW for heard in answering.values())
        time.sleep(5)
        s.expect_no_event("flow end")
        for name, heard in answering.items():
            heard.stop()
            assert heard.heartbeats[-1] - broken <= signs[name][1] + 0.5 * harness.SLOW
        lab.heal({"client": "fwc", "backend": "fwb"}[dead])
