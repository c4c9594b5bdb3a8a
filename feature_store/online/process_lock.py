"""A lock between processes of one machine that the kernel takes back from a process that dies."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.02


@contextmanager
def process_lock(path: Path, *, wait_s: float = 0.0) -> Iterator[bool]:
    """Holds the lock of a file until the block ends; False where somebody else kept it for all of `wait_s`.

    Raises:
        OSError: the file cannot be opened.
    """
    give_up_s = time.monotonic() + wait_s
    with path.open("w") as file:
        while not (held := _take(file.fileno())) and time.monotonic() < give_up_s:
            time.sleep(POLL_S)
        yield held  # closing the file gives it back


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
