"""The door of a worker: how many requests may be inside, how many may wait, and for how long.

A service over its capacity has two choices: be late for everyone, or refuse a few at once and be in time for the rest.
Refusing goes by time spent waiting, not by queue length alone: a long queue that moves fast harms nobody. Who has
waited longer than `queue_ms` when a place becomes free is refused, because its answer would be late and would make the
next one late as well. Waiters go in by order of arrival. A queue that has not been empty for `OVERLOAD_S` is no burst:
more arrives than can be served, and in order of arrival everyone would wait just under the limit. Then the newest goes
first: most are answered at once, the others refused. (Controlled delay and adaptive LIFO: Maurer, "Fail at Scale", ACM
Queue 13(8), 2015.)
Belongs to one event loop; costs nothing while there is room.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from service.deadline import MonotonicClock
from service.errors import Overloaded
from service.settings import AdmissionSettings

RETRY_AFTER_S = 1
"""The shortest wait that the header can say; by then a queue of milliseconds has long drained."""
OVERLOAD_S = 0.1
"""Longer than it takes to work off a hiccup of the machine; the interval of CoDel (RFC 8289)."""


class _Waiter(NamedTuple):
    since_s: float
    turn: asyncio.Future[None]


class Admission:
    """Counts requests in and out. Every `enter` that returns is followed by one `leave`."""

    def __init__(self, settings: AdmissionSettings, clock: MonotonicClock) -> None:
        self._settings = settings
        self._clock = clock
        self._waiting: deque[_Waiter] = deque()
        self._queue_since_s = 0.0
        """Since when somebody has been waiting, all the time."""
        self.inflight = 0
        """Requests inside."""

    @property
    def has_room(self) -> bool:
        """Whether the next request would go straight in."""
        return self.inflight < self._settings.max_inflight

    async def enter(self) -> None:
        """Returns when the request may go in.

        Raises:
            Overloaded: too many wait already, or this one waited too long.
        """
        if self.has_room:
            self.inflight += 1
            return
        if len(self._waiting) >= self._settings.max_queued:
            raise Overloaded("queue_full", RETRY_AFTER_S)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        now_s = self._clock()
        if not self._waiting:
            self._queue_since_s = now_s
        self._waiting.append(_Waiter(now_s, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave()  # the place was given at the very moment the request was called off
            raise

    def leave(self) -> None:
        """A request is done; its place goes to a waiter that is still in time."""
        waiting, now_s = self._waiting, self._clock()
        while waiting and (waiting[0].turn.done() or waiting[0].since_s < now_s - self._settings.queue_ms / 1000):
            late = waiting.popleft().turn
            if not late.done():
                late.set_exception(Overloaded("queue_time", RETRY_AFTER_S))
        overloaded = now_s - self._queue_since_s > OVERLOAD_S
        while waiting:
            turn = (waiting.pop() if overloaded else waiting.popleft()).turn
            if not turn.done():
                turn.set_result(None)
                return
        self.inflight -= 1
