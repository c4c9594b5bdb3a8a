"""`clickserve evaluate --skew` on what a live service served: silent where it was honest, exact where it was not.

A click log that ends now is materialized as of three moments, with requests in between; views of every kind are served.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feature_store.clock import system_clock
from feature_store.definition import load_project
from feature_store.offline.log import Log
from feature_store.offline.materialize import materialize
from feature_store.online.embedded import EmbeddedServer
from feature_store.online.redis_writer import RedisRowWriter
from feature_store.online.store import RowWriter
from models.logs.frame import build_frame
from models.registry.registry import Registry
from models.training import TrainOptions
from service.cli import run as clickserve
from service.training_jobs import open_log, train_and_publish
from tests.integration.service.conftest import Worker, running, settings_of
from tests.logs import HOUR_MS, MINUTE_MS, parquet
from tests.scaling_writer import ScalingWriter

N, N_USERS, N_ADS = 6_000, 40, 25
FEATURES = """
[project]
name = "skew-shop"
[log]
user_id = "who"
ad_id = "what"
time = { column = "at", unit = "ms" }
clicked = "hit"
click_time = { column = "hit_at", unit = "ms" }
[views.user_clicks]
entity = "user"
ttl = "7d"
step = "10m"
lag = "3m"
[views.user_clicks.features]
clicks_1h = { clicks = "1h" }
clicks_decayed = { clicks = "decayed", half_life = "25m" }
ctr = { ctr = "all", prior_impressions = 20 }
[views.user_taste]
entity = "user"
ttl = "7d"
step = "10m"
lag = "3m"
across = "ad_profile.kind"
width = 3
[views.user_taste.features]
seen = { impressions = "6h" }
ctr = { ctr = "decayed", half_life = "2h", prior_impressions = 5 }
[views.user_last]
entity = "user"
ttl = "7d"
from = "log"
[views.user_last.features]
place = { dtype = "id" }
[views.ad_profile]
entity = "ad"
ttl = "30d"
from = "ads.parquet"
key = "ad"
[views.ad_profile.features]
price = { default = 1.5 }
campaign = { dtype = "id" }
kind = {}
title = { dtype = "float32[4]", ngrams = [1, 2] }
[views.ad_clicks]
entity = "ad"
ttl = "7d"
step = "20m"
[views.ad_clicks.features]
impressions_1h = { impressions = "1h" }
ctr_6h = { ctr = "6h", prior_impressions = 50 }
[views.campaign_clicks]
entity = "ad"
ttl = "7d"
step = "20m"
by = "ad_profile.campaign"
[views.campaign_clicks.features]
ctr = { ctr = "all", prior_impressions = 10 }
ctr_decayed = { ctr = "decayed", half_life = "3h", prior_impressions = 10 }
[views.ad_smoothed]
entity = "ad"
ttl = "7d"
step = "20m"
[views.ad_smoothed.features]
ctr_6h = { ctr = "6h", prior_impressions = 30, towards = "campaign_clicks.ctr" }
ctr_1h = { ctr = "1h", prior_impressions = 30, towards = "campaign_clicks.ctr_decayed" }
[views.ad_first]
entity = "ad"
ttl = "7d"
sql = \"\"\"SELECT ad_id AS entity_id, time_ms AS event_time_ms,
  1 / (1 + count(*) OVER earlier) AS novelty
  FROM log
  WINDOW earlier AS (PARTITION BY ad_id ORDER BY time_ms RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)\"\"\"
