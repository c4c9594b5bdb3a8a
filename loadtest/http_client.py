"""A small HTTP/1.1 client for measuring: many kept-alive connections, one request in flight on each.

A request leaves on the connection that was used last (so that few are kept busy and the others may idle out). Where
all are busy another one is opened, up to a bound; beyond it requests wait in line, and the caller's clock keeps
running while they do. No pipelining: an answer must not wait behind another one for a reason the server did not cause.

A server may close a kept-alive connection at any time, also while a request is on its way to it. Such a request, if no
byte of an answer came back, is sent once more and counted as `n_resent`; everything else that goes wrong is an error
of one kind. Every request ends: by an answer, an error, or `expire`.

Answers need a Content-Length or chunks; one that ends by closing the connection counts as `closed`.
Cost: tens of microseconds of CPU per request; every result states the generator's own share of a core.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol, cast

import httptools

REFUSED, RESET, CLOSED, TIMEOUT = "refused", "reset", "closed", "timeout"
MALFORMED, CONNECT = "malformed", "connect"


class ExchangeListener(Protocol):
    """Who is told how each request ended. Numbers are the caller's names for requests."""

    def payload(self, number: int) -> bytes:
        """Head and body of the request, ready to be written."""

    def wants_body(self, number: int) -> bool:
        """Whether the answer's body should be kept for `answered`."""

    def answered(self, number: int, status: int, body: bytes) -> None:
        """A complete answer arrived; `body` is empty unless it was wanted."""

    def failed(self, number: int, kind: str) -> None:
        """No complete answer will arrive; `kind` is one of this module's constants."""


