"""Reading from Redis while requests wait: one MGET per turn of the event loop, whatever the number of callers.

A command costs tens of microseconds of CPU, an MGET of several keys hardly more than a GET. So `get_many` only queues
its keys; the loop's next turn sends everything that was queued as one MGET and hands each caller its slice.

Invariants
- A caller waits for its own future, never for the connection: its deadline is a timer, and a caller that gives up or is
  cancelled takes nothing away from the others. The command itself is never cancelled by a caller; it ends by itself or
  by `socket_timeout_ms`, after which the connection is dropped, so a late answer can never be read as another's.
- Nothing queues without bound: at most `max_connections` commands are in flight, what arrives meanwhile waits for the
  next one to end, and beyond `max_queued_keys` a call fails at once.
- A dead server costs a request nothing (`breaker.py`). A command that several callers share and that is late is one
  late answer, not several; and a deadline that passed while the loop was busy is told one turn later, because the
  answer may lie in the socket already. An idle connection that the server closed is no news about the
  server: its command is sent once more on a fresh one.
Belongs to the event loop that first reads. redis-py makes the connections (TLS, AUTH), `lane.py` talks on them.
Cost: 31 µs of CPU a call alone, 3 µs among 64 callers (`python -m loadtest.micro.online_store`; ADR 0008).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from feature_store.errors import StoreDown, StoreError, StoreTimeout
from feature_store.online.breaker import CircuitBreaker
from feature_store.online.lane import Lane, Reply, Values, close_all, open_lane, packed
from feature_store.online.redis_address import shown_url
from feature_store.online.redis_errors import described
from feature_store.online.redis_url import async_pool
from feature_store.online.store import StoreObserver, ignore_events

_PING = packed(b"PING")


@dataclass(frozen=True, slots=True)
class RedisReadSettings:
    """Bounds of the reading side."""

    socket_timeout_ms: float = 500.0
    """A command without an answer for so long takes its connection with it. Longer than any caller's deadline."""
    connect_timeout_ms: float = 500.0
    """A connection that is not ready by then has failed."""
    max_connections: int = 8
    """Commands in flight; more callers share the next command."""
    max_merged_reads: int = 20_000
    """Callers that share one command; no fewer than can wait, unless set. 1 merges nothing."""
    max_queued_keys: int = 20_000
    """Keys waiting for a free connection; beyond, a call fails with StoreTimeout at once."""
    probe_interval_ms: float = 200.0
    """How often an absent server is asked whether it is back."""
    timeouts_to_open: int = 5
    """Commands in a row whose answer was late, after which requests stop waiting."""
    late_after_ms: float = 0.0
    """An answer that misses its caller's deadline is the server's fault only when it took this long; else one caller in
    a hurry would speak for all."""


@dataclass(slots=True)
class Waiter:
    """One caller's keys and where their values go."""

    keys: Sequence[bytes]
    values: asyncio.Future[Values]
    flight: Flight | None = None
    """The command that carries the keys; None while they are queued."""


@dataclass(slots=True, eq=False)
class Flight:
    """One command on its way."""

    waiters: list[Waiter]
    command: bytes
    timer: asyncio.TimerHandle | None = None
    """Ends it after `socket_timeout_ms`."""
    lane: Lane | None = None
    connecting: asyncio.Task[None] | None = None
    """Makes a connection for it."""
    on_idle_lane: bool = False
    """Whether its connection had been idle, and may have been closed meanwhile."""
    late: bool = False
    """Whether the breaker knows that its answer is late."""


