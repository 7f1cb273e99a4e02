"""Who may connect, and how much each client may have: allow, deny, max_flows_per_client, accept_rate, and what is told of it."""

import contextlib
import select
import socket
import subprocess
import sys
import threading
import time

import harness
import pytest
from frames import CLOSE, CONTINUATION, TEXT, WebSocket, upgrade
from harness import HOST, SLOW, connect, free_port, wait_for
from pgwire import Raw, error, query
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


@pytest.mark.parametrize("more", [{}, {"max_flows_per_client": 9}])
def test_a_client_that_a_full_route_refuses_does_not_use_up_its_rate(stent, echo, more):
    s = stent.route(echo.text, max_flows=1, accept_rate="3/h", **more)
    first = works(s.connect())
    for _ in range(5):
        s.expect_refusal()
        assert s.flow_end()["cause"] == "route_max_flows"
    for _ in range(2):			# of three
        first.close()
        s.flow_end(reason="client-fin")
        first = works(s.connect())
    first.close()
    s.flow_end(reason="client-fin")
    s.expect_refusal()
    assert s.flow_end()["cause"] == "accept_rate"


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


# --- max_flows of a route ---

def test_a_route_has_its_own_limit(stent, echo):
    metrics, ports = Metrics(), (free_port(), free_port())
    s = stent(f"[defaults]\nbackend = {echo.text}\n[route one]\nlisten = {HOST}:{ports[0]}\nmax_flows = 2\n"
              f"[route two]\nlisten = {HOST}:{ports[1]}\n", max_flows=5, **metrics.settings)
    one = [works(connect(ports[0])) for _ in range(2)]
    with contextlib.suppress(ConnectionResetError), connect(ports[0]) as client:
        client.expect_reset()
    assert s.flow_end(reason="limit")["cause"] == "route_max_flows"
    two = [works(connect(ports[1])) for _ in range(3)]
    with contextlib.suppress(ConnectionResetError), connect(ports[1]) as client:
        client.expect_reset()
    assert s.flow_end(reason="limit")["cause"] == "max_flows"
    assert refusals(metrics, "route_max_flows", "one") == refusals(metrics, "max_flows", "two") == 1
    one.pop().close()
    s.flow_end(reason="client-fin")
    works(connect(ports[0])).close()
    for client in one + two:
        client.close()


# --- when_full = evict ---

class Crowd:
    """A backend that echoes to thousands, in one thread; and clients of it."""

    def __init__(self):
        self.sock = socket.socket()
        self.sock.bind((HOST, 0))
        self.sock.listen(4096)
        self.port = self.sock.getsockname()[1]
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        poll = select.epoll()
        self.sock.setblocking(False)
        poll.register(self.sock, select.EPOLLIN)
        flows = {}
        while not self._ends.is_set():
            for fd, _ in poll.poll(0.2):
                if fd == self.sock.fileno():
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            flow = self.sock.accept()[0]
                            flow.setblocking(False)
                            flows[flow.fileno()] = flow
                            poll.register(flow, select.EPOLLIN)
                    continue
                data = b""
                with contextlib.suppress(OSError):
                    data = flows[fd].recv(65536)
                    flows[fd].send(data)
                if not data:
                    flows.pop(fd).close()
        for flow in flows.values():
            flow.close()
        self.sock.close()

    def close(self):
        self._ends.set()
        self._thread.join()


@pytest.fixture
def crowd():
    one = Crowd()
    yield one
    one.close()


class Active(threading.Thread):
    """Clients that say something every few tenths of a second, and must not be cut off."""

    def __init__(self, clients):
        super().__init__(daemon=True)
        self.clients, self.error, self.rounds, self.slowest = clients, None, 0, 0
        self._ends = threading.Event()
        self.start()

    def run(self):
        try:
            while not self._ends.wait(0.2):
                for client in self.clients:
                    began = time.monotonic()
                    works(client)
                    self.slowest = max(self.slowest, time.monotonic() - began)
                self.rounds += 1
        except Exception as error:
            self.error = repr(error)

    def stop(self):
        self._ends.set()
        self.join()
        assert self.error is None and self.rounds > 0, self.error


def age():
    """Flows may go when they have been idle for 2 s."""
    time.sleep(2.3)


