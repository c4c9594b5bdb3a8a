"""What the service writes down is what it served: the vector, its ages, its score, whatever plan scored it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from feature_store.online.embedded import EmbeddedServer
from models.encoder import Encoder, ModelInputs
from models.plans.plan import Scores
from models.registry.predictor import Predictor
from models.registry.registry import Registry
from service.settings import Settings
from tests.artifacts import ServedProject
from tests.integration.service.conftest import running, settings_of

Row = dict[str, Any]


def rows_in(folder: Path) -> list[Row]:
    """All rows of all finished files."""
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def logging_to(shop: ServedProject, server: EmbeddedServer, tmp_path: Path, **flags: object) -> Settings:
    """Settings of a worker that logs to `tmp_path/served`."""
    return settings_of(shop.registry_dir, server.url, tmp_path, served_log__folder=tmp_path / "served", **flags)


@pytest.fixture
def predictor(shop: ServedProject) -> Predictor:
    return Predictor(Registry(shop.registry_dir).get(shop.version))


def expected_vectors(shop: ServedProject, rows: list[Row]) -> tuple[Any, Any]:
    """What a model must have read for these rows, made by the encoder from what was materialized."""
    encoder = Encoder(ModelInputs.of(shop.schema))
    vectors = []
    for row in rows:
        user = shop.users.entity_ids.index(row["user_id"])
        ad = shop.ads.entity_ids.index(row["ad_id"])
        vectors.append(
            encoder.encode(
                *(
                    msgspec.structs.replace(
                        encoder.encode_context({}).block,
                        floats=side.floats[at : at + 1],
                        ids=side.ids[at : at + 1],
                    )
                    for side, at in ((shop.users, user), (shop.ads, ad))
                ),
                encoder.encode_context(json.loads(row["context"])).block,
            )
        )
    return np.concatenate([v.features for v in vectors]), np.concatenate([v.ids for v in vectors])


@pytest.mark.parametrize("flags", [{}, {"plan__kind": "generic"}, {"items__source": "store"}])
async def test_the_logged_vector_is_what_the_model_reads_and_scores_as_answered(
    shop: ServedProject, valkey_server: EmbeddedServer, tmp_path: Path, predictor: Predictor, flags: dict[str, object]
) -> None:
    """The fast plan never lays the row out: the log must not lay out another one."""
    async with running(logging_to(shop, valkey_server, tmp_path, **flags)) as worker:
        answers = [(await worker.rank(shop.rank_body(30, user))).json() for user in shop.users.entity_ids[:5]]

    rows = rows_in(tmp_path / "served")
    features, ids = expected_vectors(shop, rows)
    logged = np.array([row["features"] for row in rows], np.float32), np.array([row["ids"] for row in rows], np.int64)
    assert len(rows) == 150
    assert np.array_equal(logged[0], features, equal_nan=True)
    assert np.array_equal(logged[1], ids)
    scores: Scores = predictor.generic.score(*logged)
    raw_logit = np.array([row["raw_logit"] for row in rows])
    assert np.all(np.abs(scores.raw_logit - raw_logit) <= 2e-6 * np.maximum(1, np.abs(raw_logit)))
    answered = {
        (answer["request_id"], rank, result["ad_id"]): result["p_click"]
        for answer in answers
        for rank, result in enumerate(answer["results"])
    }
    kept = {(row["request_id"], row["rank"], row["ad_id"]): row["p_click"] for row in rows}
    assert kept == pytest.approx(answered, abs=1e-11)  # an answer has twelve digits
