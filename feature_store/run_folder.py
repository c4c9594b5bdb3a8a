"""A folder for the files of one run, which no other run looks into.

Two commands may work in one `--workdir` at once, on one log and with different definitions of its label. So nothing
that is half written, and nothing whose content depends on a definition, has a name that another run could choose, too:
each run makes a folder with a random name and works in there.

The folder goes with the last object that holds it, at the latest when the process ends. Whoever uses it holds a lock
in it; a process that was killed leaves its folder behind, and the next run in the same place finds that nobody holds
it, and removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import IO, Final, Self

PREFIX: Final = "run-"
"""Of folders in a `--workdir`."""

LOCK: Final = "in-use"


class RunFolder:
    """An empty folder inside another one. Keep the object as long as the files are wanted, or leave it as a context."""

    def __init__(self, place: Path, prefix: str = PREFIX) -> None:
        """Make the folder in `place`, its name beginning so, and remove those that killed runs left there."""
        place.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(place, prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        unnamed = self.path / f".{LOCK}"
        lock = unnamed.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: nobody can take it away, so it is left behind where we are killed
        else:
            unnamed.rename(self.path / LOCK)  # the name says that it is locked already
        self._remove = weakref.finalize(self, _removed, self.path, lock, os.getpid())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder and all that is in it."""
        self._remove()


def lasting(folder: Path) -> Path:
    """The nearest folder around it that is no run's: what lies there stays when the run ends."""
    return next(parent for parent in folder.absolute().parents if not parent.name.startswith(PREFIX))


def _removed(path: Path, lock: IO[str], owner: int) -> None:
    if os.getpid() == owner:  # a forked child has a copy of the object, and not of the folder
        shutil.rmtree(path, ignore_errors=True)
    lock.close()


def _remove_abandoned(place: Path, prefix: str) -> None:
    for lock_file in place.glob(f"{prefix}*/{LOCK}"):
        try:
            with lock_file.open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock_file.parent, ignore_errors=True)
        except OSError:  # in use, of another user, or just removed by another run
            continue