@pytest.mark.workers
def test_a_full_table_stays_usable(stent, crowd):
    """1,000 entries, 2,000 clients: those in use live on, each new one gets in, the longest idle make room."""
    s = stent.route(crowd.port, settings={"max_flows": 1000, "when_full": "evict", "workers": 2, "log_level": "info"})
    idle = [works(s.connect()) for _ in range(900)]
    active = Active([works(s.connect()) for _ in range(20)])
    age()
    later = [works(s.connect()) for _ in range(540)]
    age()
    fresh = [works(s.connect()) for _ in range(540)]
    wait_for(lambda: s.ask("status")["flows_open"] <= 940, what="the reserve to be free again")
    active.stop()
    wait_for(lambda: len(s.logged("^evicted$")) >= 2000 - 940, what="their ends in the log")
    ends = [r for r in s.records if r.get("event") == "flow end"]
    assert {r["reason"] for r in ends} == {"evicted"}
    assert 2000 - 940 <= len(ends) <= 2000 - 930, "no more went than had to"
    for client in idle[:800]:		# the idlest first; the flows of two workers are only roughly in order
        client.expect_fin(0.5)		# between two messages: an orderly end
    for client in fresh:
        works(client)
    for client in idle + later + fresh + active.clients:
        client.close()
    assert s.logged("max_flows = 1000 is almost reached")


def test_databases_and_websockets_make_room_with_a_goodbye_and_never_in_the_middle(stent, postgres, raw_backend):
    ports = free_port(), free_port()
    s = stent(f"[defaults]\nmax_flows = 4\nwhen_full = evict\nheartbeat = off\n"
              f"[route pg]\nlisten = {HOST}:{ports[0]}\nbackend = {HOST}:{postgres.port}\nprotocol = postgres\n"
              f"[route ws]\nlisten = {HOST}:{ports[1]}\nbackend = {raw_backend.text}\nprotocol = websocket\n")
    busy, sleeping, idle = (Raw(ports[0]) for _ in range(3))
    for session in (busy, sleeping, idle):
        session.until(b"Z")
    assert busy.ask("begin")[1] == "T"
    sleeping.send(query("select pg_sleep(4)"))

    pairs = []
    for _ in range(3):
        client = connect(ports[1])
        backend = raw_backend.accept()
        upgrade(client, backend)
        pairs.append((WebSocket(client, masks=True), WebSocket(backend, masks=False)))
    for here, there in pairs:
        here.send(TEXT, b"hello")
        assert there.read() == (TEXT, b"hello")
    half, rest = pairs[0], pairs[1]
    half[0].send_part(TEXT, b"first ")
    assert half[1].read() == (TEXT, b"first ")
    age()

    newcomers = []
    for _ in range(2):			# the table has one free place, then none
        newcomers.append(Raw(ports[0]))
        newcomers[-1].until(b"Z")
    assert error(idle.until(b"E"))["S"] == "FATAL" and idle.get() == b""
    idle.sock.close()
    assert s.flow_end(reason="evicted")["route"] == "pg"
    sockets = [connect(ports[1]) for _ in range(2)]
    for end in rest:
        opcode, payload = end.read()
        assert opcode == CLOSE and b"evicted" in payload
    # Only newcomers could go now, and they are too young: the next one is refused.
    with contextlib.suppress(ConnectionResetError), connect(ports[0]) as client:
        client.expect_reset()
    assert s.flow_end(reason="limit")["cause"] == "route_max_flows"
    assert busy.ask("select 1") == ([["1"]], "T")
    half[0].send(CONTINUATION, b"last")
    assert half[1].read() == (CONTINUATION, b"last")
    assert sleeping.until(b"Z")[5:] == b"I"
    for one in (*newcomers, *sockets, busy, sleeping):
        one.close()


def attack(s, ip, n):
    """As fast as they can be opened, and silent. Returns those that were not reset at once."""
    held = []
    for _ in range(n):
        sock = socket.socket()
        sock.bind((ip, 0))
        sock.setblocking(False)
        sock.connect_ex(s.address)
        held.append(sock)
    return held


@pytest.mark.workers
def test_silent_connections_push_out_each_other_and_nobody_else(stent, crowd):
    """The flows of an attacker who only connects are idle, too, and younger than those that are in use now and then."""
    s = stent.route(crowd.port, settings={"max_flows": 400, "when_full": "evict", "workers": 2, "log_level": "info"})
    useful = [works(s.connect()) for _ in range(150)]
    age()
    held = []
    for _ in range(10):
        held += attack(s, "127.0.0.2", 200)
        useful.append(works(s.connect()))	# who speaks at once stays
    for client in useful:
        works(client)
    ends = [r for r in s.records if r.get("event") == "flow end"]
    assert len([r for r in ends if r["reason"] == "evicted"]) > 500
    assert not [r for r in ends if r["reason"] == "evicted" and not r["client"].startswith("127.0.0.2:")]
    for client in held + useful:
        client.close()


