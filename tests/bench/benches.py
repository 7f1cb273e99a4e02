"""The benches: each says who takes part, measures one of them once, and what stent must reach.

`once` returns the figures of one pass; `cost` is the one that ratios are made of: relay CPU (or
memory) for one unit of work. The passes of all who take part are interleaved by the runner.
"""
import time
from dataclasses import dataclass, field

import measure
from relays import BenchError
from servers import Postgres, Redis

IDLE_FLOWS = 8000
MACHINE_FLOWS = 4000
LATENCY_FLOWS = 4500    # two legs each, every second less the jitter: 10,000 heartbeats a second
SETTLE_S = 2


@dataclass
class Contestant:
    label: str
    relay: str
    settings: dict = field(default_factory=dict)


@dataclass
class Goal:
    """The subject's cost is at most `limit` times that of the best of `against`, or, with nobody named, at most `limit`."""
    limit: float
    against: tuple = ()


PEERS = [Contestant("floor", "floor"), Contestant("haproxy", "haproxy"),
         Contestant("nginx", "nginx"), Contestant("stent", "stent")]


def protocols(name):
    """stent against itself: without a codec and with one."""
    return [Contestant("stent tcp", "stent", {"protocol": "tcp"}),
            Contestant("stent " + name, "stent", {"protocol": name})]


class Bench:
    """`bench` below is the runner: work folder, ports(), relay(name), quick."""
    name = what = cost_unit = rate_unit = None
    contestants = PEERS
    subject = "stent"
    goal = None
    rounds = quick_rounds = 1    # quick_rounds = 0: with --quick only when it is named

    def once(self, bench, contestant):
        raise NotImplementedError

    def detail(self, median):
        """What the cost is made of, where there is something to tell."""
        return ""

    def load(self, bench, contestant, mode, *words):
        """One run of the load program through a fresh relay."""
        listen, backend = bench.ports()
        with bench.relay(contestant.relay).start(listen, backend, **contestant.settings) as running:
            figures = measure.Load(bench.work, mode, listen, backend, running.pids, *words).run()
        figures["cost"] = figures["cpu_us"]
        return figures


class RoundTrips(Bench):
    rate_unit, cost_unit = "round trips/s", "µs CPU a round trip"
    goal = Goal(1.0, ("haproxy", "nginx"))
    rounds, quick_rounds = 7, 2

    def __init__(self, name, size, count, quick_count):
        self.name, self.size, self.count, self.quick_count = name, size, count, quick_count
        self.what = "%d-byte round trips over 64 connections" % size

    def once(self, bench, contestant):
        count = self.quick_count if bench.quick else self.count
        return self.load(bench, contestant, "rtt", "--conns", 64, "--size", self.size, "--count", count)


class Connections(Bench):
    name, what = "conn", "connections: open, one 64-byte round trip, close; 64 at a time"
    rate_unit, cost_unit = "connections/s", "µs CPU a connection"
    goal = Goal(1.0, ("haproxy", "nginx"))
    rounds, quick_rounds = 12, 3

    def once(self, bench, contestant):
        return self.load(bench, contestant, "conn", "--conns", 64, "--size", 64,
                         "--count", 4000 if bench.quick else 8000)


class Bulk(Bench):
    name, what = "bulk", "one-way bulk over 16 connections"
    rate_unit, cost_unit = "GB/s", "ms CPU per GB"
    contestants = [Contestant(c.label, c.relay, {"splice": "auto"}) for c in PEERS]
    contestants.insert(2, Contestant("haproxy forced", "haproxy", {"splice": "forced"}))
    goal = Goal(1.0, ("haproxy",))
    rounds, quick_rounds = 7, 2

    def once(self, bench, contestant):
        figures = self.load(bench, contestant, "bulk", "--conns", 16,
                            "--count", 10**9 if bench.quick else 2 * 10**9)
        figures["cost"] /= 1e3
        return figures


class WebSocketBulk(Bench):
    name, what = "ws-bulk", "64 KiB WebSocket messages both ways over 16 connections"
    rate_unit, cost_unit = "GB/s", "ms CPU per GB"
    contestants = protocols("websocket")
    subject = "stent websocket"
    goal = Goal(1.25, ("stent tcp",))
    rounds, quick_rounds = 7, 2

    def once(self, bench, contestant):
        figures = self.load(bench, contestant, "bulk", "--ws", "--conns", 16, "--size", 65536,
                            "--count", 10**9 if bench.quick else 2 * 10**9)
        figures["cost"] /= 1e3
        return figures


