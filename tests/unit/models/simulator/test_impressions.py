"""The impressions of a simulated log: columns, times, positions, who is shown what, and clicks that arrive late."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from models.logs.simulated_world import DAY_MS, HOUR_MS
from models.logs.simulator import SIM_V1
from tests.simulation import N_LOG, SimulatedLog


def test_impressions_have_the_documented_columns(log: SimulatedLog, log_folder: Path) -> None:
    """Readers rely on names and types, and on finding nothing of the truth among them."""
    schemas = {
        name: {field.name: str(field.type) for field in pq.read_schema(log_folder / f"{name}.parquet")}
        for name in ("impressions", "truth", "users", "ads")
    }

    assert schemas == {
        "impressions": {
            "time_ms": "int64",
            "user_id": "string",
            "ad_id": "string",
            "placement": "string",
            "device": "string",
            "hour": "int8",
            "position": "int8",
            "clicked": "bool",
            "click_time_ms": "int64",
        },
        "truth": {"true_p": "double", "attainable_p": "double"},
        "users": {"user_id": "string", "segment": "string", "home_region": "string", "account_age_days": "float"},
        "ads": {
            "ad_id": "string",
            "campaign_id": "string",
            "advertiser_id": "string",
            "category": "string",
            "created_ms": "int64",
            "price": "float",
        },
    }


def test_every_size_of_log_fills_the_same_fourteen_days_in_order(log: SimulatedLog) -> None:
    """Size scales density; file order is time order; the hour column is the UTC hour of the time."""
    time_ms = log.impressions["time_ms"]

    assert np.all(np.diff(time_ms) >= 0)
    assert SIM_V1.start_ms == np.datetime64("2026-01-05T00:00:00", "ms").astype(np.int64)
    assert SIM_V1.start_ms <= time_ms[0] < SIM_V1.start_ms + HOUR_MS
    assert SIM_V1.start_ms + 14 * DAY_MS - HOUR_MS <= time_ms[-1] < SIM_V1.start_ms + 14 * DAY_MS
    assert np.array_equal(log.impressions["hour"], time_ms // HOUR_MS % 24)
    assert len(time_ms) == len(log.truth["true_p"]) == N_LOG


def test_positions_are_a_random_eighth_each_and_the_top_slot_is_clicked_most(log: SimulatedLog) -> None:
    """The randomised slot is what makes the log's own position mix a fair reference."""
    position, true_p = log.impressions["position"], log.truth["true_p"]

    assert np.bincount(position, minlength=9)[1:] / N_LOG == pytest.approx(np.full(8, 1 / 8), abs=0.003)
    assert abs(np.corrcoef(position, log.truth["attainable_p"])[0, 1]) < 0.01
    assert np.all(np.diff([true_p[position == slot].mean() for slot in range(1, 9)]) < 0)


def test_no_ad_is_shown_before_its_creation_and_new_ones_keep_arriving(log: SimulatedLog) -> None:
    """Cold start must be in the log, and must not be a leak from the future."""
    created_ms = log.ads["created_ms"]
    shown = log.impressions["ad_id"]
    arrived_in_last_fifth = created_ms[shown] > log.impressions["time_ms"][-N_LOG // 5]

    assert np.all(created_ms[shown] <= log.impressions["time_ms"])
    assert (created_ms > SIM_V1.start_ms).sum() == 600
    assert 0.001 < arrived_in_last_fifth[-N_LOG // 5 :].mean() < 0.15


def test_a_few_users_and_ads_own_much_of_the_log(log: SimulatedLog) -> None:
    """Real traffic is heavy-tailed: caches, popularity features and cold start depend on it."""
    by_user = np.sort(np.bincount(log.impressions["user_id"], minlength=SIM_V1.n_users))[::-1]
    by_ad = np.sort(np.bincount(log.impressions["ad_id"], minlength=SIM_V1.n_ads))[::-1]

    assert by_user[: SIM_V1.n_users // 100].sum() / N_LOG > 0.2
    assert by_ad[: SIM_V1.n_ads // 10].sum() / N_LOG > 0.5
    assert by_ad[0] / N_LOG < 0.05
    assert by_user[0] / N_LOG < 0.005


def test_clicks_arrive_late_and_some_after_a_day(log: SimulatedLog) -> None:
    """Median of minutes, a tail of hours, about one in a hundred later than 24 h; null exactly where not clicked."""
    clicked, click_time_ms = log.impressions["clicked"], log.impressions["click_time_ms"]
    delay_ms = (click_time_ms - log.impressions["time_ms"])[clicked]

    assert np.array_equal(click_time_ms >= 0, clicked)
    assert delay_ms.min() >= 1
    assert 3 * 60_000 < np.median(delay_ms) < 5 * 60_000
    assert 0.10 < (delay_ms > HOUR_MS).mean() < 0.18
    assert 0.003 < (delay_ms > DAY_MS).mean() < 0.02
    assert log.summary.clicks_later_than_24_h == (delay_ms > DAY_MS).mean()
    assert log.summary.click_delay_ms["p50"] == np.median(delay_ms)


def test_truth_is_aligned_with_the_impressions(log: SimulatedLog) -> None:
    """Row i of the truth belongs to impression i: shifted by one row, the clicks would look random to it."""
    clicked, true_p = log.impressions["clicked"], log.truth["true_p"]

    aligned, shifted = true_p[clicked].mean(), np.roll(true_p, 1)[clicked].mean()

    assert aligned > 2 * SIM_V1.ctr
    assert shifted < 1.2 * SIM_V1.ctr
