"""How many connections each worker holds, in memory that all of them share: so that none takes more than its part.

Workers accept from one socket, and whichever wakes first would take a whole burst: clients keep their connections, so
the others would idle for minutes (seen: 32 of 32 on one of two workers). A worker that holds more than the emptiest one
therefore steps back for a moment (`listening.py`). The tolerance grows with the numbers: strict for a few connections,
an eighth for many, where a storm of reconnecting clients must not wait.

One signed 32-bit number a worker, written by it alone: no lock. Below 0 it belongs to a worker that does not accept.
"""

from __future__ import annotations

import mmap
from array import array
from pathlib import Path

ABSENT = -1


class ConnectionShares:
    """The numbers, seen by the worker in slot `mine`."""

    def __init__(self, counts: memoryview, mine: int) -> None:
        """`counts` has one native int per worker."""
        self._counts = counts
        self._mine = mine
        counts[mine] = 0

    @classmethod
    def alone(cls) -> ConnectionShares:
        """For a process that shares its sockets with nobody."""
        return cls(memoryview(array("i", [ABSENT])), 0)

    @classmethod
    def of_worker(cls, path: Path, worker_id: int) -> ConnectionShares:
        """In the file that the parent has made with `make_file`."""
        return cls(_mapped(path), worker_id)

    @property
    def is_ahead(self) -> bool:
        """Whether another worker should take the next connection."""
        others = [count for slot, count in enumerate(self._counts) if slot != self._mine and count >= 0]
        if not others:
            return False
        least = min(others)
        return self._counts[self._mine] > least + least // 8

    def took(self) -> None:
        """One connection more."""
        self._counts[self._mine] += 1

    def gave_back(self) -> None:
        """One connection less."""
        self._counts[self._mine] -= 1


def make_file(path: Path, n_workers: int) -> memoryview:
    """Make the shared file, all workers absent; the parent marks a dead worker by writing `ABSENT` into its slot."""
    path.write_bytes(array("i", [ABSENT] * n_workers).tobytes())
    return _mapped(path)


def _mapped(path: Path) -> memoryview:
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("i")
