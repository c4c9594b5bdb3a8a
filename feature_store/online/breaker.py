"""A circuit breaker: while the store is known to be away, a request pays nothing for asking.

Closed, all calls pass. It opens at once when the server refuses or drops a connection, because that leaves no doubt,
and after `timeouts_to_open` late answers in a row, because one slow answer says little. Open, calls fail without
touching the network; a background probe asks again and closes it with the first good PONG, so that no request is spent
on finding out. The first probe leaves after `FIRST_PAUSE_MS`, each further one after twice that, up to
`probe_interval_ms`: a server that stalled for a moment serves again at once, one that is gone is asked seldom, and one
that answers probes but is late for reads opens it for longer each time.
Knows no Redis: the probe is an argument. Lives in one event loop.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from feature_store.errors import StoreDown, StoreError
from feature_store.online.store import StoreObserver

FIRST_PAUSE_MS = 10.0
"""Before the first probe of a server that had been well for an interval or more."""


class CircuitBreaker:
    """Remembers whether it makes sense to ask."""

    def __init__(
        self,
        probe: Callable[[], Awaitable[None]],
        observe: StoreObserver,
        *,
        probe_interval_ms: float,
        timeouts_to_open: int,
    ) -> None:
        self._probe = probe
        self._observe = observe
        self._probe_interval_s = probe_interval_ms / 1000
        self._timeouts_to_open = timeouts_to_open
        self._timeouts_in_a_row = 0
        self._reason: str | None = None
        self._pause_s = 0.0
        self._closed_s = -math.inf
        """When a probe closed it last, in loop time."""
        self._task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether `check` would raise."""
        return self._reason is not None

    def check(self) -> None:
        """Passes while closed.

        Raises:
            StoreDown: open; the message says what opened it.
        """
        if self._reason is not None:
            raise StoreDown(self._reason)

    def answered(self) -> None:
        """A good answer came in time."""
        self._timeouts_in_a_row = 0

    def timed_out(self, reason: str) -> None:
        """An answer did not come in time."""
        self._timeouts_in_a_row += 1
        if self._timeouts_in_a_row >= self._timeouts_to_open:
            self.trip(f"{self._timeouts_in_a_row} reads in a row without an answer, the last: {reason}")

    def trip(self, reason: str) -> None:
        """Opens, and starts probing until the store is back."""
        if self._reason is not None:
            return
        self._reason = reason
        self._observe("breaker_open", 1)
        loop = asyncio.get_running_loop()
        was_well = loop.time() - self._closed_s >= self._probe_interval_s
        self._pause_s = self._bounded(FIRST_PAUSE_MS / 1000 if was_well else 2 * self._pause_s)
        self._task = loop.create_task(self._probe_until_back(), name="store-probe")

    async def aclose(self) -> None:
        """Stops probing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _probe_until_back(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s)
            try:
                await self._probe()
            except StoreError as error:
                self._reason = str(error)
                self._pause_s = self._bounded(2 * self._pause_s)
                continue
            self._reason = None
            self._timeouts_in_a_row = 0
            self._closed_s = asyncio.get_running_loop().time()
            self._observe("breaker_closed", 1)
            return

    def _bounded(self, pause_s: float) -> float:
        return min(pause_s, self._probe_interval_s)
