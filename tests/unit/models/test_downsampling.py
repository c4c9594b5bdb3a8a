"""Negative downsampling: clicks stay, the kept share is known exactly, the correction undoes it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from models.encoder import Encoded
from models.errors import TrainingError
from models.fitting.downsampling import automatic_rate, keep_rows, log_odds_correction, refuse_few
from models.trainers.base_rate import BaseRateTrainer
from models.trainers.trainer import TrainingSet
from models.training import FIT_SHARE, TrainOptions, train

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


@pytest.mark.parametrize(("rate", "left"), [(1e-9, 0), (1e-4, 8), (0.0062, 491)])
def test_a_rate_that_leaves_too_few_non_clicks_is_refused(rate: float, left: int) -> None:
    """Before anything is learnt, with the smallest rate that leaves enough; and that one is taken."""
    few = _seen(CLICKED)

    with pytest.raises(
        TrainingError, match=rf"leaves {left} of the 79,2\d\d non-clicks .* smallest share .* is 0\.0063"
    ) as told:
        train(few, BaseRateTrainer(), TrainOptions(negative_rate=rate), 1, lambda _what, _share: None)

    smallest = float(str(told.value).split()[-1])
    outcome = train(few, BaseRateTrainer(), TrainOptions(negative_rate=smallest), 1, lambda _what, _share: None)
    assert outcome.negative_rate == pytest.approx(smallest, rel=0.01)


def test_few_non_clicks_are_no_reason_to_refuse_what_is_learnt_whole() -> None:
    """Nor does the rate of a large log with hardly a click leave less than what would be refused."""
    refuse_few(_clicked(600, 300), 1.0)
    rare = _clicked(1_000_000, 20)
    refuse_few(rare, automatic_rate(rare))


def test_small_logs_are_learnt_whole_and_large_ones_thinned() -> None:
    """Sampling buys time, and a small log needs none."""
    assert automatic_rate(_clicked(100_000, 1_000)) == 1.0
    assert automatic_rate(_clicked(1_000_000, 10_000)) == pytest.approx(20 * 10_000 / 990_000)
    assert automatic_rate(_clicked(1_000_000, 300_000)) == 1.0


def test_the_clicks_that_judge_decide_nothing_about_what_is_learnt() -> None:
    """The share of non-clicks follows from the fit part: ten times the clicks in the tail leave it as it was."""
    n = 160_000
    clicked = _clicked(n, n // 100)
    more = clicked.copy()
    more[int(n * FIT_SHARE) :: 10] = True

    rates = [
        train(_seen(labels), BaseRateTrainer(), TrainOptions(), 1, lambda _what, _share: None).negative_rate
        for labels in (clicked, more)
    ]

    assert rates[0] == pytest.approx(rates[1], rel=1e-3)


def _clicked(n: int, clicks: int) -> npt.NDArray[np.bool_]:
    """n impressions, evenly strewn with so many clicks."""
    clicked = np.zeros(n, dtype=np.bool_)
    clicked[np.linspace(0, n - 1, clicks).astype(np.int64)] = True
    return clicked


def _seen(clicked: npt.NDArray[np.bool_]) -> TrainingSet:
    """Impressions of which nothing is known but one number."""
    n = len(clicked)
    encoded = Encoded(np.ones((n, 1), dtype=np.float32), np.empty((n, 0), dtype=np.int64))
    return TrainingSet(encoded, clicked, np.arange(n), ("context.x",), ())


@pytest.mark.parametrize("rate", [0.0, -0.5, 1.1, float("nan")])
def test_an_impossible_rate_is_refused(rate: float) -> None:
    """Before hours are spent on it."""
    with pytest.raises(TrainingError, match="above 0 and at most 1"):
        keep_rows(CLICKED, rate, seed=0)
