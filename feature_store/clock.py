"""Time as an argument: nothing below `service/bootstrap.py` reads the clock on its own.

All times are int64 milliseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns the present in milliseconds since 1970 UTC."""


def system_clock() -> int:
    """The machine's wall clock, in milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000
