"""Figures at a threshold of the asker's own: their intervals hold the truth, and say so where nothing is called."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibrator import sigmoid
from models.evaluation.thresholds import at_thresholds


def sample(seed: int, n: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    """Exact probabilities, and clicks drawn from them."""
    random = np.random.default_rng(seed)
    p_click = sigmoid(random.normal(-1.0, 1.0, size=n))
    return random.random(n) < p_click, p_click


def test_intervals_cover_the_value_of_a_much_larger_sample() -> None:
    """200 samples of 2 000 impressions."""
    (truth,) = at_thresholds(*sample(999, n=1_000_000), [0.4])
    covered = dict.fromkeys(("precision", "recall", "f1"), 0)

    for seed in range(200):
        (found,) = at_thresholds(*sample(seed), [0.4], seed=seed)
        for name in covered:
            figure = getattr(found, name)
            covered[name] += figure.low <= getattr(truth, name).value <= figure.high

    assert all(180 <= count <= 198 for count in covered.values()), covered


def test_whole_users_are_drawn() -> None:
    """A user's rows repeated twenty times say what they say once."""
    clicked, p_click = sample(seed=1, n=500)
    users = np.arange(500)

    (once,) = at_thresholds(clicked, p_click, [0.4], users)
    (repeated,) = at_thresholds(clicked.repeat(20), p_click.repeat(20), [0.4], users.repeat(20))

    assert repeated.called == 20 * once.called
    assert repeated.f1.high - repeated.f1.low == pytest.approx(once.f1.high - once.f1.low, rel=0.25)


def test_a_threshold_that_nothing_reaches_has_no_precision() -> None:
    """A precision of 0 would say that something was called and missed."""
    (found,) = at_thresholds(*sample(seed=1), [0.9999])

    assert (found.called, found.precision) == (0, None)
    assert (found.recall.value, found.f1.value) == (0.0, 0.0)
    assert 0.0 < found.recall.high < 0.05


def test_all_right_is_no_certainty() -> None:
    """Three called ones that all clicked."""
    (found,) = at_thresholds(np.array([1, 1, 1, 0, 0], dtype=bool), np.array([0.9, 0.8, 0.7, 0.2, 0.1]), [0.5])

    assert found.precision is not None
    assert found.precision.value == found.precision.high == 1.0
    assert found.precision.low < 0.5