# --- under attack ---

FLOOD = """
import socket, sys, time
host, port, ip, rate, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
began, n, held = time.monotonic(), 0, []
while time.monotonic() - began < seconds:
    while n < rate * (time.monotonic() - began) < rate * seconds:
        sock = socket.socket()
        sock.bind((ip, 0))
        sock.setblocking(False)
        sock.connect_ex((host, port))
        held.append(sock)
        n += 1
        if len(held) > 500:
            held.pop(0).close()
    time.sleep(0.002)
print(n / (time.monotonic() - began))
"""


@pytest.mark.plain
@pytest.mark.parametrize("limit", [{"max_flows_per_client": 50}, {"accept_rate": "50/s"}, {"deny": "127.0.0.2"}],
                         ids=lambda limit: next(iter(limit)))
def test_a_flood_from_one_address_keeps_nobody_out(stent, crowd, limit):
    """5,000 connects a second: another client gets in as fast as before, and the log is no longer for it."""
    metrics = Metrics()
    s = stent.route(crowd.port, settings={"workers": 2, "log_level": "info", **metrics.settings}, **limit)
    flood = subprocess.Popen([sys.executable, "-c", FLOOD, HOST, str(s.port), "127.0.0.2", "5000", "2"], stdout=subprocess.PIPE, text=True)
    times = []
    while flood.poll() is None:
        began = time.monotonic()
        works(s.connect()).close()
        times.append(time.monotonic() - began)
        time.sleep(0.03)
    rate = float(flood.communicate()[0])
    cause = "denied" if "deny" in limit else next(iter(limit))
    refused = refusals(metrics, cause)
    times.sort()
    print(f"{rate:.0f} a second, {refused:.0f} refused; the other client: {times[len(times) // 2] * 1e3:.1f} ms, at most {times[-1] * 1e3:.1f} ms")
    assert refused > rate
    assert times[len(times) * 9 // 10] < 0.1 * SLOW and times[-1] < 0.5 * SLOW
    wait_for(lambda: s.logged("flows refused"), what="their number in the log")
    assert len([r for r in s.records if r.get("cause") == cause]) < 60


# --- where they are shown ---

def test_limits_and_refusals_are_shown(stent, echo):
    s = stent.route(echo.text, max_flows=9, when_full="evict", max_flows_per_client=1, accept_rate="20/m/5", deny="127.0.0.9",
                    settings={"when_full": "evict"})
    with works(s.connect()):
        s.expect_refusal()
        refused(s, "127.0.0.9")
        told = wait_for(lambda: (t := s.ask("status"))["refused"] == {"max_flows_per_client": 1, "denied": 1} and t)
    route = told["routes"][0]
    assert route["refused"] == told["refused"] and told["when_full"] == "evict"
    assert route["limits"] == {"max_flows": 9, "when_full": "evict", "max_flows_per_client": 1, "allow": None, "deny": "127.0.0.9",
                               "accept_rate": {"flows": 20, "seconds": 60, "burst": 5}}
    screen = harness.run_stent("status", "--control", s.control).stdout
    assert ", then the idlest go)" in screen and "  refused    denied 1, max_flows_per_client 1" in screen
    assert ("  limits     9 flows (then the idlest go), 1 flows a client,\n"
            "             20 new ones a client and minute (5 at once), deny 127.0.0.9\n") in screen


def test_a_reload_changes_what_happens_at_the_limit(stent, echo):
    s = stent.route(echo.text, max_flows=4, settings={"max_flows": 8})
    clients = [works(s.connect()) for _ in range(4)]
    age()
    s.expect_refusal()
    reload_with(s, "max_flows = 4", "max_flows = 4\nwhen_full = evict")
    clients.append(works(s.connect()))
    clients[0].expect_fin()
    assert s.flow_end(reason="evicted")["route"] == "t"
    reload_with(s, "max_flows = 4\nwhen_full = evict", "max_flows = off")
    clients += [works(s.connect()) for _ in range(3)]
    reload_with(s, "max_flows = 8", "max_flows = 3\nwhen_full = evict")
    s.expect_refusal()			# the last four are too young to go, and more than that
    for client in clients:
        client.close()