class Idle(Bench):
    name, what = "idle", "%d flows that have carried a message each way and stand" % IDLE_FLOWS
    rate_unit, cost_unit = "", "bytes a flow"
    goal = Goal(640)
    rounds, quick_rounds = 2, 1
    words = ()

    def once(self, bench, contestant):
        listen, backend = bench.ports()
        with bench.relay(contestant.relay).start(listen, backend, **contestant.settings) as running:
            load = measure.Load(bench.work, "idle", listen, backend, running.pids,
                                "--conns", IDLE_FLOWS, *self.words)
            before = measure.private_bytes(running.pids)
            with load.holding() as held:
                time.sleep(SETTLE_S)
                after = measure.private_bytes(running.pids)
        return {"units": held.flows, "before_bytes": before, "after_bytes": after,
                "cost": (after - before) / held.flows}


class IdleWebSocket(Idle):
    name, what = "idle-ws", "%d WebSocket flows that have carried a message each way and stand" % IDLE_FLOWS
    contestants = protocols("websocket")
    subject = "stent websocket"
    goal = Goal(1024)
    words = ("--ws",)


class IdleMachine(Bench):
    """The relay's own memory and the kernel's for its two sockets. The kernel's is a difference of differences: what
    4,000 flows add to its objects, less what they add when no relay is between the two ends of the load."""
    name, what = "idle-machine", "%d idle flows: the relay's memory and the kernel's" % MACHINE_FLOWS
    rate_unit, cost_unit = "flows/GiB", "bytes a flow"
    contestants = [*PEERS, Contestant("stent websocket", "stent", {"protocol": "websocket"})]
    rounds, quick_rounds = 3, 1

    def grown(self, load, pids):
        """Bytes a flow: the kernel's, the relay's."""
        time.sleep(1)           # what the last pass freed is gone
        kernel, private = measure.slab_bytes(), measure.private_bytes(pids)
        with load.holding() as held:
            time.sleep(1)
            kernel, private = measure.slab_bytes() - kernel, measure.private_bytes(pids) - private
        return kernel / held.flows, private / held.flows

    def once(self, bench, contestant):
        words = ["--conns", MACHINE_FLOWS] + (["--ws"] if "protocol" in contestant.settings else [])
        alone, _ = bench.ports()
        ends, _ = self.grown(measure.Load(bench.work, "idle", alone, alone, [], *words), [])
        listen, backend = bench.ports()
        with bench.relay(contestant.relay).start(listen, backend, **contestant.settings) as running:
            kernel, private = self.grown(measure.Load(bench.work, "idle", listen, backend, running.pids, *words),
                                         running.pids)
        cost = kernel - ends + private
        return {"units": MACHINE_FLOWS, "kernel_bytes": kernel - ends, "relay_bytes": private, "ends_bytes": ends,
                "rate": 2**30 / cost, "cost": cost}

    def detail(self, median):
        return "kernel %.0f, relay %.0f" % (median["kernel_bytes"], median["relay_bytes"])


class Heartbeats(Bench):
    name = "heartbeats"
    what = "%d WebSocket flows, both legs pinged every second (floor: 8 bytes out and in, as often)" % IDLE_FLOWS
    rate_unit, cost_unit = "heartbeats/s", "µs CPU a heartbeat and its reply"
    contestants = [Contestant("stent", "stent", {"protocol": "websocket", "keys": {
        "client.heartbeat": "1s", "client.heartbeat_kind": "ping",
        "backend.heartbeat": "1s", "backend.heartbeat_kind": "ping"}}), Contestant("floor", "floor")]
    goal = Goal(1.5, ("floor",))
    rounds, quick_rounds = 3, 1
    interval_s, settle_s = 1, 2
    rate = None     # as it was seen of stent; the floor keeps it

    def once(self, bench, contestant):
        due = 2 * IDLE_FLOWS / (0.9 * self.interval_s)  # the jitter: 80-100 % of the interval
        words = ["--conns", IDLE_FLOWS, "--settle", self.settle_s, "--seconds", self.seconds(bench.quick)]
        if contestant.relay == "stent":
            figures = self.load(bench, contestant, "heartbeats", "--ws", *words)
            self.rate = figures["rate"]
            if not 0.5 < self.rate / due < 1.5:
                raise BenchError("%s: %.0f a second from stent where about %.0f are due" % (self.name, self.rate, due))
            return figures
        floor = Contestant("floor", "floor", {"heartbeat_rate": self.rate or due})
        return self.load(bench, floor, "heartbeats", "--raw-heartbeats", *words)

    def seconds(self, quick):
        return 4 if quick else 6


