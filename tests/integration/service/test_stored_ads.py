"""Without an item table: every candidate is read with the user, and answers stay the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_store.online.embedded import EmbeddedServer
from service.settings import PlanSettings, Settings
from tests.artifacts import ServedProject
from tests.integration.service.conftest import running, settings_of
from tests.stores import HurtableServer

IDS = [f"a{i}" for i in range(300)]
BODY = {"user_id": "u1", "candidates": IDS, "context": {"device": "phone"}}


@pytest.fixture
def from_store(shop: ServedProject, valkey_server: EmbeddedServer, tmp_path: Path) -> Settings:
    """A worker that keeps no item table."""
    return settings_of(shop.registry_dir, valkey_server.url, tmp_path, items__source="store")


@pytest.mark.parametrize("kind", ["auto", "generic"])
async def test_answers_are_those_of_the_table(settings: Settings, from_store: Settings, kind: str) -> None:
    """Where rows come from is no part of the answer; 300 candidates take several chunks of ONNX Runtime."""
    from_store = replace(from_store, plan=PlanSettings(kind=kind))

    async with running(settings) as with_table, running(from_store) as without_table:
        expected, answer = (await with_table.rank(BODY)).json(), (await without_table.rank(BODY)).json()

    probabilities = [{row["ad_id"]: row["p_click"] for row in given["results"]} for given in (expected, answer)]
    np.testing.assert_allclose(
        [probabilities[1][ad_id] for ad_id in IDS], [probabilities[0][ad_id] for ad_id in IDS], atol=1e-6
    )
    assert answer["degraded"] == expected["degraded"]
    assert answer["features"]["missing"] == expected["features"]["missing"]


async def test_every_instance_of_a_prediction_gets_its_own_ad(settings: Settings, from_store: Settings) -> None:
    """Two instances of one ad, and one that the store does not know."""
    instances = [{"user_id": "u1", "ad_id": ad_id, "context": {"device": "phone"}} for ad_id in ("a1", "a1", "a2", "x")]

    async with running(settings) as with_table, running(from_store) as without_table:
        expected = (await with_table.ask("POST", "/v1/predict", {"instances": instances})).json()
        answer = (await without_table.ask("POST", "/v1/predict", {"instances": instances})).json()

    assert answer["predictions"] == expected["predictions"]
    assert answer["predictions"][3]["degraded"] == ["ad_missing"]


async def test_there_is_no_table_to_be_stale_or_on_disk(from_store: Settings, tmp_path: Path) -> None:
    """A worker without one neither writes snapshots nor answers `items_stale`."""
    async with running(from_store) as without_table:
        answer = (await without_table.rank(BODY)).json()
        ready = await without_table.ask("GET", "/readyz")

    assert answer["degraded"] == []
    assert (ready.status, ready.json()["degraded"]) == (200, [])
    assert not (tmp_path / "items").exists()


async def test_a_dead_store_degrades_every_ad_and_not_readiness(shop: ServedProject, tmp_path: Path) -> None:
    """Defaults stand in for ads as they do for users; a bidder sees it at each result."""
    server = HurtableServer(tmp_path / "valkey")
    try:
        shop.materialize(server.url)
        async with running(settings_of(shop.registry_dir, server.url, tmp_path, items__source="store")) as worker:
            server.close()

            answer = await worker.rank(BODY)
            ready = (await worker.ask("GET", "/readyz")).json()
    finally:
        server.close()

    degraded = answer.json()["degraded"]
    assert answer.status == 200
    assert set(degraded) & {"store_down", "store_timeout"}
    assert "ad_missing" in degraded
    assert all(row["degraded"] == ["ad_missing"] for row in answer.json()["results"])
    assert ready == {"ready": True, "degraded": ["store_down"]}
