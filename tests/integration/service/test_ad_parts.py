"""Where the parts of ads come from, at load and told by `/v1/models`: the same answers either way."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_store.online.embedded import EmbeddedServer
from tests.artifacts import ServedProject
from tests.integration.service.conftest import running, settings_of


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({}, "precomputed"),
        ({"items__derived_max_mb": 0.001}, "per request"),
        ({"items__source": "store"}, "per request"),
        ({"plan__kind": "generic"}, "none"),
    ],
    ids=["usual", "over the limit", "no table", "generic"],
)
async def test_each_origin_is_told_and_ranks_alike(
    shop: ServedProject,
    valkey_server: EmbeddedServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    flags: dict[str, object],
    told: str,
) -> None:
    """300 ads of 8 bytes are over a limit of a thousandth of a megabyte; the log says so, too."""
    usual = settings_of(shop.registry_dir, valkey_server.url, tmp_path / "usual")
    async with running(usual) as worker:
        wanted = (await worker.rank(shop.rank_body())).json()["results"]

    caplog.clear()
    async with running(settings_of(shop.registry_dir, valkey_server.url, tmp_path / "other", **flags)) as worker:
        [model] = (await worker.ask("GET", "/v1/models")).json()["models"]
        ranking = (await worker.rank(shop.rank_body())).json()["results"]

    assert model["ad_parts"] == told
    assert [ad["ad_id"] for ad in ranking] == [ad["ad_id"] for ad in wanted]
    assert [ad["p_click"] for ad in ranking] == pytest.approx([ad["p_click"] for ad in wanted], abs=1e-6)
    assert ("items.derived_max_mb" in caplog.text) == ("items__derived_max_mb" in flags)
