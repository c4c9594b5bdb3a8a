"""PacingTimer: wakes an event loop at a nanosecond of the monotonic clock.

The timers of uvloop and of asyncio's selector loop count whole milliseconds, which is as long as the answers we
measure. A Linux timerfd is a file descriptor that becomes readable at an absolute time; it is kept by the kernel's
high-resolution timers and needs no busy waiting, so the generator may share its core with the server's Redis.

Python has `os.timerfd_create` from 3.13 on; before that the two C functions are called directly. Linux only.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable

_TFD_TIMER_ABSTIME = 1
_TFD_NONBLOCK = os.O_NONBLOCK
_NS_PER_S = 1_000_000_000


class _TimerSpec(ctypes.Structure):
    """struct itimerspec: the interval (unused: each wake-up is armed anew), then the absolute time of expiry."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class PacingTimer:
    """A one-shot timer on `time.monotonic_ns`, re-armed by its callback; close it to release the descriptor."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._spec = _TimerSpec()
        self._spec_address = ctypes.byref(self._spec)
        self._loop = loop
        self._on_due = on_due
        loop.add_reader(self._fd, self._expired)

    def arm(self, at_ns: int) -> None:
        """Call back once at `at_ns` on the monotonic clock; a time in the past fires in the next turn of the loop."""
        self._spec.value_s, self._spec.value_ns = divmod(max(at_ns, 1), _NS_PER_S)  # 0 would disarm the timer
        if self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._spec_address, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def _expired(self) -> None:
        os.read(self._fd, 8)  # the count of expiries; unread, the descriptor would stay readable
        self._on_due()

    def close(self) -> None:
        """Stop calling back and release the descriptor."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
