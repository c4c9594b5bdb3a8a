"""Pinning a process to one core, so that the generator and the server do not push each other around."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from loadtest.errors import LoadTestError


def pin_to_cpu(process_id: int, cpu: int) -> None:
    """Let a process (0: this one) run on one core only.

    Raises:
        LoadTestError: this machine or container does not offer that core.
    """
    allowed = os.sched_getaffinity(0)
    if cpu not in allowed:
        raise LoadTestError(f"cpu {cpu} is not one of those this process may use: {sorted(allowed)}")
    os.sched_setaffinity(process_id, {cpu})


def pin_threads_to_cpu(process_ids: Iterable[int], cpu: int) -> None:
    """Let every thread that these processes have by now, and those they will start, run on one core only.

    Raises:
        LoadTestError: the core is not offered, or a process has ended.
    """
    for process_id in process_ids:
        try:
            for thread in Path(f"/proc/{process_id}/task").iterdir():
                pin_to_cpu(int(thread.name), cpu)
        except OSError as error:
            raise LoadTestError(f"process {process_id} cannot be pinned to cpu {cpu}: {error}") from error
