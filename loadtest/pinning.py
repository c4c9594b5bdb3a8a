"""Pinning a process to one core, so that the generator and the server do not push each other around."""

from __future__ import annotations

import os

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
