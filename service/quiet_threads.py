"""Work beside the requests, in threads that give way: tables, models, registries.

A table that is built or a model that is proven takes tens of milliseconds of CPU, mostly in C without the interpreter's
lock, and would share a worker's core evenly with the event loop. Threads of lower priority (Linux counts niceness per
thread) leave it the core whenever it has something to do. One that holds the lock is never held up by a loop that waits
for it, because who waits does not run. At the start there are no requests yet, and nothing gives way.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Protocol, TypeVar

NICENESS = 10
"""About a tenth of the share of the event loop, where both want the core."""
N_THREADS = 4
"""Readers of item tables and loaders of models; each waits for the store or the disk most of its time."""

T = TypeVar("T")


class Run(Protocol):
    """A way to run blocking work beside the event loop: `asyncio.to_thread`, or `quietly`."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Answers what the work returns."""


async def quietly(work: Callable[[], T]) -> T:
    """Runs blocking work in a thread of low priority and answers what it returns."""
    return await asyncio.get_running_loop().run_in_executor(_threads(), work)


@cache
def _threads() -> ThreadPoolExecutor:
    """One pool per process, begun when first needed."""
    return ThreadPoolExecutor(N_THREADS, thread_name_prefix="quiet", initializer=give_way)


def give_way() -> None:
    """Lowers the priority of the calling thread, for good."""
    thread = threading.get_native_id()
    with suppress(OSError):  # other systems count niceness per process, and then all stay equal
        os.setpriority(os.PRIO_PROCESS, thread, min(os.getpriority(os.PRIO_PROCESS, thread) + NICENESS, 19))
