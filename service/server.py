"""One process's HTTP server: uvicorn's protocol behind an acceptor and a drain of our own.

uvicorn parses HTTP/1.1 and calls the application; its `Server` is not used. On SIGTERM that one closes the listening
socket first, and so resets every client that reconnects. Here a drain goes the other way round:

1. Readiness fails, and every answer from now on says `Connection: close`; the socket still accepts for `drain_ms`, in
   which load balancers notice.
2. The socket is closed without resetting anybody (`listening.py`). Idle connections are closed. A connection that has
   not asked anything yet gets `LINGER_S` to do so; a request of which bytes were read is answered.
3. At `grace_ms` after the beginning, whatever is left is cut off, counted and logged.

Between requests this costs two dict operations and two additions. What a client can make us keep without completing a
request is bounded: `INCOMPLETE_S` of time and `MAX_HEAD_BYTES` of request line and headers (the application bounds the
body). This module is the only one that knows uvicorn.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import logging
import secrets
import socket
import termios
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from itertools import takewhile
from typing import Any, TypeVar

import msgspec
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.asgi import AsgiApp
from service.connection_shares import ConnectionShares
from service.http_errors import CONTENT_TYPE, Problem
from service.listening import Acceptor

INCOMPLETE_S = 10.0
"""How long a request may take to arrive in full, and a new connection to begin one."""

MAX_HEAD_BYTES = 65_536
"""Request line and headers together; more is answered 431."""

LINGER_S = 1.0
"""How long a connection that was accepted just before the end may take to send its first byte."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run the main coroutine of a process on uvloop."""
    with asyncio.Runner(loop_factory=Config("", loop="uvloop", log_config=None).get_loop_factory()) as runner:
        return runner.run(main)


class _State(ServerState):
    """What the connections of one server share."""

    def __init__(self, shares: ConnectionShares) -> None:
        super().__init__()
        self.shares = shares
        self.connections: set[_Connection] = set()  # type: ignore[assignment]  # the only protocol we hand out
        self.incomplete: dict[_Connection, float] = {}
        """Connections that wait for (the rest of) a request, and since when; the longest waiting first."""
        self.draining = False
        self.emptied = asyncio.Event()


