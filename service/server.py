"""One process's HTTP server: uvicorn's protocol (`connection.py`) behind an acceptor and a drain of our own.

uvicorn's `Server` is not used: on SIGTERM it closes the listening socket first, and so resets every client that
reconnects. Here a drain goes the other way round:

1. Readiness fails, and every answer from now on says `Connection: close`; the socket still accepts for `drain_ms`, in
   which load balancers notice.
2. The socket is closed without resetting anybody (`listening.py`). Idle connections are closed. A connection that has
   not asked anything yet gets `LINGER_S` to do so; a request of which bytes were read is answered.
3. At `grace_ms` after the beginning, whatever is left is cut off, counted and logged.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from email.utils import formatdate
from typing import Any, TypeVar

from uvicorn.config import Config

from service.asgi import AsgiApp
from service.connection import Connection, OnRefused, SharedState
from service.connection_shares import ConnectionShares
from service.listening import Acceptor

LINGER_S = 1.0
"""How long a connection that was accepted just before the end may take to send its first byte."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run the main coroutine of a process on uvloop."""
    with asyncio.Runner(loop_factory=Config("", loop="uvloop", log_config=None).get_loop_factory()) as runner:
        return runner.run(main)


class HttpServer:
    """Serves an application from inherited listening sockets until it has drained."""

    def __init__(
        self,
        app: AsgiApp,
        listeners: Sequence[socket.socket],
        shares: ConnectionShares,
        *,
        keep_alive_ms: float,
        on_refused: OnRefused = lambda status: None,
    ) -> None:
        """Accepts at once, on the running event loop; `shares` says what other processes do on the same sockets."""
        config = Config(
            app,
            http=Connection,
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
        self._shared = SharedState(shares, on_refused)
        self._cut_off = asyncio.Event()
        self._acceptors = [
            Acceptor(listener, lambda: Connection(config, self._shared), shares) for listener in listeners
        ]
        self._each_second()

    async def drain(self, *, drain_ms: float, grace_ms: float) -> None:
        """Stop serving as the module's docstring says; returns when no connection is left.

        The caller has made readiness fail before.
        """
        end = self._loop.time() + grace_ms / 1000
        self._shared.draining = True
        for connection in self._shared.connections:
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
        self._shared.emptied.set()
        self._tick.cancel()
        for acceptor in self._acceptors:
            acceptor.abandon()
        n_unanswered = sum(connection.n_begun - connection.n_answered for connection in self._shared.connections)
        if n_unanswered:
            logger.warning("requests were cut off without an answer", extra={"unanswered": n_unanswered})
        for task in self._shared.tasks:
            task.cancel()
        for connection in list(self._shared.connections):
            connection.transport.abort()

    def _close_quiet(self, *, also_new: bool) -> None:
        for connection in list(self._shared.connections):
            connection.close_if_quiet(also_new=also_new)

    async def _emptied(self, *, before: float) -> None:
        """Wait for the last connection to close, until `before` in loop time."""
        self._shared.emptied.clear()
        if self._shared.connections:
            await within(before - self._loop.time(), self._shared.emptied)

    def _each_second(self) -> None:
        """The Date header, and the end of requests that never arrive in full."""
        self._shared.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._shared.give_up_overdue(self._loop.time())
        self._tick = self._loop.call_later(1.0, self._each_second)


async def within(seconds: float, event: asyncio.Event) -> None:
    """Wait for the event, but no longer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
