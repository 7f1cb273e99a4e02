"""
Redis's heartbeats, where each was found legal or dangerous: nothing that a
session can see changes. Each test with a danger's name is that danger's.
"""

import pathlib
import random
import re
import signal
import socket
import subprocess
import time
import warnings

import harness
import pytest
from servers.redis import Redis, command

HERE = pathlib.Path(__file__).resolve().parent
KINDS = {"ping": {}, "busy": {"backend__heartbeat_while_busy": "on"}, "oneway": {"backend__heartbeat_kind": "oneway"}}
NODE_DRIVERS = ["node-redis2", "node-redis3", "ioredis2", "ioredis3"]	# with their protocol
IDLE = 1.0 * harness.SLOW	# seconds: many more than 100 heartbeats, at one each 2 ms
PAUSE = 0.15	# seconds in which many heartbeats go out
NODE_SAYS = ["idle v1", 'multi ["OK","v2"]', "blpop null", "get v2", "messages m1,m2", "pipeline 0..99", "end"]
PUSH = b">2\r\n$2\r\nhb\r\n$1\r\n1\r\n"
HELLO3 = command("HELLO", 3)


def route(stent, server, heartbeat="2ms", **keys):
    return stent.route(server.port, protocol="redis", backend__heartbeat=heartbeat, **keys)


@pytest.fixture(params=KINDS)
def through(stent, redis, request):
    """stent before the server, with heartbeats as often as it will: asked, asked behind commands too, told."""
    redis.ask("FLUSHALL")
    return route(stent, redis, **KINDS[request.param])


@pytest.fixture
def told(stent, redis):
    redis.ask("FLUSHALL")
    return route(stent, redis, **KINDS["oneway"])


class Session(harness.Peer):
    """A client by hand: each reply is compared to the byte, and nothing else may come."""

    def __init__(self, where):
        """where: a stent, or a server."""
        super().__init__((where.connect() if isinstance(where, harness.Stent) else harness.connect(where.port)).sock)

    def expect(self, reply, *words):
        """Sends a command (if any); exactly this is answered."""
        if words:
            self.send_all(command(*words))
        got = self.recv_exact(len(reply)) if reply else b""
        assert got == reply

    def hello3(self):
        self.send_all(HELLO3)
        got = self.recv_some()
        assert got.startswith(b"%7\r\n") and got.endswith(b"modules\r\n*0\r\n")

    def rest(self, seconds=PAUSE):
        """A pause full of heartbeats, in which nothing must come."""
        self.expect_quiet(seconds)

    def end(self):
        self.expect_quiet(0.05)
        self.close()


@pytest.fixture
def session(through):
    with Session(through) as s:
        yield s


def heartbeats_of(s, timeout=5):
    end = s.flow_end(timeout)
    assert end["protocol"] == "redis", "the protocol passthrough"
    return end["backend_heartbeats"]


def listed(s):
    """The backend's leg of the one flow that is open."""
    (flow,) = s.ask("flows")
    return flow["backend"]


# --- what a session sees ---

def test_an_idle_session_sees_nothing(through, session):
    session.expect(b"+OK\r\n", "SET", "k", "v")
    for _ in range(3):
        session.rest()
        session.expect(b"$1\r\nv\r\n", "GET", "k")
    session.end()
    assert heartbeats_of(through) > 3


def test_nothing_before_the_first_command(told):
    with Session(told) as s:
        s.rest()
    assert heartbeats_of(told) == 0


def test_a_transaction_has_no_element_more(through, session):
    session.expect(b"+OK\r\n", "SET", "k", 1)
    session.rest()
    session.expect(b"+OK\r\n", "WATCH", "k")
    session.rest()
    session.expect(b"+OK\r\n", "MULTI")
    session.rest()
    session.expect(b"+QUEUED\r\n", "INCR", "k")
    session.rest()
    session.expect(b"*1\r\n:2\r\n", "EXEC")
    session.rest()
    session.expect(b"+OK\r\n", "MULTI")
    session.rest()
    session.expect(b"+OK\r\n", "DISCARD")
    session.end()
    assert heartbeats_of(through) > 3


