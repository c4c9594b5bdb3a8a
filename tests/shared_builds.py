"""What is dear to make and only read: made once a run, by whichever test process needs it first.

Each process of pytest-xdist has session fixtures of its own, so a model in one would be trained once a process. Here it
lies in a folder below the run's own temporary one; a lock on a file makes the others wait until it is complete.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name`, which `make` has filled in this process or in another. To be read, never changed.

    Args:
        name: one of this run; equal names mean equal contents.
        make: fills an empty folder; where it fails, the next one who asks begins anew.
    """
    own = factory.getbasetemp()
    home = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "made-once"
    home.mkdir(exist_ok=True)
    folder, complete = home / name, home / f"{name}.complete"
    with (home / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            complete.touch()
    return folder
