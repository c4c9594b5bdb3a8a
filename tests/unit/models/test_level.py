"""The level of a published model: what it promises on rows nobody learnt from is what its calibrator was fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibrator import CalibratorMap, p_click_of, sigmoid
from models.fitting.level import LEAST_ROWS, MOST_ROWS, levelled, rows_to_level_by
from models.segments import SegmentLines
from models.trainers import trainer_named
from models.training import TrainOptions, train
from tests.learning import made_impressions

BENT = CalibratorMap("piecewise", -0.2, np.array([-4.0, -3.0]), np.array([0.8, 1.3, 0.9]), 50_000, 900)


def scores(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(-4.5, 1.0, size=LEAST_ROWS)


def test_both_models_promise_the_same_in_sum() -> None:
    """However far the published one lies from the others."""
    others, published = scores(1), scores(2) + 0.3

    calibrator = levelled(BENT, published, others)

    assert sigmoid(calibrator(published)).sum() == pytest.approx(sigmoid(BENT(others)).sum(), rel=1e-9)


def test_only_the_level_moves() -> None:
    """Shape, counts and the lines of segments are what was fitted."""
    segments = SegmentLines(0, np.array([1.0, 1.2]), np.array([0.0, 0.4]), (0, 500), (0, 120))
    fitted = CalibratorMap("piecewise", -0.2, BENT.knots, BENT.slopes, 50_000, 900, segments)

    calibrator = levelled(fitted, scores(2), scores(1))

    x = np.linspace(-8.0, 2.0, 101)
    np.testing.assert_allclose(np.ptp(calibrator(x) - fitted(x)), 0.0, atol=1e-12)
    assert (calibrator.kind, calibrator.fitted_on, calibrator.clicks) == ("piecewise", 50_000, 900)
    assert calibrator.segments is segments


def test_rows_to_level_by_are_those_that_were_left_out() -> None:
    """All of them, a draw of very many, and none where they are too few to tell."""
    kept = np.arange(0, 30_000, 2)
    np.testing.assert_array_equal(rows_to_level_by(30_000, kept, seed=1), np.arange(1, 30_000, 2))

    assert len(rows_to_level_by(LEAST_ROWS, kept[: LEAST_ROWS // 2], seed=1)) == 0

    n = MOST_ROWS + 50_000
    drawn = rows_to_level_by(n, np.arange(1_000), seed=1)
    assert len(drawn) == MOST_ROWS
    assert drawn.min() >= 1_000
    assert np.all(np.diff(drawn) > 0)


def test_the_seed_hardly_moves_the_level() -> None:
    """Same clicks, other draws of non-clicks, of parts and of rows: without levelling, levels lie 7 % apart."""
    log, later = made_impressions(40_000, seed=1, level=-4.0), made_impressions(20_000, seed=2, level=-4.0)
    levels = []
    for seed in range(4):
        outcome = train(log, trainer_named("gbdt"), TrainOptions(negative_rate=0.1), seed, lambda stage, share: None)
        p = p_click_of(outcome.model.raw_logit(later.encoded), outcome.correction, outcome.calibrator)
        levels.append(float(np.log(p.mean())))

    assert np.ptp(levels) < 0.035
