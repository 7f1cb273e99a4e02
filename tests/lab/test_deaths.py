"""
Middleboxes that forget, cables that are pulled, hosts that are gone: a real network stack, connection
tracking and firewall, in namespaces. Each death has the right reason, on the right leg, in bounded time,
and the living side learns of it.
"""

import signal
import subprocess
import time

import harness
import pytest
from frames import CLOSE, TEXT, WebSocket, upgrade

SIDES = pytest.mark.parametrize("side", ["client", "backend"])
FIREWALL = {"client": "fwc", "backend": "fwb"}
PROBES = "1s/1s/2"              # idle + interval x probes = 3 s
FOUND_WITHIN = 3 + 2


def stent_in(lab, stent, **keys):
    keys = {"keepalive": PROBES, **keys}
    lines = "".join(f"{k.replace('__', '.')} = {v}\n" for k, v in keys.items())
    return stent(f"[route t]\nlisten = {lab.address['stent']}:7000\nbackend = {lab.address['backend']}:7000\n{lines}",
                 prefix=lab.inside("stent"))


def open_flow(lab, s, backend):
    client = lab.connect("client", (lab.address["stent"], 7000))
    server = backend.accept()
    for a, b in ((client, server), (server, client)):
        a.send_all(b"hello")
        assert b.recv_exact(5) == b"hello"
    return {"client": client, "backend": server}


def still_talks(a, b, timeout=3):
    """Both directions pass a message."""
    try:
        for x, y in ((a, b), (b, a)):
            x.send_all(b"again")
            if y.recv_exact(5, timeout=timeout) != b"again":
                return False
        return True
    except (AssertionError, OSError):
        return False


@SIDES
def test_an_idle_flow_dies_without_stent_and_lives_with_it(lab, stent, side):
    lab.forgetful(FIREWALL[side])
    with lab.backend() as backend, lab.backend(port=7001) as straight:
        s = stent_in(lab, stent)
        ends = open_flow(lab, s, backend)
        client = lab.connect("client", (lab.address["backend"], 7001))
        server = straight.accept()
        assert still_talks(client, server)
        time.sleep(9)
        assert not still_talks(client, server, timeout=1.5)
        assert still_talks(ends["client"], ends["backend"])


@SIDES
def test_a_flow_through_stent_without_keepalive_dies_too(lab, stent, side):
    """What stent does is what keeps it alive, not that it is there."""
    lab.forgetful(FIREWALL[side])
    with lab.backend() as backend:
        ends = open_flow(lab, stent_in(lab, stent, keepalive="off"), backend)
        time.sleep(9)
        assert not still_talks(ends["client"], ends["backend"], timeout=1.5)


def expect_death(s, ends, side, reasons, began, within=FOUND_WITHIN, reset=True):
    living = ends["backend" if side == "client" else "client"]
    if reset:
        living.expect_reset(timeout=within + 1)
    end = s.flow_end(timeout=within + 2)
    assert time.monotonic() - began <= within * harness.SLOW
    assert end["reason"] in [f"{side}-{r}" for r in reasons], end["reason"]
    return end


@SIDES
def test_a_pulled_cable_is_found_by_probes(lab, stent, side):
    with lab.backend() as backend:
        s = stent_in(lab, stent)
        ends = open_flow(lab, s, backend)
        lab.pull_cable(side, FIREWALL[side])
        expect_death(s, ends, side, ["keepalive-timeout"], time.monotonic())


@pytest.mark.parametrize("on_dead", ["notify", "close"])
def test_a_response_that_ends_with_its_connection_never_looks_whole(lab, stent, on_dead):
    with lab.backend() as backend:
        s = stent_in(lab, stent, protocol="http", on_dead=on_dead)
        client = lab.connect("client", (lab.address["stent"], 7000))
        client.send_all(b"GET / HTTP/1.0\r\n\r\n")
        server = backend.accept()
        server.recv_exact(18)
        answer = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
        server.send_all(answer)
        assert client.recv_exact(len(answer)) == answer
        lab.pull_cable("backend", FIREWALL["backend"])
        expect_death(s, {"client": client, "backend": server}, "backend", ["keepalive-timeout"], time.monotonic())


@SIDES
def test_a_host_that_is_gone_without_a_word(lab, stent, side):
    with lab.backend() as backend:
        s = stent_in(lab, stent)
        ends = open_flow(lab, s, backend)
        lab.drop(FIREWALL[side])
        expect_death(s, ends, side, ["keepalive-timeout"], time.monotonic())


@SIDES
def test_bytes_that_are_never_acknowledged(lab, stent, side):
    with lab.backend() as backend:
        s = stent_in(lab, stent)
        ends = open_flow(lab, s, backend)
        lab.drop(FIREWALL[side])
        began = time.monotonic()
        ends["backend" if side == "client" else "client"].send_all(b"are you there?")
        expect_death(s, ends, side, ["user-timeout"], began)


