"""
docker/kubernetes without a cluster: what kustomize makes of it fits Kubernetes' published types, holds the restricted Pod
Security Standard, and carries settings that stent accepts. schema.json is made by make_schema.py.
"""

import copy
import json
import pathlib
import re
import subprocess

import harness
import jsonschema
import pytest
import yaml

pytestmark = pytest.mark.plain

FOLDER = harness.ROOT / "docker" / "kubernetes"
SCHEMA = jsonschema.Draft7Validator(json.loads((pathlib.Path(__file__).parent / "schema.json").read_text()))
VARIANTS = sorted(path.parent.name for path in FOLDER.glob("*/kustomization.yaml"))
REDIRECT = "stent-redirect"
every_variant = pytest.mark.parametrize("variant", VARIANTS)
_built = {}


def kustomize(folder):
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60 * harness.SLOW)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def built(variant):
    """The resources of a variant, a copy of one's own."""
    if variant not in _built:
        _built[variant] = kustomize(FOLDER / variant)
    return copy.deepcopy(_built[variant])


def of_kind(resources, *kinds):
    return [r for r in resources if r["kind"] in kinds]


def pod_of(resources):
    (workload,) = of_kind(resources, "Deployment", "DaemonSet", "Job")
    return workload["spec"]["template"]


def containers(pod):
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


def stent_of(pod):
    (stent,) = [c for c in containers(pod) if c["name"] == "stent"]
    return stent


def settings_of(resources):
    (config,) = of_kind(resources, "ConfigMap")
    return config["data"]["stent.ini"]


# --- the published types ---

def errors(resource):
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in SCHEMA.iter_errors(resource)]


