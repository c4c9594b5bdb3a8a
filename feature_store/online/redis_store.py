"""Reading from Redis while requests wait: one MGET per turn of the event loop, whatever the number of callers.

A command costs redis-py 31 to 75 µs of CPU, an MGET of several keys hardly more than a GET. So `get_many` only queues
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
Belongs to the event loop that first reads. The connections are redis-py's own (TLS, AUTH, hiredis), but its pool's
locks are not taken. Cost: 20 µs of CPU a call alone, 3 µs among 64 callers (`python -m loadtest.micro.online_store`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from feature_store.errors import StoreDown, StoreError, StoreTimeout
from feature_store.online.breaker import CircuitBreaker
from feature_store.online.redis_errors import described
from feature_store.online.redis_url import async_pool, shown_url
from feature_store.online.store import StoreObserver, ignore_events

Connection = redis.asyncio.connection.AbstractConnection
Values = list[bytes | None]


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
    """Commands in a row whose answer missed a deadline, after which requests stop waiting."""


@dataclass(slots=True)
class _Flight:
    """One command on its way."""

    late: bool = False
    """Whether a caller's deadline has passed before its answer."""


@dataclass(slots=True)
class _Waiter:
    """One caller's keys and where their values go."""

    keys: Sequence[bytes]
    values: asyncio.Future[Values]
    flight: _Flight | None = None
    """The command that carries the keys; None while they are queued."""


class RedisStore:
    """`OnlineStore` over one Redis or Valkey server."""

    def __init__(
        self, url: str, settings: RedisReadSettings | None = None, observe: StoreObserver = ignore_events
    ) -> None:
        """Checks the URL; the first read connects.

        Raises:
            StoreDown: not a `redis://`, `rediss://` or `unix://` URL.
        """
        self._settings = settings or RedisReadSettings()
        self._shown = shown_url(url)
        self._observe = observe
        self._pool = async_pool(url, connect_timeout_ms=self._settings.connect_timeout_ms)
        self._idle: list[Connection] = []
        self._queue: list[_Waiter] = []
        self._queued_keys = 0
        self._flush_is_due = False
        self._in_flight: set[asyncio.Task[None]] = set()
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
        waiter = _Waiter(keys, loop.create_future())
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
                await self._command("PING")
        except TimeoutError:
            raise StoreTimeout(f"{self._shown}: no PONG within {timeout_ms:g} ms") from None
        return (time.perf_counter() - started) * 1000

    async def aclose(self) -> None:
        """Lets commands in flight end (`socket_timeout_ms` at most), then closes all connections."""
        self._closed = True
        await self._breaker.aclose()
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        for waiter in self._queue:
            self._fail(waiter, StoreDown(f"{self._shown}: this store has been closed"))
        self._queue.clear()
        await self._drop_idle()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreDown(f"{self._shown}: this store has been closed")
        try:
            self._breaker.check()
        except StoreDown:
            self._observe("down", 1)
            raise

    def _expire(self, waiter: _Waiter, timeout_ms: float) -> None:
        """The caller's deadline: it is told now, whatever becomes of the command."""
        if waiter.values.done():
            return
        error = StoreTimeout(f"{self._shown}: no answer within {timeout_ms:g} ms")
        self._fail(waiter, error)
        if waiter.flight is not None and not waiter.flight.late:
            waiter.flight.late = True
            self._breaker.timed_out(str(error))

    def _fail(self, waiter: _Waiter, error: StoreError) -> None:
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
                task = asyncio.get_running_loop().create_task(self._mget(waiters))
                self._in_flight.add(task)
                task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._flush()

    async def _mget(self, waiters: list[_Waiter]) -> None:
        keys = waiters[0].keys if len(waiters) == 1 else [key for waiter in waiters for key in waiter.keys]
        self._observe("mget", len(keys))
        flight = _Flight()
        for waiter in waiters:
            waiter.flight = flight
        try:
            values: Values = await self._command("MGET", *keys)
        except StoreError as error:
            if isinstance(error, StoreDown):
                self._breaker.trip(str(error))
                await self._drop_idle()
            elif not flight.late:
                self._breaker.timed_out(str(error))
            for waiter in waiters:
                self._fail(waiter, error)
            return
        start = 0
        for waiter in waiters:
            end = start + len(waiter.keys)
            if not waiter.values.done():
                waiter.values.set_result(values[start:end])
                self._breaker.answered()
            start = end

    async def _command(self, *command: str | bytes) -> Values:
        """One command on an idle or a new connection.

        Raises:
            StoreTimeout: `socket_timeout_ms` passed; the connection is gone.
            StoreDown: no connection, or the server answered with an error.
        """
        try:
            async with asyncio.timeout(self._settings.socket_timeout_ms / 1000):
                if self._idle:
                    try:
                        return await self._exchange(self._idle.pop(), command)
                    except RedisConnectionError:  # closed while idle; says nothing about a fresh connection
                        self._observe("reconnect", 1)
                return await self._exchange(self._new_connection(), command)
        except TimeoutError:
            raise StoreTimeout(
                f"{self._shown}: no answer within socket_timeout_ms = {self._settings.socket_timeout_ms:g}"
            ) from None
        except RedisError as error:
            raise StoreDown(described(self._shown, error)) from None

    async def _exchange(self, connection: Connection, command: tuple[str | bytes, ...]) -> Values:
        """Sends and reads. Only a connection whose answer was read whole is used again."""
        answered = False
        try:
            if not connection.is_connected:
                await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_packed_command(connection.pack_command(*command), check_health=False)
            answer: Values = await connection.read_response(disable_decoding=True, timeout=math.inf)
            answered = True
        finally:
            if answered:
                self._idle.append(connection)
            else:
                await connection.disconnect(nowait=True)
        return answer

    def _new_connection(self) -> Connection:
        connection: Connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        return connection

    async def _probe(self) -> None:
        await self._command("PING")

    async def _drop_idle(self) -> None:
        """Connections to a server that went away are not worth trying."""
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)
