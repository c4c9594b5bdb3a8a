"""docs/deploy.md says what is so: its snippets run as far as their programs are here, and name what exists."""

from __future__ import annotations

import re
import shlex
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from service.settings_origins import load_settings
from tests.conftest import REPOSITORY
from tests.snippets import blocks, run_block

PAGE = (REPOSITORY / "docs/deploy.md").read_text()


@pytest.fixture(scope="module")
def compose() -> str:
    """The compose file as text."""
    return (REPOSITORY / "docker-compose.yml").read_text()


def test_the_token_of_the_page_is_one_that_both_readers_can_read(tmp_path: Path) -> None:
    """And nobody who is not let into its folder."""
    run_block("admin-token", tmp_path, PAGE)

    token = tmp_path / "deploy/secrets/admin_token"
    assert re.fullmatch(r"[0-9a-f]{64}\n", token.read_text())
    assert stat.S_IMODE(token.stat().st_mode) == 0o444
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700


def test_the_compose_commands_name_services_and_profiles_that_exist(compose: str) -> None:
    """No Docker is needed to see that."""
    document = yaml.safe_load(compose)
    commands = [shlex.split(line, comments=True) for line in blocks(PAGE)["compose-up"].splitlines()]
    ups = [command for command in commands if command[:2] == ["docker", "compose"]]
    named = {word for up in ups for word in up[up.index("up") + 1 :] if not word.startswith("-")}
    profiles = {up[up.index("--profile") + 1] for up in ups if "--profile" in up}

    assert len(ups) == 3
    assert named == {"redis"} <= set(document["services"])
    assert (
        profiles
        == {"load"}
        == {each for service in document["services"].values() for each in service.get("profiles", [])}
    )


def test_every_variable_of_the_compose_file_is_explained(compose: str) -> None:
    """A port that is taken is the most likely reason to want one."""
    variables = set(re.findall(r"\$\{(\w+)", compose))

    assert {name for name in variables if f"`{name}`" not in PAGE} == set()


def test_the_image_commands_use_options_that_exist() -> None:
    """They take minutes; that program and options exist takes none."""
    lines = blocks(PAGE)["image"].splitlines()
    for line in lines:
        program, *arguments = shlex.split(line)
        ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
        answered = subprocess.run([REPOSITORY / program, "--help"], capture_output=True, text=True, check=True)
        assert [option for option in ours if option.startswith("--") and option not in answered.stdout] == [], line
    assert len(lines) == 3


def test_the_secrets_of_the_page_are_those_that_the_manifests_ask_for() -> None:
    """A pod whose secret has another name waits forever."""
    made = dict(re.findall(r"create secret generic (\S+) --from-literal=(\w+)=", blocks(PAGE)["kubernetes"]))
    deployment = yaml.safe_load((REPOSITORY / "deploy/kubernetes/deployment.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    references = [each["valueFrom"]["secretKeyRef"] for each in pod["containers"][0]["env"] if "valueFrom" in each]
    volumes = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]

    assert made == {each["name"]: each["key"] for each in references} | {
        each["secretName"]: each["items"][0]["key"] for each in volumes
    }


def test_the_times_of_the_page_are_those_of_the_manifest() -> None:
    """They are what an operator changes first."""
    deployment = yaml.safe_load((REPOSITORY / "deploy/kubernetes/deployment.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    given = {each["name"]: each.get("value", "redis://store:6379/0") for each in pod["containers"][0]["env"]}
    server = load_settings(None, given, {}).server

    for words in (
        f"`drain_ms` ({server.drain_ms / 1000:g} s here)",
        f"`grace_ms` ({server.grace_ms / 1000:g} s)",
        f"given {pod['terminationGracePeriodSeconds']} s",
    ):
        assert words in PAGE