def test_the_variants_are_those_of_the_readme():
    told = re.findall(r"^\| \[(\S+)\]\(\1\) ", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(told) == VARIANTS and len(told) > 4


@every_variant
def test_every_resource_fits_its_type(variant):
    resources = built(variant)
    assert len(resources) >= 3
    for resource in resources:
        assert errors(resource) == [], resource["kind"]


@pytest.mark.parametrize("wrong", [
    lambda spec: spec.update(restartPolcy="Always"),
    lambda spec: spec["containers"][0]["securityContext"].update(readOnlyRootFileSystem=True),
    lambda spec: spec["containers"][0].pop("name"),
    lambda spec: spec["initContainers"][0]["startupProbe"]["exec"].update(command="/stent healthcheck"),
    lambda spec: spec.update(terminationGracePeriodSeconds="45"),
    lambda spec: spec["volumes"][0].update(emptydir={}),
], ids=["field", "context", "name", "command", "number", "volume"])
def test_what_does_not_fit_is_found(wrong):
    (deployment,) = of_kind(built("native-sidecar"), "Deployment")
    wrong(deployment["spec"]["template"]["spec"])
    assert errors(deployment) != []


@every_variant
def test_what_is_named_is_there(variant):
    resources = built(variant)
    pod = pod_of(resources)
    labels = pod["metadata"]["labels"].items()
    for workload in of_kind(resources, "Deployment", "DaemonSet"):
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels
    for service in of_kind(resources, "Service"):
        assert service["spec"]["selector"].items() <= labels
        ports = {p["name"]: p["containerPort"] for p in stent_of(pod)["ports"]}
        assert all(port["targetPort"] in ports for port in service["spec"]["ports"])
    (policy,) = of_kind(resources, "NetworkPolicy")
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    mounted = {mount["name"] for c in containers(pod) for mount in c.get("volumeMounts", [])}
    assert mounted == volumes
    (config,) = of_kind(resources, "ConfigMap")
    (env,) = [e for e in stent_of(pod)["env"] if e["name"] == "STENT_CONFIG"]
    assert env["valueFrom"]["configMapKeyRef"] == {"name": config["metadata"]["name"], "key": "stent.ini"}


# --- the restricted Pod Security Standard ---

def violations(pod):
    """What of https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted a pod does not hold."""
    spec = pod["spec"]
    of_pod = spec.get("securityContext", {})
    found = [f"pod: {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    allowed = {"name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    found += [f"volume {volume['name']}" for volume in spec.get("volumes", []) if set(volume) - allowed]
    for c in containers(pod):
        of_container = c.get("securityContext", {})
        both = {**of_pod, **of_container}
        capabilities = of_container.get("capabilities", {})
        rules = {
            "privileged": not of_container.get("privileged"),
            "allowPrivilegeEscalation": of_container.get("allowPrivilegeEscalation") is False,
            "runAsNonRoot": both.get("runAsNonRoot") is True,
            "runAsUser": both.get("runAsUser") != 0,
            "seccompProfile": both.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "drop": capabilities.get("drop") == ["ALL"],
            "add": set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
            "hostPort": not any(port.get("hostPort") for port in c.get("ports", [])),
        }
        found += [f"{c['name']}: {rule}" for rule, holds in rules.items() if not holds]
    return found


@every_variant
def test_pods_are_restricted_but_for_the_one_step(variant):
    pod = pod_of(built(variant))
    expected = [f"{REDIRECT}: {rule}" for rule in ("runAsNonRoot", "runAsUser", "add")]
    assert violations(pod) == (expected if variant == "redirected-sidecar" else [])
    for c in containers(pod):
        assert c["securityContext"]["readOnlyRootFilesystem"] is True, c["name"]
        if c["name"] == REDIRECT:
            assert c["securityContext"]["capabilities"]["add"] == ["NET_ADMIN"]


@pytest.mark.parametrize("loosen", [
    lambda spec: spec["securityContext"].pop("seccompProfile"),
    lambda spec: spec["securityContext"].update(runAsUser=0),
    lambda spec: spec["containers"][0]["securityContext"].pop("capabilities"),
    lambda spec: spec["containers"][0]["securityContext"].update(allowPrivilegeEscalation=True),
    lambda spec: spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
    lambda spec: spec.update(hostNetwork=True),
], ids=["seccomp", "root", "capabilities", "escalation", "hostPath", "hostNetwork"])
def test_a_looser_pod_is_found(loosen):
    pod = pod_of(built("native-sidecar"))
    loosen(pod["spec"])
    assert violations(pod) != []


# --- what the variants say ---

@every_variant
def test_settings_are_good(variant, tmp_path):
    path = tmp_path / "stent.ini"
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    path.write_text(settings_of(built(variant)).replace("/run/secrets/stent/token", str(token)))
    done = harness.run_stent("check", "-c", path)
    assert done.returncode == 0, done.stderr


@every_variant
def test_the_grace_period_is_longer_than_the_drain(variant):
    resources = built(variant)
    drain = re.search(r"^drain_timeout = (\d+)s$", settings_of(resources), re.MULTILINE)
    assert pod_of(resources)["spec"]["terminationGracePeriodSeconds"] > (int(drain[1]) if drain else 30)


@every_variant
def test_probes_are_stents(variant):
    stent = stent_of(pod_of(built(variant)))
    assert stent["startupProbe"]["exec"]["command"] == ["/stent", "healthcheck"]
    if variant != "job":
        assert stent["readinessProbe"]["exec"]["command"] == ["/stent", "healthcheck", "--ready"]


def test_native_sidecars_are_init_containers_that_go_on():
    for variant in VARIANTS:
        init = pod_of(built(variant))["spec"].get("initContainers", [])
        assert [c["name"] for c in init if c.get("restartPolicy") == "Always"] == \
            (["stent"] if variant in ("native-sidecar", "redirected-sidecar") else []), variant


def test_the_redirection_leads_to_stent_and_leaves_stent_alone():
    """The call is that of the compose file, which is tried with a real engine."""
    resources = built("redirected-sidecar")
    pod = pod_of(resources)
    redirect, stent, app = containers(pod)
    compose = yaml.safe_load((harness.ROOT / "docker" / "compose.redirect.yml").read_text())
    assert redirect["args"] == compose["services"]["stent-redirect"]["command"]
    options = dict(zip(redirect["args"][2::2], redirect["args"][3::2]))
    assert f"listen = :{options['--to']}\n" in settings_of(resources)
    assert int(options["--uid"]) == pod["spec"]["securityContext"]["runAsUser"] != app["securityContext"]["runAsUser"]
    assert "runAsUser" not in stent["securityContext"]


def test_the_overlay_of_the_readme(tmp_path):
    """One's own image and settings on top of a variant."""
    files = dict(re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", (FOLDER / "README.md").read_text(), re.DOTALL | re.MULTILINE))
    (ini,) = re.findall(r"^```ini\n(.*?)^```$", (FOLDER / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    version = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True).stdout
    for name, text in files.items():
        for folder in re.findall(r"- (\.\./\S+)", text):
            link = tmp_path / "base"
            link.exists() or subprocess.run(["cp", "-r", FOLDER / pathlib.Path(folder).name, link], check=True)
            text = text.replace(folder, "../base")
        if re.search(r"\b1\.20\.|v1\.20", version):	# its kustomize calls folders bases
            text = text.replace("resources:", "bases:")
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / name).write_text(text)
    (tmp_path / "mine" / "stent.ini").write_text(ini)
    resources = kustomize(tmp_path / "mine")
    assert [errors(r) for r in resources] == [[]] * len(resources)
    pod = pod_of(resources)
    assert stent_of(pod)["image"].startswith("registry.example/")
    assert settings_of(resources) == ini and violations(pod) == []
