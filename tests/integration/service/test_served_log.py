"""What the service writes down is what it served: the vector, its ages, its score, whatever plan scored it."""

from __future__ import annotations

import asyncio
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from feature_store.clock import system_clock
from feature_store.errors import LogError
from feature_store.online.embedded import EmbeddedServer
from models.encoder import Encoder, ModelInputs
from models.evaluation.served_vectors import read_served
from models.plans.plan import Scores
from models.registry.predictor import Predictor
from models.registry.registry import Registry
from service.served_log.log import Counts
from service.settings import Settings
from tests.artifacts import ServedProject
from tests.integration.service.conftest import Worker, running, settings_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

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


def counts_of(worker: Worker) -> Counts:
    """What the metrics say."""
    value = worker.runtime.telemetry.registry.get_sample_value
    counts = [
        value("clickserve_served_log_rows_total"),
        value("clickserve_served_log_dropped_total", {"reason": "no_room"}),
        value("clickserve_served_log_dropped_total", {"reason": "write_failed"}),
    ]
    return Counts(*(int(count) for count in counts if count is not None))


async def test_a_row_says_who_asked_when_with_what_and_how_the_answer_went(
    shop: ServedProject, valkey_server: EmbeddedServer, tmp_path: Path
) -> None:
    """Also what was not answered (beyond `top_k`), and what was not known."""
    before_ms = system_clock()
    async with running(logging_to(shop, valkey_server, tmp_path)) as worker:
        body = {"user_id": "nobody", "candidates": ["a1", "a2", "unheard-of"], "context": {"device": "tv"}, "top_k": 1}
        answer = (await worker.rank(body)).json()

    rows = rows_in(tmp_path / "served")
    assert [(row["route"], row["user_id"], row["ad_id"], row["place"]) for row in rows] == [
        ("rank", "nobody", "a1", 0),
        ("rank", "nobody", "a2", 1),
        ("rank", "nobody", "unheard-of", 2),
    ]
    assert {row["request_id"] for row in rows} == {answer["request_id"]}
    assert [row["ad_id"] for row in rows if row["rank"] == 0] == [answer["results"][0]["ad_id"]]
    assert sorted(row["rank"] is None for row in rows) == [False, True, True]
    assert all(before_ms <= row["time_ms"] <= system_clock() for row in rows)
    assert {row["context"] for row in rows} == {'{"device":"tv"}'}
    assert [row["as_of_ms"][0] for row in rows] == [0, 0, 0]
    assert [row["as_of_ms"][1] > 0 for row in rows] == [True, True, False]
    assert {row["degraded"] for row in rows} == {"user_missing ad_missing"}
    assert [row["own_degraded"] for row in rows] == ["", "", "ad_missing"]
    (model,) = Registry(shop.registry_dir).versions()
    assert {(row["model"], row["version"]) for row in rows} == {("default", model)}
    views = {view.name: view.fingerprint for view in shop.schema.views}
    assert {row["views"] for row in rows} == {json.dumps(views, separators=(",", ":"))}
    assert all(row["table_version"] for row in rows)


async def test_predictions_are_logged_by_instance(
    shop: ServedProject, valkey_server: EmbeddedServer, tmp_path: Path
) -> None:
    """Each has its own user and context, and ages of its own."""
    pairs = [{"user_id": f"u{i}", "ad_id": f"a{2 * i}", "context": {"device": d}} for i, d in enumerate(("phone", "x"))]
    pairs.append({"user_id": "nobody", "ad_id": "a7", "context": {}})
    async with running(logging_to(shop, valkey_server, tmp_path)) as worker:
        await worker.ask("POST", "/v1/predict", {"instances": pairs})

    rows = rows_in(tmp_path / "served")
    logged = [{"user_id": r["user_id"], "ad_id": r["ad_id"], "context": json.loads(r["context"])} for r in rows]
    assert logged == pairs
    assert [(row["route"], row["rank"]) for row in rows] == [("predict", None)] * 3
    assert [row["as_of_ms"][0] > 0 for row in rows] == [True, True, False]
    features, ids = expected_vectors(shop, rows[:2])
    assert np.array_equal([row["features"] for row in rows[:2]], features)
    assert np.array_equal([row["ids"] for row in rows[:2]], ids)


async def test_what_finds_no_room_is_dropped_and_counted(
    shop: ServedProject, valkey_server: EmbeddedServer, tmp_path: Path
) -> None:
    """A request is answered all the same, and the next one that fits is logged."""
    settings = logging_to(shop, valkey_server, tmp_path, served_log__buffer_rows=20)
    async with running(settings) as worker:
        started = counts_of(worker)
        statuses = [(await worker.rank(shop.rank_body(n))).status for n in (30, 20)]

    assert (started, statuses) == (Counts(0, 0, 0), [200, 200])
    assert counts_of(worker) == Counts(written=20, no_room=30, failed=0)
    assert len(rows_in(tmp_path / "served")) == 20


