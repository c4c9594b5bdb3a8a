"""The HTTP server with an application that waits for a signal of the test: real sockets, no framework."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from service.asgi import AsgiApp
from service.connection_shares import ABSENT, ConnectionShares
from service.listening import open_listeners
from service.server import HttpServer
from tests.raw_http import DEADLINE_S, RawConnection, request

REQUEST = request("GET", "/")


@dataclass
class Door:
    """An application that answers once the test lets it, and keeps the bodies it was sent."""

    bodies: list[bytes] = field(default_factory=list)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Of the last request, as they are when it is answered."""
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        self.entered.set()
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        else:
            return
        self.bodies.append(body)
        await self.may_answer.wait()
        self.headers = list(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@dataclass
class Service:
    """A server under test and the port it answers on."""

    server: HttpServer
    door: Door
    port: int
    shared_counts: memoryview
    refused: list[int]
    """Statuses of the requests that the application never saw."""
    clients: list[RawConnection] = field(default_factory=list)

    async def connect(self) -> RawConnection:
        client = await RawConnection.open(self.port)
        self.clients.append(client)
        return client

    async def has_lost_all_connections(self) -> None:
        """Wait until the server has seen every connection end."""
        async with asyncio.timeout(DEADLINE_S):
            while self.shared_counts[0] > 0:  # noqa: ASYNC110 - shared memory knows no events
                await asyncio.sleep(0)

    async def has_read_a_head(self) -> None:
        """Wait until the server knows of a request that it has not answered, whether its application does or not."""
        async with asyncio.timeout(DEADLINE_S):
            while not any(c.n_begun > c.n_answered for c in self.server._shared.connections):  # noqa: ASYNC110
                await asyncio.sleep(0)

    def drain(self, *, drain_ms: float = 0, grace_ms: float = 1000 * DEADLINE_S) -> asyncio.Task[None]:
        return asyncio.create_task(self.server.drain(drain_ms=drain_ms, grace_ms=grace_ms))


@asynccontextmanager
async def running(*, keep_alive_ms: float = 60_000, app: AsgiApp | None = None) -> AsyncIterator[Service]:
    """A server on a free port, of the door or of `app`, stopped on leaving."""
    listeners = open_listeners("127.0.0.1", 0, backlog=128, setting="server")
    door = Door()
    shared_counts = memoryview(array("i", [ABSENT]))
    refused: list[int] = []
    shares = ConnectionShares(shared_counts, 0)
    server = HttpServer(app or door, listeners, shares, keep_alive_ms=keep_alive_ms, on_refused=refused.append)
    service = Service(server, door, listeners[0].getsockname()[1], shared_counts, refused)
    try:
        yield service
    finally:
        service.server.stop()
        for client in service.clients:
            await client.close()
