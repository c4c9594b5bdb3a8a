"""Reading from one node of a Redis Cluster: one pipeline per turn of the event loop, in it one MGET per slot.

The queue, the deadlines, the connections and the breaker are those of a single server (`redis_store.py`); so a node
that dies costs the reads of its own slots alone. New here is that a node may answer "not here" for some slots of a
pipeline: the callers who asked for those are told so, with where to ask, and all others get their rows.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from redis.exceptions import RedisError

from feature_store.errors import StoreDown, StoreError
from feature_store.online.cluster_slots import Redirection, by_slot
from feature_store.online.lane import Lane, PipelineLane, Values, open_lane, packed
from feature_store.online.redis_address import Endpoint, RedisAddress
from feature_store.online.redis_store import Flight, RedisReadSettings, RedisStore, Waiter
from feature_store.online.store import StoreObserver


class Redirected(StoreError):
    """A node sent us elsewhere; never leaves `cluster_store.py`."""

    def __init__(self, redirection: Redirection) -> None:
        self.redirection = redirection
        super().__init__(f"{redirection.kind} {redirection.slot}")


@dataclass(slots=True, eq=False)
class _SlotFlight(Flight):
    """A pipeline on its way."""

    places: list[list[int]] = field(default_factory=list)
    """Of each MGET: which of the flight's keys it asks for."""


class ClusterNode(RedisStore):
    """`OnlineStore` over one node, for keys of slots that it serves."""

    def __init__(
        self, address: RedisAddress, endpoint: Endpoint, settings: RedisReadSettings, observe: StoreObserver
    ) -> None:
        super().__init__(address.server_url(endpoint), settings, observe)
        self.endpoint = endpoint

    def _start(self, waiters: list[Waiter]) -> None:
        keys = [key for waiter in waiters for key in waiter.keys]
        self._observe("mget", len(keys))
        places = list(by_slot(keys).values())
        commands = b"".join(packed(b"MGET", *(keys[place] for place in of_slot)) for of_slot in places)
        self._launch(_SlotFlight(waiters, commands, places=places))

    def _send(self, flight: Flight, lane: Lane) -> None:
        assert isinstance(flight, _SlotFlight)
        assert isinstance(lane, PipelineLane)
        flight.lane = lane
        lane.ask_all(flight.command, len(flight.places), partial(self._all_answered, flight, lane))

    def _all_answered(self, flight: _SlotFlight, lane: PipelineLane, replies: list[Any] | RedisError) -> None:
        if isinstance(replies, RedisError):
            self._answered(flight, lane, replies)
            return
        values: Values = [None] * sum(map(len, flight.places))
        elsewhere: dict[int, Redirection] = {}
        for places, reply in zip(flight.places, replies, strict=True):
            if isinstance(reply, list):
                for place, value in zip(places, reply, strict=True):
                    values[place] = value
                continue
            redirection = Redirection.parse(str(reply), self.endpoint)
            if redirection is None:
                self._answered(flight, lane, reply)  # a node that refuses, or talks nonsense
                return
            elsewhere |= dict.fromkeys(places, redirection)
        if elsewhere:
            self._send_away(flight, elsewhere)
        self._answered(flight, lane, values)

    def _send_away(self, flight: _SlotFlight, elsewhere: dict[int, Redirection]) -> None:
        """Tells the callers whose keys are not here; the others' rows come with the rest of the answer."""
        start = 0
        for waiter in flight.waiters:
            end = start + len(waiter.keys)
            redirections = [elsewhere[place] for place in range(start, end) if place in elsewhere]
            if redirections and not waiter.values.done():
                waiter.values.set_exception(Redirected(redirections[0]))
            start = end

    async def _open_lane(self) -> Lane:
        return await open_lane(self._pool.make_connection(), PipelineLane)  # type: ignore[no-untyped-call]

    async def asked_moving(self, key: bytes, *, asking: bool, timeout_ms: float) -> bytes | None:
        """One key of a slot that is on its way from a node to another.

        Raises:
            Redirected: it is on the other one.
            StoreDown: the node is away, or there is no answer in time.
        """
        commands = [packed(b"ASKING")] * asking + [packed(b"MGET", key)]
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                lane = await open_lane(self._pool.make_connection(), PipelineLane)  # type: ignore[no-untyped-call]
                try:
                    lane.ask_all(b"".join(commands), len(commands), answer.set_result)
                    replies = await answer
                finally:
                    lane.close()
        except TimeoutError:
            raise self._too_late() from None
        except RedisError as error:
            raise StoreDown(self._described(error)) from None
        reply = replies if isinstance(replies, RedisError) else replies[-1]
        if isinstance(reply, list):
            value: bytes | None = reply[0]
            return value
        redirection = Redirection.parse(str(reply), self.endpoint)
        if redirection is None:
            raise StoreDown(self._described(reply))
        raise Redirected(redirection)
