"""Control of a running stent: which flows are listed and ended, what is logged, and the schemas of the answers."""

import json
import re

import harness
import jsonschema
import pytest
from harness import HOST, connect, free_port, run_stent, wait_for

SCHEMAS = {path.stem: json.loads(path.read_text()) for path in (harness.ROOT / "docs" / "schemas").glob("*.json")}


def ask(s, *words):
    done = run_stent(*words, "-c", s.ini_path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def answer(s, name, *words):
    """What a command prints with --json, which must be as its schema says."""
    told = json.loads(ask(s, *words, "--json"))
    jsonschema.validate(told, SCHEMAS[name])
    return told


@pytest.fixture
def two(stent, echo):
    """Two routes with a flow each from 127.0.0.1 and from 127.0.0.12; the second route is idle for longer."""
    ports = free_port(), free_port()
    s = stent(f"[route one]\nlisten = {HOST}:{ports[0]}\nbackend = {echo.text}\nprotocol = websocket\n"
              f"[route other]\nlisten = {HOST}:{ports[1]}\nbackend = {echo.text}\n", workers=2, drain_timeout="20s")
    clients = {(name, source): connect(port, source=(source, 0)) for name, port in zip(("other", "one"), reversed(ports))
               for source in (HOST, "127.0.0.12")}
    wait_for(lambda: len([r for r in s.records if r.get("event") == "flow start"]) == 4, what="four flows")
    yield s, clients
    for client in clients.values():
        client.close()


def listed(s, *options):
    return sorted((flow["route"], flow["client"]["address"].split(":")[0]) for flow in answer(s, "flows", "flows", *options))


def test_flows_by_what_they_are(two, echo):
    s, _ = two
    everything = [("one", HOST), ("one", "127.0.0.12"), ("other", HOST), ("other", "127.0.0.12")]
    assert listed(s) == everything
    assert listed(s, "--route", "one") == everything[:2]
    assert listed(s, "--client", HOST) == [("one", HOST), ("other", HOST)]		# not 127.0.0.12
    assert listed(s, "--client", "127.0.") == listed(s, "--backend", echo.text) == everything
    assert listed(s, "--client", "127.0.0.12", "--protocol", "tcp") == [("other", "127.0.0.12")]
    assert listed(s, "--backend", "10.0.0.1") == listed(s, "--route", "none") == []
    assert listed(s, "--reason", "protocol = tcp") == everything[2:]
    assert listed(s, "--idle-over", "1h") == []
    wait_for(lambda: listed(s, "--idle-over", "300ms") == everything, what="all to be quiet")


def test_quiet_flows(two):
    s, clients = two
    busy = clients["other", HOST]
    wait_for(lambda: len(listed(s, "--idle-over", "1s")) == 4, what="all to be quiet")
    busy.send_all(b"x")
    busy.recv_exact(1)
    assert listed(s, "--idle-over", "1s") == [("one", HOST), ("one", "127.0.0.12"), ("other", "127.0.0.12")]


def test_flows_are_a_table_for_people(two):
    head, *rows = ask(two[0], "flows", "--route", "one").splitlines()
    assert head.split()[:3] == ["ID", "ROUTE", "PROTOCOL"] and len(rows) == 2


def test_kill_says_how_many(two):
    s, clients = two
    assert ask(s, "kill", "--route", "other", "--client", HOST) == "1 flow ended\n"
    clients["other", HOST].expect_reset()
    assert s.flow_end()["reason"] == "admin-kill"
    assert answer(s, "kill", "kill", "--route", "one") == {"flows": 2}
    assert ask(s, "kill", "--idle-over", "1h") == "0 flows ended\n"
    (flow,) = answer(s, "flows", "flows")
    assert flow["route"] == "other"
    assert answer(s, "kill", "kill", str(flow["id"])) == {"flows": 1, "killed": flow["id"]}
    clients["other", "127.0.0.12"].expect_reset()


def test_many_flows_are_ended(stent, echo):
    s = stent.route(echo.text, settings={"workers": 2})
    clients = [s.connect() for _ in range(200)]
    wait_for(lambda: answer(s, "status", "status")["flows_open"] == 200, what="200 flows")
    assert ask(s, "kill", "--route", "t") == "200 flows ended\n"
    for client in clients:
        client.expect_reset()


@pytest.mark.parametrize("words, said, status", [
    (["kill"], "needs the id of a flow", 2),
    (["kill", "1", "--route", "t"], "needs the id of a flow", 2),
    (["kill", "--idle-over", "5"], '"idle-over=5" is unknown or has a wrong value; write some of route=NAME', 1),
    (["flows", "--idle-over", "soon"], '"idle-over=soon" is unknown or has a wrong value; write some of limit=N', 1),
    (["flows", "--reason", "x" * 600], "--reason is too long", 2),
    (["log", "loud"], "needs a level", 2),
    (["log"], "needs a level", 2),
])
def test_calls_that_are_wrong(stent, echo, words, said, status):
    s = stent.route(echo.text)
    with s.connect() as client:
        done = run_stent(*words, "-c", s.ini_path)
        assert done.returncode == status and said in done.stderr
        client.send_all(b"x")			# nobody was ended
        assert client.recv_exact(1) == b"x"


def test_the_level_of_the_log(stent, echo):
    s = stent.route(echo.text)
    assert answer(s, "log", "log", "warn") == {"log_level": "warn"}
    with s.connect() as client:
        client.send_all(b"x")
        client.recv_exact(1)
    wait_for(lambda: answer(s, "status", "status")["ended"] == {"client-fin": 1}, what="the end")
    assert not s.logged("flow end")
    ask(s, "log", "debug")
    s.connect().close()
    s.flow_start()
    s.flow_end()


def test_each_answer_is_as_its_schema_says(two):
    s, _ = two
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    answer(s, "status", "status")
    jsonschema.validate(s.ask("health"), SCHEMAS["health"])
    jsonschema.validate(s.ask("kill x"), SCHEMAS["error"])
    jsonschema.validate(s.ask("drain"), SCHEMAS["drain"])


def test_a_schema_refuses_what_is_wrong(two):
    told = answer(two[0], "flows", "flows")
    del told[0]["client"]["why_none"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(told, SCHEMAS["flows"])


def test_every_answer_has_its_json_and_schema(two):
    s, _ = two
    answer(s, "reload", "reload", "--dry-run")
    answer(s, "reload", "reload")
    answer(s, "pause", "pause", "one", "--for", "60s")
    route = answer(s, "status", "status")["routes"][0]
    assert route["name"] == "one" and route["paused"]["seconds_left"] > 0
    assert answer(s, "resume", "resume", "one")["resumed"] == "one"
    assert answer(s, "health", "healthcheck") == {"healthy": True}
    assert answer(s, "ready", "healthcheck", "--ready") == {"ready": True}
    s.ini_path.write_text(s.ini_path.read_text() + "\nno_such_key = 1\n")
    done = run_stent("reload", "--json", "--control", s.control)
    assert done.returncode == 2
    jsonschema.validate(json.loads(done.stdout), SCHEMAS["reload"])
    done = run_stent("drain", "--json", "--control", s.control)
    assert json.loads(done.stdout)["flows_open"] == 4
    jsonschema.validate(json.loads(done.stdout), SCHEMAS["drain"])
    done = run_stent("healthcheck", "--json", "--control", s.control)
    assert done.returncode == 1 and json.loads(done.stdout) == {"healthy": False, "why": "draining"}


# --- stent status ---

def test_status_counts_flows_by_protection_and_route(two):
    s, _ = two
    none = {"both": 0, "one": 0, "probes": 2}

    def told():
        j = answer(s, "status", "status")
        routes = {route["name"]: route for route in j["routes"]}
        return j["protection"]["probes"] == 4 and routes["one"]["protection"] == routes["other"]["protection"] == none and j
    j = wait_for(told, what="the flows to be counted")
    assert j["why_none"]["protocol = tcp"] == 4 and sum(j["why_none"].values()) == 8
    assert [route["flows_open"] for route in j["routes"]] == [2, 2]
    text = ask(s, "status")
    assert "protected    0 by heartbeats on both legs, 0 on one, 4 by TCP probes alone\n" in text and "protocol = tcp 4" in text
    assert re.search(r"^one +2 +0 +0 +2 +0 +0 +0 +0 +0$", text, re.MULTILINE)


def test_flows_protected_on_both_legs(stent, echo):
    s = stent.route(echo.text, protocol="line", heartbeat="50ms", heartbeat_send=r"# here\n")
    with s.connect() as client:
        client.send_all(b"x\n")
        client.recv_exact(2)
        wait_for(lambda: [r for r in answer(s, "status", "status")["routes"] if r["protection"]["both"] == 1 and
                          r["heartbeats"]["client"] > 0 and r["heartbeats"]["backend"] > 0], what="heartbeats on both legs")


def test_status_says_what_is_wrong_within_80_columns(stent, echo):
    ports = [free_port() for _ in range(14)]
    dead = ", ".join(f"{HOST}:{port}" for port in ports[2:])
    name = "a-route-whose-name-is-long"
    s = stent(f"[route one]\nlisten = {HOST}:{ports[0]}\nbackend = {echo.text}\n"
              f"[route {name}]\nlisten = {HOST}:{ports[1]}\nbackend = {dead}\n")
    with pytest.raises(ConnectionError), connect(ports[1]) as client:
        client.recv_exact(1)
    wait_for(lambda: len(answer(s, "status", "status")["routes"][1]["backends_down"]) == 12, what="the backends to be down")
    ask(s, "pause", "one")
    good = s.ini_path.read_text()
    s.ini_path.write_text(good + "\nno_such_key = 1\n")
    run_stent("reload", "--control", s.control)
    s.ini_path.write_text(good)
    text = ask(s, "status")
    assert all(len(line) <= 80 for line in text.replace(str(s.ini_path), "/etc/stent.ini").splitlines()), text
    assert "the last reload failed" in text and re.search(r"^  paused, 0 of at most", text, re.MULTILINE)
    assert text.count(" (down)") == 12 and text.count(" (up)") == 1 and name[:16] in text


def test_a_removed_route_is_shown_while_it_has_flows(two):
    s, clients = two
    s.ini_path.write_text("[stent]" + s.ini_path.read_text().partition("[stent]")[2].partition("[route other]")[0])
    ask(s, "reload")
    (route,) = answer(s, "status", "status")["removed_routes"]
    assert (route["name"], route["flows_open"]) == ("other", 2)
    assert "removed from the settings" in ask(s, "status")
    for source in (HOST, "127.0.0.12"):
        clients["other", source].close()
    wait_for(lambda: answer(s, "status", "status")["removed_routes"] == [], what="its flows to end")