@SIDES
def test_a_network_that_says_it_cannot_be_reached(lab, stent, side):
    """ICMP unreachable, while bytes are under way."""
    with lab.backend() as backend:
        s = stent_in(lab, stent)
        ends = open_flow(lab, s, backend)
        lab.nft(FIREWALL[side], "add table ip broken; add chain ip broken c { type filter hook forward priority -10; }; "
                "add rule ip broken c meta l4proto tcp reject with icmp type host-unreachable")
        began = time.monotonic()
        ends["backend" if side == "client" else "client"].send_all(b"are you there?")
        expect_death(s, ends, side, ["unreachable"], began)


@SIDES
def test_a_peer_that_was_rebooted_answers_a_probe_with_a_reset(lab, stent, side):
    with lab.backend() as backend:
        s = stent_in(lab, stent)
        ends = open_flow(lab, s, backend)
        lab.drop(side, hook="output")           # its goodbye is lost, as in a crash
        ends[side].reset()
        time.sleep(0.2)
        began = time.monotonic()
        lab.heal(side)
        expect_death(s, ends, side, ["reset"], began)


@SIDES
def test_a_stopped_program_is_not_dead_to_tcp(lab, stent, side):
    """Its kernel answers the probes: the flow goes on, and so does the program when it is continued."""
    with lab.backend() as backend:
        s = stent_in(lab, stent)
        if side == "client":
            where, mine = (lab.address["stent"], 7000), "client"
            program = lab_program(lab, "client", f"c = socket.create_connection({where!r})")
            other = backend.accept()
        else:
            backend.close()
            program = lab_program(lab, "backend", "l = socket.socket(); l.setsockopt(1, 2, 1); "
                                  f"l.bind(({lab.address['backend']!r}, 7000)); l.listen(); c, _ = l.accept()")
            harness.wait_for(lambda: listens(lab), what="the backend")
            other = lab.connect("client", (lab.address["stent"], 7000))
        try:
            other.send_all(b"one")
            assert other.recv_exact(3) == b"one"
            program.send_signal(signal.SIGSTOP)
            time.sleep(6)                       # twice what finds a dead host
            s.expect_no_event("flow end")
            program.send_signal(signal.SIGCONT)
            other.send_all(b"two")
            assert other.recv_exact(3) == b"two"
        finally:
            program.send_signal(signal.SIGCONT)
            program.kill()
            program.wait()


def lab_program(lab, host, opening):
    script = ("import socket\n" + opening + "\nwhile True:\n    d = c.recv(100)\n    if not d: break\n    c.sendall(d)\n")
    return subprocess.Popen([*lab.inside(host), "/usr/bin/python3", "-c", script])


def listens(lab):
    from lab import run
    return ":7000" in run(*lab.inside("backend"), "ss", "-Hltn")


@SIDES
def test_a_stalled_peer_whose_host_is_gone_is_found(lab, stent, side):
    """Its window is shut, so TCP_USER_TIMEOUT is off: the relay itself must find the death."""
    with lab.backend() as backend:
        s = stent_in(lab, stent)
        ends = open_flow(lab, s, backend)
        sender = ends["backend" if side == "client" else "client"]
        sender.sock.setblocking(False)
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            try:
                sender.sock.send(bytes(65536))
            except BlockingIOError:
                time.sleep(0.05)
        s.expect_no_event("flow end")
        lab.drop(FIREWALL[side])
        end = s.flow_end(timeout=40)
        assert end["reason"] == f"{side}-user-timeout"


@SIDES
@pytest.mark.parametrize("how", ["cable pulled", "silent drop", "bytes under way"])
def test_the_surviving_peer_gets_a_goodbye_however_the_death_was_found(lab, stent, side, how):
    """Found by the kernel it is the same Close as when a heartbeat found it."""
    with lab.backend() as backend:
        s = stent_in(lab, stent, protocol="websocket", heartbeat="off")
        client = lab.connect("client", (lab.address["stent"], 7000))
        server = backend.accept()
        upgrade(client, server)
        survivor = WebSocket(server, masks=False) if side == "client" else WebSocket(client, masks=True)
        if how == "cable pulled":
            lab.pull_cable(side, FIREWALL[side])
        else:
            lab.drop(FIREWALL[side])
        if how == "bytes under way":
            survivor.send(TEXT, b"are you there?")
        opcode, payload = survivor.read(timeout=FOUND_WITHIN * harness.SLOW + 1)
        assert (opcode, payload[:2]) == (CLOSE, (1001).to_bytes(2, "big"))
        assert f"{side} idle for".encode() in payload
        survivor.peer.expect_fin()
        survivor.peer.close()
        assert s.flow_end()["reason"] in (f"{side}-keepalive-timeout", f"{side}-user-timeout")
