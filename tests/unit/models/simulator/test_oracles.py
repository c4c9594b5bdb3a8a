"""The two oracles of a simulated log: calibrated, ordered by what they know, and measured by the plain formulas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from models.logs import oracles
from models.logs.oracles import HiddenLogOdds, OracleScore, attainable_probability
from models.logs.simulated_world import DAY_MS, build_world
from models.logs.simulator import SIM_V1
from tests.simulation import N_LOG, SEED, SimulatedLog


def test_both_oracles_promise_the_same_number_of_clicks(log: SimulatedLog) -> None:
    """An expectation keeps the mean: the attainable oracle may be less sharp, never higher or lower."""
    difference = log.truth["attainable_p"] - log.truth["true_p"]
    standard_error = difference.std() / np.sqrt(N_LOG)

    assert abs(difference.mean()) < 4 * standard_error
    assert standard_error < 0.005 * SIM_V1.ctr


@pytest.mark.parametrize("by", ["attainable_p", "segment", "category", "placement", "hour", "day"])
def test_the_attainable_oracle_is_calibrated_in_every_group_serving_can_see(log: SimulatedLog, by: str) -> None:
    """What serving sees leaves nothing to correct: in each group its mean is the mean of the true probability."""
    true_p, attainable_p = log.truth["true_p"], log.truth["attainable_p"]
    group = {
        "attainable_p": np.searchsorted(np.quantile(attainable_p, np.arange(0.1, 1.0, 0.1)), attainable_p),
        "segment": log.segment,
        "category": log.category,
        "placement": log.impressions["placement"],
        "hour": log.impressions["hour"],
        "day": (log.impressions["time_ms"] - SIM_V1.start_ms) // DAY_MS,
    }[by]

    for value in np.unique(group):
        rows = group == value
        difference = attainable_p[rows] - true_p[rows]
        standard_error = difference.std() / np.sqrt(rows.sum())
        # Users come back, so rows are not quite independent: 5 standard errors for some 70 groups.
        assert abs(difference.mean()) < 5 * standard_error, (by, value)


def test_the_attainable_probability_is_the_mean_over_slots_and_tastes() -> None:
    """Against plain sampling of what serving cannot see; and more quadrature nodes change nothing."""
    world = build_world(SIM_V1, np.random.SeedSequence(SEED), drift=True)
    rng = np.random.default_rng(SEED)
    visible = np.array([-9.0, -5.0, -2.0, 1.0])
    slots = rng.choice(world.position_effect, size=(200_000, 1))
    tastes = rng.normal(0.0, SIM_V1.component_sd(SIM_V1.shares.taste), size=(200_000, 1))

    expected = attainable_probability(visible, HiddenLogOdds.of(world))

    sampled = (1 / (1 + np.exp(-(visible + slots + tastes)))).mean(axis=0)
    assert expected == pytest.approx(sampled, rel=0.01)


def test_nine_taste_nodes_are_as_good_as_forty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expectation is called exact; the quadrature must not be its weak point."""
    world = build_world(SIM_V1, np.random.SeedSequence(SEED), drift=True)
    visible = np.linspace(-12, 3, 100)

    few = attainable_probability(visible, HiddenLogOdds.of(world))
    monkeypatch.setattr(oracles, "TASTE_NODES", 40)
    many = attainable_probability(visible, HiddenLogOdds.of(world))

    assert few == pytest.approx(many, rel=1e-11)


def test_knowing_less_costs_the_attainable_oracle(log: SimulatedLog) -> None:
    """The true oracle is the best there is, the attainable one stands between it and the base rate."""
    tail = log.summary.tail

    assert (tail.n_impressions, tail.n_clicks) == (60_000, log.impressions["clicked"][-60_000:].sum())
    assert tail.true.normalized_entropy < tail.attainable.normalized_entropy < 1
    assert tail.true.auc > tail.attainable.auc > 0.5


def test_oracle_quality_gathered_in_batches_equals_the_plain_formulas(log: SimulatedLog) -> None:
    """The tally sees hours, bins the log-odds and must still report the tail's own NE and AUC."""
    clicked, p = log.impressions["clicked"][-60_000:], log.truth["attainable_p"][-60_000:]
    ctr, ranks = clicked.mean(), np.argsort(np.argsort(p))
    entropy = -(ctr * np.log(ctr) + (1 - ctr) * np.log(1 - ctr))
    n_clicks = clicked.sum()
    rank_sum_of_best = (ranks[clicked].sum() - n_clicks * (n_clicks - 1) / 2) / (n_clicks * (~clicked).sum())

    quality = log.summary.tail.attainable

    log_loss = -np.log(np.where(clicked, p, 1 - p)).mean()
    assert quality.normalized_entropy == pytest.approx(log_loss / entropy, rel=1e-9)
    assert quality.auc == pytest.approx(rank_sum_of_best, abs=1e-5)


def test_equal_probabilities_count_half_in_the_auc() -> None:
    """A constant guess knows nothing: AUC 0.5 and NE 1 whatever the labels."""
    score = OracleScore()

    score.add(np.array([True, False, False, False]), np.full(4, 0.25))

    assert score.quality().auc == 0.5
    assert score.quality().normalized_entropy == pytest.approx(1.0)


def test_a_log_of_one_impression_is_a_log(made: Callable[..., SimulatedLog]) -> None:
    """Too small to judge an oracle is no reason to fail: its quality is unknown, not wrong."""
    log = made(n_impressions=1)

    assert len(log.impressions["time_ms"]) == 1
    assert log.summary.tail.true.normalized_entropy is None
    assert log.summary.tail.true.auc is None
