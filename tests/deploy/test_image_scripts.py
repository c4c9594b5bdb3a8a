"""build.sh and run.sh before they do anything: what they say where something is missing or wrong.

That they build and run is proven by `make prove PART=stack`, which takes minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

SCRIPTS = ("build.sh", "run.sh")
THEIR_TOOLS = ("sh", "cat", "dirname", "sed", "id", "mktemp", "rm", "unshare", "setpriv", "realpath")


@pytest.fixture
def folder(repository: Path) -> Path:
    """Where the scripts are."""
    return repository / "deploy/image"


@pytest.fixture
def tools(tmp_path: Path) -> str:
    """A search path with what every machine has, and without buildah."""
    for tool in THEIR_TOOLS:
        (tmp_path / tool).symlink_to(shutil.which(tool) or pytest.skip(f"{tool} is not on this machine"))
    return str(tmp_path)


def run(command: Sequence[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script that is expected to end at once."""
    return subprocess.run(
        list(command), env=os.environ | environment, capture_output=True, text=True, check=False, timeout=30
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_answered_to_anybody(folder: Path, script: str, tools: str) -> None:
    """Without root and without buildah, because that is who asks; what it needs is said there."""
    answered = run([folder / script, "--help"], PATH=tools)

    assert answered.returncode == 0
    assert answered.stdout.startswith(f"usage: deploy/image/{script}")
    assert "buildah" in answered.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_option_is_a_usage_error_with_its_name(folder: Path, script: str) -> None:
    """Exit status 2, as everywhere in the project."""
    answered = run([folder / script, "--regsitry", "x"])

    assert answered.returncode == 2
    assert "--regsitry" in answered.stderr


@pytest.mark.parametrize(("script", "option"), [("build.sh", "--target"), ("build.sh", "--tag"), ("run.sh", "--image")])
def test_an_option_without_its_value_is_a_usage_error(folder: Path, script: str, option: str) -> None:
    """And not the shell's own message about an unset parameter."""
    answered = run([folder / script, option])

    assert answered.returncode == 2
    assert "usage:" in answered.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_missing_buildah_is_named_with_the_command_that_installs_it(folder: Path, script: str, tools: str) -> None:
    """The most likely reason for which a first try fails."""
    answered = run([folder / script], PATH=tools)

    assert answered.returncode == 1
    assert "buildah is missing" in answered.stderr
    assert "apt-get install" in answered.stderr


@pytest.mark.skipif(not shutil.which("buildah"), reason="buildah is not installed; it is asked for first")
@pytest.mark.parametrize("script", SCRIPTS)
def test_whoever_is_not_root_is_told_why_that_matters(folder: Path, script: str) -> None:
    """Before anything is made that would have to be removed."""
    as_nobody = ["unshare", "--user"] if os.geteuid() == 0 else []
    if as_nobody and run([*as_nobody, "true"]).returncode != 0:
        pytest.skip("root cannot become nobody on this machine: no user namespaces")

    answered = run([*as_nobody, folder / script])

    assert answered.returncode == 1
    assert "needs root" in answered.stderr


def test_a_stage_that_is_no_image_is_refused(folder: Path) -> None:
    """The builder has compilers and root."""
    answered = run([folder / "build.sh", "--target", "builder"])

    assert answered.returncode == 2
    assert "builder" in answered.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--volume", "relative"], "relative"),
        (["--volume", "/no/such/folder:/data"], "/no/such/folder"),
        (["--env", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE"),
    ],
)
def test_what_cannot_be_mounted_or_passed_on_is_named(folder: Path, arguments: list[str], named: str) -> None:
    """Before the image is looked for."""
    answered = run([folder / "run.sh", *arguments])

    assert answered.returncode in (1, 2)
    assert named in answered.stderr