class _Connection(HttpToolsProtocol):
    """One client's connection, and what a drain must know about it."""

    server_state: _State

    def __init__(self, config: Config, state: _State) -> None:
        super().__init__(config, state, app_state={})
        self.n_begun = 0
        self.n_answered = 0
        self._in_head = False
        self._head_bytes = 0
        self._answering: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self.server_state.incomplete[self] = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # Of several pipelined requests uvicorn tells only the last that nobody waits for its answer.
        for cycle in (self._answering, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cycle.disconnected = True
        self.pipeline.clear()
        self.server_state.shares.gave_back()
        self.server_state.incomplete.pop(self, None)
        if not self.server_state.connections:
            self.server_state.emptied.set()

    def data_received(self, data: bytes) -> None:
        was_in_head = self._in_head
        super().data_received(data)
        if was_in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.refuse(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                    "head-too-large",
                    f"request line and headers exceed {MAX_HEAD_BYTES} bytes",
                )

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio wants to know whether to stay open
        """A client may close its half once it has asked; what it asked in full is answered all the same."""
        self.announce_close()
        return self._owes_answer_to_whole_request()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.n_begun += 1
        self._in_head = True
        self._head_bytes = 0
        self.server_state.incomplete.pop(self, None)
        self.server_state.incomplete[self] = self.loop.time()

    def on_headers_complete(self) -> None:
        self._in_head = False
        previous: RequestResponseCycle | None = self.cycle
        super().on_headers_complete()
        if self.server_state.draining:
            if previous is not None and not previous.response_started:
                previous.keep_alive = True  # pipelined: only the last answer may close, or this one would be lost
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self.server_state.incomplete.pop(self, None)
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self.n_answered += 1
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn when the parser gives up."""
        self.refuse(HTTPStatus.BAD_REQUEST, "not-http", "the bytes received are not an HTTP/1.1 request")

    def give_up_waiting(self) -> None:
        """End a connection whose request does not arrive."""
        if self.n_begun > self.n_answered:
            self.refuse(
                HTTPStatus.REQUEST_TIMEOUT,
                "request-incomplete",
                f"the request did not arrive within {INCOMPLETE_S:g} s",
            )
        else:
            self.transport.close()

    def refuse(self, status: HTTPStatus, slug: str, detail: str) -> None:
        """Answer what never reaches the application, and close the connection."""
        if self.transport.is_closing():
            return
        if self._owes_answer_to_whole_request():
            self.announce_close()  # that answer goes first, and ends the connection
            return
        request_id = secrets.token_hex(8)
        kind = f"urn:clickserve:problem:{slug}"
        body = msgspec.json.encode(Problem(kind, status.phrase, status, detail, request_id))
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {CONTENT_TYPE.decode()}\r\n"
            f"x-request-id: {request_id}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def announce_close(self) -> None:
        """Let the answer that is owed be the connection's last."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False

    def _owes_answer_to_whole_request(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete and not cycle.more_body

    def close_if_quiet(self, *, also_new: bool) -> None:
        """Close the connection if nothing of an unanswered request has arrived.

        `also_new` includes connections that have not asked anything yet.
        """
        if self.n_begun > self.n_answered or (self.n_begun == 0 and not also_new) or self._has_unread_bytes():
            return
        self.transport.close()

    def _has_unread_bytes(self) -> bool:
        """Whether the kernel holds bytes that the event loop has not handed over yet: closing now would reset them."""
        unread = array.array("i", [0])
        with suppress(OSError):  # the descriptor may be closing under us: then nothing can be lost any more
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.FIONREAD, unread)
        return unread[0] > 0


class HttpServer:
    """Serves an application from inherited listening sockets until it has drained."""

    def __init__(
        self, app: AsgiApp, listeners: Sequence[socket.socket], shares: ConnectionShares, *, keep_alive_ms: float
    ) -> None:
        """Accepts at once, on the running event loop; `shares` says what other processes do on the same sockets."""
        config = Config(
            app,
            http=_Connection,
            ws="none",
            interface="asgi3",
            log_config=None,
            log_level="error",  # a warning for each request that is no HTTP: no client shall be able to fill the log
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=keep_alive_ms / 1000,  # type: ignore[arg-type]  # seconds for call_later, whole or not
        )
        config.load()
        self._loop = asyncio.get_running_loop()
        self._state = _State(shares)
        self._cut_off = asyncio.Event()
        self._acceptors = [
            Acceptor(listener, lambda: _Connection(config, self._state), shares) for listener in listeners
        ]
        self._each_second()

    async def drain(self, *, drain_ms: float, grace_ms: float) -> None:
        """Stop serving as the module's docstring says; returns when no connection is left.

        The caller has made readiness fail before.
        """
        end = self._loop.time() + grace_ms / 1000
        self._state.draining = True
        for connection in self._state.connections:
            connection.announce_close()
        await within(drain_ms / 1000, self._cut_off)
        await asyncio.gather(*(acceptor.close() for acceptor in self._acceptors))
        self._close_quiet(also_new=False)
        await self._emptied(before=min(end, self._loop.time() + LINGER_S))
        self._close_quiet(also_new=True)
        await self._emptied(before=end)
        self.stop()

    def stop(self) -> None:
        """Cut off whatever is left, at once; ends a drain that is under way as well."""
        self._cut_off.set()
        self._state.emptied.set()
        self._tick.cancel()
        for acceptor in self._acceptors:
            acceptor.abandon()
        n_unanswered = sum(connection.n_begun - connection.n_answered for connection in self._state.connections)
        if n_unanswered:
            logger.warning("requests were cut off without an answer", extra={"unanswered": n_unanswered})
        for task in self._state.tasks:
            task.cancel()
        for connection in list(self._state.connections):
            connection.transport.abort()

    def _close_quiet(self, *, also_new: bool) -> None:
        for connection in list(self._state.connections):
            connection.close_if_quiet(also_new=also_new)

    async def _emptied(self, *, before: float) -> None:
        """Wait for the last connection to close, until `before` in loop time."""
        self._state.emptied.clear()
        if self._state.connections:
            await within(before - self._loop.time(), self._state.emptied)

    def _each_second(self) -> None:
        """The Date header, and the end of requests that never arrive in full."""
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        overdue = self._loop.time() - INCOMPLETE_S
        for connection, _ in list(takewhile(lambda waiting: waiting[1] < overdue, self._state.incomplete.items())):
            connection.give_up_waiting()
        self._tick = self._loop.call_later(1.0, self._each_second)


async def within(seconds: float, event: asyncio.Event) -> None:
    """Wait for the event, but no longer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
