"""The manifests of deploy/kubernetes: valid for the cluster, closed, and set as the service and the image expect."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from service.settings import Settings
from service.settings_origins import load_settings

OLDEST = "1.29"
"""The oldest version that the manifests are checked for; the other one is the newest that the validator knows."""
CHECKED_ELSEWHERE = {"ServiceMonitor", "Kustomization"}
"""Kinds that Kubernetes itself does not have."""


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    """Where the manifests are."""
    return repository / "deploy/kubernetes"


@pytest.fixture(scope="module")
def manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """Manifests by kind; there is one of each."""
    documents = [
        document for path in sorted(folder.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())
    ]
    by_kind = {document["kind"]: document for document in documents}
    assert len(by_kind) == len(documents)
    return by_kind


@pytest.fixture(scope="module")
def pod(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Specification of the pods."""
    spec: dict[str, Any] = manifests["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    """The only container of a pod."""
    (only,) = pod["containers"]
    described: dict[str, Any] = only
    return described


@pytest.fixture(scope="module")
def settings(repository: Path, container: dict[str, Any]) -> Settings:
    """What the service makes of the image's environment and the manifest's; an unknown name is an error."""
    image = dict(re.findall(r"\b(CLICKSERVE_\w+)=([^\s\\]+)", (repository / "Dockerfile").read_text()))
    given = {each["name"]: each.get("value", "redis://store:6379/0") for each in container["env"]}
    return load_settings(None, image | given, {"server.workers": 2})


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_every_manifest_is_valid_for_the_cluster(manifests: dict[str, dict[str, Any]], version: str) -> None:
    """Strictly: a misspelt field is an error, and not a setting that silently does nothing."""
    ours = {kind: document for kind, document in manifests.items() if kind not in CHECKED_ELSEWHERE}

    for document in ours.values():
        kubernetes_validate.validate(document, version, strict=True)

    assert set(ours) == {
        *("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "PersistentVolumeClaim")
    }


def test_the_validator_finds_a_misspelt_field(manifests: dict[str, dict[str, Any]]) -> None:
    """Else the test above could not fail."""
    spec = {**manifests["PodDisruptionBudget"]["spec"], "maxUnavailible": 1}

    with pytest.raises(kubernetes_validate.ValidationError, match="maxUnavailible"):
        kubernetes_validate.validate({**manifests["PodDisruptionBudget"], "spec": spec}, OLDEST, strict=True)


def test_the_service_monitor_is_valid_for_the_prometheus_operator(manifests: dict[str, dict[str, Any]]) -> None:
    """Against the operator's own definition, which no package carries; a field that it does not know is an error."""
    named = os.environ.get("TEST_SERVICE_MONITOR_CRD")
    if not named:
        pytest.skip("TEST_SERVICE_MONITOR_CRD names the operator's monitoring.coreos.com_servicemonitors.yaml; not set")
    definition = yaml.safe_load(Path(named).read_text())
    (schema,) = [version["schema"]["openAPIV3Schema"] for version in definition["spec"]["versions"]]

    jsonschema.Draft202012Validator(_closed(schema)).validate(manifests["ServiceMonitor"])


def test_prometheus_finds_the_admin_port_and_its_token(
    manifests: dict[str, dict[str, Any]], pod: dict[str, Any], settings: Settings
) -> None:
    """Monitor, Service, secret and setting are four places that must say the same."""
    monitor, service = manifests["ServiceMonitor"]["spec"], manifests["Service"]
    (endpoint,) = monitor["endpoints"]
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    (token,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]

    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "clickserve"  # the rules ask for job="clickserve"
    assert ports[endpoint["port"]] == settings.admin.port
    assert endpoint["authorization"]["credentials"] == {"name": token["secretName"], "key": token["items"][0]["key"]}
    assert endpoint["path"] == "/metrics"


def test_every_selector_chooses_the_pods(manifests: dict[str, dict[str, Any]]) -> None:
    """A label that differs by a letter leaves a Service without endpoints, and a budget that protects nothing."""
    deployment = manifests["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]

    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }


def test_pods_are_closed(repository: Path, pod: dict[str, Any], container: dict[str, Any]) -> None:
    """What the strictest pod security standard asks for, a read-only root, and the image's own user."""
    (user,) = set(re.findall(r"^USER (\d+):\d+$", (repository / "Dockerfile").read_text(), flags=re.MULTILINE))

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert str(pod["securityContext"]["runAsUser"]) == user
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False


def test_what_the_service_writes_lies_on_a_writable_volume(container: dict[str, Any], settings: Settings) -> None:
    """The root is read-only; the registry is, too, because published models never change."""
    mounts = {Path(mount["mountPath"]): mount.get("readOnly", False) for mount in container["volumeMounts"]}

    def read_only(path: Path) -> bool:
        holding = [mount for mount in mounts if path.is_relative_to(mount)]
        return mounts[max(holding, key=lambda mount: len(mount.parts))] if holding else True

    assert not read_only(settings.items.snapshot_dir)
    assert not read_only(Path("/tmp/clickserve-metrics"))
    assert read_only(settings.registry.dir)
    assert settings.registry.dir in mounts


def test_a_pod_has_longer_to_end_than_the_service_needs(pod: dict[str, Any], settings: Settings) -> None:
    """Otherwise the process is killed with answers still owed."""
    assert settings.server.drain_ms < settings.server.grace_ms < pod["terminationGracePeriodSeconds"] * 1000


def test_the_drain_outlasts_a_failing_readiness_probe(container: dict[str, Any], settings: Settings) -> None:
    """Whoever goes by the probe alone still finds the listener until it has noticed."""
    probe = container["readinessProbe"]
    noticed_s = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]

    assert settings.server.drain_ms / 1000 > noticed_s


