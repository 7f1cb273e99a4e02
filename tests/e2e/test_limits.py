"""Who may connect, and how much each client may have: allow, deny, max_flows_per_client, accept_rate, and what is told of it."""

import contextlib
import socket
import time

import harness
import pytest
from harness import HOST, SLOW, connect, free_port, wait_for
from test_metrics import Metrics


def from_(s, ip):
    """A client with this address of the loopback network."""
    return connect(s.address, source=(ip, 0))


def works(client):
    client.send_all(b"x")
    assert client.recv_exact(1) == b"x"
    return client


def refused(s, ip):
    with contextlib.suppress(ConnectionResetError):
        with from_(s, ip) as client:
            client.expect_reset()


def refusals(metrics, cause, route="t"):
    return metrics[f'stent_refusals_total{{route="{route}",cause="{cause}"}}']


# --- allow, deny ---

def test_deny_wins_over_allow_and_a_file_is_read_again(stent, echo, tmp_path):
    metrics, denied = Metrics(), tmp_path / "denied"
    denied.write_text("# hosts\n127.0.1.0/24 ; a network\n\n127.0.2.7\n")
    s = stent.route(echo.text, allow=f"127.0.0.0/8, 2001:db8::/32, file:{denied}", deny=f"file:{denied}", settings=metrics.settings)
    for ip in ("127.0.0.1", "127.0.2.6", "127.0.2.8"):
        works(from_(s, ip)).close()
    refused(s, "127.0.1.9")
    assert s.flow_end(reason="denied")["cause"] == "denied"
    refused(s, "127.0.2.7")
    assert refusals(metrics, "denied") == 2
    assert metrics['stent_flows_ended_total{route="t",reason="denied"}'] == 2

    denied.write_text("127.0.2.0/24\n")
    assert "errors" not in s.ask("reload")
    works(from_(s, "127.0.1.9")).close()
    refused(s, "127.0.2.6")

    denied.write_text("127.0.2.0/24\nlocalhost\n")
    told = s.ask("reload")
    assert f'deny: {denied}:2: "localhost" is not a network' in str(told)
    refused(s, "127.0.2.6")


def test_without_being_in_allow_nobody_gets_in(stent, echo):
    s = stent.route(echo.text, listen=f"[::]:{free_port('::1')}, {HOST}:{free_port()}", allow="::1, 127.0.0.2")
    works(connect(("::1", s.port))).close()
    ipv4 = s.listen[1]
    with contextlib.suppress(ConnectionResetError), connect(ipv4) as client:
        client.expect_reset()
    works(connect(ipv4, source=("127.0.0.2", 0))).close()


def test_a_listener_of_both_families_knows_ipv4_clients_as_such(stent, echo):
    port = free_port()
    s = stent.route(echo.text, listen=f":{port}", allow="0.0.0.0/0", deny="::/0")
    works(connect((HOST, port))).close()
    with contextlib.suppress(ConnectionResetError), connect(("::1", port)) as client:
        client.expect_reset()
    assert s.flow_end(reason="denied")["client"].startswith("[::1]:")


def test_unix_clients_have_no_address_to_be_limited_by(stent, echo, tmp_path):
    s = stent.route(echo.text, listen=f"unix:{tmp_path}/sock", allow="192.0.2.1", max_flows_per_client=1, accept_rate="1/h")
    for client in [works(s.connect()) for _ in range(3)]:
        client.close()


# --- max_flows_per_client ---

@pytest.mark.workers
def test_each_client_has_so_many_flows(stent, echo):
    metrics = Metrics()
    s = stent.route(echo.text, max_flows_per_client=2, settings={"workers": 3, **metrics.settings})
    mine = [works(from_(s, "127.0.0.1")) for _ in range(2)]
    refused(s, "127.0.0.1")
    assert s.flow_end(reason="limit")["cause"] == "max_flows_per_client"
    others = [works(from_(s, f"127.0.0.{n}")) for n in range(2, 20) for _ in range(2)]
    mine.pop().close()
    s.flow_end(reason="client-fin")
    mine.append(works(from_(s, "127.0.0.1")))
    refused(s, "127.0.0.1")
    assert refusals(metrics, "max_flows_per_client") == 2
    for client in mine + others:
        client.close()


