"""The files for Prometheus and Grafana in etc/: their rules do what they say, and name metrics that exist."""

import json
import re
import subprocess
import urllib.request

import harness
import pytest
import yaml
from harness import HOST, SLOW, free_port

pytestmark = pytest.mark.plain

RULES = harness.ROOT / "etc" / "prometheus-alerts.yml"
DASHBOARD = harness.ROOT / "etc" / "grafana-dashboard.json"
ALERTS = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]

# Of each alert: series that raise it, series that do not, the minutes after which to look, the labels and the value expected.
PG = 'instance="a",job="stent",route="pg"'
SIDE = PG + ',side="client"'
HISTOGRAM = {  # of durations of which all are above, or below, the second bucket
    "slow": [("5", "0x60"), ("10", "0+60x60"), ("+Inf", "0+60x60")],
    "fast": [("5", "0+60x60"), ("10", "0+60x60"), ("+Inf", "0+60x60")],
}
LATE = {"slow": [("0.05", "0x60"), ("0.1", "0+60x60"), ("+Inf", "0+60x60")],
        "fast": [("0.05", "0+60x60"), ("0.1", "0+60x60"), ("+Inf", "0+60x60")]}


def buckets(name, labels, which):
    return {f'{name}_bucket{{{labels},le="{le}"}}': values for le, values in which}


