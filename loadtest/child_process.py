"""A process that ends with the block that started it, whenever a signal ends the block.

A handler that raises (Ctrl-C, `service/ended_by_signal.py`) may do so inside `subprocess.Popen`, when the child runs
already and nobody has its number yet: no `finally` can stop it then. So signals wait while a process is started.
Their handlers are exchanged, rather than the signals blocked: a child would inherit a blocked signal and could not be
stopped by it.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO

_RAISING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def kill(process: subprocess.Popen[bytes]) -> None:
    """For `stop`, where a process has nothing to tidy up."""
    process.kill()
    process.wait()


def terminate(process: subprocess.Popen[bytes], within_s: float) -> None:
    """For `stop`, where a process ends by itself on SIGTERM; killed if it has not within that time."""
    process.terminate()
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        kill(process)


@contextmanager
def child_process(
    command: Sequence[str],
    stop: Callable[[subprocess.Popen[bytes]], None] = kill,
    *,
    stdout: int | IO[bytes] | None = subprocess.DEVNULL,
    stderr: int | IO[bytes] | None = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    start_new_session: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """Starts a process that reads nothing, and stops it in the end, unless it has ended.

    Args:
        stop: leaves nothing of it running.
        stdout, stderr, env, start_new_session: as `subprocess.Popen` has them.
    """
    process = None
    try:
        with _signals_held():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=env,
                start_new_session=start_new_session,
            )
        yield process
    finally:
        if process is not None and process.poll() is None:
            stop(process)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals that come within the block are raised at its end.

    Those that are ignored, or end this process without Python's doing, are left alone. Threads other than the main one
    are never interrupted, so nothing is held there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    handlers = {number: handler for number in _RAISING if callable(handler := signal.getsignal(number))}
    try:
        for number in handlers:
            signal.signal(number, note)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for each in came:
            signal.raise_signal(each)
