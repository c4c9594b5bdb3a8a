"""The simulated world: how rare clicks are, what makes them differ, and how that changes over the days."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from models.errors import SimulationError
from models.logs.simulated_world import DAY_MS
from models.logs.simulator import SIM_V1
from tests.simulation import SimulatedLog, between_group_share, log_odds_of


def test_the_ctr_of_sim_v1_is_one_percent(log: SimulatedLog) -> None:
    """Everything quoted against sim-v1 assumes this rarity of clicks: 1.0 ± 0.1 %."""
    clicked = log.impressions["clicked"]

    assert abs(clicked.mean() - 0.01) < 0.001
    assert abs(log.truth["true_p"].mean() - 0.01) < 0.0005
    assert (log.summary.n_clicks, log.summary.ctr) == (clicked.sum(), clicked.mean())


def test_the_log_odds_of_sim_v1_have_the_promised_spread_and_shares(log: SimulatedLog) -> None:
    """Each component's share within one percentage point, the standard deviation within one percent."""
    promised = dataclasses.asdict(SIM_V1.shares)

    assert log_odds_of(log.truth["true_p"]).std() == pytest.approx(1.2, rel=0.01)
    assert log.summary.log_odds_sd == pytest.approx(log_odds_of(log.truth["true_p"]).std(), rel=1e-9)
    assert log.summary.variance_shares == pytest.approx(promised, abs=0.01)
    assert sum(log.summary.variance_shares.values()) == pytest.approx(1.0, abs=0.02)


def test_the_shares_in_the_summary_are_those_of_the_files(log: SimulatedLog) -> None:
    """Seen from outside: the log-odds grouped by columns a reader has vary as much as the summary says."""
    log_odds = log_odds_of(log.truth["true_p"])
    shares = log.summary.variance_shares
    _, device = np.unique(log.impressions["device"], return_inverse=True)
    context = (log.impressions["placement"] * 3 + device) * 24 + log.impressions["hour"]

    assert between_group_share(log_odds, log.impressions["position"]) == pytest.approx(shares["position"], abs=0.01)
    assert between_group_share(log_odds, context) == pytest.approx(shares["context"], abs=0.01)
    assert between_group_share(log_odds, log.segment * 12 + log.category) == pytest.approx(
        shares["segment_category"], abs=0.015
    )


def test_drift_changes_categories_over_days(log: SimulatedLog) -> None:
    """Recent windows can see it: a category's log-odds differ between days far more than chance allows."""
    log_odds = log_odds_of(log.truth["attainable_p"])
    day = (log.impressions["time_ms"] - SIM_V1.start_ms) // DAY_MS
    residual = log_odds - (np.bincount(log.category, log_odds) / np.bincount(log.category))[log.category]

    share = between_group_share(residual, log.category * 14 + day) * residual.var() / 1.2**2

    assert share == pytest.approx(SIM_V1.shares.drift, abs=0.03)


def test_without_drift_only_drift_is_missing(made: Callable[..., SimulatedLog]) -> None:
    """Same people, same pages: the switch takes one component away and leaves the rest where it was."""
    with_drift, without = made("with"), made("without", drift=False)

    assert without.summary.variance_shares["drift"] == 0
    assert without.summary.log_odds_sd == pytest.approx(1.2 * np.sqrt(0.92), rel=0.02)
    assert without.truth["true_p"].mean() == pytest.approx(0.01, rel=0.05)
    for column in ("time_ms", "user_id", "ad_id", "placement", "device", "position"):
        assert np.array_equal(with_drift.impressions[column], without.impressions[column])


def test_a_longer_log_of_one_seed_is_a_closer_look_at_the_same_world(made: Callable[..., SimulatedLog]) -> None:
    """Scaling a study up must not change who exists or how they click."""
    short, long = made("short", n_impressions=1_000), made("long")

    assert short.summary.intercept == long.summary.intercept
    for table in ("users", "ads"):
        for column, values in getattr(short, table).items():
            assert np.array_equal(values, getattr(long, table)[column])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"placement_mix": (0.5, 0.4)}, "placement_mix sum to 0.9; scale them"),
        ({"shares": dataclasses.replace(SIM_V1.shares, drift=0.1)}, "shares sum to 1.02"),
        ({"new_ad_share": 1.0}, "at least one ad exists when the log starts"),
    ],
)
def test_a_preset_that_contradicts_itself_is_refused(change: dict[str, object], message: str) -> None:
    """A share that is not accounted for would quietly bend every other one."""
    with pytest.raises(SimulationError, match=message):
        dataclasses.replace(SIM_V1, **change)  # type: ignore[arg-type]
