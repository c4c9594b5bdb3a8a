"""Windowed counts against counting by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from feature_store.offline.log import Log
from feature_store.offline.offline_store import OfflineStore
from feature_store.schema import WindowMeasure, WindowSource
from tests.logs import HOUR_MS, MINUTE_MS, parquet, random_columns, shop_log

VIEW = """
[views.counts]
entity = "ad"
ttl = "20d"
step = "{step}"
lag = "{lag}"
{by}
[views.counts.features]
seen = {{ impressions = "4h" }}
hits = {{ clicks = "6h" }}
hits_ever = {{ clicks = "all" }}
rate = {{ ctr = "6h", prior_impressions = 3 }}
plain_rate = {{ ctr = "2h" }}
"""
ADS = """
[views.ad_profile]
entity = "ad"
ttl = "20d"
from = "ads.parquet"
key = "what"
event_time = { column = "since", unit = "ms" }
[views.ad_profile.features]
campaign = { dtype = "id" }
"""


class Events(NamedTuple):
    """One entry an impression."""

    keys: list[str | None]
    times: list[int]
    arrivals: list[int | None]


def events_of(log: Log) -> Events:
    columns = log.columns(["_ad_id", "_time_ms", "_click_time_ms"])
    return Events(*([(*column.values, None)[code] for code in column.codes] for column in columns.values()))


def counted_by_hand(events: Events, source: WindowSource, at: int) -> list[float] | None:
    """The features of impression `at`, straight from the definition; None where there is no row."""
    keys, times, arrivals = events
    as_of_ms = source.as_of_ms(times[at])

    def count(moments: Sequence[int | None], window_ms: int | None, key: str | None = None) -> int:
        start_ms = -1 if window_ms is None else as_of_ms - window_ms
        return sum(
            moment is not None and start_ms <= moment < as_of_ms and (key is None or key == other)
            for moment, other in zip(moments, keys, strict=True)
            if other is not None
        )

    key = keys[at]
    if key is None or not count(times, None, key):
        return None
    everyone = count(arrivals, None) / count(times, None)
    features = []
    for measure in source.measures:
        impressions = count(times, measure.window_ms, key)
        clicks = count(arrivals, measure.window_ms, key)
        prior = measure.prior_impressions
        total = impressions + prior
        rate = (clicks + prior * everyone) / total if total else float("nan")
        features.append({"impressions": impressions, "clicks": clicks, "ctr": rate}[measure.measure])
    return features


@pytest.mark.parametrize(("step", "lag"), [("1h", "0s"), ("30m", "45m"), ("2h", "10m")])
def test_windows_count_what_had_arrived_before_the_last_whole_step(tmp_path: Path, step: str, lag: str) -> None:
    """Impressions by their own time, clicks by their arrival, both strictly earlier than as-of."""
    log = shop_log(tmp_path, VIEW.format(step=step, lag=lag, by=""))
    view = log.project.schema.views[0]
    assert isinstance(view.source, WindowSource)

    with OfflineStore(log.project, log, tmp_path) as store:
        rows = store.at_impressions(view)

    events = events_of(log)
    for at in range(0, log.n, 3):
        expected = counted_by_hand(events, view.source, at)
        assert rows.found[at] == (expected is not None)
        if expected is not None:
            np.testing.assert_allclose(rows.floats[at], expected, rtol=1e-6)
            assert rows.event_time_ms[at] == view.source.as_of_ms(events.times[at])


def test_a_group_window_counts_the_whole_group(tmp_path: Path) -> None:
    """A new ad starts from what its campaign earned; what an ad earned stays with the campaign of that time."""
    parquet(
        tmp_path / "ads.parquet",
        {
            "what": ["a0", "a1", "a2", "a3", "a0"],
            "since": [0, 0, 0, 0, 20 * HOUR_MS],
            "campaign": ["c0", "c0", "c1", None, "c1"],
        },
    )
    log = shop_log(tmp_path, ADS + VIEW.format(step="1h", lag="0s", by='by = "ad_profile.campaign"'))
    view = log.project.schema.view("counts")
    assert view is not None
    assert isinstance(view.source, WindowSource)

    with OfflineStore(log.project, log, tmp_path) as store:
        rows = store.at_impressions(view)

    events = events_of(log)
    before, after = {"a0": "c0", "a1": "c0", "a2": "c1"}, {"a0": "c1", "a1": "c0", "a2": "c1"}
    campaigns = [
        (after if time >= 20 * HOUR_MS else before).get(str(ad))
        for ad, time in zip(events.keys, events.times, strict=True)
    ]
    for at in range(0, log.n, 3):
        expected = counted_by_hand(events._replace(keys=campaigns), view.source, at)
        assert rows.found[at] == (expected is not None)
        if expected is not None:
            np.testing.assert_allclose(rows.floats[at], expected, rtol=1e-6)


def test_a_click_is_unknown_until_it_arrives(tmp_path: Path) -> None:
    """Counting a click from its impression on would tell the model its own label."""
    columns = {
        "who": ["u"] * 4,
        "what": ["a"] * 4,
        "at": [0, 1 * HOUR_MS, 2 * HOUR_MS, 3 * HOUR_MS],
        "hit": [True, False, False, False],
        "hit_at": [2 * HOUR_MS - 1, None, None, None],
    }
    log = shop_log(tmp_path, VIEW.format(step="1h", lag="0s", by=""), columns)

    with OfflineStore(log.project, log, tmp_path) as store:
        rows = store.at_impressions(log.project.schema.views[0])

    hits_ever = rows.floats[:, 2]
    assert np.isnan(hits_ever[0])
    np.testing.assert_array_equal(hits_ever[1:], [0, 1, 1])


def test_without_a_prior_a_rate_of_nothing_is_missing(tmp_path: Path) -> None:
    """0 of 0 is not 0: the model must see that nothing is known."""
    columns = random_columns(1, 2) | {"what": ["a", "a"], "at": [0, 9 * HOUR_MS], "hit": [False, True]}
    columns |= {"hit_at": [None, 10 * HOUR_MS]}
    log = shop_log(tmp_path, VIEW.format(step="1h", lag="0s", by=""), columns)

    with OfflineStore(log.project, log, tmp_path) as store:
        rows = store.at_impressions(log.project.schema.views[0])

    assert rows.found.tolist() == [False, True]
    assert np.isnan(rows.floats[1, 4])


def test_the_rate_of_everybody_is_of_the_same_moment() -> None:
    """The schema's own words: `as_of_ms` floors, also below zero."""
    source = WindowSource(step_ms=10 * MINUTE_MS, lag_ms=MINUTE_MS, measures=(WindowMeasure(measure="clicks"),))

    assert source.as_of_ms(31 * MINUTE_MS) == 30 * MINUTE_MS
    assert source.as_of_ms(30 * MINUTE_MS) == 20 * MINUTE_MS
    assert source.as_of_ms(0) == -10 * MINUTE_MS


