"""What `stent check` and a running stent say of the values that were chosen for the operator."""

import json
import time
import urllib.request

import harness


def check(tmp_path, text):
    path = tmp_path / "stent.ini"
    path.write_text("[stent]\nuser = off\n" + text)
    return harness.run_stent("check", "-c", path)


ROUTE = "[route r]\nlisten = 127.0.0.1:1\nbackend = 127.0.0.1:2\n"


def flows(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/flows") as answer:
        return json.load(answer)


def comments(done):
    assert (done.returncode, done.stderr) == (0, ""), done
    return [line for line in done.stdout.splitlines() if line.startswith(";")]


def test_check_tells_what_follows_from_detect_and_what_it_costs(tmp_path):
    told = comments(check(tmp_path, ROUTE + "protocol = websocket\nclient.detect = 40s\nclient.keepalive = 10s/5s/6\n"))
    assert told == [
        "; [route r] client.detect = 40s",
        ";   probes     after 10s, then each 5s (set): a dead host or path is found within 40s",
        ";   bytes      unacknowledged for 40s (from detect): dead",
        ";   heartbeats after 8s (from detect); 4 replies missing for 8s each (from detect): a hung program is found within 40s",
        ";   costs      1500 packets an hour and flow at rest",
    ]


def test_check_tells_that_a_hung_program_is_not_found(tmp_path):
    told = comments(check(tmp_path, ROUTE + "backend.detect = 6s\n"))
    assert told[-2:] == [";   heartbeats none: the protocol has none toward this side; a hung program is not found",
                         ";   costs      7200 packets an hour and flow at rest"]


def test_check_tells_what_a_profile_gave(tmp_path):
    told = comments(check(tmp_path, ROUTE + "protocol = postgres\nbackend.profile = aws-alb\n"))
    assert told == [
        "; [route r] backend.profile = aws-alb: a flow without data for 60s is closed",
        ";   source     https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html (read 2026-11-28)",
        ";   probes     after 25s, then each 10s (default): a dead host or path is found within 85s",
        ";   bytes      unacknowledged for 85s (default): dead",
        ";   heartbeats after 30s (from profile); 3 replies missing for 30s each (default): a hung program is found within 2m",
        ";   costs      665 packets an hour and flow at rest",
    ]


def test_check_warns_where_nothing_keeps_a_flow(tmp_path):
    done = check(tmp_path, ROUTE + "client.profile = nginx\n")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        f"{tmp_path}/stent.ini:6: warning: client.profile: nginx counts data alone, and protocol = tcp has no heartbeats toward the client: "
        "a flow without data for 60s is closed; name the protocol, or raise that limit"]


def test_the_profiles_are_listed_everywhere_alike():
    table = harness.run_stent("help", "profiles", "--format=markdown").stdout
    assert table in (harness.ROOT / "docs" / "choosing.md").read_text(), "docs/choosing.md: stent help profiles --format=markdown"
    listed = json.loads(harness.run_stent("help", "profiles", "--format=json").stdout)
    assert listed == json.loads(harness.run_stent("help", "--format=json").stdout)["settings"]["profiles"]
    text = harness.run_stent("help", "profiles").stdout
    assert len(listed) > 12
    for p in listed:
        assert f"\n  {p['name']}\n" in text and p["source"] in text and f"`{p['name']}`" in table


def test_nothing_is_told_where_nothing_was_chosen(tmp_path):
    assert comments(check(tmp_path, ROUTE)) == []


def test_a_path_that_is_too_slow_for_detect_is_told(stent, raw_backend):
    """A peer that takes half a second to reply: four chances do not fit into 6 s."""
    port = harness.free_port()
    s = stent(f"[route t]\nlisten = 127.0.0.1:{harness.free_port()}\n"
              f"backend = 127.0.0.1:{raw_backend.port}\nprotocol = line\nbackend.detect = 6s\n"
              'backend.heartbeat_send = "PING\\n"\nbackend.heartbeat_expect = "PONG\\n"\n', admin=f"127.0.0.1:{port}")
    with s.connect() as client, raw_backend.accept() as server:
        client.send_all(b"hello\n")
        assert server.recv_exact(6) == b"hello\n"
        for _ in range(2):
            assert server.recv_exact(5) == b"PING\n"
            time.sleep(0.5)
            server.send_all(b"PONG\n")
        told = s.next_event("detect is too short", timeout=5, side="backend")
        assert told["route"] == "t" and told["detect_seconds"] == 6
        assert 0.45 < told["round_trip_seconds"] < 1 and told["needed_seconds"] > 6
        assert [(f["client"]["detect_too_short"], f["backend"]["detect_too_short"]) for f in flows(port)] == [(False, True)]
        assert s.ask("status")["routes"][0]["detect_too_short"] == {"client": False, "backend": True}
        told = harness.run_stent("status", "--control", s.control).stdout
        assert "\n  detect     too short for the path to a backend: see the log\n" in told, told
        server.recv_exact(5)			# another heartbeat: the same is not told again
        server.send_all(b"PONG\n")
        s.expect_no_event("detect is too short", seconds=0.5)


def test_check_warns_of_what_has_no_effect(tmp_path):
    """In a route's own section: [defaults] is for all routes."""
    def warnings(text):
        done = check(tmp_path, text)
        assert done.returncode == 0, done.stderr
        return [line.split(": warning: ")[1] for line in done.stderr.splitlines()]

    own = {"when_full = evict": "max_flows = 5", "on_unhealthy = close": "health = tcp"}
    for line, needed in own.items():
        key = line.split(" ")[0]
        told, = warnings(f"{ROUTE}{line}\n")
        assert told.startswith(f"{key}: has no effect w"), told
        assert warnings(f"{ROUTE}{line}\n{needed}\n") == warnings(f"[defaults]\n{line}\n{ROUTE}") == []
    unix = ROUTE.replace("127.0.0.1:1\n", "unix:/tmp/a\n")
    for line in ("allow = 10.0.0.0/8", "deny = 10.0.0.0/8", "max_flows_per_client = 2", "accept_rate = 2/s"):
        told, = warnings(f"{unix}{line}\n")
        assert told.startswith(f"{line.split(' ')[0]}: has no effect, as clients of UNIX sockets have no address"), told
        assert warnings(f"{ROUTE}{line}\n") == warnings(f"{unix}{line}\naccept_proxy = require\nproxy_from = unix\n") == []
        assert warnings(f"{unix.replace('unix:/tmp/a', 'unix:/tmp/a, :1')}{line}\n") == []
    assert warnings(f"{unix}allow = off\n") == []
    tls = ROUTE + "backend.tls = verify\n"
    told, = warnings(tls + "health = http:///live\n")
    assert told.startswith("health: checks do not use TLS") and "http://:PORT/live" in told
    assert warnings(tls + "health = http://:8008/live\n") == warnings(tls + "health = tcp\n") == []


def test_check_warns_of_a_server_that_closes_idle_connections(tmp_path):
    mysql = ROUTE + "protocol = mysql\n"
    done = check(tmp_path, mysql + "backend.heartbeat = off\n")
    assert done.stderr.splitlines() == [
        f"{tmp_path}/stent.ini:7: warning: backend.heartbeat: with \"off\" the server closes a connection on which nothing was said for 8h, its "
        "default wait_timeout; remove this, or write idle_timeout = 8h if that is wanted"]
    for quiet in (mysql, mysql + "client.heartbeat = off\n", mysql + "backend.heartbeat = off\nidle_timeout = 8h\n",
                  ROUTE + "protocol = postgres\nheartbeat = off\n"):
        assert check(tmp_path, quiet).stderr == ""
