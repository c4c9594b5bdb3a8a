"""Fixtures of the online store's contract: every implementation behind one set of names."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.stores import MemoryParts, RedisParts, StoreParts, project, store_url, valkey_server

__all__ = ["parts", "project", "store_url", "valkey_server"]


@pytest.fixture(params=["memory", "redis"])
async def parts(request: pytest.FixtureRequest, project: str) -> AsyncIterator[StoreParts]:
    """Store, writer, catalogue and eraser of one project, over each implementation."""
    made: StoreParts
    if request.param == "memory":
        made = MemoryParts(project)
    else:
        made = RedisParts(request.getfixturevalue("store_url"), project)
    yield made
    await made.aclose()
