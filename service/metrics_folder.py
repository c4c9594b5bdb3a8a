"""Where all processes of a service count: a folder of memory-mapped files, named in the environment.

`prometheus_client` looks for the variable once, when it is imported, so the folder is made before anything imports
`telemetry.py`. It lies in memory where the machine has a place for that: for files on disk the kernel's write-back
would now and then stop a worker in the middle of a request.

Whoever uses a folder holds a lock in it. A parent that was killed leaves its folder behind; the next start finds that
nobody holds it, and removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PREFIX = "clickserve-metrics-"
LOCK = "in-use"


@contextmanager
def metrics_folder(place: Path | None = None) -> Iterator[Path]:
    """An empty folder, named in `PROMETHEUS_MULTIPROC_DIR` and removed on leaving.

    One that the operator has named there is emptied of counts, and kept.

    Args:
        place: where to make it; memory, or the folder for temporary files, where None.
    """
    named = os.environ.get(VARIABLE)
    if named:
        folder = Path(named)
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob("*.db"):
            left_over.unlink()
        yield folder
        return
    place = place or _memory()
    _remove_abandoned(place)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=place) as made, _held(Path(made)):
        os.environ[VARIABLE] = made
        try:
            yield Path(made)
        finally:
            del os.environ[VARIABLE]


def _memory() -> Path:
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, which gets its name when it is locked already."""
    unnamed = folder / f".{LOCK}"
    with unnamed.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unnamed.rename(folder / LOCK)
        yield


def _remove_abandoned(place: Path) -> None:
    for lock_file in place.glob(f"{PREFIX}*/{LOCK}"):
        try:
            with lock_file.open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock_file.parent, ignore_errors=True)
        except OSError:  # in use, of another user, or just removed by another start
            continue
