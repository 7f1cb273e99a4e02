"""The settings inside the compose files are accepted by stent, and their other numbers fit."""

import re

import harness
import pytest
import yaml

pytestmark = pytest.mark.plain

FILES = sorted((harness.ROOT / "docker").glob("compose.*.yml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_settings_in_a_compose_file_are_good(path, tmp_path, certificates):
    stent = yaml.safe_load(path.read_text())["services"]["stent"]
    environment = {**stent["environment"], "DATABASE_HOST": "db.example"}
    text = environment.pop("STENT_CONFIG").replace("$${", "${").replace("/etc/stent-ca.pem", str(certificates.ca))
    path = tmp_path / "stent.ini"
    path.write_text(text)
    done = harness.run_stent("check", "-c", path, env={**environment})
    assert done.returncode == 0, done.stderr
    drain = re.search(r"^drain_timeout = (\d+)s", text, re.MULTILINE)
    assert int(stent["stop_grace_period"].rstrip("s")) > (int(drain[1]) if drain else 30)
    assert stent["read_only"] is True and stent["cap_drop"] == ["ALL"] and not {"user", "privileged", "cap_add"} & set(stent)


def test_swarms_numbers():
    """Probes of both legs come twice more within the 900 s of IPVS, should one or two be lost."""
    text = (harness.ROOT / "docker" / "compose.swarm.yml").read_text()
    idle, interval, probes = map(int, re.search(r"^        keepalive = (\d+)s/(\d+)s/(\d+)$", text, re.MULTILINE).groups())
    assert idle + 2 * interval < 900 and f"{idle} + {probes} x {interval} = {idle + probes * interval} s" in text
