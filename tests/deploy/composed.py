"""docker-compose.yml as commands: what each service runs, on which files, with which environment.

Read from the files that Docker reads. The only thing added is what an image holds that is not ours: its entry point.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import REPOSITORY

FOREIGN_ENTRYPOINTS = {
    "redis": [],  # its script executes the command
    "prometheus": ["prometheus"],
}


@dataclass(frozen=True, slots=True)
class Composed:
    """One service."""

    name: str
    command: list[str]
    """Entry point and command."""

    environment: dict[str, str]
    """The image's, as far as it is ours, and the compose file's."""

    mounts: dict[str, str]
    """Path in the container → file or folder of the host, in the order of the file, secrets last."""

    memory: list[str]
    """Folders that lie in memory."""

    workdir: str
    """Where the command starts."""

    healthcheck: list[str]
    """Empty where there is none."""

    grace_s: float
    """Between SIGTERM and the kill; Docker's default is 10."""


def read_compose(folder: Path, variables: Mapping[str, str]) -> dict[str, Composed]:
    """All services by name. Named volumes and secrets become files below `folder`; variables as in a `.env` file.

    Raises:
        KeyError: the file names a variable that has no default and is not given.
    """
    text = re.sub(
        r"\$\{(\w+)(?::-([^}]*))?\}",
        lambda found: variables.get(found[1], found[2]) if found[2] is not None else variables[found[1]],
        (REPOSITORY / "docker-compose.yml").read_text(),
    )
    document = yaml.safe_load(text)
    stages = _stages()
    return {name: _composed(name, service, stages, folder) for name, service in document["services"].items()}


def _composed(name: str, service: dict[str, Any], stages: Mapping[str, str], folder: Path) -> Composed:
    entrypoint, environment, healthcheck, workdir = FOREIGN_ENTRYPOINTS.get(name, []), {}, [], "/"
    if "build" in service:
        stage = stages[service["build"]["target"]]
        entrypoint = yaml.safe_load(re.findall(r"^ENTRYPOINT (.*)$", stage, flags=re.MULTILINE)[0])
        (workdir,) = re.findall(r"^WORKDIR (.*)$", stage, flags=re.MULTILINE)
        (given,) = re.findall(r"^ENV (.*)$", stage, flags=re.MULTILINE)
        environment = dict(each.split("=", 1) for each in shlex.split(given))
        healthcheck = [
            part for found in re.findall(r"HEALTHCHECK .*CMD (\[.*\])", stage) for part in yaml.safe_load(found)
        ]
    if "healthcheck" in service:
        kind, *healthcheck = service["healthcheck"]["test"]
        assert kind == "CMD", service["healthcheck"]
    mounts = {}
    for volume in service.get("volumes", []):
        source, place = volume.split(":")[:2] if isinstance(volume, str) else (volume["source"], volume["target"])
        if source.startswith(("./", "/", ".")):
            mounts[place] = str(REPOSITORY / source)
        else:
            (folder / source).mkdir(exist_ok=True)
            mounts[place] = str(folder / source)
    for secret in service.get("secrets", []):
        mounts[f"/run/secrets/{secret}"] = str(folder / secret)
    return Composed(
        name=name,
        command=[*entrypoint, *service.get("command", [])],
        environment=environment | {key: str(value) for key, value in service.get("environment", {}).items()},
        mounts=mounts,
        memory=[each.partition(":")[0] for each in service.get("tmpfs", [])],
        workdir=workdir,
        healthcheck=healthcheck,
        grace_s=float(service.get("stop_grace_period", "10s").removesuffix("s")),
    )


def _stages() -> dict[str, str]:
    """Instructions of each stage of the Dockerfile, continued lines joined."""
    text = (REPOSITORY / "Dockerfile").read_text().replace("\\\n", " ")
    parts = re.split(r"^FROM \S+ AS (\S+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
