"""The stack of docker-compose.yml: pinned, closed to other machines, free of secrets, set as the service expects."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings_origins import load_settings

OUR_IMAGES = ("clickserve", "clickserve-loadtest")


def validate(file: Path) -> subprocess.CompletedProcess[str]:
    """Checks a compose file by the schema that check-jsonschema carries."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def stack(repository: Path) -> dict[str, Any]:
    """The compose file, its merge keys resolved."""
    return yaml.safe_load((repository / "docker-compose.yml").read_text())


def test_the_file_is_valid_by_the_schema_of_compose(repository: Path) -> None:
    """A misspelt key is refused by Compose on the user's machine; better here."""
    validated = validate(repository / "docker-compose.yml")

    assert validated.returncode == 0, validated.stdout + validated.stderr


def test_a_misspelt_key_is_found(repository: Path, tmp_path: Path) -> None:
    """Else the test above could not fail."""
    misspelt = tmp_path / "docker-compose.yml"
    misspelt.write_text((repository / "docker-compose.yml").read_text().replace("stop_grace_period", "stop_grace"))

    validated = validate(misspelt)

    assert validated.returncode == 1
    assert "'stop_grace' was unexpected" in validated.stdout


def test_every_service_of_the_stack_is_there(stack: dict[str, Any]) -> None:
    """Load is sent only when it is asked for."""
    assert set(stack["services"]) == {"clickserve", "redis", "prometheus", "grafana", "locust"}
    assert stack["services"]["locust"]["profiles"] == ["load"]


def test_every_image_has_a_full_version(stack: dict[str, Any]) -> None:
    """A moving tag makes yesterday's stack another one today."""
    tags = {name: service["image"].partition(":")[2] for name, service in stack["services"].items()}

    assert {name: tag for name, tag in tags.items() if not re.fullmatch(r"v?\d+\.\d+\.\d+", tag)} == {}


def test_every_container_is_closed(stack: dict[str, Any]) -> None:
    """Read-only root, no capability, no way to new rights, bounded memory and processes."""
    for name, service in stack["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"mem_limit", "cpus", "pids_limit"} <= set(service), name
        assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service), name


def test_ports_are_published_on_loopback_only(stack: dict[str, Any]) -> None:
    """Docker's port rules pass in front of the host's firewall."""
    ports = [port for service in stack["services"].values() for port in service.get("ports", [])]

    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_the_admin_port_is_not_published(stack: dict[str, Any]) -> None:
    """Prometheus reaches it on the stack's network; nobody else needs to promote a model from outside."""
    service = stack["services"]["clickserve"]

    admin_port = service["environment"]["CLICKSERVE_ADMIN__PORT"]
    assert [port for port in service["ports"] if port.endswith(f":{admin_port}")] == []


def test_no_secret_is_written_down(stack: dict[str, Any]) -> None:
    """Secrets are files that git ignores; no environment value is one, and Grafana has no account to guess."""
    values = {
        f"{name}.{key}": str(value)
        for name, service in stack["services"].items()
        for key, value in service.get("environment", {}).items()
        if re.search(r"TOKEN|PASSWORD|SECRET", key)
    }

    assert values == {"clickserve.CLICKSERVE_ADMIN__TOKEN_FILE": "/run/secrets/admin_token"}
    assert stack["services"]["grafana"]["environment"]["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert "://:" not in str(stack)


def test_git_ignores_the_secret_files(repository: Path, stack: dict[str, Any]) -> None:
    """The documented place of a secret is one from which it cannot be committed."""
    files = [secret["file"].removeprefix("./") for secret in stack["secrets"].values()]

    ignored = subprocess.run(
        ["git", "check-ignore", *files], cwd=repository, capture_output=True, text=True, check=False
    )

    assert ignored.stdout.split() == files == ["deploy/secrets/admin_token"]


def test_mounted_files_of_the_repository_exist(repository: Path, stack: dict[str, Any]) -> None:
    """Docker makes an empty folder of a missing path, and the program inside fails with a riddle."""
    mounts = [
        volume.partition(":")[0]
        for service in stack["services"].values()
        for volume in service.get("volumes", [])
        if isinstance(volume, str) and volume.startswith("./")
    ]

    assert mounts
    assert [mount for mount in mounts if not (repository / mount).exists()] == []


def test_named_volumes_are_declared(stack: dict[str, Any]) -> None:
    """Compose refuses a file that names a volume it does not declare."""
    used = {
        volume.partition(":")[0]
        for service in stack["services"].values()
        for volume in service.get("volumes", [])
        if isinstance(volume, str) and not volume.startswith("./")
    }

    assert used == set(stack["volumes"])


def test_the_service_accepts_the_environment_it_is_given(repository: Path, stack: dict[str, Any]) -> None:
    """An unknown or contradicting name would end the container at its start."""
    image = dict(re.findall(r"\b(CLICKSERVE_\w+)=([^\s\\]+)", (repository / "Dockerfile").read_text()))
    given = image | stack["services"]["clickserve"]["environment"]

    settings = load_settings(None, given, {"server.workers": 2})

    assert (settings.server.host, settings.server.port) == ("0.0.0.0", 8080)
    assert settings.redis.url == "redis://redis:6379/0"
    assert settings.registry.dir == Path("/var/lib/clickserve/registry")
    assert settings.items.snapshot_dir.is_relative_to("/var/lib/clickserve")


def test_the_stack_waits_longer_than_the_service_needs_to_drain(stack: dict[str, Any]) -> None:
    """Otherwise Docker kills the process with answers still owed."""
    grace_s = float(stack["services"]["clickserve"]["stop_grace_period"].removesuffix("s"))

    assert grace_s * 1000 > load_settings(None, {}, {}).server.grace_ms


def test_the_service_starts_after_a_store_that_answers(stack: dict[str, Any]) -> None:
    """A first start without Redis and without a snapshot cannot become ready."""
    services = stack["services"]

    assert services["clickserve"]["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert services["redis"]["healthcheck"]["test"] == ["CMD", "valkey-cli", "ping"]


def test_prometheus_scrapes_the_admin_port_with_the_token(repository: Path, stack: dict[str, Any]) -> None:
    """Service, secret and scrape configuration are three files that must say the same."""
    scraping = yaml.safe_load((repository / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = [job for job in scraping["scrape_configs"] if job["job_name"] == "clickserve"]
    environment = stack["services"]["clickserve"]["environment"]

    assert job["static_configs"] == [{"targets": [f"clickserve:{environment['CLICKSERVE_ADMIN__PORT']}"]}]
    assert job["authorization"]["credentials_file"] == environment["CLICKSERVE_ADMIN__TOKEN_FILE"]
    assert stack["services"]["prometheus"]["secrets"] == stack["services"]["clickserve"]["secrets"] == ["admin_token"]


def test_our_own_images_are_built_from_the_stages_that_exist(repository: Path, stack: dict[str, Any]) -> None:
    """Compose would otherwise try to pull them."""
    ours = [service for service in stack["services"].values() if service["image"].partition(":")[0] in OUR_IMAGES]
    stages = re.findall(r"^FROM \S+ AS (\S+)$", (repository / "Dockerfile").read_text(), flags=re.MULTILINE)

    assert len(ours) == len(OUR_IMAGES)
    assert {service["build"]["target"] for service in ours} <= set(stages)