class RedisStore:
    """`OnlineStore` over one Redis or Valkey server, or over the one that Sentinels name as their master."""

    def __init__(
        self, url: str, settings: RedisReadSettings | None = None, observe: StoreObserver = ignore_events
    ) -> None:
        """Checks the URL; the first read connects.

        Raises:
            StoreDown: not the URL of a server, nor one of Sentinels.
        """
        self._settings = settings or RedisReadSettings()
        self._shown = shown_url(url)
        self._observe = observe
        self._pool = async_pool(url, connect_timeout_ms=self._settings.connect_timeout_ms)
        self._idle: list[Lane] = []
        self._queue: list[Waiter] = []
        self._queued_keys = 0
        self._flush_is_due = False
        self._in_flight: set[Flight] = set()
        self._landed = asyncio.Event()
        """Set when, after closing, the last command has ended."""
        self._closed = False
        self._breaker = CircuitBreaker(
            self._probe,
            observe,
            probe_interval_ms=self._settings.probe_interval_ms,
            timeouts_to_open=self._settings.timeouts_to_open,
        )

    async def get_many(self, keys: Sequence[bytes], *, timeout_ms: float) -> Values:
        """See `OnlineStore.get_many`."""
        if not keys:
            return []
        self._check_open()
        if self._queued_keys + len(keys) > self._settings.max_queued_keys:
            self._observe("timeout", 1)
            raise StoreTimeout(f"{self._shown}: {self._queued_keys} keys are queued already; the server is too slow")
        loop = asyncio.get_running_loop()
        waiter = Waiter(keys, loop.create_future())
        self._queue.append(waiter)
        self._queued_keys += len(keys)
        if not self._flush_is_due:
            self._flush_is_due = True
            loop.call_soon(self._flush)
        timer = loop.call_later(timeout_ms / 1000, loop.call_soon, self._expire, waiter, timeout_ms)
        try:
            return await waiter.values
        finally:
            timer.cancel()

    async def ping(self, *, timeout_ms: float) -> float:
        """See `OnlineStore.ping`. Asks even while the breaker is open."""
        if self._closed:
            raise StoreDown(f"{self._shown}: this store has been closed")
        started = time.perf_counter()
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._probe()
        except TimeoutError:
            raise StoreTimeout(f"{self._shown}: no PONG within {timeout_ms:g} ms") from None
        return (time.perf_counter() - started) * 1000

    @property
    def is_away(self) -> bool:
        """Whether reads fail at once, because the server is known not to answer."""
        return self._breaker.is_open

    async def aclose(self) -> None:
        """Lets commands in flight end (`socket_timeout_ms` at most), then closes all connections."""
        self._closed = True
        await self._breaker.aclose()
        if self._in_flight:
            await self._landed.wait()
        for waiter in self._queue:
            self._fail(waiter, StoreDown(f"{self._shown}: this store has been closed"))
        self._queue.clear()
        await close_all(self._idle)
        self._idle.clear()
        await self._pool.aclose()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreDown(f"{self._shown}: this store has been closed")
        try:
            self._breaker.check()
        except StoreDown:
            self._observe("down", 1)
            raise

    def _expire(self, waiter: Waiter, timeout_ms: float) -> None:
        """The caller's deadline: it is told now, whatever becomes of the command."""
        if waiter.values.done():
            return
        reason = f"{self._shown}: no answer within {timeout_ms:g} ms"
        waiter.values.set_exception(StoreTimeout(reason))
        rest_ms = self._settings.late_after_ms - timeout_ms
        if rest_ms <= 0:
            self._late(waiter.flight, reason)
        elif waiter.flight is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(rest_ms / 1000, loop.call_soon, self._late, waiter.flight, reason)

    def _late(self, flight: Flight | None, reason: str) -> None:
        """A command, None while it waits to be sent, has had its time, unless it has ended meanwhile."""
        if flight is None:
            self._observe("timeout", 1)
        elif flight in self._in_flight:
            self._observe("timeout", 1)
            if not flight.late:
                flight.late = True
                self._breaker.timed_out(reason)

    def _fail(self, waiter: Waiter, error: StoreError) -> None:
        """Tells one caller, if it still listens, with an exception of its own: callers raise them apart."""
        if waiter.values.done():
            return
        waiter.values.set_exception(type(error)(str(error)))
        self._observe("timeout" if isinstance(error, StoreTimeout) else "down", 1)

    def _flush(self) -> None:
        """Sends what is queued while a connection is free; for the rest, the next command to end calls again."""
        self._flush_is_due = False
        most = self._settings.max_merged_reads
        while self._queue and len(self._in_flight) < self._settings.max_connections:
            first, self._queue = self._queue[:most], self._queue[most:]
            self._queued_keys -= sum(len(waiter.keys) for waiter in first)
            waiters = [waiter for waiter in first if not waiter.values.done()]
            if waiters:
                self._start(waiters)

    def _start(self, waiters: list[Waiter]) -> None:
        keys = waiters[0].keys if len(waiters) == 1 else [key for waiter in waiters for key in waiter.keys]
        self._observe("mget", len(keys))
        self._launch(Flight(waiters, packed(b"MGET", *keys)))

    def _launch(self, flight: Flight) -> None:
        """Sends a command, on a new connection where none is idle."""
        for waiter in flight.waiters:
            waiter.flight = flight
        self._in_flight.add(flight)
        loop = asyncio.get_running_loop()
        flight.timer = loop.call_later(self._settings.socket_timeout_ms / 1000, self._overdue, flight)
        lane = self._idle_lane()
        if lane is None:
            flight.connecting = loop.create_task(self._connect(flight))
        else:
            flight.on_idle_lane = True
            self._send(flight, lane)

    async def _connect(self, flight: Flight) -> None:
        try:
            lane = await self._open_lane()
        except RedisError as error:
            self._end(flight, StoreDown(self._described(error)))
        else:
            self._send(flight, lane)

    def _send(self, flight: Flight, lane: Lane) -> None:
        flight.lane = lane
        lane.ask(flight.command, partial(self._answered, flight, lane))

    def _answered(self, flight: Flight, lane: Lane, reply: Reply) -> None:
        if isinstance(reply, RedisConnectionError) and flight.on_idle_lane:
            self._observe("reconnect", 1)  # closed while idle; says nothing about a fresh connection
            flight.on_idle_lane, flight.lane = False, None
            flight.connecting = asyncio.get_running_loop().create_task(self._connect(flight))
        elif isinstance(reply, list):
            self._idle.append(lane)
            start = 0
            for waiter in flight.waiters:
                end = start + len(waiter.keys)
                if not waiter.values.done():
                    waiter.values.set_result(reply[start:end])
                    self._breaker.answered()
                start = end
            self._end(flight, None)
        else:
            lane.close()
            error = reply if isinstance(reply, RedisError) else RedisError(f"MGET was answered with {reply!r:.80}")
            self._end(flight, StoreDown(self._described(error)))

    def _overdue(self, flight: Flight) -> None:
        """The server has had its time: the connection goes, so that a late answer cannot be taken for another's."""
        if flight.lane is not None:
            flight.lane.close()
        elif flight.connecting is not None:
            flight.connecting.cancel()
        self._end(flight, self._too_late())

    def _end(self, flight: Flight, error: StoreError | None) -> None:
        """The command is over; what waits for a connection is sent."""
        if flight.timer is not None:
            flight.timer.cancel()
        self._in_flight.discard(flight)
        if error is not None:
            if isinstance(error, StoreDown):
                self._breaker.trip(str(error))
                self._drop_idle()
            elif not flight.late:
                self._breaker.timed_out(str(error))
            for waiter in flight.waiters:
                self._fail(waiter, error)
        flight.waiters = []  # each of them knows its flight, and a circle is freed late
        if self._queue:
            self._flush()
        if self._closed and not self._in_flight:
            self._landed.set()

    def _described(self, error: RedisError) -> str:
        return described(self._shown, error)

    def _too_late(self) -> StoreTimeout:
        return StoreTimeout(f"{self._shown}: no answer within socket_timeout_ms = {self._settings.socket_timeout_ms:g}")

    async def _probe(self) -> None:
        """PING on an idle or a new connection.

        Raises:
            StoreTimeout: `socket_timeout_ms` passed; the connection is gone.
            StoreDown: no connection, or the server answered with an error.
        """
        try:
            async with asyncio.timeout(self._settings.socket_timeout_ms / 1000):
                lane = self._idle_lane()
                if lane is not None:
                    try:
                        await lane.asked(_PING)
                    except RedisConnectionError:
                        self._observe("reconnect", 1)
                        lane = None
                if lane is None:
                    lane = await self._open_lane()
                    await lane.asked(_PING)
        except TimeoutError:
            raise self._too_late() from None
        except RedisError as error:
            raise StoreDown(self._described(error)) from None
        self._idle.append(lane)

    async def _open_lane(self) -> Lane:
        return await open_lane(self._pool.make_connection(), Lane)  # type: ignore[no-untyped-call]

    def _idle_lane(self) -> Lane | None:
        """A connection that waits for a command and has not been closed by the server, as far as is known."""
        while self._idle:
            lane = self._idle.pop()
            if lane.is_open:
                return lane
            self._observe("reconnect", 1)
        return None

    def _drop_idle(self) -> None:
        """Connections to a server that went away are not worth trying."""
        while self._idle:
            self._idle.pop().close()
