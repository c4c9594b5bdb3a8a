"""Scoring under a clock that the test holds: what the deadline leaves, and what rows admit about themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from feature_store.clock import Clock
from feature_store.online.memory_store import MemoryStore
from feature_store.online.store import RowWriter
from models.plans.choice import PlanChoice
from models.registry.predictor import GENERIC_CHUNK_ROWS
from models.registry.registry import Registry
from service import scoring
from service.deadline import Deadline
from service.errors import DeadlinePassed, InvalidRequest
from service.live_items import LiveItems
from service.model_loading import ModelLoading
from service.model_slots import ServedModel
from service.scoring import Scoring
from service.telemetry import Telemetry
from service.wire import PredictRequest, RankRequest
from tests.artifacts import DAY_MS, Entities, ServedProject
from tests.stores import Now

DAMAGED = "a stored row cannot be read, defaults stand in"


def fill(writer: RowWriter, clock: Clock, *sides: Entities) -> None:
    """Writes the rows of these entities, dated now."""
    for entities in sides:
        times = np.full(len(entities.entity_ids), clock(), dtype=np.int64)
        with writer.session(entities.view) as session:
            session.write(entities.entity_ids, times, entities.floats, entities.ids)
            session.finish()


class Bench:
    """The shop's model over a store inside the process, with a clock to turn."""

    def __init__(self, shop: ServedProject, folder: Path) -> None:
        self.clock = Now()
        self.store = MemoryStore(shop.schema.project, self.clock)
        fill(self.store, self.clock, shop.users, shop.ads)
        self.shop = shop
        self._folder = folder
        self._telemetry = Telemetry()
        self.scoring = self.new_scoring()

    def new_scoring(self) -> Scoring:
        """Another one over the same store."""
        return Scoring(self.store, features_ms=10.0, clock=self.clock, telemetry=self._telemetry)

    async def model(self, kind: Literal["auto", "generic"] = "auto", folder: str = ".") -> ServedModel:
        """The champion, with its item table read from the store unless there is one in `folder`."""
        loading = ModelLoading(
            lambda project: self.store,
            lambda reader, views: LiveItems(
                reader,
                views,
                snapshot_dir=self._folder / folder,
                stale_ms=60_000,
                clock=self.clock,
                telemetry=self._telemetry,
            ),
            PlanChoice(kind),
        )
        return await loading.load(Registry(self.shop.registry_dir), self.shop.version)


@pytest.fixture
def bench(shop: ServedProject, tmp_path: Path) -> Bench:
    """A filled store and its clock."""
    return Bench(shop, tmp_path)


def rank(n: int, user_id: str | None = "u1") -> RankRequest:
    """A request of n ads, the shop's first."""
    ids = [f"a{i}" for i in range(n)]
    return RankRequest("default", user_id, ids, None, {"device": "phone"}, n)


def in_time() -> Deadline:
    """A deadline that never passes."""
    return Deadline(0.0, 1_000.0, lambda: 0.0)


def passing_after(looks: int) -> Deadline:
    """A deadline that has passed once somebody has looked at the clock so often."""
    times: Iterator[float] = chain(repeat(0.0, looks), repeat(2.0))
    return Deadline(0.0, 1_000.0, lambda: next(times))


async def test_the_deadline_keeps_what_was_scored(bench: Bench) -> None:
    """Whole chunks, in the order of the request; the same numbers as with all the time in the world."""
    model = await bench.model("generic")
    everything = await bench.scoring.rank(model, rank(300), in_time())

    some = await bench.scoring.rank(model, rank(300), passing_after(looks=3))

    assert len(some.scores.p_click) == 2 * GENERIC_CHUNK_ROWS < some.n == 300
    np.testing.assert_allclose(some.scores.p_click, everything.scores.p_click[: 2 * GENERIC_CHUNK_ROWS], rtol=1e-12)
    assert some.degraded == ["deadline_partial"]
    assert everything.degraded == []


@pytest.mark.parametrize("looks", [0, 1])
async def test_nothing_scored_is_an_error(bench: Bench, looks: int) -> None:
    """Before the read of the store, or after it."""
    model = await bench.model()

    with pytest.raises(DeadlinePassed, match="nothing was scored within 1000 ms"):
        await bench.scoring.rank(model, rank(3), passing_after(looks))


