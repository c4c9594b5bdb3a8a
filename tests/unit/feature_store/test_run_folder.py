"""A run's own folder: nobody else's, gone with the run, and taken away after a run that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from feature_store.run_folder import RunFolder, lasting
from tests.conftest import REPOSITORY

KILLED = """
import os, signal, sys
from pathlib import Path
from feature_store.run_folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
(folder.path / "rows").write_bytes(bytes(10))
os.kill(os.getpid(), signal.SIGKILL)
"""
ENDED = """
import sys
from pathlib import Path
from feature_store.run_folder import RunFolder, lasting
kept = RunFolder(Path(sys.argv[1]))
(kept.path / "rows").write_bytes(bytes(10))
"""


def run(script: str, place: Path) -> None:
    subprocess.run([sys.executable, "-c", script, str(place)], cwd=REPOSITORY, check=False)


def test_two_runs_in_one_place_have_folders_of_their_own(tmp_path: Path) -> None:
    """The second one's cleaning leaves the first one's files alone, because it is still there."""
    one = RunFolder(tmp_path / "work")
    (one.path / "rows").touch()

    other = RunFolder(tmp_path / "work")

    assert one.path != other.path
    assert (one.path / "rows").exists()
    assert not (other.path / "rows").exists()


def test_the_folder_goes_with_the_last_object_that_holds_it(tmp_path: Path) -> None:
    """A log that nobody can read any more takes no disk."""
    folder = RunFolder(tmp_path)
    path = folder.path
    (path / "rows").touch()

    del folder

    assert not path.exists()


def test_a_process_that_ends_leaves_nothing(tmp_path: Path) -> None:
    """It held the folder to its end and closed nothing."""
    run(ENDED, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """A log of the size of the disk must not stay because a machine was switched off."""
    run(KILLED, tmp_path)
    (left_over,) = tmp_path.iterdir()
    assert (left_over / "rows").exists()

    with RunFolder(tmp_path):
        assert not left_over.exists()


def test_a_forked_child_does_not_take_its_parents_folder_away(tmp_path: Path) -> None:
    """It has a copy of the object, whose end is not the end of the run."""
    folder = RunFolder(tmp_path)

    child = os.fork()
    if not child:
        folder.close()
        os._exit(0)
    os.waitpid(child, 0)

    assert folder.path.exists()


def test_what_outlives_a_run_finds_a_place_that_stays(tmp_path: Path) -> None:
    """A Spark session lives as long as the process, and the run that started it may be the first of many."""
    with RunFolder(tmp_path) as folder:
        places = lasting(folder.path), lasting(folder.path / "spill"), lasting(tmp_path / "spill")

    assert places == (tmp_path, tmp_path, tmp_path)
