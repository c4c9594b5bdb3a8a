"""The store goes away, freezes, or holds nonsense: answers say less, and are answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from feature_store.errors import StoreDown
from feature_store.online.layout import ViewKeys
from service.settings import Settings
from tests.artifacts import ServedProject
from tests.integration.service.conftest import Worker, running, settings_of
from tests.stores import HurtableServer

DEADLINE_S = 20.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HurtableServer]:
    """A store of this test's own, which it may hurt."""
    hurtable = HurtableServer(tmp_path / "valkey")
    yield hurtable
    hurtable.close()


@pytest.fixture
def hurt(shop: ServedProject, server: HurtableServer, tmp_path: Path) -> Settings:
    """Settings of a worker on that store, with short rhythms."""
    shop.materialize(server.url)
    return settings_of(
        shop.registry_dir, server.url, tmp_path, deadline__features_ms=500, items__refresh_ms=50, items__stale_ms=2_000
    )


async def until(worker: Worker, body: object, holds: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    """Asks until an answer is as it should be; every answer on the way must be a 200."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await worker.rank(body)
            assert answer.status == 200
            document: dict[str, object] = answer.json()
            if holds(document):
                return document


@asynccontextmanager
async def frozen(server: HurtableServer) -> AsyncIterator[None]:
    """The server's process stands still."""
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


async def test_a_dead_store_degrades_answers_and_not_readiness(
    hurt: Settings, server: HurtableServer, shop: ServedProject
) -> None:
    """Ads are in process, users are defaults; when the store is back with its data, so is everything."""
    async with running(hurt) as worker:
        healthy = (await worker.rank(shop.rank_body())).json()

        server.kill()
        degraded = await until(worker, shop.rank_body(), lambda answer: "items_stale" in answer["degraded"])
        ready = await worker.ask("GET", "/readyz")
        server.start_again()
        again = await until(worker, shop.rank_body(), lambda answer: answer["degraded"] == [])

    assert healthy["degraded"] == []
    assert degraded["degraded"] == ["store_down", "items_stale"]
    assert degraded["features"]["missing"] == 1
    assert (ready.status, ready.json()) == (200, {"ready": True, "degraded": ["store_down", "items_stale"]})
    assert again["results"] == healthy["results"]


async def test_a_frozen_store_costs_a_request_its_feature_time_at_most(
    hurt: Settings, server: HurtableServer, shop: ServedProject
) -> None:
    """Then defaults stand in, and the code says that time ran out."""
    async with running(hurt) as worker, frozen(server):
        answer = await worker.rank(shop.rank_body())

    assert answer.status == 200
    assert "store_timeout" in answer.json()["degraded"]


async def test_a_short_deadline_shortens_the_read(hurt: Settings, server: HurtableServer, shop: ServedProject) -> None:
    """The read gets what is left of the request's time, so something is still scored or the answer is an honest 504."""
    patient = replace(hurt, deadline=replace(hurt.deadline, features_ms=7_900))
    async with running(patient) as worker, frozen(server):
        answer = await worker.rank(shop.rank_body(), x_deadline_ms="50")

    assert answer.status == 504


async def test_a_worker_starts_from_the_snapshot_while_the_store_is_away(
    hurt: Settings, server: HurtableServer, shop: ServedProject
) -> None:
    """A restart during an outage must not turn degraded answers into none."""
    async with running(hurt) as first:
        healthy = (await first.rank(shop.rank_body())).json()
    server.kill()

    async with running(hurt) as second:
        degraded = await until(second, shop.rank_body(), lambda answer: "items_stale" in answer["degraded"])
        ready = await second.ask("GET", "/readyz")
        server.start_again()
        again = await until(second, shop.rank_body(), lambda answer: answer["degraded"] == [])

    assert degraded["features"]["missing"] == 1
    assert ready.status == 200
    assert again["results"] == healthy["results"]


async def test_without_store_and_snapshot_a_worker_says_why_it_cannot_start(
    hurt: Settings, server: HurtableServer
) -> None:
    """An empty item table would answer defaults for every ad, silently."""
    server.kill()

    with pytest.raises(StoreDown) as caught:
        async with running(hurt):
            pass

    assert "no whole snapshot of the item table" in str(caught.value)


@pytest.mark.parametrize("value", [b"", b"nonsense", b"CS\x01\x00" + bytes(60)])
async def test_a_damaged_row_is_a_missing_row(
    hurt: Settings, server: HurtableServer, shop: ServedProject, value: bytes
) -> None:
    """Somebody else's SET on our key costs one user the features, not everyone the service."""
    keys = ViewKeys(shop.schema.project, shop.users.view)
    with redis.Redis.from_url(server.url) as client:
        client.set(keys.row("u3"), value)

    async with running(hurt) as worker:
        answer = await worker.rank(shop.rank_body())

    assert answer.status == 200
    assert answer.json()["degraded"] == ["user_missing"]