async def test_a_folder_that_cannot_be_written_costs_rows_and_no_request(
    shop: ServedProject, valkey_server: EmbeddedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning and a count; once it can be written, rows are there again."""
    caplog.set_level("INFO")
    blocked = tmp_path / "served"
    blocked.write_text("a file where a folder should be")
    async with running(logging_to(shop, valkey_server, tmp_path)) as worker:
        log = worker.runtime._served_log
        assert log is not None
        statuses = [(await worker.rank(shop.rank_body(30))).status]
        log.close()
        log.close()
        statuses += [(await worker.rank(shop.rank_body(20))).status]
        log.close()
        blocked.unlink()
        statuses += [(await worker.rank(shop.rank_body(10))).status]

    assert statuses == [200, 200, 200]
    assert counts_of(worker) == Counts(written=10, no_room=0, failed=50)
    assert [record.levelname for record in caplog.records if "served log" in record.message] == ["WARNING", "INFO"]
    assert len(rows_in(blocked)) == 10


async def test_a_share_of_the_requests_is_logged_whole(
    shop: ServedProject, valkey_server: EmbeddedServer, tmp_path: Path
) -> None:
    """By the request's id: the same requests in every process, all candidates of each."""
    ids = [f"request-{i}" for i in range(60)]
    async with running(logging_to(shop, valkey_server, tmp_path, served_log__sample=0.5)) as worker:
        for request_id in ids:
            await worker.rank(shop.rank_body(5), **{"x-request-id": request_id})

    logged = [row["request_id"] for row in rows_in(tmp_path / "served")]
    wanted = [request_id for request_id in ids if zlib.crc32(request_id.encode()) < 2**31]
    assert 15 < len(wanted) < 45
    assert sorted(logged) == sorted(5 * wanted)


async def test_a_file_is_finished_when_it_is_old_and_seen_only_then(
    shop: ServedProject, valkey_server: EmbeddedServer, tmp_path: Path
) -> None:
    """A reader that comes at any time sees whole files only, of a service that goes on."""
    async with running(logging_to(shop, valkey_server, tmp_path, served_log__roll_ms=1)) as worker:
        await worker.rank(shop.rank_body(10))
        async with asyncio.timeout(20):
            while not (rows := rows_in(tmp_path / "served")):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await worker.rank(shop.rank_body(10))

    assert len(rows) == 10
    assert len(rows_in(tmp_path / "served")) == 20
    assert not list((tmp_path / "served").glob(".*"))


async def test_without_a_folder_nothing_is_kept(worker: Worker, shop: ServedProject) -> None:
    """Off by default, and no cost."""
    await worker.rank(shop.rank_body(10))

    assert worker.runtime._served_log is None
    assert counts_of(worker) == Counts(0, 0, 0)


async def test_each_version_of_a_model_has_files_of_its_own(
    shop: ServedProject, valkey_server: EmbeddedServer, tmp_path: Path
) -> None:
    """A file says how its lists are to be read, so it may hold the lists of one model only."""
    registry = tmp_path / "registry"
    shutil.copytree(shop.registry_dir, registry)
    second = "v000002-" + shop.version.partition("-")[2]
    shutil.copytree(registry / "default" / shop.version, registry / "default" / second)
    folder = tmp_path / "served"
    settings = settings_of(
        registry, valkey_server.url, tmp_path, served_log__folder=folder, registry__reload_ms=20, items__refresh_ms=20
    )
    async with running(settings) as worker:
        asked = 1
        await worker.rank(shop.rank_body(10))
        (registry / "default" / "champion").write_text(f"{second}\n")
        async with asyncio.timeout(20):
            while (await worker.rank(shop.rank_body(10))).headers["x-model-version"] != second:
                asked += 1

    versions = [pq.read_table(path, columns=["version"])["version"].unique().to_pylist() for path in folder.iterdir()]
    assert sorted(versions) == [[shop.version], [second]]
    by_version = {version: read_served(folder, "default", version) for version in (shop.version, second)}
    assert {version: sum(map(len, read)) for version, read in by_version.items()} == {
        shop.version: 10 * asked,
        second: 10,
    }
    assert sum(map(len, read_served(folder, "default", None))) == 10 * (asked + 1)
    with pytest.raises(LogError, match="hold no row of model 'another'"):
        read_served(folder, "another", None)