def test_probes_ask_what_they_mean(container: dict[str, Any], settings: Settings) -> None:
    """Restarting a service that waits for Redis would not help it; sending it traffic would hurt users."""
    paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    (port,) = [port["containerPort"] for port in container["ports"] if port["name"] == "http"]

    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert port == settings.server.port


def test_two_workers_have_a_core_each(container: dict[str, Any]) -> None:
    """The autoscaler's percentage is of the request; without a core each, workers wait for one another."""
    arguments = container["args"]
    resources = container["resources"]

    assert arguments == ["serve", "--workers", "2"]
    assert float(resources["requests"]["cpu"]) == 2
    assert "cpu" not in resources["limits"]
    assert {"memory", "ephemeral-storage"} <= set(resources["limits"])


def test_secrets_are_referred_to_and_not_written_down(folder: Path, container: dict[str, Any]) -> None:
    """A URL carries a password as soon as the store has one."""
    (redis,) = [each for each in container["env"] if each["name"] == "CLICKSERVE_REDIS__URL"]

    assert redis["valueFrom"] == {"secretKeyRef": {"name": "clickserve-redis", "key": "url"}}
    assert [
        path.name for path in folder.glob("*.yaml") if re.search(r"kind: Secret\b|rediss?://", path.read_text())
    ] == []


def test_one_pod_always_serves(manifests: dict[str, dict[str, Any]]) -> None:
    """A drained node and a rollout each take one pod at most."""
    assert manifests["HorizontalPodAutoscaler"]["spec"]["minReplicas"] >= 2
    assert manifests["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert manifests["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "replicas" not in manifests["Deployment"]["spec"]  # the autoscaler's business


def test_the_kustomization_names_every_manifest(
    folder: Path, manifests: dict[str, dict[str, Any]], repository: Path
) -> None:
    """A manifest that nobody applies protects nobody; the image's tag is the project's version."""
    kustomization = manifests["Kustomization"]
    (image,) = kustomization["images"]
    version = re.search(r'^version = "(.*)"$', (repository / "pyproject.toml").read_text(), flags=re.MULTILINE)

    assert {*kustomization["resources"], "kustomization.yaml"} == {path.name for path in folder.glob("*.yaml")}
    assert version is not None
    assert (image["name"], image["newTag"]) == ("clickserve", version[1])
    assert manifests["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"] == f"clickserve:{version[1]}"


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with every object limited to the properties it names, as the API server prunes to them."""
    closed = {key: _closed(value) if isinstance(value, dict) else value for key, value in schema.items()}
    if "properties" in schema:
        closed.setdefault("additionalProperties", False)
    return closed
