"""The calibrator: strictly increasing, no richer than its clicks allow, and true on average."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibrator import CalibratorMap, p_click_of, sigmoid
from models.errors import TrainingError
from models.evaluation.metrics import log_loss_of_logit
from models.fitting.calibration import MAX_KNOTS, MIN_SLOPE, fit_calibrator


def drawn(n: int, *, level: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True log-odds around a level, and clicks drawn from them."""
    random = np.random.default_rng(seed)
    log_odds = random.normal(level, 1.0, size=n)
    return log_odds, random.random(n) < sigmoid(log_odds)


def test_few_clicks_change_nothing() -> None:
    """With 50 clicks a fitted level is off by 14 %: worse than the learner's own."""
    log_odds, clicked = drawn(500, level=-2.5)

    assert fit_calibrator(log_odds, clicked).kind == "identity"


@pytest.mark.parametrize(("n", "kind"), [(5_000, "platt"), (60_000, "piecewise")])
def test_promised_clicks_add_up_exactly(n: int, kind: str) -> None:
    """Whatever its shape, a calibrator may not move the total."""
    log_odds, clicked = drawn(n, level=-1.5)

    calibrator = fit_calibrator(0.5 * log_odds + 1.0, clicked)

    assert calibrator.kind == kind
    assert sigmoid(calibrator(0.5 * log_odds + 1.0)).sum() == pytest.approx(clicked.sum(), rel=1e-9)


@pytest.mark.parametrize("n", [5_000, 60_000])
def test_a_stretched_score_is_straightened(n: int) -> None:
    """A score that exaggerates twofold comes back to the truth."""
    log_odds, clicked = drawn(n, level=-1.5)

    calibrated = fit_calibrator(2.0 * log_odds, clicked)(2.0 * log_odds)

    assert log_loss_of_logit(clicked, calibrated) < log_loss_of_logit(clicked, log_odds) + 2e-4


def test_a_bent_score_is_straightened_piece_by_piece() -> None:
    """Two parameters cannot undo a bend; with enough clicks the pieces can."""
    log_odds, clicked = drawn(200_000, level=-1.5)
    bent = np.where(log_odds < -1.5, log_odds, -1.5 + 3.0 * (log_odds + 1.5))

    calibrator = fit_calibrator(bent, clicked)

    assert len(calibrator.knots) <= MAX_KNOTS
    assert log_loss_of_logit(clicked, calibrator(bent)) < log_loss_of_logit(clicked, log_odds) + 5e-4


@pytest.mark.parametrize("seed", range(5))
def test_order_is_kept_even_where_clicks_contradict_it(seed: int) -> None:
    """A flat or falling piece would tie or turn round candidates that the model tells apart."""
    log_odds, clicked = drawn(100_000, level=-1.5, seed=seed)
    turned = -log_odds

    calibrator = fit_calibrator(turned, clicked)
    scores = np.sort(np.random.default_rng(seed).uniform(-10, 10, size=10_000))

    assert (calibrator.slopes >= MIN_SLOPE).all()
    assert (np.diff(calibrator(scores)) > 0).all()


def test_a_score_without_spread_is_left_alone() -> None:
    """One single score has no slope to fit."""
    assert fit_calibrator(np.full(5_000, -1.0), np.arange(5_000) % 3 == 0).kind == "identity"


@pytest.mark.parametrize("slopes", [[1.0, 0.0], [1.0, -1.0], [1.0]])
def test_a_map_that_does_not_rise_cannot_be_made(slopes: list[float]) -> None:
    """Strictly increasing is a property of the type and not of good luck."""
    with pytest.raises(TrainingError, match="strictly increasing"):
        CalibratorMap("piecewise", 0.0, np.array([0.0]), np.array(slopes))


def test_the_correction_comes_before_the_calibrator() -> None:
    """It is exact only in the learner's own log-odds: behind a bend it would shift the wrong place."""
    bend = CalibratorMap("piecewise", 0.0, np.array([0.0]), np.array([1.0, 3.0]))

    p_click = p_click_of(np.array([1.0]), -2.0, bend)

    assert p_click[0] == pytest.approx(1 / (1 + np.exp(1.0)))


def test_extreme_log_odds_do_not_overflow() -> None:
    """A warning is an error here, and a NaN would be worse."""
    np.testing.assert_array_equal(sigmoid(np.array([-1e4, 0.0, 1e4])), [0.0, 0.5, 1.0])
