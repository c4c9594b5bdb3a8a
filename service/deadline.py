"""A request's time, as one object that every stage asks how much is left.

Counted from the moment the request was read in full, waiting at the door included, on a monotonic clock that comes in
as an argument: a caller that sends slowly spends its own time, which the server bounds and answers with 408. The
caller's `X-Deadline-Ms` can only shorten what the operator allows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from service.errors import InvalidRequest
from service.settings import DeadlineSettings

MonotonicClock = Callable[[], float]
"""Returns seconds that never go back."""

HEADER = b"x-deadline-ms"
_NUMBER = re.compile(rb"[0-9]+(\.[0-9]+)?")


class Deadline:
    """When a request's answer stops being worth anything."""

    __slots__ = ("_clock", "_ends_s", "started_s", "total_ms", "wanted_ms")

    def __init__(self, started_s: float, total_ms: float, clock: MonotonicClock, wanted_ms: float = math.inf) -> None:
        """`wanted_ms` is what the caller asked for, which may be more than `total_ms`."""
        self.started_s, self.total_ms, self.wanted_ms = started_s, total_ms, wanted_ms
        self._ends_s = started_s + total_ms / 1000
        self._clock = clock

    def remaining_ms(self) -> float:
        """Time left; 0 or less once it has passed."""
        return (self._ends_s - self._clock()) * 1000

    def left_for_more_ms(self, further_ms: float) -> float:
        """Time for what may take longer than an answer: `further_ms` from now, or less where the caller wants so."""
        return min(further_ms, self.wanted_ms - (self._clock() - self.started_s) * 1000)

    def passed(self) -> bool:
        """Whether time is over."""
        return self._clock() >= self._ends_s


def deadline_of(header: bytes | None, started_s: float, settings: DeadlineSettings, clock: MonotonicClock) -> Deadline:
    """The deadline of one request.

    Args:
        header: the value of `X-Deadline-Ms`, None where absent.
        started_s: when the request was read in full, on `clock`.
    Raises:
        InvalidRequest: the header is not a positive number of milliseconds.
    """
    if header is None:
        return Deadline(started_s, settings.total_ms, clock)
    wanted_ms = float(header) if _NUMBER.fullmatch(header) else 0.0
    if not 0 < wanted_ms < math.inf:
        shown = header[:40].decode("latin-1")
        raise InvalidRequest(f"expected a positive number of milliseconds, got {shown!r}", "X-Deadline-Ms")
    return Deadline(started_s, min(wanted_ms, settings.total_ms), clock, wanted_ms)
