"""The manifests of deploy/kubernetes: valid to a cluster, to each other and to our settings."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from service.metrics import Metrics
from service.retention.settings import RetentionSettings
from service.webhooks.settings import WebhookSettings
from tests.deploy.kustomization import Manifest, build, containers
from worker.settings import WorkerSettings

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
COMPONENTS = ("redis", "webhooks", "ingress")
VERSIONS = ("1.30", "1.37")  # preStop.sleep is in the first; the newest that the schemas know
SETTINGS = {
    "service": RetentionSettings,  # the service's, and more: retention has the same image
    "retention": RetentionSettings,
    "webhooks": WebhookSettings,
    "worker": WorkerSettings,
}
FOREIGN = re.compile(r"AWS_[A-Z_]+|MOVQ_SECRETS_DIR|movq_webhook_secret")

BUILDS = {
    "base": build(FOLDER / "base"),
    "gpu": build(FOLDER / "gpu"),
    "all": build(FOLDER / "gpu", *COMPONENTS),
    "secrets": list(yaml.safe_load_all((FOLDER / "secrets.example.yaml").read_text())),
}
ALL = BUILDS["all"]


def of_kind(*kinds: str) -> list[Manifest]:
    return [manifest for manifest in ALL if manifest["kind"] in kinds]


def named(kind: str, name: str) -> Manifest:
    (found,) = [manifest for manifest in of_kind(kind) if manifest["metadata"]["name"] == name]
    return found


def pods() -> dict[str, Manifest]:
    """Of each workload its template, by name."""
    return {m["metadata"]["name"]: m["spec"]["template"] for m in of_kind("Deployment", "StatefulSet")}


def selected(selector: dict[str, str]) -> set[str]:
    """The workloads whose pods have these labels; all have the empty set of them."""
    return {name for name, pod in pods().items() if selector.items() <= pod["metadata"]["labels"].items()}


@pytest.mark.parametrize(
    "manifest",
    [m for ms in BUILDS.values() for m in ms],
    ids=lambda m: f"{m['kind']}/{m['metadata']['name']}",
)
def test_each_is_valid(manifest: Manifest) -> None:
    if manifest["kind"] == "ScaledObject":
        schema = json.loads((Path(__file__).parent / "scaled_object.schema.json").read_text())
        jsonschema.validate(manifest, schema)
        return
    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("name", ["base", "gpu"])
def test_kustomize_builds_the_same(name: str) -> None:
    if not (kubectl := shutil.which("kubectl")):
        pytest.skip("there is no kubectl here")
    told = subprocess.run([kubectl, "kustomize", FOLDER / name], check=True, capture_output=True, text=True)
    assert by_name(list(yaml.safe_load_all(told.stdout))) == by_name(BUILDS[name])


def by_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {(m["kind"], m["metadata"]["name"]): m for m in manifests}


def test_nothing_runs_with_more_rights_than_it_needs() -> None:
    for name, pod in pods().items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert ":" in container["image"], "a tag"
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            assert {m["name"] for m in container["volumeMounts"]} == volume_names(name)


def volume_names(workload: str) -> set[str]:
    (manifest,) = [m for m in of_kind("Deployment", "StatefulSet") if m["metadata"]["name"] == workload]
    claims = [claim["metadata"]["name"] for claim in manifest["spec"].get("volumeClaimTemplates", [])]
    return {volume["name"] for volume in manifest["spec"]["template"]["spec"]["volumes"]} | set(claims)


def test_selectors_find_their_pods() -> None:
    for manifest in of_kind("Deployment", "StatefulSet"):
        assert selected(manifest["spec"]["selector"]["matchLabels"]) == {manifest["metadata"]["name"]}
    for manifest in of_kind("PodDisruptionBudget"):
        assert selected(manifest["spec"]["selector"]["matchLabels"]) == {manifest["metadata"]["name"]}
    for manifest in of_kind("Service"):
        if selector := manifest["spec"].get("selector"):
            assert selected(selector) == {manifest["metadata"]["name"]}
    assert len(of_kind("PodDisruptionBudget")) == 2


def test_ports_are_those_of_their_containers() -> None:
    ports = {name: ports_of(pod) for name, pod in pods().items()}
    assert ports == {
        "service": {"http": 8000},
        "worker": {"metrics": 9100},
        "retention": {"metrics": 9100},
        "webhooks": {},
        "redis": {"redis": 6379},
    }
    for service in of_kind("Service"):
        for port in service["spec"]["ports"]:
            if "targetPort" in port:
                assert ports[service["metadata"]["name"]][port["targetPort"]] == port["port"]
    for name, pod in pods().items():
        for container in pod["spec"]["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if "httpGet" in container.get(probe, {}):
                    assert container[probe]["httpGet"]["port"] in ports[name]
    for rule in named("Ingress", "movq")["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            assert named("Service", path["backend"]["service"]["name"])


def ports_of(pod: Manifest) -> dict[str, int]:
    return {p["name"]: p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports", [])}


def test_variables_are_settings() -> None:
    shared = named("ConfigMap", "movq")["data"]
    secrets = {m["metadata"]["name"]: m["stringData"] for m in BUILDS["secrets"]}
    for name, settings in SETTINGS.items():
        (container,) = pods()[name]["spec"]["containers"]
        own = {entry["name"] for entry in container.get("env", [])}
        (mounted,) = [v["secret"]["secretName"] for v in pods()[name]["spec"]["volumes"] if "secret" in v]
        for variable in (*own, *secrets[mounted]):
            assert is_field(variable, settings) or FOREIGN.fullmatch(variable), f"{name}: {variable}"
    for variable in shared:
        assert any(is_field(variable, s) for s in SETTINGS.values()) or FOREIGN.fullmatch(variable), variable
    assert all(FOREIGN.fullmatch(variable) for variable in secrets["movq-s3"])


def is_field(variable: str, settings: Any) -> bool:
    return variable.lower().removeprefix("movq_") in settings.model_fields


def test_a_worker_may_drain() -> None:
    template = pods()["worker"]["spec"]
    (grace_s,) = [int(e["value"]) for e in template["containers"][0]["env"] if e["name"] == "MOVQ_GRACE_S"]
    assert template["terminationGracePeriodSeconds"] > grace_s + 10


def test_who_may_talk_to_whom() -> None:
    """(from, to, port); what is no workload of ours is named by its namespace, or as the world."""
    assert named("NetworkPolicy", "deny-all")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }
    askers = {"service", "worker", "retention", "webhooks"}
    out, into = flows("egress", "to"), flows("ingress", "from")
    assert {(name, "redis", 6379) for name in askers} == {flow for flow in out if flow[1] == "redis"}
    assert {("redis", name, "redis") for name in askers} == {flow for flow in into if flow[0] == "redis"}
    assert {name for name, to, port in out if (to, port) == ("kube-system", 53)} == {*askers, "redis"}
    world = {name for name, to, port in out if (to, port) == ("the world", 443)}
    assert world == {"service", "worker", "retention", "webhooks"}
    assert ("service", "ingress-nginx", "http") in into
    for name, port in (("service", 8000), ("worker", 9100), ("retention", 9100)):
        assert (name, "monitoring", port) in into
    assert {origin for name, origin, _ in into if name != "redis"} == {"ingress-nginx", "monitoring"}


def flows(direction: str, peers: str) -> set[tuple[str, str, Any]]:
    """(workload, its peer, port) of all policies; the other side of a flow has a policy of its own."""
    found = set()
    for policy in of_kind("NetworkPolicy"):
        spec = policy["spec"]
        for rule in spec.get(direction, []):
            for peer in rule[peers]:
                for other in others(peer):
                    for name in selected(spec["podSelector"].get("matchLabels", {})):
                        found |= {(name, other, port["port"]) for port in rule["ports"]}
    return found


def others(peer: Manifest) -> set[str]:
    if "podSelector" in peer:
        return selected(peer["podSelector"]["matchLabels"])
    if "namespaceSelector" in peer:
        return {peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]}
    return {"the world"}


def test_gpu_workers_are_as_many_as_the_queue_needs() -> None:
    worker, scaled = named("Deployment", "worker"), named("ScaledObject", "worker")
    assert "replicas" not in worker["spec"]
    (container,) = containers(worker)
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {e["name"]: e["value"] for e in container["env"]} == {"MOVQ_DEVICE": "cuda", "MOVQ_GRACE_S": "25"}
    assert scaled["spec"]["scaleTargetRef"]["name"] == "worker"
    (trigger,) = scaled["spec"]["triggers"]
    asked = set(re.findall(r"movq_\w+", trigger["metadata"]["query"]))
    told = {metric.name for metric in Metrics().registry.collect()}
    assert asked == {"movq_queue_depth", "movq_images_in_flight"} <= told
