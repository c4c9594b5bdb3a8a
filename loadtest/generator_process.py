"""A load generator as a process of its own: started, watched, and never left behind.

A generator inside the caller's process would share its interpreter lock, its garbage and its core.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence

from loadtest.child_process import child_process
from loadtest.errors import EngineError
from loadtest.machine import REPOSITORY
from loadtest.pinning import pin_to_cpu

_POLL_S = 0.2
_GRACE_S = 60.0
"""For starting the interpreter and preparing requests on a busy machine, beyond the run's own bounded time."""
_TAIL_CHARACTERS = 2_000


def run_generator(
    name: str,
    command: Sequence[str],
    *,
    expected_s: float,
    limit_s: float,
    cpu: int | None,
    on_progress: Callable[[float], None],
) -> None:
    """Run a generator to its end.

    Args:
        name: for messages.
        command: program and arguments; it finds this package, whatever the current directory is.
        expected_s: how long it usually takes, for `on_progress(fraction)`.
        limit_s: its own bound in seconds; killed `_GRACE_S` later.
        cpu: core to run on, or None for any.
    Raises:
        EngineError: it ended with another status than 0, or had to be killed; holds the end of what it said.
    """
    search_path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    started = time.monotonic()
    with tempfile.TemporaryFile() as said:
        environment = {**os.environ, "PYTHONPATH": search_path}
        with child_process(command, stdout=said, stderr=said, env=environment) as process:
            if cpu is not None:
                pin_to_cpu(process.pid, cpu)
            status = None
            while status is None and time.monotonic() - started < limit_s + _GRACE_S:
                try:
                    status = process.wait(timeout=_POLL_S)
                except subprocess.TimeoutExpired:
                    on_progress(min((time.monotonic() - started) / expected_s, 0.99))
        said.seek(0)
        words = said.read().decode("utf-8", errors="replace").strip()[-_TAIL_CHARACTERS:]
    if status is None:
        raise EngineError(f"{name} had not ended after {limit_s + _GRACE_S:.0f} s and was killed; it said: {words}")
    if status != 0:
        raise EngineError(f"{name} ended with status {status}; it said: {words}")
    on_progress(1.0)
