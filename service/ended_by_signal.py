"""The end of a command by SIGTERM or SIGHUP: everything it holds is let go, as after Ctrl-C.

By default these signals end a process where it stands: services, stores and load generators that a command has started
would live on without it, and folders of its own stay. Here they raise SystemExit in the main thread instead, so every
`finally` runs. A signal that was ignored when the process began (`nohup`) stays ignored; `serve` answers for itself
once its event loop runs.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType

ONE_END_S = 5.0
"""A signal sooner after the first belongs to the same end: a terminal that closes, or systemd, sends two at once, and
the second must not break off what the first began. A later one is somebody's impatience."""

ENDING = (signal.SIGTERM, signal.SIGHUP)


def is_ignored(number: signal.Signals) -> bool:
    """Whether whoever started the process wants it to outlive this signal."""
    return signal.getsignal(number) is signal.SIG_IGN


class EndedBySignal:
    """Listens from its making on; make it in the main thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since_s = -ONE_END_S
        self._status: int | None = None
        for number in ENDING:
            if not is_ignored(number):
                signal.signal(number, self._end)

    def status_of(self, status: int) -> int:
        """What the process ends with where the command has answered `status`: a failure after a signal is its work."""
        return status if status == 0 or self._status is None else self._status

    @property
    def came(self) -> bool:
        """Whether a signal came; DuckDB turns what it raises into an error of its own."""
        return self._status is not None

    def _end(self, number: int, frame: FrameType | None) -> None:
        if (now_s := self._clock()) - self._since_s < ONE_END_S:
            return
        self._since_s = now_s
        self._status = 128 + number
        raise SystemExit(self._status)