async def test_rows_past_their_time_to_live_are_used_and_said_to_be_stale(bench: Bench) -> None:
    """The table could not be refreshed: its last values beat defaults, and callers know."""
    model = await bench.model()
    fresh = await bench.scoring.rank(model, rank(3), in_time())

    bench.clock.ahead_ms = 31 * DAY_MS
    fill(bench.store, bench.clock, bench.shop.users)
    stale = await bench.scoring.rank(model, rank(3), in_time())

    assert stale.degraded == ["ad_stale", "items_stale"]
    assert stale.knowledge.own_codes == {0: ["ad_stale"], 1: ["ad_stale"], 2: ["ad_stale"]}
    assert (stale.knowledge.stale, stale.knowledge.missing) == (3, 0)
    assert stale.knowledge.age_ms_max is not None
    assert stale.knowledge.age_ms_max >= 31 * DAY_MS
    np.testing.assert_array_equal(stale.scores.p_click, fresh.scores.p_click)


async def test_past_its_time_to_live_a_users_row_is_gone_and_an_ads_is_used(bench: Bench) -> None:
    """docs/features-toml.md says so, and what becomes of the ad in a table that is made anew."""
    model = await bench.model()

    bench.clock.ahead_ms = 31 * DAY_MS
    before = await bench.scoring.rank(model, rank(3), in_time())
    anew = await bench.scoring.rank(await bench.model(folder="anew"), rank(3), in_time())

    assert before.degraded == ["user_missing", "ad_stale", "items_stale"]
    assert anew.degraded == ["user_missing", "ad_missing"]


async def test_a_model_with_features_of_users_wants_a_user(bench: Bench) -> None:
    """Ranking for nobody would quietly rank for the average user."""
    model = await bench.model()

    with pytest.raises(InvalidRequest, match="user_id: required, but missing: model 'default' has features of users"):
        await bench.scoring.rank(model, rank(3, user_id=None), in_time())


async def test_an_instance_without_an_ad_is_named(bench: Bench) -> None:
    """With its place."""
    model = await bench.model()
    request = PredictRequest("default", ["u1", "u2"], ["a1", None], [{}, {}])

    with pytest.raises(InvalidRequest, match=r"instances\[1\]\.ad_id: required, but missing"):
        await bench.scoring.predict(model, request, in_time())


@pytest.mark.parametrize("kind", ["auto", "generic"])
async def test_an_ad_that_the_table_does_not_hold_is_read_with_the_user(
    bench: Bench, kind: Literal["auto", "generic"]
) -> None:
    """A new ad is ranked by its own row at once, not by defaults until the next refresh."""
    model = await bench.model(kind)
    newcomer = Entities(bench.shop.ads.view, ["new"], bench.shop.ads.floats[:1], bench.shop.ads.ids[:1])
    fill(bench.store, bench.clock, newcomer)

    request = RankRequest("default", "u1", ["nowhere", "new", bench.shop.ads.entity_ids[0]], None, {"device": "pc"}, 3)
    scored = await bench.scoring.rank(model, request, in_time())

    assert scored.knowledge.own_codes == {0: ["ad_missing"]}
    assert scored.scores.p_click[1] == pytest.approx(scored.scores.p_click[2], rel=1e-6)


async def test_the_fast_plan_answers_as_onnx_runtime(bench: Bench) -> None:
    """Known and unknown ads, from parts kept beside the table and from rows."""
    fast, slow = await bench.model("auto"), await bench.model("generic")

    answers = [await bench.scoring.rank(model, rank(300), in_time()) for model in (fast, slow)]

    assert fast.predictor.factorised is not None
    assert fast.predictor.fallback is None
    assert slow.predictor.factorised is None
    np.testing.assert_allclose(answers[0].scores.p_click, answers[1].scores.p_click, atol=1e-6)
    assert answers[0].knowledge.own_codes == answers[1].knowledge.own_codes == {}


async def test_rows_that_cannot_be_read_are_told_of_once_a_second(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One popular user's damaged row must not fill the log."""
    model, read = await bench.model(), bench.store.get_many

    async def torn(keys: Sequence[bytes], *, timeout_ms: float) -> list[bytes | None]:
        return [value and value[:-1] for value in await read(keys, timeout_ms=timeout_ms)]

    monkeypatch.setattr(bench.store, "get_many", torn)
    answers = [await bench.scoring.rank(model, rank(3), in_time()) for _ in range(5)]
    monkeypatch.setattr(scoring, "SILENCE_S", 0.0)
    bench.scoring = bench.new_scoring()
    for _ in range(2):
        await bench.scoring.rank(model, rank(3), in_time())

    assert [answer.degraded for answer in answers] == [["user_missing"]] * 5
    assert [record.getMessage() for record in caplog.records] == [DAMAGED] * 3