[views.ad_first.features]
novelty = {}
[context.slot]
dtype = "id"
[context.hour]
[pairs.hour_price]
op = "product"
left = "context.hour"
right = "ad_profile.price"
[pairs.taste]
op = "lookup"
left = "user_taste.ctr"
right = "ad_profile.kind"
[pairs.place_campaign]
op = "cross_hash"
left = "user_last.place"
right = "ad_profile.campaign"
"""


@dataclass(frozen=True, slots=True)
class Shop:
    """A log that ends now, its definition, and a model trained on it."""

    features: Path
    data: str
    log: Log
    registry: Path
    now_ms: int

    def evaluate(self, served: Path, workdir: Path, *more: str) -> int:
        """`clickserve evaluate --skew`; answers the exit status."""
        named = ["--data", self.data, "--features", str(self.features), "--workdir", str(workdir)]
        return clickserve(["evaluate", "--skew", "--served", str(served), *named, *more])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("skew-shop")
    random = np.random.default_rng(3)
    now_ms = time.time_ns() // 1_000_000
    at = np.sort(now_ms - random.integers(1, 30 * HOUR_MS, size=N))
    user, ad = random.integers(N_USERS, size=N), random.integers(N_ADS, size=N)
    ad[at < now_ms - 2 * HOUR_MS] %= N_ADS - 2  # the last two are new: a first materialization does not know them
    hit = random.random(N) < 1 / (1 + np.exp(1.5 - random.normal(size=N_USERS)[user] - random.normal(size=N_ADS)[ad]))
    parquet(
        folder / "log.parquet",
        {
            "who": [f"u{i}" for i in user],
            "what": [f"a{i}" for i in ad],
            "at": at,
            "hit": hit,
            "hit_at": pa.array(at + random.integers(1, 40 * MINUTE_MS, size=N), mask=~hit),
            "place": [f"p{i}" for i in random.integers(4, size=N)],
            "slot": [f"s{i}" for i in random.integers(3, size=N)],
            "hour": random.integers(24, size=N),
        },
    )
    price = pa.array(random.normal(5, 1, N_ADS), mask=np.arange(N_ADS) == 4)
    parquet(
        folder / "ads.parquet",
        {
            "ad": [f"a{i}" for i in range(N_ADS)],
            "price": price,
            "campaign": [f"c{i % 4}" for i in range(N_ADS)],
            "kind": [i % 4 for i in range(N_ADS)],
            "title": [f"{('Red', 'blue')[i % 2]} shoes, size {i}" for i in range(N_ADS)],
        },
    )
    features = folder / "features.toml"
    features.write_text(FEATURES)
    data = f"parquet:{folder / 'log.parquet'}"
    log = open_log(data, features, folder / "work", lambda *progress: None)
    registry = Registry(folder / "registry")
    published = train_and_publish(
        build_frame(log),
        learner="logistic",
        registry=registry,
        source=data,
        options=TrainOptions(),
        seed=1,
        on_progress=lambda *progress: None,
    )
    if not published.is_champion:
        (folder / "registry" / "default" / "champion").write_text(f"{published.version}\n")
    return Shop(features, data, log, folder / "registry", now_ms)


def write_as_of(shop: Shop, url: str, as_of_ms: int, workdir: Path, scaled: tuple[str, int] | None = None) -> None:
    """Materializes all views as they were known at a time."""
    writer: RowWriter = RedisRowWriter(url, "skew-shop")
    if scaled is not None:
        writer = ScalingWriter(writer, *scaled)
    project = load_project(shop.features)
    materialize(project, project.schema.views, shop.log, writer, workdir=workdir, clock=system_clock, as_of_ms=as_of_ms)
    writer.close()


async def refreshed(worker: Worker) -> None:
    """Returns when the worker's item table is younger than this call."""
    called_ms = system_clock()
    (items,) = worker.runtime._live_items()
    for _ in range(2_000):
        if items.age_ms(now_ms := system_clock()) < now_ms - called_ms:
            return
        await asyncio.sleep(0.01)
    pytest.fail("the item table was not refreshed")