class HeartbeatCPU(Heartbeats):
    """Two rounds of heartbeats, after each leg has had its first. The other relays send none, and the floor, which wakes up
    each millisecond, would cost more."""
    name, what = "heartbeat-cpu", "%d idle WebSocket flows with the default heartbeats" % IDLE_FLOWS
    rate_unit, cost_unit = "heartbeats/s", "% of a core"
    contestants = [Contestant("stent", "stent", {"protocol": "websocket"})]
    goal = None
    rounds, quick_rounds = 1, 0
    interval_s, settle_s = 25, 30

    def seconds(self, quick):
        return 30 if quick else 45

    def once(self, bench, contestant):
        figures = super().once(bench, contestant)
        figures["cost"] = 100 * figures["busy"]
        return figures

    def detail(self, median):
        return "%.3g µs CPU a heartbeat" % median["cpu_us"]


class HeartbeatLatency(Bench):
    """Round trips at a steady pace, on a route of their own, beside flows that stand on another route of the same
    thread: with heartbeats that go out there, and with none."""
    name = "heartbeat-rtt"
    what = "64-byte round trips, 2,000 a second, beside %d WebSocket flows that are idle" % LATENCY_FLOWS
    rate_unit, cost_unit = "round trips/s", "µs, 99.9th percentile"
    contestants = [
        Contestant("stent 10,000/s", "stent", {"beside_protocol": "websocket", "beside_keys": {
            "heartbeat": "1s", "heartbeat_kind": "ping"}}),
        Contestant("stent", "stent", {"beside_protocol": "websocket", "beside_keys": {"heartbeat": "off"}}),
        Contestant("haproxy", "haproxy"), Contestant("nginx", "nginx")]
    subject = "stent 10,000/s"
    rounds, quick_rounds = 3, 1

    def once(self, bench, contestant):
        beside, (listen, backend) = bench.ports(), bench.ports()
        seconds = 5 if bench.quick else 10
        with bench.relay(contestant.relay).start(listen, backend, beside=[beside], **contestant.settings) as running:
            idle = measure.Load(bench.work, "idle", *beside, running.pids, "--conns", LATENCY_FLOWS, "--ws")
            paced = measure.Load(bench.work, "paced", listen, backend, running.pids,
                                 "--conns", 64, "--rate", 2000, "--seconds", seconds)
            with idle.holding() as held:
                time.sleep(SETTLE_S + 1)    # each leg has had its first heartbeat
                held.restart()
                figures = paced.run(first=True)
        if contestant.label == self.subject and not 0.8 < held.rate / 10000 < 1.2:
            raise BenchError("heartbeat-rtt: %.0f heartbeats a second, where about 10,000 are due" % held.rate)
        figures.update(cost=figures["p999_us"], heartbeat_rate=held.rate)
        return figures

    def detail(self, median):
        return "%.0f heartbeats/s" % median["heartbeat_rate"]


class Queries(Bench):
    """A real server and its own benchmark program; subclasses say which."""
    server = None
    rounds, quick_rounds = 4, 2

    def once(self, bench, contestant):
        server = bench.server(self.server)
        listen, _ = bench.ports()
        with bench.relay(contestant.relay).start(listen, server.port, **contestant.settings) as running:
            server.bench(listen, quick=True)    # warm
            before = measure.cpu_us(running.pids)
            figures = server.bench(listen, quick=bench.quick)
            time.sleep(0.05)
            used = measure.cpu_us(running.pids) - before
        figures["cpu_us"] = figures["cost"] = used / figures["units"]
        figures["busy"] = used / 1e6 / figures["seconds"]
        return figures


class Pgbench(Queries):
    name, what = "pgbench", "pgbench -S over 8 connections"
    rate_unit, cost_unit = "queries/s", "µs CPU a query"
    server = Postgres
    contestants = [PEERS[0], *protocols("postgres")]
    subject = "stent postgres"
    goal = Goal(1.15, ("stent tcp",))


class RedisBenchmark(Queries):
    name, what = "redis", "redis-benchmark -P 16, SET and GET over 50 connections"
    rate_unit, cost_unit = "requests/s", "µs CPU a request"
    server = Redis
    contestants = [PEERS[0], *protocols("redis")]
    subject = "stent redis"
    goal = Goal(1.15, ("stent tcp",))


