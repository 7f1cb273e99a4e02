"""Several backends: which one gets a flow, and what happens when one fails."""

import collections
import contextlib
import signal
import ssl
import threading
import time

import psycopg2
import pytest

import harness
from reloading import reload


@pytest.fixture
def three():
    with contextlib.ExitStack() as until:
        yield [until.enter_context(harness.EchoBackend()) for _ in range(3)]


def open_flow(s, source=None):
    """A flow that stays open, and its backend."""
    peer = s.connect(source=source and (source, 0))
    peer.send_all(b"x")
    assert peer.recv_exact(1) == b"x"
    return peer, s.flow_start(client=f"{peer.sock.getsockname()[0]}:{peer.port}")["backend"]


def states(s):
    return {b["backend"]: b for b in s.ask("status")["routes"][0]["backend_states"]}


def wait_flows(s, wanted):
    harness.wait_for(lambda: [b["flows"] for b in states(s).values()] == wanted, what=f"{wanted} flows")


def listing(backends):
    return ", ".join(b if isinstance(b, str) else b.text for b in backends)


@pytest.mark.workers
def test_least_flows_counts_those_of_all_workers(stent, three):
    s = stent.route(listing(three), balance="least-flows", settings={"workers": 2})
    flows = [open_flow(s) for _ in range(12)]
    assert collections.Counter(b for _, b in flows) == {b.text: 4 for b in three}
    wait_flows(s, [4, 4, 4])
    for peer, backend in flows:
        if backend == three[1].text:
            peer.close()
    wait_flows(s, [4, 0, 4])
    assert {open_flow(s)[1] for _ in range(4)} == {three[1].text}
    # A list that changes: the open flows still count.
    keys = {"listen": f"{harness.HOST}:{s.port}", "balance": "least-flows"}
    reload(s, {"t": {**keys, "backend": listing(three[:1])}})
    wait_flows(s, [4])
    more = [open_flow(s) for _ in range(4)]
    reload(s, {"t": {**keys, "backend": listing([three[2], three[0]])}})
    wait_flows(s, [4, 8])
    assert {open_flow(s)[1] for _ in range(4)} == {three[2].text}
    for peer, _ in flows + more:
        peer.close()


@pytest.mark.workers
def test_a_client_has_its_backend_by_hash(stent, three):
    s = stent.route(listing(three), balance="hash-client", retry_after="10s", settings={"workers": 2})
    clients = [f"127.0.1.{i}" for i in range(1, 41)]

    def choose():
        chosen = {}
        for client in clients:
            peer, chosen[client] = open_flow(s, client)
            peer.close()
        return chosen

    first = choose()
    assert set(first.values()) == {b.text for b in three}
    assert choose() == first
    dead = three[1]
    dead.close()
    other = choose()
    assert {c for c in clients if other[c] != first[c]} == {c for c in clients if first[c] == dead.text}
    assert {other[c] for c in clients if first[c] == dead.text} <= {three[0].text, three[2].text}	# by chance (1 in 570) only one
    failures = states(s)[dead.text]["connect_failures"]
    assert failures <= 3			# it was passed over, rather than refuse each client
    assert states(s)[dead.text]["state"] == "down"
    reload(s, {"t": {"listen": f"{harness.HOST}:{s.port}", "balance": "hash-client",
                     "backend": listing([three[2], three[0]])}})
    assert choose() == other


