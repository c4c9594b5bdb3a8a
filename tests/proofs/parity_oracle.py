"""Windowed features by counting, straight from `docs/features-toml.md`: no SQL, nothing of the product's.

All counts as of one moment are sums over the events before it. Computed in float64; what is stored is float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.proofs.parity_project import (
    AD_STEP_MS,
    CATEGORIES,
    HOUR_MS,
    MIDNIGHT_MS,
    USER_STEP_MS,
    ParityLog,
)

Float64s = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


class Counting:
    """Counts of the keys of one view, as of one moment."""

    def __init__(self, log: ParityLog, keys: Codes, n_keys: int, step_ms: int, as_of_ms: int) -> None:
        self._keys, self._n_keys, self._step_ms, self._as_of_ms = keys, n_keys, step_ms, as_of_ms
        self._moments = {"impressions": log.time_ms, "clicks": log.click_time_ms}

    def count(self, what: str, hours: float | None = None) -> Float64s:
        """(n_keys,) events of the last hours, or of all time."""
        moments = self._moments[what]
        since = 0 if hours is None else self._as_of_ms - hours * HOUR_MS
        counted = (moments >= max(0, since)) & (moments < self._as_of_ms)
        return np.bincount(self._keys[counted], minlength=self._n_keys).astype(np.float64)

    def decayed(self, what: str, half_life_h: float) -> Float64s:
        """(n_keys,) events, each weighed by the age of the step that it lies in."""
        moments = self._moments[what]
        counted = (moments >= 0) & (moments < self._as_of_ms)
        age_ms = self._as_of_ms - moments[counted] // self._step_ms * self._step_ms
        weights = np.exp2(-age_ms / (half_life_h * HOUR_MS))
        return np.bincount(self._keys[counted], weights, minlength=self._n_keys)

    def everyone(self) -> float:
        """Clicks per impression of all keys, of all time."""
        return float(self.count("clicks").sum() / self.count("impressions").sum())


def smoothed(clicks: Float64s, impressions: Float64s, prior: float, towards: Float64s | float) -> Float64s:
    """Rates pulled towards another one by a number of impressions."""
    return (clicks + prior * towards) / (impressions + prior)


def expected(log: ParityLog, rows: Codes, hour: int) -> dict[str, Float64s]:
    """Each windowed column at some impressions, by the name that the model has for it; NaN where nothing was counted.

    Args:
        rows: (m,) numbers of impressions for which the windows' as-of time is that hour.
        hour: of the day.
    """
    now_ms = MIDNIGHT_MS + hour * HOUR_MS
    user, n_users = _codes(log.impressions["user_id"])
    ad, n_ads = _codes(log.impressions["ad_id"])
    segment, n_segments = _codes(_looked_up(log.users, "user_id", "segment", log.impressions["user_id"]))
    campaign, n_campaigns = _codes(_looked_up(log.ads, "ad_id", "campaign_id", log.impressions["ad_id"]))
    advertiser, n_advertisers = _codes(_looked_up(log.ads, "ad_id", "advertiser_id", log.impressions["ad_id"]))
    category = np.array(_looked_up(log.ads, "ad_id", "category_index", log.impressions["ad_id"]))

    found: dict[str, Float64s] = {}

    def answer(view: str, keys: Codes, counting: Counting, values: dict[str, Float64s]) -> None:
        known = counting.count("impressions")[keys[rows]] > 0
        for name, value in values.items():
            found[f"{view}.{name}"] = np.where(known, value[keys[rows]], np.nan)

    of_user = Counting(log, user, n_users, USER_STEP_MS, now_ms)
    seen, clicks = of_user.count("impressions"), of_user.count("clicks")
    answer(
        "user_clicks",
        user,
        of_user,
        {
            "impressions_4h": of_user.count("impressions", 4),
            "clicks_all": clicks,
            "impressions_decayed": of_user.decayed("impressions", 3),
            "ctr_all": smoothed(clicks, seen, 50, of_user.everyone()),
        },
    )
    part = segment * CATEGORIES + category
    of_part = Counting(log, part, n_segments * CATEGORIES, USER_STEP_MS, now_ms)
    rate = smoothed(of_part.count("clicks"), of_part.count("impressions"), 100, of_part.everyone())
    vectors = {
        "impressions_6h": of_part.count("impressions", 6),
        "ctr_all": rate,
        "clicks_decayed": of_part.decayed("clicks", 5),
    }
    for name, value in vectors.items():
        for i in range(CATEGORIES):  # every segment has been shown something: no row is missing
            found[f"segment_taste.{name}[{i}]"] = value[segment[rows] * CATEGORIES + i]
    found["pair.segment_category"] = rate[part[rows]]
    found["pair.segment_category_impressions"] = vectors["impressions_6h"][part[rows]]

    of_advertiser = Counting(log, advertiser, n_advertisers, AD_STEP_MS, now_ms)
    advertiser_rate = smoothed(
        of_advertiser.count("clicks", 12), of_advertiser.count("impressions", 12), 400, of_advertiser.everyone()
    )
    answer("advertiser_clicks", advertiser, of_advertiser, {"ctr_12h": advertiser_rate})
    of_campaign = Counting(log, campaign, n_campaigns, AD_STEP_MS, now_ms)
    of_each = _first_of_each(campaign, n_campaigns)
    seen = of_campaign.count("impressions")
    towards = _or(advertiser_rate, of_advertiser, advertiser, of_each, of_campaign.everyone())
    campaign_rate = smoothed(of_campaign.count("clicks"), seen, 200, towards)
    answer("campaign_clicks", campaign, of_campaign, {"impressions_all": seen, "ctr_all": campaign_rate})
    of_ad = Counting(log, ad, n_ads, AD_STEP_MS, now_ms)
    towards = _or(campaign_rate, of_campaign, campaign, _first_of_each(ad, n_ads), of_ad.everyone())
    clicks, seen = of_ad.count("clicks"), of_ad.count("impressions")
    recent = smoothed(of_ad.decayed("clicks", 6), of_ad.decayed("impressions", 6), 30, of_ad.everyone())
    answer(
        "ad_clicks",
        ad,
        of_ad,
        {
            "impressions_8h": of_ad.count("impressions", 8),
            "clicks_all": clicks,
            "clicks_decayed": of_ad.decayed("clicks", 4),
            "ctr_decayed": recent,
            "ctr_all": smoothed(clicks, seen, 100, towards),
        },
    )
    return found


def _or(rates: Float64s, counting: Counting, group: Codes, of_each: Codes, everyone: float) -> Float64s:
    """For each key the rate of its group, and that of everyone where the group has seen nothing."""
    groups = group[of_each]
    return np.where(counting.count("impressions")[groups] > 0, rates[groups], everyone)


def _codes(values: Sequence[Any]) -> tuple[Codes, int]:
    """Each value's number among the distinct ones, and how many there are."""
    distinct, codes = np.unique(np.asarray(values), return_inverse=True)
    return codes.astype(np.int64), len(distinct)


def _first_of_each(codes: Codes, n: int) -> Codes:
    """(n,) an impression of each key."""
    first = np.empty(n, dtype=np.int64)
    first[codes] = np.arange(len(codes))
    return first


def _looked_up(table: dict[str, list[Any]], key: str, column: str, wanted: Sequence[str]) -> list[Any]:
    values = dict(zip(table[key], table[column], strict=True))
    return [values[name] for name in wanted]
