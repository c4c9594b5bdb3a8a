"""The share of what can be known: its two ends, and an interval that is paired."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import MetricError
from models.evaluation.attainable import share_of_attainable_gain

N = 40_000


def sample(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcome, true probability and user of n impressions."""
    random = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(3 - random.normal(size=N)))
    return random.random(N) < p, p, random.integers(0, 5_000, N)


def test_the_oracle_has_it_all_and_the_base_rate_nothing() -> None:
    """Both ends of the scale, exactly."""
    clicked, p, users = sample(1)

    oracle = share_of_attainable_gain(clicked, p, p, users)
    nothing = share_of_attainable_gain(clicked, np.full(N, clicked.mean()), p, users)

    assert (oracle.value, oracle.low, oracle.high) == pytest.approx((1, 1, 1))
    assert nothing.value == pytest.approx(0, abs=1e-12)


def test_a_blunted_oracle_lies_between() -> None:
    """Half of the log-odds' spread around their mean is worth less than all of it and more than none."""
    clicked, p, users = sample(2)
    log_odds = np.log(p / (1 - p))
    blunted = 1 / (1 + np.exp(-(log_odds.mean() + 0.5 * (log_odds - log_odds.mean()))))

    share = share_of_attainable_gain(clicked, blunted, p, users)

    assert 0.4 < share.low < share.value < share.high < 1
    assert share.clicks == int(clicked.sum())


def test_one_outcome_has_no_share() -> None:
    """There is no base rate to compare with."""
    with pytest.raises(MetricError):
        share_of_attainable_gain(np.zeros(9, bool), np.full(9, 0.1), np.full(9, 0.1), np.arange(9))
