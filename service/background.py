"""Work beside the requests: refreshing, reloading, counting, each on a rhythm of its own.

A round that ends in an error nobody expected is logged, and the next one comes all the same: a service that silently
stopped refreshing would look healthy for hours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)


class Background:
    """Periodic tasks of one event loop."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def every(self, interval_ms: float, action: Callable[[], Awaitable[None]], name: str) -> None:
        """Runs `action` again and again, `interval_ms` after its last end."""
        self._tasks.append(asyncio.create_task(_repeat(interval_ms / 1000, action, name), name=name))

    async def stop(self) -> None:
        """Ends all tasks; what a thread is in the middle of, it finishes alone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


async def _repeat(interval_s: float, action: Callable[[], Awaitable[None]], name: str) -> None:
    while True:
        await asyncio.sleep(interval_s)
        try:
            await action()
        except Exception:
            logger.exception("background work failed on a defect and will be tried again", extra={"task": name})
