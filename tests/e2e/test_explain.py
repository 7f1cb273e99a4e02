"""`stent check --explain`: the routing and firewall rules that the settings need."""

import re

import pytest
from harness import run_stent


def explain(tmp_path, *routes):
    path = tmp_path / "stent.ini"
    path.write_text("".join(f"[route r{i}]\n{text}\n" for i, text in enumerate(routes)))
    r = run_stent("check", "-c", path, "--explain")
    assert r.returncode == 0, r.stderr
    return r.stdout


def test_settings_that_need_no_rules(tmp_path):
    assert explain(tmp_path, "listen = 127.0.0.1:7000\nbackend = 127.0.0.1:7001") == \
        "# These settings need no routing or firewall rules.\n"


@pytest.mark.parametrize("backend, has_v4, has_v6", [("192.0.2.1:80", True, False), ("[2001:db8::1]:80", False, True),
                                                    ("db.example:80", True, True)])
def test_the_source_of_the_client_needs_rules_of_its_family(tmp_path, backend, has_v4, has_v6):
    text = explain(tmp_path, f"listen = 127.0.0.1:7000\nbackend = {backend}\nsource = client")
    assert "# route r0: source = client\n" in text
    commands = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert "nft add table inet stent-source" in commands
    assert any(line.startswith("ip rule add") for line in commands) is has_v4
    assert any(line.startswith("ip -6 rule add") for line in commands) is has_v6
    undo = [line for line in text.splitlines() if line.startswith("#   ip ")]
    assert any("ip rule del" in line for line in undo) is has_v4
    assert any("ip -6 rule del" in line for line in undo) is has_v6


def test_redirected_routes_name_the_command(tmp_path):
    text = explain(tmp_path, "listen = 127.0.0.1:7000\nbackend = original", "listen = 127.0.0.1:7002\nbackend = original\ntransparent = on")
    assert re.search(r"^#   stent redirect install --port PORT --to 7000 --uid [\w-]+$", text, re.M)
    assert re.search(r"^#   stent redirect install --port PORT --to 7002 --uid [\w-]+ --mode tproxy$", text, re.M)
