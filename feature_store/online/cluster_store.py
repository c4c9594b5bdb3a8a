"""Reading from a Redis Cluster while requests wait: each key at the node that serves its slot.

The map of slots comes from `CLUSTER SLOTS` of any node and is kept until somebody says otherwise: `MOVED` corrects it
at once and the read goes on at the right node, within the caller's deadline. While a node is away, reads of its slots
fail at once (`breaker.py`, one per node) and all others go on; meanwhile the other nodes are asked every
`probe_interval_ms` who serves those slots now, so a replica that took over is read within that time.
All views of one entity lie in one slot, so an ordinary request reads from one node. A read of several nodes gives all
rows or none: half of them would look like rows that are missing.
Belongs to the event loop that first reads. Masters alone are read.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import suppress

from redis.exceptions import RedisError

from feature_store.errors import StoreDown, StoreError, StoreTimeout
from feature_store.online.cluster_node import ClusterNode, Redirected
from feature_store.online.cluster_slots import SlotMap
from feature_store.online.lane import Lane, Values, close_all, open_lane, packed
from feature_store.online.redis_address import Endpoint, hosted
from feature_store.online.redis_errors import described
from feature_store.online.redis_store import RedisReadSettings
from feature_store.online.redis_url import async_pool, understood
from feature_store.online.store import StoreObserver, ignore_events

MAX_REDIRECTIONS = 5
"""A read that was sent on so often gives up: the nodes disagree."""
CLUSTER_SLOTS = packed(b"CLUSTER", b"SLOTS")


class ClusterStore:
    """`OnlineStore` over a Redis or Valkey Cluster."""

    def __init__(
        self, url: str, settings: RedisReadSettings | None = None, observe: StoreObserver = ignore_events
    ) -> None:
        """Checks the URL; the first read connects.

        Raises:
            StoreDown: not a `redis+cluster://` URL.
        """
        self._address = understood(url)
        if self._address.kind != "cluster":
            raise StoreDown(f"{self._address.shown} is no Cluster; write redis+cluster://HOST:PORT,HOST:PORT")
        self._settings = settings or RedisReadSettings()
        self._observe = observe
        self._nodes: dict[Endpoint, ClusterNode] = {}
        self._slots: SlotMap | None = None
        self._trouble = ""
        """Why the last look at the slots failed."""
        self._looking: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()
        """Set once a look has ended, well or not."""
        self._turns = itertools.count()
        self._leaving: set[asyncio.Task[None]] = set()
        """Nodes that left the Cluster are closed in the background."""
        self._closed = False

    async def get_many(self, keys: Sequence[bytes], *, timeout_ms: float) -> Values:
        """See `OnlineStore.get_many`."""
        if not keys:
            return []
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
        return await self._read(keys, await self._known_slots(timeout_ms), deadline, MAX_REDIRECTIONS)

    async def ping(self, *, timeout_ms: float) -> float:
        """The slowest master's round trip in ms. Raises as `get_many` does, also where only one of them is away."""
        slots = await self._known_slots(timeout_ms)
        nodes = [self._node(endpoint) for endpoint in slots.masters]
        took_ms = await asyncio.gather(*(node.ping(timeout_ms=timeout_ms) for node in nodes), return_exceptions=True)
        errors = [each for each in took_ms if isinstance(each, BaseException)]
        if errors or not slots.is_whole:
            self._look_again()
            raise errors[0] if errors else self._unserved(slots.owners.index(None))
        return max(each for each in took_ms if isinstance(each, float))

    async def aclose(self) -> None:
        """Lets commands in flight end (`socket_timeout_ms` at most), then closes all connections."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await asyncio.gather(*self._leaving, *(node.aclose() for node in self._nodes.values()))

    async def _known_slots(self, timeout_ms: float) -> SlotMap:
        """The map, waited for where there is none yet."""
        if self._closed:
            raise StoreDown(f"{self._address.shown}: this store has been closed")
        if self._slots is None:
            self._look_again()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._looked.wait(), timeout_ms / 1000)
            if self._slots is None and self._trouble:
                self._observe("down", 1)
                raise StoreDown(self._trouble)
            if self._slots is None:
                self._observe("timeout", 1)
                raise StoreTimeout(f"{self._address.shown}: no answer to CLUSTER SLOTS within {timeout_ms:g} ms")
        return self._slots

    async def _read(self, keys: Sequence[bytes], slots: SlotMap, deadline: float, redirections: int) -> Values:
        by_node = slots.places(keys)
        if len(by_node) == 1:
            return await self._read_of(next(iter(by_node)), keys, slots, deadline, redirections)
        parts = await asyncio.gather(
            *(
                self._read_of(owner, [keys[place] for place in places], slots, deadline, redirections)
                for owner, places in by_node.items()
            ),
            return_exceptions=True,
        )
        values: Values = [None] * len(keys)
        for places, part in zip(by_node.values(), parts, strict=True):
            if isinstance(part, BaseException):
                raise part
            for place, value in zip(places, part, strict=True):
                values[place] = value
        return values

    async def _read_of(
        self, owner: Endpoint | None, keys: Sequence[bytes], slots: SlotMap, deadline: float, redirections: int
    ) -> Values:
        """Rows of one node's keys, from wherever it sends us."""
        if owner is None:
            self._look_again()
            self._observe("down", 1)
            raise self._unserved(slots.places(keys)[None][0])
        try:
            return await self._node(owner).get_many(keys, timeout_ms=self._left_ms(deadline))
        except Redirected as error:
            sent_on = error.redirection
        except StoreDown:
            self._look_again()
            raise
        self._look_again()
        if sent_on.kind == "CLUSTERDOWN" or not redirections:
            self._observe("down", 1)
            raise StoreDown(
                f"{self._address.shown}: the Cluster does not serve these slots just now; a master is away and no "
                "replica has taken over yet"
                if sent_on.kind == "CLUSTERDOWN"
                else f"{self._address.shown}: sent on {MAX_REDIRECTIONS} times; the nodes disagree about their slots"
            )
        if sent_on.kind == "MOVED":
            slots.owners[sent_on.slot] = sent_on.endpoint
            return await self._read(keys, slots, deadline, redirections - 1)
        return [await self._read_moving(key, owner, deadline) for key in keys]

    async def _read_moving(self, key: bytes, owner: Endpoint, deadline: float) -> bytes | None:
        """One key of a slot that is on its way: asked one by one, because a node answers for all keys or for none."""
        endpoint, asking = owner, False
        for _ in range(MAX_REDIRECTIONS):
            try:
                return await self._node(endpoint).asked_moving(key, asking=asking, timeout_ms=self._left_ms(deadline))
            except Redirected as error:
                endpoint, asking = error.redirection.endpoint, error.redirection.kind == "ASK"
        raise StoreDown(f"{self._address.shown}: sent on {MAX_REDIRECTIONS} times for a slot that is on its way")

    def _node(self, endpoint: Endpoint) -> ClusterNode:
        node = self._nodes.get(endpoint)
        if node is None:
            node = ClusterNode(self._address, endpoint, self._settings, self._observe)
            self._nodes[endpoint] = node
        return node

    def _look_again(self) -> None:
        """Asks who serves what, in the background; does nothing while that goes on already."""
        if self._closed or (self._looking is not None and not self._looking.done()):
            return
        self._looking = asyncio.get_running_loop().create_task(self._look_until_well(), name="cluster-slots")

    async def _look_until_well(self) -> None:
        """Until every slot has an owner that is not known to be away."""
        while True:
            try:
                self._take(await self._look())
            except StoreError as error:
                self._trouble = str(error)
            self._looked.set()
            # before the end as well, because requests that are sent on ask for another look each
            await asyncio.sleep(self._settings.probe_interval_ms / 1000)
            if self._slots is not None and self._slots.is_whole:
                owners = self._slots.masters
                if not any(node.is_away for endpoint, node in self._nodes.items() if endpoint in owners):
                    return

    async def _look(self) -> SlotMap:
        """The slots as one node knows them, another one first each time, those that are away last.

        Raises:
            StoreDown: no node answers.
        """
        nodes = list(dict.fromkeys([*(self._slots.nodes if self._slots else ()), *self._address.endpoints]))
        turn = next(self._turns) % len(nodes)
        nodes = nodes[turn:] + nodes[:turn]
        nodes.sort(key=lambda endpoint: endpoint in self._nodes and self._nodes[endpoint].is_away)
        last_error = StoreDown(f"{self._address.shown}: no node answers")
        for endpoint in nodes:
            try:
                return await self._slots_of(endpoint)
            except StoreDown as error:
                last_error = error
        raise last_error

    async def _slots_of(self, endpoint: Endpoint) -> SlotMap:
        shown = f"{self._address.shown}: {hosted(endpoint)}"
        pool = async_pool(self._address.server_url(endpoint), connect_timeout_ms=self._settings.connect_timeout_ms)
        try:
            async with asyncio.timeout(self._settings.socket_timeout_ms / 1000):
                lane = await open_lane(pool.make_connection(), Lane)  # type: ignore[no-untyped-call]
                try:
                    return SlotMap.parse(await lane.asked(CLUSTER_SLOTS), endpoint)
                finally:
                    await close_all([lane])
        except TimeoutError:
            raise StoreDown(f"{shown}: no answer to CLUSTER SLOTS") from None
        except RedisError as error:
            raise StoreDown(described(shown, error)) from None
        except ValueError as error:
            raise StoreDown(f"{shown}: {error}") from None

    def _take(self, slots: SlotMap) -> None:
        """The new map; nodes that serve nothing any more are given up."""
        self._slots = slots
        masters = slots.masters
        loop = asyncio.get_running_loop()
        for endpoint in [each for each in self._nodes if each not in masters]:
            task = loop.create_task(self._nodes.pop(endpoint).aclose())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    def _unserved(self, slot: int) -> StoreDown:
        return StoreDown(f"{self._address.shown}: no node serves slot {slot}")

    def _left_ms(self, deadline: float) -> float:
        return max(0.0, (deadline - asyncio.get_running_loop().time()) * 1000)
