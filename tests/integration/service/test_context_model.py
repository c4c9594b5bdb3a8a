"""A model without entities (a log like Criteo's) is served like any other, without a store to ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_store.online.embedded import EmbeddedServer
from tests.artifacts import ServedProject, publish_context_model
from tests.integration.service.conftest import running, settings_of

NO_STORE = "unix:///nowhere/at/all.sock"


async def test_it_needs_neither_users_nor_ads_nor_a_store(tmp_path: Path) -> None:
    """Everything it reads comes with the request, so a store that is down is nothing to tell."""
    settings = settings_of(publish_context_model(tmp_path), NO_STORE, tmp_path)
    instances = [{"context": {"device": device}} for device in ("phone", "tablet")]

    async with running(settings) as worker:
        predicted = (await worker.ask("POST", "/v1/predict", {"instances": instances})).json()
        ranked = (await worker.rank({"candidates": ["x", "y"], "context": {"device": "phone"}})).json()
        ready = (await worker.ask("GET", "/readyz")).json()

    on_phone, on_tablet = (prediction["p_click"] for prediction in predicted["predictions"])
    assert on_phone == pytest.approx(0.6, abs=0.05)
    assert on_tablet == pytest.approx(0.2, abs=0.05)
    assert [result["ad_id"] for result in ranked["results"]] == ["x", "y"]
    assert [result["p_click"] for result in ranked["results"]] == pytest.approx([on_phone] * 2, rel=1e-11)
    assert predicted["degraded"] == ranked["degraded"] == ready["degraded"] == []
    assert ranked["features"] == {"missing": 0, "stale": 0, "age_ms_max": None}


async def test_several_models_answer_under_their_names(
    shop: ServedProject, valkey_server: EmbeddedServer, tmp_path: Path
) -> None:
    """Each name in the registry is a slot of its own."""
    registry = publish_context_model(tmp_path)
    (registry / "default").rename(registry / "plain")
    (registry / "default").symlink_to(shop.registry_dir / "default")
    settings = settings_of(registry, valkey_server.url, tmp_path, registry__models=("default", "plain"))

    async with running(settings) as worker:
        listed = (await worker.ask("GET", "/v1/models")).json()["models"]
        default = (await worker.rank(shop.rank_body())).json()
        plain = (await worker.rank({"candidates": ["a1"], "model": "plain"})).json()
        unknown = await worker.rank({"candidates": ["a1"], "model": "best"})

    assert [model["name"] for model in listed] == ["default", "plain"]
    assert (default["model"]["name"], plain["model"]["name"]) == ("default", "plain")
    assert unknown.status == 404
    assert unknown.json()["detail"] == "model: no model 'best' is served; there is 'default', 'plain'"