@pytest.mark.lab
def test_the_addresses_of_a_name_share_the_flows(stent, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.2 db.test\n127.0.0.3 db.test\n")
    with harness.EchoBackend(host="127.0.0.2") as one, harness.EchoBackend(host="127.0.0.3", port=one.port) as two:
        s = stent("".join(f"[route {balance}]\nlisten = {harness.HOST}:{harness.free_port()}\nbackend = db.test:{one.port}\n"
                          f"balance = {balance}\n" for balance in ("least-flows", "hash-client")),
                  prefix=harness.privately("/etc/hosts", hosts))
        flows = [open_flow(s) for _ in range(8)]
        assert collections.Counter(b for _, b in flows) == {one.text: 4, two.text: 4}
        assert {a["address"]: a["flows"] for a in states(s)[f"db.test:{one.port}"]["addresses"]} == {one.text: 4, two.text: 4}
        port = int(s.listen[1].rsplit(":", 1)[1])
        for i in range(20):
            chosen = set()
            for _ in range(2):
                with harness.connect(port, source=(f"127.0.1.{i + 1}", 0)) as peer:
                    peer.send_all(b"x")
                    assert peer.recv_exact(1) == b"x"
                chosen.add(s.flow_end(route="hash-client")["backend"])
            assert len(chosen) == 1
            flows += [(peer, *chosen)]
        assert {b for _, b in flows[8:]} == {one.text, two.text}


@pytest.mark.workers
def test_one_flow_tries_a_backend_whose_time_has_come(stent, echo):
    dead, retry_s = harness.free_port(), 0.6 * harness.SLOW
    s = stent.route(f"127.0.0.1:{dead}, {echo.text}", balance="least-flows", retry_after=f"{int(1000 * retry_s)}ms", settings={"workers": 2})
    failures = lambda: states(s)[f"127.0.0.1:{dead}"]["connect_failures"]		# noqa: E731
    harness.wait_for(lambda: open_flow(s)[0].close() or failures() == 1, what="a flow to try it")
    for _ in range(10):
        assert open_flow(s)[1] == echo.text
    assert failures() == 1
    address, = states(s)[f"127.0.0.1:{dead}"]["addresses"]
    assert 0 < address["retry_in_seconds"] <= retry_s
    time.sleep(retry_s)
    for _ in range(10):
        assert open_flow(s)[1] == echo.text
    assert failures() == 2
    address, = states(s)[f"127.0.0.1:{dead}"]["addresses"]
    assert address["retry_in_seconds"] > retry_s		# it has doubled, less a fifth at most
    with harness.EchoBackend(port=dead) as back:
        assert open_flow(s)[1] == echo.text
        harness.wait_for(lambda: open_flow(s)[1] == back.text, what="it to be used again", step=0.1)
        held = [open_flow(s) for _ in range(4)]
        assert collections.Counter(b for _, b in held) == {back.text: 2, echo.text: 2}
        assert states(s)[back.text]["state"] == "up"


def test_when_all_are_down_all_are_tried(stent):
    ports = [harness.free_port() for _ in range(3)]
    s = stent.route(", ".join(f"127.0.0.1:{p}" for p in ports), balance="least-flows", retry_after="1h")
    for _ in range(2):
        s.expect_refusal()
    assert {b["connect_failures"] for b in states(s).values()} == {2}
    with harness.EchoBackend(port=ports[2]) as back:
        assert open_flow(s)[1] == back.text
        assert open_flow(s)[1] == back.text


@pytest.mark.lab
@pytest.mark.workers
def test_a_black_holed_ipv6_address_costs_a_moment_once(stent, tmp_path):
    """Whatever names lead to it, in the whole process."""
    hosts = tmp_path / "hosts"
    with harness.EchoBackend(host="127.0.0.2") as good, harness.BlackHole(host="::1", port=good.port):
        hosts.write_text("::1 a.test b.test\n127.0.0.2 a.test b.test\n")
        s = stent("".join(f"[route {name}]\nlisten = {harness.HOST}:{harness.free_port()}\nbackend = {name}.test:{good.port}\n"
                          "retry_after = 1h\n" for name in "ab"), prefix=harness.privately("/etc/hosts", hosts), workers=2)
        took, open_flows = [], []
        for i in range(10):
            began = time.monotonic()
            peer = harness.connect(int(s.listen[i % 2].rsplit(":", 1)[1]))
            peer.send_all(b"x")
            assert peer.recv_exact(1) == b"x"
            took.append(time.monotonic() - began)
            open_flows.append(peer)
        assert s.ask("status")["flows_by_worker"] == [5, 5]
        assert 0.25 <= took[0] < 1 * harness.SLOW and max(took[1:]) < 0.2 * harness.SLOW


def test_status_tells_what_is_known(stent, echo):
    dead = harness.free_port()
    s = stent.route(f"127.0.0.1:{dead}, {echo.text}")
    _flow = open_flow(s)
    text = harness.run_stent("status", "-c", s.ini_path).stdout.replace(f",\n{'':13}", ", ")
    assert f"127.0.0.1:{dead} (down), " in text and f"{echo.text} (up)" in text
    assert f"127.0.0.1:{dead} down, for " in text and "backend-refused, 0 flows, 1 failed connects" in text
    assert f"{echo.text} up, for " in text and ", 1 flows" in text


def test_status_tells_when_an_address_is_tried_again(stent, echo, tmp_path):
    """Only where flows pass it over: with balance = first one that refuses is tried by each. A UNIX socket as any other."""
    for balance, waits in (("first", False), ("least-flows", True)):
        for dead in (f"127.0.0.1:{harness.free_port()}", f"unix:{tmp_path}/nobody"):
            s = stent.route(f"{dead}, {echo.text}", balance=balance, retry_after="60s")
            _flows = [open_flow(s) for _ in range(3)]
            states = {b["backend"]: b for b in s.ask("status")["routes"][0]["backend_states"]}
            assert states[dead]["connect_failures"] == (1 if waits else 3), (balance, dead)
            left = states[dead]["addresses"][0]["retry_in_seconds"]
            assert 30 < left <= 60 if waits else left is None, (balance, dead)


# --- connect_retry ---

def waiting(s, n):
    harness.wait_for(lambda: s.ask("status")["routes"][0]["waiting_for_backend"] == n, what=f"{n} clients to wait")


@pytest.mark.workers
def test_clients_wait_while_a_backend_restarts(stent):
    port = harness.free_port()
    s = stent.route(port, connect_retry="20s", settings={"workers": 2})
    peers = [s.connect() for _ in range(30)]
    for i, peer in enumerate(peers):
        peer.send_all(b"%02d" % i)
    waiting(s, 30)
    time.sleep(0.5)
    before = states(s)[f"127.0.0.1:{port}"]["connect_failures"]
    time.sleep(1)
    assert states(s)[f"127.0.0.1:{port}"]["connect_failures"] - before <= 7	# few try for all
    text = harness.run_stent("status", "-c", s.ini_path).stdout
    assert "30 clients wait for a backend" in text
    with harness.EchoBackend(port=port):
        began = time.monotonic()
        for i, peer in enumerate(peers):
            assert peer.recv_exact(2) == b"%02d" % i
        assert time.monotonic() - began < 2.5 * harness.SLOW
        waiting(s, 0)
        for peer in peers:
            peer.close()
    reasons = {s.flow_end()["reason"] for _ in peers}
    assert reasons == {"client-fin"}


def test_the_wait_ends(stent):
    """After connect_retry; or when the client has left."""
    port = harness.free_port()
    s = stent(f"[route t]\nlisten = {harness.HOST}:{harness.free_port()}\nbackend = 127.0.0.1:{port}\nconnect_retry = 700ms\n"
              f"[route pg]\nlisten = {harness.HOST}:{harness.free_port()}\nbackend = 127.0.0.1:{port}\nprotocol = postgres\n"
              "connect_retry = 1h\n", max_flows=8)
    pg = int(s.listen[1].rsplit(":", 1)[1])
    with s.connect() as peer:
        peer.send_all(b"x")
        peer.half_close()				# it may wait for an answer all the same
        peer.expect_reset(timeout=5)
    end = s.flow_end()
    assert end["reason"] == "backend-refused" and 0.6 < end["seconds"] < 1.5 * harness.SLOW
    patient, hasty = harness.connect(pg), harness.connect(pg)
    hasty.send_all(b"a startup packet")
    harness.wait_for(lambda: s.ask("status")["routes"][1]["waiting_for_backend"] == 2, what="both to wait")
    hasty.close()
    assert s.flow_end()["reason"] == "client-fin"
    more = [harness.connect(pg) for _ in range(3)]
    harness.wait_for(lambda: s.ask("status")["routes"][1]["waiting_for_backend"] == 4, what="half of max_flows to wait")
    with contextlib.suppress(ConnectionResetError), harness.connect(pg) as refused:
        refused.expect_reset()
    assert s.flow_end()["reason"] == "backend-refused"
    patient.reset()
    assert s.flow_end()["reason"] == "client-reset"
    for peer in more:
        peer.close()


def test_a_postgresql_that_restarts(stent):
    from servers.postgres import Postgres
    server = Postgres()
    try:
        s = stent.route(server.port, protocol="postgres", connect_retry="30s")
        command = server.process.args
        server.process.send_signal(signal.SIGINT)
        server.process.wait(20)
        got = []

        def ask():
            while not got:
                try:
                    connection = psycopg2.connect(server.dsn(s.port, connect_timeout=25))
                except psycopg2.OperationalError as e:
                    assert "starting up" in str(e), e	# it accepted already
                    continue
                with connection.cursor() as cursor:
                    cursor.execute("select 42")
                    got.append(cursor.fetchone())
                connection.close()
        clients = [threading.Thread(target=ask) for _ in range(3)]
        for client in clients:
            client.start()
        waiting(s, 3)
        time.sleep(0.3)
        server.spawn(*command)
        for client in clients:
            client.join(20 * harness.SLOW)
        assert got and not any(client.is_alive() for client in clients)
        # One that met a server that was starting up has ended early.
        harness.wait_for(lambda: any(r.get("event") == "flow end" and r["seconds"] > 0.1 for r in s.records),
                         what="the end of a flow that had waited")
    finally:
        server.close()


def test_clients_with_tls_wait_too(stent, certificates):
    """Their handshake may end before the backend is there; what they send then is relayed when it is."""
    port = harness.free_port()
    s = stent.route(port, connect_retry="20s", client__tls="require", client__tls_cert=certificates.good.cert,
                    client__tls_key=certificates.good.key)
    raw = s.connect().sock
    raw.settimeout(10 * harness.SLOW)
    with ssl.create_default_context(cafile=certificates.ca).wrap_socket(raw, server_hostname="localhost") as client:
        client.sendall(b"x")
        waiting(s, 1)
        with harness.EchoBackend(port=port):
            assert client.recv(1) == b"x"