class _Connection(asyncio.Protocol):
    """One kept-alive connection. `number` is the request in flight, or None."""

    __slots__ = ("_answer_began", "_body", "_keep_body", "_parser", "_pool", "_transport", "is_new", "number")

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._keep_body = False
        self._answer_began = False
        self.number: int | None = None
        self.is_new = True
        """False once it was idle or gave an answer: from then on the server may close it under the next request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's class is none of asyncio's
        self._pool.opened(self)

    def send(self, number: int) -> None:
        self.number = number
        self._answer_began = False
        self._body = b""
        self._keep_body = self._pool.listener.wants_body(number)
        self._transport.write(self._pool.listener.payload(number))

    def data_received(self, data: bytes) -> None:
        self._answer_began = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:  # a bug of ours, not of the server
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.abort(MALFORMED)

    def on_body(self, chunk: bytes) -> None:
        if self._keep_body:
            self._body += chunk

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer; the real one follows
            return
        number, self.number = self.number, None
        keep_alive = self._parser.should_keep_alive()
        if not keep_alive:
            self._transport.close()
        if number is not None:
            self._pool.listener.answered(number, status, self._body)
            self._pool.freed(self, number, usable=keep_alive)

    def abort(self, kind: str) -> None:
        """Give up the connection and the request on it."""
        number, self.number = self.number, None
        self._transport.abort()
        if number is not None:
            self._pool.lost(number, kind, may_resend=False)

    def close(self) -> None:
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        number, self.number = self.number, None
        if number is not None:
            kind = CLOSED if error is None else RESET
            self._pool.lost(number, kind, may_resend=not self.is_new and not self._answer_began)
        self._pool.gone(self)


class ConnectionPool:
    """Sends numbered requests to one address over at most `bound` connections.

    Args:
        address: numeric host and port.
        bound: most connections open at a time.
        connect_timeout_s: longest wait for a connection to be established.
        listener: gives the requests' bytes and is told how each one ended, exactly once.
    """

    def __init__(
        self, address: tuple[str, int], *, bound: int, connect_timeout_s: float, listener: ExchangeListener
    ) -> None:
        self.listener = listener
        self.n_opened = self.max_in_use = self.n_resent = self.n_waited = 0
        self._address = address
        self._bound = bound
        self._connect_timeout_s = connect_timeout_s
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Connection] = []
        self._busy: dict[int, _Connection] = {}
        self._open: set[_Connection] = set()
        self._waiting: deque[int] = deque()
        self._stranded: deque[int] = deque()
        """To be sent again, and only on a new connection: another old one may be closed just as well."""
        self._resent: set[int] = set()
        self._connecting: set[asyncio.Task[None]] = set()

    async def open_some(self, n: int) -> None:
        """Open connections ahead of the first request; a failure shows when a request needs one."""
        for _ in range(min(n, self._bound)):
            self._start_connecting()
        await asyncio.gather(*self._connecting)

    def send(self, number: int) -> None:
        """Send a request now, or as soon as a connection is there."""
        if self._idle:
            self._send_on(self._idle.pop(), number)
        else:
            self.n_waited += 1
            self._waiting.append(number)
            self._connect_for_waiting()

    def expire(self, before: int) -> None:
        """End every request with a number below `before` as a timeout, and drop the connection it was on."""
        for number in [number for number in self._busy if number < before]:
            self._busy[number].abort(TIMEOUT)
        for line in (self._waiting, self._stranded):
            over = [number for number in line if number < before]
            if over:
                still_waiting = [number for number in line if number >= before]
                line.clear()
                line.extend(still_waiting)
            for number in over:
                self.listener.failed(number, TIMEOUT)

    async def close(self) -> None:
        """Drop all connections; requests still in flight are not reported."""
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for connection in list(self._open):
            connection.number = None
            connection.close()

    # -- told by connections ---------------------------------------------------------------------------------------

    def opened(self, connection: _Connection) -> None:
        """A new connection is there."""
        self.n_opened += 1
        self._open.add(connection)
        if self._stranded:
            self._send_on(connection, self._stranded.popleft())
        else:
            self._employ(connection)

    def freed(self, connection: _Connection, number: int, *, usable: bool) -> None:
        """The request is answered; the connection may take the next one if it is still usable."""
        self._busy.pop(number, None)
        if usable:
            connection.is_new = False
            self._employ(connection)

    def lost(self, number: int, kind: str, *, may_resend: bool) -> None:
        """The connection went away under a request."""
        self._busy.pop(number, None)
        if may_resend and number not in self._resent:
            self._resent.add(number)
            self.n_resent += 1
            self._stranded.append(number)
            self._connect_for_waiting()
        else:
            self.listener.failed(number, kind)

    def gone(self, connection: _Connection) -> None:
        """The connection is closed for good."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._connect_for_waiting()

    # -- own work --------------------------------------------------------------------------------------------------

    def _employ(self, connection: _Connection) -> None:
        if self._waiting:
            self._send_on(connection, self._waiting.popleft())
        else:
            connection.is_new = False
            self._idle.append(connection)

    def _send_on(self, connection: _Connection, number: int) -> None:
        self._busy[number] = connection
        self.max_in_use = max(self.max_in_use, len(self._busy))
        connection.send(number)

    def _connect_for_waiting(self) -> None:
        n_wanted = len(self._waiting) + len(self._stranded)
        while len(self._connecting) < n_wanted and len(self._open) + len(self._connecting) < self._bound:
            self._start_connecting()

    def _start_connecting(self) -> None:
        task = self._loop.create_task(self._connect())
        self._connecting.add(task)
        task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if not task.cancelled():
            self._connect_for_waiting()

    async def _connect(self) -> None:
        """Open one connection; a failure ends the request that has waited longest."""
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._loop.create_connection(lambda: _Connection(self), *self._address)
        except ConnectionRefusedError:
            self._fail_first_waiting(REFUSED)
        except TimeoutError:
            self._fail_first_waiting(TIMEOUT)
        except OSError:
            self._fail_first_waiting(CONNECT)

    def _fail_first_waiting(self, kind: str) -> None:
        line = self._stranded or self._waiting
        if line:
            self.listener.failed(line.popleft(), kind)