DECAYED = """
[views.counts]
entity = "ad"
ttl = "2000d"
step = "{step}"
lag = "10m"
[views.counts.features]
seen = {{ impressions = "decayed", half_life = "{half_life}" }}
hits = {{ clicks = "decayed", half_life = "{half_life}" }}
rate = {{ ctr = "decayed", half_life = "{half_life}", prior_impressions = 3 }}
plain_rate = {{ ctr = "decayed", half_life = "{half_life}" }}
"""


def decayed_by_hand(events: Events, source: WindowSource, at: int) -> list[float] | None:
    """Impressions, clicks and both rates, each event weighed on its own by the age of the step it happened in."""
    half_life_ms, as_of_ms, key = source.measures[0].half_life_ms, source.as_of_ms(events.times[at]), events.keys[at]
    assert isinstance(half_life_ms, int)

    def decayed(moments: Sequence[int | None]) -> float:
        ages = [
            as_of_ms - moment // source.step_ms * source.step_ms
            for moment, other in zip(moments, events.keys, strict=True)
            if other == key and moment is not None and moment < as_of_ms
        ]
        return math.fsum(2.0 ** (-age / half_life_ms) for age in ages if age <= 64 * half_life_ms)

    def before(moments: Sequence[int | None], wanted: str | None = None) -> int:
        pairs = zip(moments, events.keys, strict=True)
        return sum(moment is not None and moment < as_of_ms and wanted in (None, other) for moment, other in pairs)

    if not before(events.times, key):
        return None
    seen, hits = decayed(events.times), decayed(events.arrivals)
    everyone = before(events.arrivals) / before(events.times)
    return [seen, hits, (hits + 3 * everyone) / (seen + 3), hits / seen if seen else math.nan]


@pytest.mark.parametrize(
    ("step", "half_life", "days"),
    [("1h", "1h", 400), ("1h", "7h", 1), ("30m", "45m", 30), ("1h", "24h", 3_000), ("7m", "1w", 20)],
    ids=["many thousand half-lives", "few", "no whole steps", "three thousand days", "an odd step"],
)
def test_decayed_counts_are_the_weighed_sum_of_what_had_arrived(
    tmp_path: Path, step: str, half_life: str, days: int
) -> None:
    """However long the log is in half-lives: no weight may overflow, and none may be lost at the edge of a block."""
    columns = random_columns(days, 300, n_ads=3, hours=24 * days)
    log = shop_log(tmp_path, DECAYED.format(step=step, half_life=half_life), columns)
    view = log.project.schema.views[0]
    assert isinstance(view.source, WindowSource)

    with OfflineStore(log.project, log, tmp_path) as store:
        rows = store.at_impressions(view)

    events = events_of(log)
    for at in range(0, log.n, 3):
        expected = decayed_by_hand(events, view.source, at)
        assert rows.found[at] == (expected is not None)
        if expected is not None:
            np.testing.assert_array_max_ulp(rows.floats[at], np.array(expected, dtype=np.float32), maxulp=1)