CASES = {
    "StentDown": ({'up{instance="a",job="stent"}': "0x60"}, {'up{instance="a",job="stent"}': "1x60", 'up{job="x"}': "0x60"},
                  5, {"instance": "a", "job": "stent"}, None),
    "StentBackendDown": ({f'stent_backend_up{{{PG},backend="db1:5432"}}': "0x60"}, {f'stent_backend_up{{{PG},backend="db1:5432"}}': "1x60"},
                         5, {"instance": "a", "job": "stent", "route": "pg", "backend": "db1:5432"}, None),
    "StentConnectsFail": (
        {f'stent_connects_total{{{PG},result="ok"}}': "0+6x60", f'stent_connects_total{{{PG},result="refused"}}': "0+4x60"},
        {f'stent_connects_total{{{PG},result="ok"}}': "0+60x60", f'stent_connects_total{{{PG},result="refused"}}': "0+4x60"},
        20, {"instance": "a", "route": "pg"}, None),
    "StentPeersDie": ({f"stent_peer_deaths_total{{{SIDE}}}": "0+1x60"}, {f"stent_peer_deaths_total{{{SIDE}}}": "0x20 1x40"},
                      30, {"instance": "a", "route": "pg", "side": "client"}, "15"),
    "StentFlowsNearLimit": ({f"stent_flows_open{{{PG}}}": "95x60", 'stent_flows_max{instance="a",job="stent"}': "100x60"},
                            {f"stent_flows_open{{{PG}}}": "80x60", 'stent_flows_max{instance="a",job="stent"}': "100x60"},
                            10, {"instance": "a", "job": "stent"}, None),
    "StentFlowsRefused": ({f'stent_flows_ended_total{{{PG},reason="limit"}}': "0+2x60", f'stent_refusals_total{{{PG},cause="accept_rate"}}': "0+1x60",
                           f'stent_refusals_total{{{PG},cause="max_flows"}}': "0+1x60"},
                          {f'stent_flows_ended_total{{{PG},reason="limit"}}': "0+7x60", f'stent_flows_ended_total{{{PG},reason="client-fin"}}': "0+9x60",
                           f'stent_refusals_total{{{PG},cause="accept_rate"}}': "0+4x60", f'stent_refusals_total{{{PG},cause="max_flows_per_client"}}': "0+3x60"},
                          10, {"instance": "a", "route": "pg"}, None),
    "StentClientsRefused": ({f'stent_refusals_total{{{PG},cause="proxy_header"}}': "0+2x60", f"stent_flows_total{{{PG}}}": "0+10x60"},
                            {f'stent_refusals_total{{{PG},cause="denied"}}': "0+2x60", f'stent_refusals_total{{{PG},cause="max_flows"}}': "0+9x60",
                             f"stent_flows_total{{{PG}}}": "0+90x60"},
                            40, {"instance": "a", "route": "pg", "cause": "proxy_header"}, None),
    "StentFlowsEvicted": ({f'stent_flows_ended_total{{{PG},reason="evicted"}}': "0+1x60"},
                          {f'stent_flows_ended_total{{{PG},reason="evicted"}}': "5x60", f'stent_flows_ended_total{{{PG},reason="max-age"}}': "0+9x60"},
                          20, {"instance": "a", "route": "pg"}, None),
    "StentDescriptorsNearLimit": ({'process_open_fds{instance="a",job="stent"}': "95x60", 'process_max_fds{instance="a",job="stent"}': "100x60"},
                                  {'process_open_fds{instance="a",job="node"}': "95x60", 'process_max_fds{instance="a",job="node"}': "100x60"},
                                  10, {"instance": "a", "job": "stent"}, None),
    "StentPassthrough": ({f'stent_passthrough_flows_total{{{PG},reason="TLS"}}': "0+5x60", f"stent_flows_total{{{PG}}}": "0+10x60"},
                         {f'stent_passthrough_flows_total{{{PG},reason="TLS"}}': "0+5x60", f"stent_flows_total{{{PG}}}": "0+100x60"},
                         40, {"instance": "a", "route": "pg"}, None),
    "StentHeartbeatsRefused": ({f"stent_heartbeats_refused_total{{{SIDE}}}": "0x5 1x5 2x5 3x60"},
                               {f"stent_heartbeats_refused_total{{{SIDE}}}": "0x5 1x5 1x60"},
                               20, {"instance": "a", "route": "pg", "side": "client"}, None),
    "StentHeartbeatMisses": ({f"stent_heartbeat_misses_total{{{SIDE}}}": "0+1x60", f"stent_heartbeats_total{{{SIDE}}}": "0+10x60"},
                             {f"stent_heartbeat_misses_total{{{SIDE}}}": "0+1x60", f"stent_heartbeats_total{{{SIDE}}}": "0+100x60"},
                             40, {"instance": "a", "route": "pg", "side": "client"}, None),
    "StentRepliesSlow": (buckets("stent_heartbeat_round_trip_seconds", SIDE, HISTOGRAM["slow"]),
                         buckets("stent_heartbeat_round_trip_seconds", SIDE, HISTOGRAM["fast"]),
                         40, {"instance": "a", "route": "pg", "side": "client"}, None),
    "StentLoopSlow": (buckets("stent_worker_loop_delay_seconds", 'instance="a",worker="0"', LATE["slow"]),
                      buckets("stent_worker_loop_delay_seconds", 'instance="a",worker="0"', LATE["fast"]),
                      40, {"instance": "a", "worker": "0"}, None),
    "StentReloadFailed": ({'stent_config_last_reload_successful{instance="a",job="stent"}': "0x60"},
                          {'stent_config_last_reload_successful{instance="a",job="stent"}': "1x60"}, 5, {"instance": "a", "job": "stent"}, None),
    # The clock of a test of rules begins in 1970.
    "StentCertificateExpires": ({f'stent_tls_certificate_expiry_seconds{{{SIDE},key="tls_cert",file="/x.pem"}}': "864000x60"},
                                {f'stent_tls_certificate_expiry_seconds{{{SIDE},key="tls_cert",file="/x.pem"}}': "8640000x60"},
                                5, {"instance": "a", "job": "stent", "route": "pg", "side": "client", "key": "tls_cert", "file": "/x.pem"}, None),
    "StentTlsFails": ({f'stent_tls_failures_total{{{SIDE},cause="x"}}': "0+5x60", f'stent_tls_handshakes_total{{{SIDE},kind="full"}}': "0+5x60"},
                      {f'stent_tls_failures_total{{{SIDE},cause="x"}}': "0+5x60", f'stent_tls_handshakes_total{{{SIDE},kind="full"}}': "0+50x60"},
                      40, {"instance": "a", "route": "pg", "side": "client"}, None),
    "StentOnEventFails": ({'stent_on_event_total{instance="a",result="timeout"}': "0+1x60"},
                          {'stent_on_event_total{instance="a",result="ok"}': "0+1x60", 'stent_on_event_total{instance="a",result="timeout"}': "3x60"},
                          20, {"instance": "a", "result": "timeout"}, None),
}


def promtool(*args):
    done = subprocess.run(["promtool", *map(str, args)], capture_output=True, text=True, timeout=60 * SLOW)
    return done.returncode, done.stdout + done.stderr


def test_the_rules_are_good():
    status, said = promtool("check", "rules", RULES)
    assert status == 0 and f"SUCCESS: {len(ALERTS)} rules found" in said, said


