"""Both clients behind one face, so that every rule is tested of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from service.client import AsyncClient, Client, RankAnswer

Rank = Callable[..., RankAnswer]


def _blocking(url: str, *arguments: Any, options: dict[str, Any] | None = None, **asked: Any) -> RankAnswer:
    with Client(url, **(options or {})) as client:
        return client.rank(*arguments, **asked)


def _concurrent(url: str, *arguments: Any, options: dict[str, Any] | None = None, **asked: Any) -> RankAnswer:
    async def ask() -> RankAnswer:
        async with AsyncClient(url, **(options or {})) as client:
            return await client.rank(*arguments, **asked)

    return asyncio.run(ask())


@pytest.fixture(params=[_blocking, _concurrent], ids=["Client", "AsyncClient"])
def rank(request: pytest.FixtureRequest) -> Rank:
    """`rank(url, user_id, candidates, options={…of the client}, …)` through one of the clients."""
    chosen: Rank = request.param
    return chosen
