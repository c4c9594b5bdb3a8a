"""One worker as its process runs it: the real application on the real server, on a free port of loopback."""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from feature_store.online.embedded import EmbeddedServer
from service.bootstrap import Runtime
from service.connection_shares import ConnectionShares
from service.listening import open_listeners
from service.server import HttpServer
from service.settings import Settings
from service.settings_origins import load_settings
from tests.artifacts import ServedProject, make_served_project
from tests.raw_http import Answer, RawConnection, request
from tests.stores import valkey_server

if TYPE_CHECKING:
    from service.tracing.tracing import Tracing

__all__ = ["valkey_server"]

CALM = {
    "deadline.total_ms": 8_000,
    "deadline.features_ms": 4_000,
    "admission.queue_ms": 4_000,
    "items.stale_ms": 3_600_000,  # the shared worker's loop stands still while tests of other modules run
}
"""Time enough for a machine that runs other tests as well; a test about time sets its own."""


@dataclass
class Worker:
    """A running worker and how to talk to it."""

    runtime: Runtime
    port: int
    connections: list[RawConnection] = field(default_factory=list)

    async def connect(self) -> RawConnection:
        """A connection that is closed when the worker stops."""
        connection = await RawConnection.open(self.port)
        self.connections.append(connection)
        return connection

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """One request on a connection of its own."""
        connection = await RawConnection.open(self.port)
        try:
            connection.send(request(method, path, body, **headers))
            return await connection.answer()
        finally:
            await connection.close()

    async def rank(self, body: object, **headers: str) -> Answer:
        """One `POST /v1/rank`."""
        return await self.ask("POST", "/v1/rank", body, **headers)


Running = Callable[[Settings], AbstractAsyncContextManager[Worker]]


@asynccontextmanager
async def running(settings: Settings, tracing: Tracing | None = None) -> AsyncIterator[Worker]:
    """A worker with these settings, stopped on leaving."""
    runtime = await Runtime.start(settings, tracing)
    listeners = open_listeners("127.0.0.1", 0, backlog=128, setting="server")
    server = HttpServer(
        runtime.app,
        listeners,
        ConnectionShares.alone(),
        keep_alive_ms=60_000,
        on_refused=runtime.telemetry.refused,
    )
    worker = Worker(runtime, listeners[0].getsockname()[1])
    try:
        yield worker
    finally:
        for connection in worker.connections:
            await connection.close()
        server.stop()
        await runtime.stop()
        gc.unfreeze()


@pytest.fixture(scope="session")
def shop(valkey_server: EmbeddedServer) -> Iterator[ServedProject]:
    """A project with a champion, its rows on the shared server. Read only."""
    with TemporaryDirectory(prefix="cs-shop-") as folder:
        project = make_served_project(Path(folder), name="http-shop")
        project.materialize(valkey_server.url)
        yield project


@pytest.fixture
def settings(shop: ServedProject, valkey_server: EmbeddedServer, tmp_path: Path) -> Settings:
    """Settings of a worker that serves the shop."""
    return settings_of(shop.registry_dir, valkey_server.url, tmp_path)


def settings_of(registry_dir: Path, url: str, folder: Path, **flags: object) -> Settings:
    """Settings of a worker for a registry and a store; `section__key` names a flag."""
    named = {name.replace("__", "."): value for name, value in flags.items()}
    own = {"redis.url": url, "registry.dir": registry_dir, "items.snapshot_dir": folder / "items"}
    return load_settings(None, {}, {**CALM, **own, **named})


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def worker(
    shop: ServedProject, valkey_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Worker]:
    """One worker that serves the shop to all tests which leave it as it was; they run on its event loop."""
    async with running(settings_of(shop.registry_dir, valkey_server.url, tmp_path_factory.mktemp("worker"))) as started:
        yield started


def body_of(document: object) -> bytes:
    """A document as the bytes of a body."""
    return json.dumps(document).encode()
