"""Negative downsampling: clicks stay, the kept share is known exactly, the correction undoes it."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import TrainingError
from models.fitting.downsampling import automatic_rate, keep_rows, log_odds_correction

CLICKED = np.random.default_rng(0).random(100_000) < 0.01


def test_all_clicks_stay_and_the_share_of_the_rest_is_exact() -> None:
    """The correction uses the share that was really kept, so it has no luck in it."""
    rows, rate = keep_rows(CLICKED, 0.1, seed=1)

    assert CLICKED[rows].sum() == CLICKED.sum()
    assert (~CLICKED[rows]).sum() / (~CLICKED).sum() == rate
    assert rate == pytest.approx(0.1, rel=1e-3)
    assert (np.diff(rows) > 0).all()


def test_corrected_log_odds_return_the_base_rate() -> None:
    """From 1 % to 29 % and back."""
    rows, rate = keep_rows(CLICKED, 0.025, seed=1)
    seen = CLICKED[rows].mean()

    log_odds = np.log(seen / (1 - seen)) + log_odds_correction(rate)

    assert 1 / (1 + np.exp(-log_odds)) == pytest.approx(CLICKED.mean(), rel=1e-9)


def test_the_seed_decides_who_stays() -> None:
    """The same seed the same rows, another seed other rows."""
    first, again, other = (keep_rows(CLICKED, 0.1, seed)[0] for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_small_logs_are_learnt_whole_and_large_ones_thinned() -> None:
    """Sampling buys time, and a small log needs none."""
    assert automatic_rate(100_000, 1_000) == 1.0
    assert automatic_rate(1_000_000, 10_000) == pytest.approx(20 * 10_000 / 990_000)
    assert automatic_rate(1_000_000, 300_000) == 1.0


@pytest.mark.parametrize("rate", [0.0, -0.5, 1.1, float("nan")])
def test_an_impossible_rate_is_refused(rate: float) -> None:
    """Before hours are spent on it."""
    with pytest.raises(TrainingError, match="above 0 and at most 1"):
        keep_rows(CLICKED, rate, seed=0)
