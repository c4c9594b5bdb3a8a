"""Time as an argument: nothing below `service/bootstrap.py` reads the clock on its own.

All times are int64 milliseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]
"""Returns the present in milliseconds since 1970 UTC."""


def system_clock() -> int:
    """The machine's wall clock, in milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


def shown_moment(time_ms: int) -> str:
    """A time for a person: `2026-01-31T12:00:00+00:00`."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")
