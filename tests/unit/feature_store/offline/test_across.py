"""Counts of users split by an attribute of ads, against counting by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from feature_store.offline.offline_store import OfflineStore
from feature_store.schema import WindowSource
from models.pairs import OPERATORS
from tests.logs import HOUR_MS, parquet, random_columns, shop_log

VIEWS = """
[views.people]
entity = "user"
ttl = "90d"
from = "people.parquet"
key = "who"
[views.people.features]
segment = {{ dtype = "id" }}
[views.ads]
entity = "ad"
ttl = "90d"
from = "ads.parquet"
key = "what"
event_time = {{ column = "since", unit = "ms" }}
[views.ads.features]
category = {{ {default} }}
[views.taste]
entity = "user"
ttl = "4h"
step = "1h"
lag = "10m"
{by}
across = "ads.category"
width = 3
[views.taste.features]
seen = {{ impressions = "5h" }}
hits = {{ clicks = "all" }}
rate = {{ ctr = "5h", prior_impressions = 4 }}
plain_rate = {{ ctr = "5h" }}
[pairs.taste]
op = "lookup"
left = "taste.rate"
right = "ads.category"
"""
SEGMENTS = {"u0": "young", "u1": "young", "u2": "old", "u3": "old"}  # u4 has none
CHANGED_MS = 22 * HOUR_MS + HOUR_MS // 3


def category(ad: str, time_ms: int) -> float | None:
    """a0 changes; a3's is no whole number, a4's too large, a5's negative; a6 is unknown."""
    if ad == "a0":
        return 2.0 if time_ms >= CHANGED_MS else 0.0
    return {"a1": 0.0, "a2": 1.0, "a3": 1.5, "a4": 3.0, "a5": -1.0}.get(ad)


def write_files(folder: Path) -> None:
    parquet(folder / "people.parquet", {"who": list(SEGMENTS), "segment": list(SEGMENTS.values())})
    ads, since = ["a0", "a0", "a1", "a2", "a3", "a4", "a5"], [0, CHANGED_MS, 0, 0, 0, 0, 0]
    parquet(
        folder / "ads.parquet",
        {"what": ads, "since": since, "category": [category(ad, at) for ad, at in zip(ads, since, strict=True)]},
    )


@pytest.mark.parametrize("default", [None, 1.0], ids=["no default", "an ad without a category has one"])
@pytest.mark.parametrize("by", ["", 'by = "people.segment"'], ids=["each user", "segments"])
def test_each_number_counts_the_ads_that_had_its_index(tmp_path: Path, by: str, default: float | None) -> None:
    """User or segment x category of ad, as of the last step, by the category that the ad had when it was shown."""
    write_files(tmp_path)
    text = VIEWS.format(by=by, default="" if default is None else f"default = {default}")
    log = shop_log(tmp_path, text, random_columns(8, 400))
    view = log.project.schema.view("taste")
    assert view is not None
    assert isinstance(view.source, WindowSource)

    with OfflineStore(log.project, log, tmp_path) as store:
        rows = store.at_impressions(view)

    users, ads, times, arrivals = (
        [(*column.values, None)[code] for code in column.codes]
        for column in log.columns(["_user_id", "_ad_id", "_time_ms", "_click_time_ms"]).values()
    )
    keys = [SEGMENTS.get(user) if by else user for user in users]
    known = [category(ad, time_ms) for ad, time_ms in zip(ads, times, strict=True)]
    parts = [default if part is None else part for part in known]

    def count(moments: list[int | None], start_ms: float, end_ms: int, key: str | None, part: int | None) -> int:
        return sum(
            moment is not None
            and start_ms <= moment < end_ms
            and key in (None, its_key)
            and its_key is not None
            and its_part in (0, 1, 2)
            and part in (None, its_part)
            for moment, its_key, its_part in zip(moments, keys, parts, strict=True)
        )

    for at in range(0, log.n, 2):
        end_ms, key = view.source.as_of_ms(times[at]), keys[at]
        start_ms = end_ms - 5 * HOUR_MS
        assert rows.found[at] == (key is not None and count(times, -math.inf, end_ms, key, None) > 0)
        if not rows.found[at]:
            continue
        everyone = count(arrivals, -math.inf, end_ms, None, None) / count(times, -math.inf, end_ms, None, None)
        seen = np.array([count(times, start_ms, end_ms, key, part) for part in range(3)])
        hits = np.array([count(arrivals, start_ms, end_ms, key, part) for part in range(3)])
        ever = [count(arrivals, -math.inf, end_ms, key, part) for part in range(3)]
        plain = np.divide(hits, seen, out=np.full(3, np.nan), where=seen > 0)
        expected = np.concatenate([seen, ever, (hits + 4 * everyone) / (seen + 4), plain])
        np.testing.assert_allclose(rows.floats[at], expected, rtol=1e-6)
    assert rows.found.sum() > 250


def test_lookup_picks_the_number_of_the_candidates_own_index(tmp_path: Path) -> None:
    """What makes it a feature of the pair: one user, and each ad has the rate of its own category."""
    write_files(tmp_path)
    log = shop_log(tmp_path, VIEWS.format(by="", default=""), random_columns(8, 400))
    taste, ads = (log.project.schema.view(name) for name in ("taste", "ads"))
    assert taste is not None
    assert ads is not None
    (pair,) = log.project.schema.pairs

    with OfflineStore(log.project, log, tmp_path) as store:
        users, candidates = store.at_impressions(taste), store.at_impressions(ads)
    rates = users.floats[:, 6:9]
    picked = OPERATORS[pair.op](rates, candidates.floats)[:, 0]

    assert taste.float_columns[6:9] == ("taste.rate[0]", "taste.rate[1]", "taste.rate[2]")
    for part in range(3):
        of_part = candidates.floats[:, 0] == part
        assert of_part.any()
        np.testing.assert_array_equal(picked[of_part], rates[of_part, part])
    assert np.isnan(picked[~np.isin(candidates.floats[:, 0], [0, 1, 2])]).all()
