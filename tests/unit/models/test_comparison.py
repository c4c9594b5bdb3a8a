"""Paired comparison: the luck that two models share does not blur the difference between them."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibrator import sigmoid
from models.errors import MetricError
from models.evaluation.comparison import comparison, entropy_difference
from models.evaluation.intervals import all_metrics
from models.evaluation.metrics import auc, normalized_entropy

RANDOM = np.random.default_rng(4)
LOG_ODDS = RANDOM.normal(-3.0, 1.0, size=20_000)
P_TRUE = sigmoid(LOG_ODDS)
CLICKED = RANDOM.random(len(P_TRUE)) < P_TRUE
P_WORSE = sigmoid(LOG_ODDS + RANDOM.normal(0.0, 0.3, size=len(P_TRUE)))


def test_the_difference_is_that_of_both_entropies() -> None:
    """Below 0 the new model is better."""
    better = entropy_difference(CLICKED, P_TRUE, P_WORSE, None)

    expected = normalized_entropy(CLICKED, P_TRUE) - normalized_entropy(CLICKED, P_WORSE)
    assert better.value == pytest.approx(expected)
    assert (better.n, better.clicks) == (20_000, CLICKED.sum())
    assert better.high < 0


def test_pairs_see_what_two_intervals_cannot() -> None:
    """The reason for pairing: here the models' own intervals overlap, and their difference is beyond doubt."""
    new, old = (all_metrics(CLICKED, p)["normalized_entropy"] for p in (P_WORSE, P_TRUE))

    assert new.low < old.high
    assert entropy_difference(CLICKED, P_WORSE, P_TRUE, None).low > 0


def test_the_interval_of_a_difference_covers_as_often_as_it_says() -> None:
    """Two models that are equally good by construction: over 60 samples 0 is missed about three times."""
    covered = 0

    for seed in range(60):
        random = np.random.default_rng(seed)
        log_odds = random.normal(-2.0, 1.0, size=2_000)
        clicked = random.random(2_000) < sigmoid(log_odds)
        first, second = (sigmoid(log_odds + random.normal(0.0, 0.5, size=2_000)) for _ in range(2))
        difference = entropy_difference(clicked, first, second, None, seed)
        covered += difference.low <= 0.0 <= difference.high

    assert covered >= 51


def test_repeated_impressions_of_a_user_do_not_narrow_it() -> None:
    """Whole users are redrawn."""
    rows = slice(0, 500)
    clicked, new, old = (column[rows] for column in (CLICKED, P_WORSE, P_TRUE))
    users = np.arange(500).repeat(20)

    once = entropy_difference(clicked, new, old, None)
    repeated = entropy_difference(clicked.repeat(20), new.repeat(20), old.repeat(20), users)

    assert repeated.high - repeated.low == pytest.approx(once.high - once.low, rel=0.35)


def correlated(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two equally good scores of users whose impressions are alike: 60 users, 3 000 impressions."""
    random = np.random.default_rng(seed)
    user = random.integers(60, size=3_000)
    level, (first, second) = random.normal(-1.0, 1.0, size=60), random.normal(0.0, 1.5, size=(2, 60))
    clicked = random.random(3_000) < sigmoid(level[user])
    return clicked, sigmoid((level + first)[user]), sigmoid((level + second)[user]), user


def test_all_differences_cover_as_often_as_they_say() -> None:
    """A user's impressions are alike; over 100 samples 0 is missed about five times, by rows far more often (of 50)."""
    names = ("normalized_entropy", "log_loss", "auc")
    by_user, by_row = dict.fromkeys(names, 0), 0

    for seed in range(100):
        clicked, first, second, user = correlated(seed)
        found = comparison("v1", clicked, first, second, user, seed)
        for name in names:
            difference = getattr(found, name)
            by_user[name] += difference.low <= 0.0 <= difference.high
        if seed < 50:
            rows = comparison("v1", clicked, first, second, None, seed).auc
            by_row += rows.low <= 0.0 <= rows.high

    assert all(count >= 88 for count in by_user.values()), by_user
    assert by_row < 40


def test_the_difference_of_areas_is_exact() -> None:
    """And below 0 for the worse order."""
    found = comparison("v1", CLICKED, P_WORSE, P_TRUE, None).auc

    assert found.value == pytest.approx(auc(CLICKED, P_WORSE) - auc(CLICKED, P_TRUE))
    assert found.high < 0


def test_one_kind_of_label_is_refused() -> None:
    """There is no base rate to compare with."""
    with pytest.raises(MetricError, match="same label"):
        entropy_difference(np.zeros(10, dtype=np.bool_), np.full(10, 0.1), np.full(10, 0.2), None)
