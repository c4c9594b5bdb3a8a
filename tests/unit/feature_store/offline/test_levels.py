"""Rates pulled towards rates of the levels above, against smoothing by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from feature_store.offline.log import Log
from feature_store.offline.offline_store import OfflineStore
from feature_store.schema import WindowSource
from tests.every_kind import MOVED_MS, write_dated_ads
from tests.logs import HOUR_MS, random_columns, shop_log, shop_project

LEVELS = """
[views.ads]
entity = "ad"
ttl = "90d"
from = "dated_ads.parquet"
key = "id"
event_time = { column = "since", unit = "ms" }
[views.ads.features]
campaign = { dtype = "id" }
brand = { dtype = "id" }
[views.counts]
entity = "ad"
ttl = "4h"
step = "1h"
lag = "10m"
[views.counts.features]
rate = { ctr = "3h", prior_impressions = 4, towards = "campaigns.rate" }
[views.brands]
entity = "ad"
ttl = "4h"
step = "1h"
lag = "10m"
by = "ads.brand"
[views.brands.features]
rate = { ctr = "all", prior_impressions = 20 }
[views.campaigns]
entity = "ad"
ttl = "4h"
step = "1h"
lag = "10m"
by = "ads.campaign"
[views.campaigns.features]
rate = { ctr = "6h", prior_impressions = 10, towards = "brands.rate" }
"""
EVER = 10_000
"""Hours: longer than any log here."""


class Smoothing:
    """Counts and rates as of one time, straight from the definition."""

    def __init__(self, log: Log, as_of_ms: int) -> None:
        columns = log.columns(["_time_ms", "_click_time_ms"]).values()
        self._as_of_ms = as_of_ms
        self._times, self._arrivals = ([(*column.values, None)[code] for code in column.codes] for column in columns)

    def seen(self, keys: Sequence[str | None], key: str | None) -> int:
        """Impressions so far of a key; of None, of all that have one."""
        return self._count(self._times, EVER, keys, key)

    def rate(
        self, keys: Sequence[str | None], key: str | None, hours: int, prior: int, above: float | None
    ) -> float | None:
        """The smoothed rate of a key; what is above it where the key has no row."""
        if key is None or not self.seen(keys, key):
            return above
        if above is None:
            above = self._count(self._arrivals, EVER, keys, None) / self.seen(keys, None)
        clicks, seen = (self._count(moments, hours, keys, key) for moments in (self._arrivals, self._times))
        return (clicks + prior * above) / (seen + prior)

    def _count(self, moments: Sequence[int | None], hours: int, keys: Sequence[str | None], wanted: str | None) -> int:
        start_ms = self._as_of_ms - hours * HOUR_MS
        return sum(
            moment is not None and key is not None and wanted in (None, key) and start_ms <= moment < self._as_of_ms
            for moment, key in zip(moments, keys, strict=True)
        )


def test_a_rate_is_pulled_towards_the_next_level_that_knows_something(tmp_path: Path) -> None:
    """Ad < campaign < brand < all, of the campaign and brand that the ad had when it was shown."""
    write_dated_ads(tmp_path)
    log = shop_log(tmp_path, LEVELS, random_columns(5, 400, n_ads=5))
    view = log.project.schema.view("counts")
    assert view is not None
    assert isinstance(view.source, WindowSource)

    with OfflineStore(log.project, log, tmp_path) as store:
        rows = store.at_impressions(view)

    ads, times = (
        [column.values[code] for code in column.codes] for column in log.columns(["_ad_id", "_time_ms"]).values()
    )
    brands = ["b0" if ad in ("a0", "a1", "a2") else None for ad in ads]
    campaigns = [
        "c9" if ad == "a0" and time_ms >= MOVED_MS else {"a0": "c0", "a1": "c0"}.get(ad)
        for ad, time_ms in zip(ads, times, strict=True)
    ]
    n_passed_over = 0
    for at in range(0, log.n, 4):
        smoothing = Smoothing(log, view.source.as_of_ms(times[at]))
        brand = smoothing.rate(brands, brands[at], EVER, 20, None)
        campaign = smoothing.rate(campaigns, campaigns[at], 6, 10, brand)
        n_passed_over += bool(campaigns[at] and brand and not smoothing.seen(campaigns, campaigns[at]))
        assert rows.found[at] == (smoothing.seen(ads, ads[at]) > 0)
        if rows.found[at]:
            np.testing.assert_allclose(rows.floats[at], [smoothing.rate(ads, ads[at], 3, 4, campaign)], rtol=1e-6)
    assert rows.found[::4].sum() > 75
    assert n_passed_over > 0  # a new campaign of a known brand


def test_a_new_definition_of_a_level_is_a_new_meaning_of_all_below(tmp_path: Path) -> None:
    """Stored rates of ads must not outlive the prior they were made with."""
    one, other = (
        shop_project(LEVELS.replace("prior_impressions = 20", f"prior_impressions = {prior}"), tmp_path).schema
        for prior in (20, 30)
    )

    changed = {
        view.name for view, same in zip(one.views, other.views, strict=True) if view.fingerprint != same.fingerprint
    }

    assert changed == {"brands", "campaigns", "counts"}
