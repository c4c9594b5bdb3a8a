"""Fixtures of the online store's contract: every implementation, on every kind of server, behind one set of names."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.redis_servers.stores import KINDS, Stores
from tests.stores import MemoryParts, RedisParts, StoreParts, project, valkey_server

__all__ = ["parts", "project", "valkey_server"]

EMBEDDED = "embedded"
NAMED = os.environ.get("TEST_REDIS_URL")
"""A server of yours, to run the contract on it alone. Tests keep to projects of their own and flush nothing."""
SERVERS = ("named",) if NAMED else (EMBEDDED, *KINDS)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """Servers of every kind; those that a test asks for run until the end of its file.

    A dozen idle servers gossip: over a whole session, in two processes, 20 s of CPU.
    """
    stores = Stores(tmp_path_factory.mktemp("redis"))
    yield stores
    stores.close()


def urls(request: pytest.FixtureRequest) -> tuple[str, str]:
    """To write and to read: the server of the fixture's parameter."""
    if NAMED:
        return NAMED, NAMED
    if request.param == EMBEDDED:
        url = request.getfixturevalue("valkey_server").url
        return url, url
    store = request.getfixturevalue("stores").of(request.param)
    return store.write, store.read


@pytest.fixture(params=SERVERS)
def store_url(request: pytest.FixtureRequest) -> str:
    """A server of each kind, with the rights of a writer."""
    return urls(request)[0]


@pytest.fixture(params=["memory", *SERVERS])
async def parts(request: pytest.FixtureRequest, project: str) -> AsyncIterator[StoreParts]:
    """Store, writer, catalogue and eraser of one project, over each implementation."""
    made: StoreParts
    if request.param == "memory":
        made = MemoryParts(project)
    else:
        write, read = urls(request)
        made = RedisParts(write, project, read)
    yield made
    await made.aclose()