def reload_with(s, old, new):
    s.ini_path.write_text(s.ini_path.read_text().replace(old, new))
    told = s.ask("reload")
    assert "errors" not in told, told


def test_flows_from_before_the_limit_do_not_count_and_do_no_harm(stent, echo):
    s = stent.route(echo.text, max_flows_per_client="off")
    before = [works(s.connect()) for _ in range(3)]
    reload_with(s, "max_flows_per_client = off", "max_flows_per_client = 1")
    mine = works(s.connect())
    s.expect_refusal()
    for client in before:
        client.close()			# they were not counted, so nothing is given back
        s.flow_end(reason="client-fin")
    s.expect_refusal()
    reload_with(s, "max_flows_per_client = 1", "max_flows_per_client = off")
    more = [works(s.connect()) for _ in range(2)]
    mine.close()
    s.flow_end(reason="client-fin")
    reload_with(s, "max_flows_per_client = off", "max_flows_per_client = 1")
    again = works(s.connect())		# the one that was counted is gone
    s.expect_refusal()
    for client in [again, *more]:
        client.close()


def test_all_addresses_of_an_ipv6_network_are_one_client(stent, echo):
    s = stent.route(echo.text, listen=f"[::1]:{free_port('::1')}", max_flows_per_client=1)
    with works(s.connect()):
        s.expect_refusal()


# --- accept_rate ---

def test_a_client_may_come_at_its_rate(stent, echo):
    s = stent.route(echo.text, accept_rate="10/s/3")
    for _ in range(3):
        works(s.connect()).close()
    began = time.monotonic()
    s.expect_refusal()
    assert s.flow_end(reason="limit")["cause"] == "accept_rate"
    works(from_(s, "127.0.0.2")).close()	# another client
    got = 0
    while got < 5:
        with contextlib.suppress(ConnectionResetError, AssertionError):
            works(s.connect()).close()
            got += 1
    assert time.monotonic() - began > 0.35, "one each tenth of a second"


# --- how they are written ---

WRONG = {
    ("allow", "10.0.0.0/33"): '"10.0.0.0/33" has no good length after the /; write 0 to 32',
    ("allow", "10.0.0.1/8"): '"10.0.0.1/8" has bits set after its prefix; write the network\'s first address, as in 10.0.0.0/8',
    ("deny", "10.0.0.0/8,,::1"): "an item of the list is empty; write a network between the commas, or remove one",
    ("deny", "example.com"): '"example.com" is not a network; write one such as 10.0.0.0/8, 2001:db8::/32 or an address',
    ("deny", "file:list"): '"file:list" has no path; write one such as file:/etc/stent/clients.txt',
    ("deny", "file:/nowhere/list"): '"/nowhere/list" cannot be read: No such file or directory; write the path of a file with a network on each line',
    ("deny", "file:/dev/null"): '"/dev/null" is not a regular file; write the path of a file with a network on each line',
    ("accept_rate", "100"): '"100" is not a rate; write one such as 100/s, 20/m or 100/h, 10/s/50 with a burst of 50, or off',
    ("accept_rate", "0/s"): 'the number of flows "0" is out of range; write 1 to 1000000',
    ("accept_rate", "5/s/x"): 'the burst "x" is not a whole number; write digits only',
}


def test_errors_of_the_settings(tmp_path):
    path = tmp_path / "stent.ini"
    for (key, value), error in WRONG.items():
        path.write_text(f"[route r]\nlisten = 127.0.0.1:1\nbackend = 127.0.0.1:2\n{key} = {value}\n")
        assert harness.run_stent("check", "-c", path).stderr == f"{path}:4: {key}: {error}\n"