async def ask(worker: Worker, random: np.random.Generator, n: int) -> None:
    """Rankings and predictions of random users, unknown ones and contexts without a key among them."""
    for i in range(n):
        user = f"u{random.integers(N_USERS + 2)}"
        ads = [f"a{ad}" for ad in random.permutation(N_ADS + 1)[:20]]
        context: dict[str, Any] = {"slot": f"s{random.integers(4)}", "hour": int(random.integers(24))}
        if i % 4 == 0:
            del context["hour"]
        if i % 5 == 0:
            pairs = [{"user_id": f"u{j}", "ad_id": ad, "context": context} for j, ad in enumerate(ads)]
            assert (await worker.ask("POST", "/v1/predict", {"instances": pairs})).status == 200
        else:
            assert (
                await worker.rank({"user_id": user, "candidates": ads, "context": context, "top_k": 5})
            ).status == 200


@pytest.fixture
def private_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A store of this test: materializations of other tests would be newer than ours."""
    with EmbeddedServer(tmp_path / "valkey") as server:
        yield server


AS_OF_HOURS = (5, 1, 0)
"""Before now, of the three materializations."""


async def serve_three_materializations(
    shop: Shop, server: EmbeddedServer, tmp_path: Path, scaled: tuple[str, int] | None = None
) -> Path:
    """The folder of what was served, the last materialization being scaled."""
    served = tmp_path / "served"
    random = np.random.default_rng(11)
    first, *later = (shop.now_ms - hours * HOUR_MS for hours in AS_OF_HOURS)
    write_as_of(shop, server.url, first, tmp_path / "work")
    settings = settings_of(shop.registry, server.url, tmp_path, served_log__folder=served, items__refresh_ms=20)
    async with running(settings) as worker:
        await ask(worker, random, 20)
        for i, as_of_ms in enumerate(later):
            plant = scaled if i == len(later) - 1 else None
            await asyncio.to_thread(write_as_of, shop, server.url, as_of_ms, tmp_path / "work", plant)
            await refreshed(worker)
            await ask(worker, random, 20)
    return served


async def test_an_honest_run_over_three_materializations_has_no_skew(
    shop: Shop, private_server: EmbeddedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts and attributes bit-equal, rates within 1 ulp; rows that were missing or old are told apart."""
    served = await serve_three_materializations(shop, private_server, tmp_path)

    status = shop.evaluate(served, tmp_path / "check", "--json")

    found = json.loads(capsys.readouterr().out)
    views = {view["view"]: view for view in found["views"]}
    columns = {column["column"]: column for column in found["columns"]}
    assert (status, found["skewed"], found["rows"]) == (0, [], 1_200)
    assert {name: view["as_of_times"] for name, view in views.items() if "clicks" in name} == {
        "user_clicks": 3,
        "ad_clicks": 3,
        "campaign_clicks": 3,
    }
    assert columns["user_clicks.clicks_1h"]["unequal"] == 0
    assert columns["user_clicks.ctr"]["max_ulps"] <= 1
    assert views["user_clicks"]["missing"] > 0
    assert views["ad_clicks"]["missing_but_known"] > 0
    assert 0 < views["ad_clicks"]["behind"] < 1_200
    assert [view["unknown"] for view in views.values()] == [0] * len(views)


async def test_a_scaled_feature_is_named_and_nothing_else(
    shop: Shop, private_server: EmbeddedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 3, by the name of the one column that another program computes another way."""
    served = await serve_three_materializations(shop, private_server, tmp_path, scaled=("ad_clicks", 1))

    status = shop.evaluate(served, tmp_path / "check", "--json")

    found = json.loads(capsys.readouterr().out)
    (scaled,) = (column for column in found["columns"] if column["column"] == "ad_clicks.ctr_6h")
    assert (status, found["skewed"]) == (3, ["ad_clicks.ctr_6h"])
    assert 0 < scaled["share"] < 0.5  # of three materializations one was scaled
    assert scaled["max_ulps"] > 1_000
    assert scaled["example"]["served"] == pytest.approx(1.001 * scaled["example"]["offline"])
    assert shop.evaluate(served, tmp_path / "check") == 3
    assert "skew in ad_clicks.ctr_6h" in capsys.readouterr().out
