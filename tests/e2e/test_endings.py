"""A flow that ends in the middle of something else: while a heartbeat goes out, while it becomes passthrough, while bytes are held back."""

import signal
import time

import harness
import pytest

SIDES = pytest.mark.parametrize("side", ["client", "backend"])
PING, PONG = b"PING\n", b"PONG\n"


def asked_route(stent, backend, side, interval="100ms", **keys):
    """A `line` route that pings one side; the other gets no heartbeats."""
    keys = {"protocol": "line", "heartbeat": "off", f"{side}__heartbeat": interval, f"{side}__heartbeat_send": r"PING\n",
            f"{side}__heartbeat_expect": r"PONG\n", **keys}
    return stent.route(backend.text, **keys)


def both_ends(s, backend, side):
    """The end that is pinged, and the other."""
    client, server = s.connect(), backend.accept()
    return (client, server) if side == "client" else (server, client)


@SIDES
@pytest.mark.parametrize("on_dead", ["reset", "close", "notify"])
def test_a_side_that_replies_to_no_ping(stent, raw_backend, side, on_dead):
    """The flow ends from within its timer, and nothing of it is looked at any more."""
    s = asked_route(stent, raw_backend, side, on_dead=on_dead, **{f"{side}__heartbeat_timeout": "100ms"})
    pinged, other = both_ends(s, raw_backend, side)
    assert pinged.recv_exact(5) == PING
    pinged.send_all(PONG)			# only a peer that has replied before can miss a reply
    assert pinged.recv_exact(15) == PING * 3
    if on_dead == "close":
        other.expect_fin()
        other.close()
    else:                                       # `line` has no close message
        other.expect_reset()
    end = s.flow_end()
    assert end["reason"] == f"{side}-heartbeat-timeout"
    assert (end[f"{side}_heartbeats"], end[f"{side}_replies"]) == (4, 1)
    asked_again, other = both_ends(s, raw_backend, side)
    assert asked_again.recv_exact(5) == PING


@SIDES
def test_a_reset_after_a_reply(stent, raw_backend, side):
    """One edge stands for both, and only the reply is read: the reset is still found, and soon."""
    s = asked_route(stent, raw_backend, side, interval="2s")
    pinged, other = both_ends(s, raw_backend, side)
    assert pinged.recv_exact(5) == PING
    s.signal(signal.SIGSTOP)
    pinged.send_all(PONG)
    pinged.reset()
    s.signal(signal.SIGCONT)
    began = time.monotonic()
    other.expect_reset()
    assert s.flow_end()["reason"] == f"{side}-reset"
    assert time.monotonic() - began <1 * harness.SLOW


def test_the_codec_lets_go_with_the_write_that_fails(stent, raw_backend):
    """What makes the protocol passthrough is what meets the other side's reset: the flow ends in the middle of both."""
    s = asked_route(stent, raw_backend, "client", interval="10s")
    for _ in range(20):
        client, backend = s.connect(), raw_backend.accept()
        s.signal(signal.SIGSTOP)
        client.send_all(b"\x16\x03\x01 begins TLS\n")
        backend.reset()
        s.signal(signal.SIGCONT)
        client.expect_reset()
        assert s.flow_end()["reason"] == "backend-reset"
    assert s.wait_logged("TLS")


@SIDES
def test_bytes_held_back_are_delivered_before_a_reset(stent, raw_backend, side):
    """The start of a possible reply is held back; after a reset it was no reply and is passed on."""
    s = asked_route(stent, raw_backend, side, interval="500ms")
    pinged, other = both_ends(s, raw_backend, side)
    assert pinged.recv_exact(5) == PING
    pinged.send_all(PONG[:3])
    time.sleep(0.1)
    pinged.reset()
    assert other.recv_exact(3) == PONG[:3]
    other.expect_reset()
    end = s.flow_end()
    assert (end["reason"], end[f"{side}_bytes"]) == (f"{side}-reset", 3)
