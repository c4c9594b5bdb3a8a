"""The folder in which workers count: there before they begin, gone when nobody counts any more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.metrics_folder import VARIABLE, metrics_folder
from tests.conftest import REPOSITORY

KILLED_WHILE_COUNTING = """
import os, signal, sys
from pathlib import Path
from service.metrics_folder import metrics_folder
with metrics_folder(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is not set where a test begins, nor after it: deleting alone would forget that it was not there."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)


def test_it_is_named_while_it_is_there(tmp_path: Path) -> None:
    """Workers and `prometheus_client` find it through the environment."""
    with metrics_folder(tmp_path) as folder:
        named = os.environ[VARIABLE]
        assert folder.is_dir()

    assert named == str(folder)
    assert VARIABLE not in os.environ
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_parent_left_is_removed(tmp_path: Path) -> None:
    """It lies in memory: a service that is killed every night would fill the machine."""
    subprocess.run([sys.executable, "-c", KILLED_WHILE_COUNTING, str(tmp_path)], cwd=REPOSITORY, check=False)
    (left_over,) = tmp_path.iterdir()

    with metrics_folder(tmp_path):
        assert not left_over.exists()


def test_the_folder_of_another_service_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two services on one machine count apart."""
    with metrics_folder(tmp_path) as other:
        monkeypatch.delenv(VARIABLE)
        with metrics_folder(tmp_path) as own:
            assert other.is_dir()
            assert own != other
        monkeypatch.setenv(VARIABLE, str(other))


def test_a_folder_that_the_operator_named_is_emptied_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of an earlier run would be added to this one's."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "counter_7.db").touch()
    (tmp_path / "README").touch()

    with metrics_folder() as folder:
        kept = {path.name for path in folder.iterdir()}

    assert folder == tmp_path
    assert kept == {"README"}
    assert folder.is_dir()
