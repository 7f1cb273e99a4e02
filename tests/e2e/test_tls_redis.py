"""
Redis with TLS toward the client, toward a real server's TLS port, and both: conversations of test_redis.py again, to
the byte, with heartbeats each 2 ms inside; drivers; client certificates; servers that die.
"""

import os
import signal

import harness
import pytest
import test_redis
import tls_ends
from servers.redis import Redis, command
from test_redis import (  # noqa: F401
    HERE, NODE_DRIVERS, NODE_SAYS, Session, session, test_a_dead_server_is_told_to_an_open_command, test_a_pipelined_transaction,
    test_a_subscription_in_resp2, test_a_subscription_in_resp3, test_a_transaction_has_no_element_more,
    test_behind_blocking_commands, test_large_values, test_pushes_go_to_a_client_in_resp3_alone)


@pytest.fixture(params=tls_ends.LEGS)
def legs(request):
    return request.param


@pytest.fixture
def stent(tmp_path, certificates, legs):
    starter = tls_ends.TlsStarter(tmp_path, certificates, legs)
    yield starter
    starter.finish()


@pytest.fixture(scope="module")
def with_tls(certificates):
    server = Redis("--enable-debug-command", "yes", certificates=certificates)
    yield server
    server.close()


@pytest.fixture
def redis(request, legs):
    """A server with TLS where stent expects it."""
    server = request.getfixturevalue("plain_redis" if legs == "client" else "with_tls")
    server.ask("FLUSHALL")
    return server


@pytest.fixture(scope="module")
def plain_redis():
    server = Redis("--enable-debug-command", "yes")
    yield server
    server.close()


@pytest.fixture
def through(stent, redis):
    return test_redis.route(stent, redis)


# --- drivers ---

def test_redis_cli(through, certificates, legs):
    test_redis.converse_by_redis_cli(through.port, *(["--tls", "--cacert", certificates.ca] if legs != "backend" else []))
    assert sum(test_redis.heartbeats_of(through) for _ in range(2)) > 3


def test_redis_py(through, certificates, legs):
    more = {"ssl": True, "ssl_ca_certs": str(certificates.ca), "ssl_check_hostname": True} if legs != "backend" else {}
    test_redis.converse_by_redis_py(through.port, **more)
    assert sum(test_redis.heartbeats_of(through) for _ in range(2)) > 20


@pytest.mark.plain
@pytest.mark.parametrize("legs", ["both", *(pytest.param(legs, marks=pytest.mark.long) for legs in ("client", "backend"))], indirect=True)
def test_node_drivers(through, certificates, legs):
    env = {"TLS": "yes", "NODE_EXTRA_CA_CERTS": str(certificates.ca)} if legs != "backend" else {}
    said = test_redis.run_all([["node", HERE / "clients" / "redis.js", driver, through.port] for driver in NODE_DRIVERS],
                              env={**os.environ, **env})
    assert [out.splitlines() for out in said] == [NODE_SAYS] * len(NODE_DRIVERS)
    assert sum(test_redis.heartbeats_of(through) for _ in range(2 * len(NODE_DRIVERS))) > 100


# --- client certificates ---

@pytest.fixture(scope="module")
def strict(certificates):
    server = Redis(certificates=certificates, demands_certificate=True)
    yield server
    server.close()


@pytest.mark.parametrize("legs", ["backend"], indirect=True)
def test_a_client_certificate_for_the_server(stent, strict, certificates):
    s = test_redis.route(stent, strict, backend__tls_cert=certificates.client.cert, backend__tls_key=certificates.client.key)
    test_redis.converse_by_redis_py(s.port)
    assert sum(test_redis.heartbeats_of(s) for _ in range(2)) > 20


@pytest.mark.parametrize("legs", ["backend"], indirect=True)
@pytest.mark.parametrize("shown", [None, "other_client"])
def test_a_server_that_refuses_the_client_certificate(stent, strict, certificates, shown):
    """In TLS 1.3 it does so when stent's handshake is done: the flow is open by then, and ends with the cause all the same."""
    pair = getattr(certificates, shown) if shown else None
    s = test_redis.route(stent, strict, **({"backend__tls_cert": pair.cert, "backend__tls_key": pair.key} if pair else {}))
    for _ in range(20):		# its reset may be found before its alert is read; and the client's within its connect()
        with pytest.raises(ConnectionResetError), s.connect() as c:
            c.send_all(command("PING"))
            c.recv_all()
        end = s.flow_end()
        assert end["reason"] == "backend-tls" and "certificate" in end["cause"], end


@pytest.mark.parametrize("legs", ["client", "both"], indirect=True)
def test_a_client_certificate_from_the_client(stent, redis, certificates):
    s = test_redis.route(stent, redis, client__tls_ca=certificates.ca)
    shown = {"ssl": True, "ssl_ca_certs": str(certificates.ca), "ssl_certfile": str(certificates.client.cert),
             "ssl_keyfile": str(certificates.client.key)}
    test_redis.converse_by_redis_py(s.port, **shown)
    assert sum(test_redis.heartbeats_of(s) for _ in range(2)) > 20


# --- servers that die ---

def test_a_server_that_is_killed(stent, legs, certificates):
    """Its kernel sends a FIN without a close_notify, or a reset where bytes were left: so does stent."""
    server = Redis(**({} if legs == "client" else {"certificates": certificates}))
    try:
        s = test_redis.route(stent, server)
        with Session(s) as c:
            c.expect(b"$-1\r\n", "GET", "none")
            c.rest()
            server.process.send_signal(signal.SIGKILL)
            try:
                assert c.recv_all() == b""
            except ConnectionResetError:
                pass
        end = s.flow_end()
    finally:
        server.close()
    assert end["reason"] in ("backend-fin", "backend-reset"), end
    if end["reason"] == "backend-fin" and legs != "client":
        assert end["truncated"] == "backend"