def test_every_alert_says_what_to_do():
    for alert in ALERTS:
        assert set(alert["annotations"]) == {"summary", "description"} and alert["labels"]["severity"] in ("warning", "critical")
        assert len(alert["annotations"]["description"]) > 60 and alert["annotations"]["description"].endswith(".")


def expand(text, labels, value):
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda match: labels[match[1]], text)
    return text.replace("{{ $value | humanize }}", value or "")


def rule_tests(alert):
    fires, rests, minutes, labels, value = CASES[alert["alert"]]
    expected = {"exp_labels": {**labels, **alert["labels"]},
                "exp_annotations": {k: expand(v, labels, value) for k, v in alert["annotations"].items()}}
    for series, alerts in ((fires, [expected]), (rests, [])):
        yield {"interval": "1m", "input_series": [{"series": name, "values": values} for name, values in series.items()],
               "alert_rule_test": [{"eval_time": f"{minutes}m", "alertname": alert["alert"], "exp_alerts": alerts}]}


def test_each_alert_fires_when_it_should_and_only_then(tmp_path):
    assert set(CASES) == {alert["alert"] for alert in ALERTS}
    tests = [test for alert in ALERTS for test in rule_tests(alert)]
    path = tmp_path / "tests.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    status, said = promtool("test", "rules", path)
    assert status == 0, said


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """{the name of each series: its labels}, as a running stent has them."""
    starter = harness.Starter(tmp_path_factory.mktemp("stent"))
    port = free_port()
    with harness.EchoBackend() as echo:
        starter.route(echo.text, settings={"admin": f"{HOST}:{port}"})
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=5 * SLOW) as answer:
            text = answer.read().decode()
    starter.finish()
    found = {name: set(re.findall(r'(\w+)="', labels or "")) | {"instance", "job"}
             for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.MULTILINE)}
    # Those of TLS are there with TLS only; test_docs.py holds this table to the program.
    told = re.findall(r"^\| `(stent_tls_\w+)` \| \w+ \| ([^|]*) \|", (harness.ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    return found | {name: set(re.findall(r"`(\w+)`", labels)) | {"instance", "job"} for name, labels in told}


def selectors(expr):
    return re.findall(r"\b((?:stent|process)_\w+)(?:\{([^}]*)\})?", expr)


def check_expression(expr, known):
    names = selectors(expr)
    assert names or "up{" in expr, expr
    for name, labels in names:
        assert name in known, f"{name}: no such metric ({expr})"
        assert set(re.findall(r"(\w+)[=!]", labels)) <= known[name], expr
    used = set().union(*[known[name] for name, _ in names]) if names else {"instance", "job"}
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr):
        assert {label.strip() for label in group.split(",")} <= used, expr


def test_rules_name_metrics_that_exist(known):
    for alert in ALERTS:
        check_expression(alert["expr"], known)


def test_the_dashboard_is_one_that_grafana_loads(known, tmp_path):
    board = json.loads(DASHBOARD.read_text())
    assert board["title"] and board["uid"] and board["schemaVersion"] >= 30 and "id" not in board
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken, expressions = set(), []
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert panel["type"] in ("row", "stat", "timeseries") and at["x"] + at["w"] <= 24
        squares = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not squares & taken, panel["title"]
        taken |= squares
        for target in panel.get("targets", []):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            expressions.append(target["expr"])
    variables = {v["name"]: v for v in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for used in set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text())) - {"__rate_interval", "__all"}:
        assert used in variables, used
    for query in (v["definition"] for v in variables.values() if v["type"] == "query"):
        name, label = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", query).groups()
        assert label in known[name]
    for expr in expressions:
        check_expression(expr, known)
    # Prometheus itself reads each.
    rules = [{"record": "x", "labels": {"n": str(i)}, "expr": expr.replace("$__rate_interval", "5m")} for i, expr in enumerate(expressions)]
    path = tmp_path / "expressions.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    status, said = promtool("check", "rules", path)
    assert status == 0 and len(expressions) > 20, said


def test_the_dashboard_shows_every_metric():
    text = DASHBOARD.read_text()
    told = re.findall(r"^\| `((?:stent|process)_\w+)` \|", (harness.ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    beside = {"stent_uptime_seconds", "process_virtual_memory_bytes", "process_start_time_seconds", "stent_config_last_reload_timestamp_seconds"}
    assert [name for name in told if name not in beside and name not in text] == []