class TLS:
    """A bench with TLS on some legs. The ends of the load that face them speak TLS as well."""
    contestants = PEERS[1:]
    goal = Goal(1.0, ("haproxy", "nginx"))
    legs = ("client",)

    def tls(self, bench, contestant):
        """The contestant with these legs, and the words for the load."""
        pem = measure.certificate(bench.work)
        words = ["--tls", pem, *("--tls-" + leg for leg in self.legs)]
        return Contestant(contestant.label, contestant.relay, dict(contestant.settings, tls=self.legs, pem=pem)), words

    def load(self, bench, contestant, mode, *words):
        contestant, more = self.tls(bench, contestant)
        return super().load(bench, contestant, mode, *words, *more)


class RoundTripsTLS(TLS, RoundTrips):
    goal = TLS.goal

    def __init__(self, *args):
        super().__init__(*args)
        self.what += ", TLS toward the client"


class ConnectionsTLS(TLS, Connections):
    contestants, goal = TLS.contestants, Goal(1.05, ("haproxy", "nginx"))

    def __init__(self, resumes):
        self.resumes = resumes
        self.name = "conn-tls-resumed" if resumes else "conn-tls"
        self.what = "connections with TLS toward the client, %s (TLS 1.3, P-256), one 64-byte round trip" % (
            "resumed" if resumes else "full handshakes")

    def load(self, bench, contestant, mode, *words):
        return super().load(bench, contestant, mode, *words, *(["--resume"] if self.resumes else []))


class BulkTLS(TLS, Bulk):
    contestants, goal = TLS.contestants, TLS.goal

    def __init__(self, reverse):
        self.reverse = reverse
        self.name = "bulk-tls-down" if reverse else "bulk-tls"
        self.what = "one-way bulk over 16 connections with TLS toward the client, %s" % (
            "to the client" if reverse else "from the client")

    def load(self, bench, contestant, mode, *words):
        return super().load(bench, contestant, mode, *words, *(["--reverse"] if self.reverse else []))


class IdleTLS(TLS, Idle):
    contestants = TLS.contestants

    def __init__(self, name, legs, limit):
        self.name, self.legs, self.goal = name, legs, Goal(limit)
        self.what = "%d flows with TLS on %s that have carried a message each way and stand" % (
            MACHINE_FLOWS, "both legs" if len(legs) == 2 else "the client leg")

    def once(self, bench, contestant):
        contestant, words = self.tls(bench, contestant)
        listen, backend = bench.ports()
        with bench.relay(contestant.relay).start(listen, backend, **contestant.settings) as running:
            load = measure.Load(bench.work, "idle", listen, backend, running.pids, "--conns", MACHINE_FLOWS, *words)
            before = measure.private_bytes(running.pids)
            with load.holding() as held:
                time.sleep(SETTLE_S)
                after = measure.private_bytes(running.pids)
        return {"units": held.flows, "cost": (after - before) / held.flows}


class HeartbeatsTLS(TLS, Heartbeats):
    """Plain and TLS beside each other."""
    name, what = "heartbeats-tls", "2000 WebSocket flows, both legs pinged every second, plain and with TLS on both legs"
    contestants = [Contestant("stent plain", "stent", Heartbeats.contestants[0].settings),
                   Contestant("stent tls", "stent", Heartbeats.contestants[0].settings)]
    subject, goal = "stent tls", None
    rounds, quick_rounds = 3, 1

    def once(self, bench, contestant):
        self.legs = ("client", "backend") if contestant.label == "stent tls" else ()
        seconds = 4 if bench.quick else 6
        return self.load(bench, contestant, "heartbeats", "--ws", "--conns", 2000, "--settle", 2, "--seconds", seconds)


ALL = [RoundTrips("rtt-64", 64, 200000, 60000), RoundTrips("rtt-16k", 16384, 80000, 30000), Connections(), Bulk(),
       Idle(), IdleWebSocket(), IdleMachine(), WebSocketBulk(), Heartbeats(),
       HeartbeatCPU(), HeartbeatLatency(), Pgbench(), RedisBenchmark(),
       RoundTripsTLS("rtt-64-tls", 64, 100000, 40000), RoundTripsTLS("rtt-16k-tls", 16384, 40000, 20000),
       ConnectionsTLS(False), ConnectionsTLS(True), BulkTLS(False), BulkTLS(True),
       IdleTLS("idle-tls", ("client",), 12288), IdleTLS("idle-tls-both", ("client", "backend"), 24576), HeartbeatsTLS()]