def test_a_pipelined_transaction(through, session):
    session.send_all(b"".join(command(*c) for c in (["MULTI"], ["SET", "k", 1], ["EXEC"], ["GET", "k"])) * 20)
    session.expect(b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n$1\r\n1\r\n" * 20)
    session.rest()
    session.expect(b"$1\r\n1\r\n", "GET", "k")
    session.end()
    assert heartbeats_of(through) > 3


def test_a_command_sent_in_parts(through, session):
    session.expect(b"+OK\r\n", "SET", "k", "v")
    for byte in command("GET", "k"):
        session.send_all(bytes([byte]))
        time.sleep(0.005)
    session.expect(b"$1\r\nv\r\n")
    session.send_all(b"ge")
    session.rest()
    session.send_all(b"t k\r\n")
    session.expect(b"$1\r\nv\r\n")
    session.end()
    heartbeats_of(through)


def test_a_subscription_in_resp2(through, session, redis):
    session.expect(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", "SUBSCRIBE", "c")
    session.rest()
    redis.ask("PUBLISH", "c", "hello")
    session.expect(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nhello\r\n")
    session.rest()
    session.expect(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", "PING")
    session.expect(b"*3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0\r\n", "UNSUBSCRIBE", "c")
    session.rest()
    session.expect(b"+PONG\r\n", "PING")
    session.end()
    end = through.flow_end()
    assert end["protocol"] == "redis"


def test_a_subscription_in_resp3(through, session, redis):
    session.hello3()
    session.expect(b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", "SUBSCRIBE", "c")
    session.rest()
    redis.ask("PUBLISH", "c", "hello")
    session.expect(b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nhello\r\n")
    session.rest()
    session.expect(b"_\r\n", "GET", "none")
    session.end()
    assert heartbeats_of(through) > 3


def test_a_subscription_that_goes_back_to_resp2(through, session):
    """There PING is answered by an array, among messages that nobody counted."""
    session.hello3()
    session.expect(b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", "SUBSCRIBE", "c")
    session.rest()
    session.send_all(command("HELLO", 2))
    got = b""
    while not got.endswith(b"modules\r\n*0\r\n"):
        got += session.recv_some()
    session.rest()
    session.expect(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", "PING")
    session.end()
    assert heartbeats_of(through) > 3


def test_a_monitor_sees_no_tell_and_gets_none(told, redis):
    with Session(told) as watcher, Session(told) as other:
        other.expect(b"+OK\r\n", "SET", "k", "v")
        watcher.expect(b"+OK\r\n", "MONITOR")
        watcher.rest()
        other.expect(b"$1\r\nv\r\n", "GET", "k")
        line = watcher.recv_some()
        assert re.fullmatch(rb'\+[\d.]+ \[0 [\d.:]+\] "GET" "k"\r\n', line)
        watcher.rest()


def test_a_monitor_is_not_asked(through, session, redis):
    session.expect(b"+OK\r\n", "SET", "k", "v")
    session.rest()
    session.expect(b"+OK\r\n", "MONITOR")
    session.rest()
    redis.ask("GET", "k")	# past stent: a session that is asked would be seen to ping
    assert re.fullmatch(rb'\+[\d.]+ \[0 [\d.:]+\] "GET" "k"\r\n', session.recv_some())
    session.rest()
    session.end()
    assert heartbeats_of(through) > 3


def test_a_sharded_subscription(through, session, redis):
    session.expect(b"*3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n", "SSUBSCRIBE", "c")
    session.rest()
    assert redis.ask("SPUBLISH", "c", "hello") == b":1\r\n"
    session.expect(b"*3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$5\r\nhello\r\n")
    session.rest()
    session.expect(b"*3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n", "SUNSUBSCRIBE", "c")
    session.rest()
    session.expect(b"+PONG\r\n", "PING")
    session.end()
    assert heartbeats_of(through) > 3


def test_a_sharded_subscription_in_resp3(through, session, redis):
    session.hello3()
    session.expect(b">3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n", "SSUBSCRIBE", "c")
    session.rest()
    assert redis.ask("SPUBLISH", "c", "hello") == b":1\r\n"
    session.expect(b">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$5\r\nhello\r\n")
    session.rest()
    session.expect(b"_\r\n", "GET", "none")
    session.expect(b">3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n", "SUNSUBSCRIBE", "c")
    session.rest()
    session.end()
    assert heartbeats_of(through) > 3


def test_client_reply_skip_skips_the_client_s_own(through, session):
    session.expect(b"+OK\r\n", "SET", "k", "v")
    session.send_all(command("CLIENT", "REPLY", "SKIP"))
    session.rest()
    session.send_all(command("GET", "k"))
    session.rest()
    session.expect(b"$1\r\nv\r\n", "GET", "k")
    session.end()
    assert heartbeats_of(through) > 3


def test_client_reply_off_stays_silent(through, session):
    session.expect(b"+OK\r\n", "SET", "k", "v")
    session.send_all(command("CLIENT", "REPLY", "OFF"))
    session.rest()
    session.send_all(command("GET", "k"))
    session.rest()
    session.expect(b"+OK\r\n", "CLIENT", "REPLY", "ON")
    session.rest()
    session.expect(b"$1\r\nv\r\n", "GET", "k")
    session.end()
    assert heartbeats_of(through) > 3


def test_client_caching_keeps_its_key(through, session, redis):
    session.hello3()
    session.expect(b"+OK\r\n", "CLIENT", "TRACKING", "ON", "OPTIN")
    session.expect(b"+OK\r\n", "CLIENT", "CACHING", "YES")
    session.rest()
    session.expect(b"_\r\n", "GET", "tracked")
    session.rest()
    redis.ask("SET", "tracked", "2")
    session.expect(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$7\r\ntracked\r\n")
    session.end()
    assert heartbeats_of(through) > 3


def test_before_a_password_nothing_is_asked(stent):
    server = Redis("--requirepass", "pw")
    try:
        for kind in KINDS:
            s = route(stent, server, **KINDS[kind])
            with Session(s) as c:
                c.expect(b"-NOAUTH Authentication required.\r\n", "GET", "k")
                c.rest()
                c.expect(b"+OK\r\n", "AUTH", "pw")
                c.rest()
                c.expect(b"$-1\r\n", "GET", "k")
                c.end()
            assert heartbeats_of(s) > 3
        with Session(server) as c:
            c.expect(b"+OK\r\n", "AUTH", "pw")
            c.send_all(command("INFO", "errorstats"))
            assert b"NOAUTH:count=%d\r\n" % (len(KINDS) + 1) in c.recv_some(), "a PING drew an error"
    finally:
        server.close()


def test_a_user_who_may_not_ping_is_asked_once(stent, redis):
    redis.ask("ACL", "SETUSER", "limited", "on", ">pw", "~*", "+get")
    redis.ask("ACL", "LOG", "RESET")
    s = route(stent, redis, backend__heartbeat_kind="ping")
    with Session(s) as c:
        c.expect(b"+OK\r\n", "AUTH", "limited", "pw")
        c.rest()
        c.expect(b"$-1\r\n", "GET", "none")
        c.rest()
        c.end()
    assert s.flow_end()["backend_replies"] == 1
    assert redis.ask("ACL", "LOG").count(b"$4\r\nping\r\n") == 1
    assert s.wait_logged("heartbeat refused")


def test_behind_blocking_commands(through, session, redis):
    session.expect(b"+OK\r\n", "SET", "k", "v")
    session.send_all(command("BLPOP", "list", 0))
    session.rest()
    redis.ask("LPUSH", "list", "x")
    session.expect(b"*2\r\n$4\r\nlist\r\n$1\r\nx\r\n")
    session.expect(b"$1\r\nv\r\n", "GET", "k")
    session.send_all(command("XREAD", "BLOCK", 200, "STREAMS", "s", "$"))
    session.expect(b"*-1\r\n")
    session.expect(b"$1\r\nv\r\n", "GET", "k")
    session.end()
    heartbeats_of(through)


@pytest.mark.parametrize("kind, heartbeats", [("ping", False), ("oneway", False), ("busy", True)])
def test_none_while_a_command_runs_unless_wanted(stent, redis, kind, heartbeats):
    s = route(stent, redis, **KINDS[kind])
    with Session(s) as c:
        c.expect(b"$-1\r\n", "GET", "none")
        c.send_all(command("BLPOP", "empty", 0))
        time.sleep(0.02)
        before = listed(s)["heartbeats"]
        c.rest()
        if heartbeats:
            harness.wait_for(lambda: listed(s)["heartbeats"] > before + 5)
        else:
            flow = listed(s)
            assert flow["heartbeats"] <= before + 5 and flow["why_none"] == "command running"
        redis.ask("LPUSH", "empty", "x")
        c.expect(b"*2\r\n$5\r\nempty\r\n$1\r\nx\r\n")
        c.rest()
        c.end()
    heartbeats_of(s)


def test_a_reply_that_is_held_up_is_late_and_not_lost(through, session, redis):
    session.expect(b"+OK\r\n", "SET", "k", "v")
    assert redis.ask("CLIENT", "PAUSE", 300, "ALL") == b"+OK\r\n"
    session.rest(0.5)
    session.expect(b"$1\r\nv\r\n", "GET", "k")
    session.end()
    assert heartbeats_of(through) > 3


def test_a_debugger_of_scripts_is_left_alone(stent, redis, tmp_path):
    """It reads the connection by rules of its own: an empty line ends it, PING is an unknown command."""
    script = tmp_path / "s.lua"
    script.write_text("local a = 1\nlocal b = a + 1\nreturn b\n")
    for kind in KINDS:
        s = route(stent, redis, **KINDS[kind])
        debugger = subprocess.Popen(["redis-cli", "-h", harness.HOST, "-p", str(s.port), "--ldb", "--eval", script],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        time.sleep(0.2)
        for line in ("step", "step", "continue"):
            debugger.stdin.write(line + "\n")
            debugger.stdin.flush()
            time.sleep(PAUSE)
        out, _ = debugger.communicate(timeout=20)
        assert "rror" not in out and "(integer) 2" in out, out
        assert s.wait_logged("SCRIPT DEBUG")


def test_commands_typed_by_hand(through, session):
    session.send_all(b'set a "b c"\r\n')
    session.expect(b"+OK\r\n")
    session.rest()
    session.send_all(b"set 'a b' 'it\\'s \"quoted\"' \n")
    session.expect(b"+OK\r\n")
    session.rest()
    session.send_all(b"get a\n\n  GET 'a b'\r\n")
    session.expect(b'$3\r\nb c\r\n$13\r\nit\'s "quoted"\r\n')
    session.rest()
    session.end()
    assert heartbeats_of(through) > 5


def test_a_script_that_takes_its_time(through, session):
    script = "local t=redis.call('time') repeat local n=redis.call('time') until (n[1]-t[1])*1e6+n[2]-t[2]>2e5 return 7"
    session.expect(b":7\r\n", "EVAL", script, 0)
    session.rest()
    session.expect(b"$-1\r\n", "GET", "none")
    session.end()
    assert heartbeats_of(through) > 3


def test_a_server_that_is_busy_with_a_script_says_so_and_lives(stent):
    """Behind its time limit it replies -BUSY to PING, too: that is a reply."""
    server = Redis("--lua-time-limit", 20)
    try:
        s = route(stent, server, heartbeat="20ms", backend__heartbeat_timeout="300ms", backend__heartbeat_misses=1)
        with Session(s) as c, harness.connect(server.port) as busy:
            c.expect(b"+OK\r\n", "SET", "k", "v")
            busy.send_all(command("EVAL", "while true do end", 0))
            harness.wait_for(lambda: server.ask("GET", "k").startswith(b"-BUSY"), what="the script to be called slow")
            before = listed(s)["replies"]
            harness.wait_for(lambda: listed(s)["replies"] > before + 5, what="replies by -BUSY")
            c.send_all(command("GET", "k"))
            assert c.recv_some().startswith(b"-BUSY ")
            assert server.ask("SCRIPT", "KILL") == b"+OK\r\n"
            busy.recv_some()
            c.expect(b"$1\r\nv\r\n", "GET", "k")
            c.rest()
            c.end()
        assert heartbeats_of(s) > 5
        assert not s.logged("heartbeat refused")
    finally:
        server.close()


def test_a_replica_without_its_master_lives(stent):
    """It replies -MASTERDOWN to PING, and to reads."""
    server = Redis("--replica-serve-stale-data", "no")
    try:
        s = route(stent, server, heartbeat="20ms", backend__heartbeat_timeout="300ms", backend__heartbeat_misses=1)
        with Session(s) as c:
            c.expect(b"+OK\r\n", "SET", "k", "v")
            server.ask("REPLICAOF", "127.0.0.1", harness.free_port())
            before = listed(s)["replies"]
            harness.wait_for(lambda: listed(s)["replies"] > before + 5, what="replies by -MASTERDOWN")
            c.send_all(command("GET", "k"))
            assert c.recv_some().startswith(b"-MASTERDOWN ")
            server.ask("REPLICAOF", "NO", "ONE")
            c.expect(b"$1\r\nv\r\n", "GET", "k")
            c.end()
        assert heartbeats_of(s) > 5
        assert not s.logged("heartbeat refused")
    finally:
        server.close()


def test_invalidations_come_among_replies(through, session, redis):
    """CLIENT TRACKING in RESP3: pushes at any time, and many."""
    session.hello3()
    session.expect(b"+OK\r\n", "CLIENT", "TRACKING", "ON", "BCAST")
    push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"
    with harness.connect(redis.port) as writer:
        for n in range(300):
            writer.send_all(command("SET", "k", n))
            assert writer.recv_exact(5) == b"+OK\r\n"
            session.expect(push)
            if n % 10 == 0:
                session.expect(b"_\r\n", "GET", "none")
    session.rest()
    session.end()
    assert heartbeats_of(through) > 3


def test_invalidations_for_another_connection_in_resp2(through, session, redis):
    """Redirected, they are messages to a subscriber whose third element is a list."""
    session.send_all(command("CLIENT", "ID"))
    subscriber = int(session.recv_some()[1:-2])
    session.expect(b"*3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:1\r\n", "SUBSCRIBE", "__redis__:invalidate")
    session.rest()
    with harness.connect(redis.port) as tracking:
        tracking.send_all(command("CLIENT", "TRACKING", "ON", "REDIRECT", subscriber))
        assert tracking.recv_exact(5) == b"+OK\r\n"
        for n in range(20):
            tracking.send_all(command("SET", "k", n) + command("GET", "k"))
            tracking.recv_exact(5 + len(b"$%d\r\n%d\r\n" % (len(str(n)), n)))
            redis.ask("SET", "k", "x")
            session.expect(b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\nk\r\n")
            session.rest(0.01)
    session.end()
    assert heartbeats_of(through) > 3


def test_behind_wait_and_readers_of_a_group(through, session, redis):
    session.expect(b":0\r\n", "WAIT", 1, 200)
    session.expect(b"+OK\r\n", "XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    session.expect(b"*-1\r\n", "XREADGROUP", "GROUP", "g", "me", "BLOCK", 200, "STREAMS", "s", ">")
    session.send_all(command("XREADGROUP", "GROUP", "g", "me", "BLOCK", 0, "STREAMS", "s", ">"))
    session.rest()
    redis.ask("XADD", "s", "1-1", "f", "v")
    session.expect(b"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n")
    session.rest()
    session.expect(b"$-1\r\n", "GET", "none")
    session.end()
    assert heartbeats_of(through) > 3


def test_large_values(through, session):
    for size in (65536, 1 << 20, 20 << 20):
        value = random.Random(size).randbytes(size)
        session.send_all(command("SET", "big", value), timeout=20)
        session.expect(b"+OK\r\n")
        session.send_all(command("GET", "big") + command("STRLEN", "big"))
        head = b"$%d\r\n" % size
        assert session.recv_exact(len(head) + size + 2, timeout=20) == head + value + b"\r\n"
        session.expect(b":%d\r\n" % size)
        session.rest(0.03)
    session.end()
    assert heartbeats_of(through) > 3


def test_every_type_of_resp3(through, session):
    session.hello3()
    for what, reply in {"attrib": b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n$39\r\n",
                        "bignum": b"(1234567999999999999999999999999999999\r\n",
                        "verbatim": b"=29\r\ntxt:This is a verbatim\nstring\r\n", "null": b"_\r\n", "true": b"#t\r\n",
                        "double": b",3.141\r\n", "set": b"~3\r\n:0\r\n:1\r\n:2\r\n", "map": b"%3\r\n:0\r\n#f\r\n:1\r\n#t\r\n:2\r\n#f\r\n",
                        }.items():
        session.expect(reply, "DEBUG", "PROTOCOL", what)
        if what == "attrib":
            session.recv_exact(41)
        session.rest(0.03)
    session.end()
    assert heartbeats_of(through) > 3


def test_what_is_not_redis_is_let_go(stent, raw_backend):
    s = stent.route(raw_backend.text, protocol="redis", backend__heartbeat="2ms")
    client, backend = s.connect(), raw_backend.accept()
    client.send_all(b"\x16\x03\x01\x02\x00\x01rest of the hello")
    assert backend.recv_exact(23) == b"\x16\x03\x01\x02\x00\x01rest of the hello"
    backend.expect_quiet()
    assert s.wait_logged("TLS")


# --- proxies ---

def is_open(port):
    with socket.socket() as sock:
        return sock.connect_ex((harness.HOST, port)) == 0


@pytest.fixture
def twemproxy(redis, tmp_path):
    port = harness.free_port()
    conf = tmp_path / "nutcracker.yml"
    conf.write_text(f"a:\n  listen: {harness.HOST}:{port}\n  hash: fnv1a_64\n  distribution: ketama\n  redis: true\n"
                    f"  servers:\n   - {harness.HOST}:{redis.port}:1\n")
    proxy = subprocess.Popen(["nutcracker", "-c", conf, "-s", str(harness.free_port())], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    harness.wait_for(lambda: is_open(port), 20, "nutcracker to listen")
    yield port
    proxy.terminate()
    proxy.wait(10)


def test_twemproxy_is_asked(stent, redis, twemproxy):
    """It closes at an empty line, as at every inline command."""
    redis.ask("MSET", "a", 1, "b", 2)
    s = stent.route(twemproxy, protocol="redis", backend__heartbeat="2ms")
    with Session(s) as c:
        for _ in range(2):
            c.expect(b"$1\r\n1\r\n", "GET", "a")
            c.rest()
        c.expect(b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n", "MGET", "a", "b")
        c.rest()
        c.end()
    assert heartbeats_of(s) > 30


def test_an_error_to_an_empty_line_shifts_no_reply(stent, raw_backend):
    """Envoy and rcproxy reply by one: taken for the reply to the next command, all later ones would be off by one."""
    s = stent.route(raw_backend.text, protocol="redis", backend__heartbeat="50ms", backend__heartbeat_kind="oneway")
    with Session(s) as c, raw_backend.accept() as backend:
        for n in range(3):
            c.send_all(command("GET", "k"))
            assert backend.recv_exact(len(command("GET", "k"))) == command("GET", "k")
            backend.send_all(b":%d\r\n" % n)
            c.expect(b":%d\r\n" % n)
            if n == 0:
                assert backend.recv_exact(2) == b"\r\n"
                backend.send_all(b"-invalid request\r\n")
                c.rest()
                backend.expect_quiet(0.2)	# it gets no more
    assert "empty line" in s.next_event("heartbeat refused")["reason"]


# --- a server that hangs ---

@pytest.mark.parametrize("words, reply", [
    (["GET", "none"], b"$-1\r\n"),
    (["SUBSCRIBE", "c"], b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"),
])
def test_a_stopped_server_is_found(stent, redis, words, reply):
    s = route(stent, redis, heartbeat="50ms", backend__heartbeat_timeout="100ms")
    with Session(s) as c:
        c.expect(reply, *words)
        harness.wait_for(lambda: listed(s)["replies"] > 1, 5, "it to have been asked")
        redis.process.send_signal(signal.SIGSTOP)
        try:
            assert s.flow_end()["reason"] == "backend-heartbeat-timeout"
        finally:
            redis.process.send_signal(signal.SIGCONT)


# --- toward the client ---

def test_pushes_go_to_a_client_in_resp3_alone(stent, redis):
    s = route(stent, redis, client__heartbeat="5ms", client__heartbeat_kind="oneway")
    with Session(s) as c:
        c.expect(b"$-1\r\n", "GET", "none")
        c.rest()
        c.send_all(HELLO3)
        deadline = time.monotonic() + 5
        got = b""
        while got.count(PUSH) < 10 and time.monotonic() < deadline:
            got += c.recv_some()
        assert got.replace(PUSH, b"").endswith(b"modules\r\n*0\r\n")
        c.send_all(command("GET", "none"))
        while b"_\r\n" not in got:
            got += c.recv_some()
    assert s.flow_end()["client_heartbeats"] >= 10


def test_no_push_unless_told_so(stent, redis):
    s = route(stent, redis)
    with Session(s) as c:
        c.hello3()
        c.rest()
    assert s.flow_end()["client_heartbeats"] == 0


# --- farewell ---

def test_a_dead_server_is_told_to_an_open_command(stent, redis):
    s = route(stent, redis, heartbeat="50ms", backend__heartbeat_kind="ping", backend__heartbeat_timeout="500ms",
              backend__heartbeat_misses=1)
    with Session(s) as c:
        c.expect(b"$-1\r\n", "GET", "none")
        time.sleep(0.1)
        redis.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(0.2)	# it is asked; with a command open it could not be
            c.send_all(command("GET", "none"))
            said = c.recv_all()
        finally:
            redis.process.send_signal(signal.SIGCONT)
    assert re.fullmatch(rb"-ERR stent: lost the connection to the server \(backend-heartbeat-timeout\), which was idle for "
                        rb"\d+\.\d s; the command may have run\r\n", said)
    assert s.flow_end()["reason"] == "backend-heartbeat-timeout"


# --- replication ---

def synced(master, replica):
    """Both at the same place, and the link up."""
    wanted = master.info("replication", "master_repl_offset")
    return replica.info("replication", "master_link_status") == "up" \
        and replica.info("replication", "slave_repl_offset") == wanted \
        and f"offset={wanted}," in master.info("replication", "slave0")


def test_a_replica_stays_at_its_master_s_offset(stent):
    master = Redis("--repl-diskless-sync-delay", 1, "--repl-ping-replica-period", 60)	# quiet for so long, it begins
    replica = None
    try:
        s = route(stent, master, heartbeat="5ms", client__heartbeat="5ms", client__heartbeat_kind="oneway")
        replica = Redis("--replicaof", f"{harness.HOST} {s.port}", "--repl-backlog-size", "1mb")
        for n in range(3):
            master.ask("SET", "k", n)
            harness.wait_for(lambda: synced(master, replica), 20, "the replica to follow")
            time.sleep(PAUSE)
            assert synced(master, replica)
            assert replica.ask("GET", "k") == b"$1\r\n%d\r\n" % n
        master.ask("CLIENT", "KILL", "TYPE", "replica")	# it must be able to go on where it was
        end = s.flow_end()
        assert end["protocol"] == "redis" and end["client_heartbeats"] == 0
        master.ask("SET", "k", "after")
        harness.wait_for(lambda: synced(master, replica), 20, "the replica to follow again")
        assert master.info("stats", "sync_full") == "1"
        assert master.info("stats", "sync_partial_ok") == "1"
    finally:
        if replica:
            replica.close()
        master.close()


def test_a_replica_that_hangs_looks_so_to_its_master(stent):
    """A heartbeat in its name would be a lie that keeps its master content."""
    master = Redis("--repl-diskless-sync-delay", 0, "--min-replicas-to-write", 1, "--min-replicas-max-lag", 2)
    replica = None
    try:
        s = route(stent, master, heartbeat="20ms")
        replica = Redis("--replicaof", f"{harness.HOST} {s.port}")
        harness.wait_for(lambda: master.ask("SET", "k", 1) == b"+OK\r\n", 20, "the replica to come")
        time.sleep(1)
        assert master.ask("SET", "k", 2) == b"+OK\r\n"
        replica.process.send_signal(signal.SIGSTOP)
        try:
            harness.wait_for(lambda: master.ask("SET", "k", 3).startswith(b"-NOREPLICAS"), 10, "the master to see it")
        finally:
            replica.process.send_signal(signal.SIGCONT)
        harness.wait_for(lambda: master.ask("SET", "k", 4) == b"+OK\r\n", 10, "the replica to live")
    finally:
        if replica:
            replica.close()
        master.close()


# --- a cluster's ASKING ---

def test_asking_is_not_used_up(stent):
    buses = [harness.free_port() for _ in range(2)]
    servers = [Redis("--cluster-enabled", "yes", "--cluster-port", bus) for bus in buses]
    try:
        owner, importer = servers
        owner.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        owner.ask("CLUSTER", "MEET", harness.HOST, importer.port, buses[1])
        name = owner.ask("CLUSTER", "MYID").split(b"\r\n")[1].decode()
        slot = int(owner.ask("CLUSTER", "KEYSLOT", "k")[1:])
        harness.wait_for(lambda: importer.ask("GET", "k").startswith(b"-MOVED"), 20)
        assert importer.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", name) == b"+OK\r\n"
        s = route(stent, importer)
        with Session(s) as c:
            c.expect(b"+OK\r\n", "ASKING")
            c.rest()
            c.expect(b"$-1\r\n", "GET", "k")
            c.rest()
            c.end()
        assert heartbeats_of(s) > 3
    finally:
        for server in servers:
            server.close()


# --- idle rules of the server ---

@pytest.mark.long
def test_the_server_s_timeout_is_defeated(stent):
    """But for a session that idles in a transaction."""
    server = Redis("--timeout", 1)
    try:
        for heartbeat, words, reply, lives in (("off", ["GET", "k"], b"$-1\r\n", False), ("20ms", ["GET", "k"], b"$-1\r\n", True),
                                               ("20ms", ["MULTI"], b"+OK\r\n", False)):
            with Session(route(stent, server, heartbeat=heartbeat)) as c:
                c.expect(reply, *words)
                if lives:
                    c.rest(4)
                    c.expect(reply, *words)
                else:
                    c.expect_fin(timeout=4)
    finally:
        server.close()


# --- programs ---

def run(*words, timeout=60, **more):
    result = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=harness.patient(timeout),
                            check=False, **more)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def run_all(commands, timeout=60, **more):
    """Several programs at a time; what each said."""
    processes = [subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
                 for words in commands]
    said = []
    for process in processes:
        try:
            said.append(process.communicate(timeout=harness.patient(timeout))[0])
        finally:
            process.kill()
        assert process.returncode == 0, said[-1]
    return said


def benchmark(s, requests, depth, tests="ping,set,get,incr,lpush,lrange_100,mset"):
    out = run("redis-benchmark", "-h", harness.HOST, "-p", s.port, "-n", requests, "-P", depth, "-c", 20, "-t", tests, "--csv",
              timeout=300)
    assert "rror" not in out
    assert len(out.splitlines()) >= len(tests.split(",")) + 1


@pytest.mark.parametrize("depth", [1, pytest.param(16, marks=pytest.mark.long), 64])
def test_redis_benchmark(through, depth):
    benchmark(through, 2000, depth)
    assert not through.logged("protocol passthrough")


@pytest.mark.long
@pytest.mark.parametrize("depth", [1, 64])
def test_redis_benchmark_at_length(through, depth):
    benchmark(through, 100000, depth)


def converse_by_redis_cli(port, *options):
    for more in ([], ["-3"]):
        process = subprocess.Popen(["redis-cli", "-h", harness.HOST, "-p", str(port), *options, *more], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in ("set k v1", "get k", "multi", "incr n", "exec", "del n k"):
            process.stdin.write(line + "\n")
            process.stdin.flush()
            time.sleep(0.03)
        out, _ = process.communicate(timeout=20)
        assert out.replace("(integer) ", "").replace('"', "").replace("1) ", "").split() == \
            ["OK", "v1", "OK", "QUEUED", "1", "2"]


def test_redis_cli(through):
    converse_by_redis_cli(through.port)


def converse_by_redis_py(port, **options):
    import redis as driver
    c = driver.Redis(port=port, **options)
    for n in range(20):
        c.set("k", n)
        assert c.get("k") == b"%d" % n
        assert c.pipeline().set("a", n).incr("a").get("a").execute() == [True, n + 1, b"%d" % (n + 1)]
        time.sleep(0.005)
    connections = c.info("clients")["connected_clients"]
    listener = c.pubsub()
    listener.subscribe("c")
    assert listener.get_message(timeout=5)["type"] == "subscribe"
    time.sleep(PAUSE)
    c.publish("c", "hello")
    assert listener.get_message(timeout=5)["data"] == b"hello"
    time.sleep(PAUSE)
    assert c.get("k") == b"19"
    assert c.info("clients")["connected_clients"] == connections + 1, "it connected anew"
    listener.close()
    c.close()
    c.connection_pool.disconnect()


def test_redis_py(through):
    converse_by_redis_py(through.port)


# --- drivers at rest for a hundred heartbeats ---

def expect_100_heartbeats(s, flows=1):
    for _ in range(flows):
        end = s.flow_end()
        assert end["protocol"] == "redis" and end["backend_heartbeats"] >= 100, end


def test_redis_py_idle_for_100_heartbeats(through):
    import redis as driver
    c = driver.Redis(port=through.port, single_connection_client=True)
    with warnings.catch_warnings(record=True) as said:
        before = c.client_id()
        time.sleep(IDLE)
        assert c.client_id() == before
    assert said == []
    c.close()
    c.connection_pool.disconnect()
    expect_100_heartbeats(through)


@pytest.mark.plain
@pytest.mark.parametrize("through", ["ping", *(pytest.param(kind, marks=pytest.mark.long) for kind in KINDS if kind != "ping")], indirect=True)
def test_node_drivers_idle_for_100_heartbeats(through):
    said = run_all([["node", HERE / "clients" / "redis.js", driver, through.port, int(IDLE * 1000)] for driver in NODE_DRIVERS])
    assert said == ["idle\nend\n"] * len(NODE_DRIVERS)
    expect_100_heartbeats(through, len(NODE_DRIVERS))


# --- drivers at work ---

@pytest.mark.parametrize("kind", [*(pytest.param(kind, marks=pytest.mark.plain) for kind in KINDS), "push"])
def test_node_drivers(stent, redis, kind):
    keys = KINDS.get(kind) or {"client__heartbeat": "5ms", "client__heartbeat_kind": "oneway"}
    redis.ask("FLUSHALL")
    s = route(stent, redis, **keys)
    said = run_all([["node", HERE / "clients" / "redis.js", driver, s.port] for driver in NODE_DRIVERS])
    for out in said:
        assert out.splitlines() == NODE_SAYS
    ends = [s.flow_end() for _ in range(2 * len(NODE_DRIVERS))]
    assert all(end["protocol"] == "redis" for end in ends)
    assert sum(end["backend_heartbeats"] for end in ends) > 50
    if kind == "ping":
        assert sum(end["backend_replies"] for end in ends) > 20
    if kind == "push":
        assert sum(end["client_heartbeats"] for end in ends) > 20
