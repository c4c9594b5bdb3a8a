"""The calibrator: strictly increasing, no richer than its clicks allow, and true on average."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibrator import CalibratorChoice, CalibratorMap, p_click_of, sigmoid
from models.errors import TrainingError
from models.evaluation.metrics import log_loss_of_logit
from models.fitting.calibrating_line import MIN_SLOPE
from models.fitting.calibration import fit_calibrator
from models.fitting.rising_lines import MAX_KNOTS


def drawn(n: int, *, level: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True log-odds around a level, and clicks drawn from them."""
    random = np.random.default_rng(seed)
    log_odds = random.normal(level, 1.0, size=n)
    return log_odds, random.random(n) < sigmoid(log_odds)


def test_few_clicks_change_nothing() -> None:
    """With 50 clicks a fitted level is off by 14 %: worse than the learner's own."""
    log_odds, clicked = drawn(500, level=-2.5)

    assert fit_calibrator(log_odds, clicked).kind == "identity"


@pytest.mark.parametrize(
    ("n", "kind"), [(500, "identity"), (1_200, "platt"), (5_000, "beta"), (20_000, "piecewise"), (60_000, "isotonic")]
)
def test_the_kind_follows_the_clicks(n: int, kind: str) -> None:
    """At a click rate of 22 %. Non-clicks count as clicks do where they are fewer."""
    log_odds, clicked = drawn(n, level=-1.5)

    assert fit_calibrator(log_odds, clicked).kind == kind
    assert fit_calibrator(-log_odds, ~clicked).kind == kind


@pytest.mark.parametrize("kind", ["platt", "beta", "piecewise", "isotonic"])
def test_a_kind_can_be_asked_for(kind: CalibratorChoice) -> None:
    """Whatever the number of clicks would choose."""
    log_odds, clicked = drawn(10_000, level=-1.5)

    assert fit_calibrator(log_odds, clicked, kind).kind == kind


@pytest.mark.parametrize("kind", ["piecewise", "isotonic"])
def test_one_cell_is_a_line_and_says_so(kind: CalibratorChoice) -> None:
    """A hundred clicks make no bends; the manifest must not name a kind that is not there."""
    log_odds, clicked = drawn(400, level=-1.5)

    assert fit_calibrator(log_odds, clicked, kind).kind == "platt"


def test_none_is_fitted_where_none_is_asked_for() -> None:
    """However many clicks there are."""
    assert fit_calibrator(*drawn(10_000, level=-1.5), "none").kind == "identity"


@pytest.mark.parametrize(("n", "kind"), [(5_000, "beta"), (60_000, "isotonic")])
def test_promised_clicks_add_up_exactly(n: int, kind: str) -> None:
    """Whatever its shape, a calibrator may not move the total."""
    log_odds, clicked = drawn(n, level=-1.5)

    calibrator = fit_calibrator(0.5 * log_odds + 1.0, clicked)

    assert calibrator.kind == kind
    assert sigmoid(calibrator(0.5 * log_odds + 1.0)).sum() == pytest.approx(clicked.sum(), rel=1e-9)


@pytest.mark.parametrize(("low", "high"), [(0.5, 2.0), (1.6, 0.8), (1.0, 1.0)])
def test_beta_finds_its_own_curve(low: float, high: float) -> None:
    """Clicks drawn from the curve; both slopes come back to what 90 000 clicks know of them."""
    random = np.random.default_rng(1)
    score = random.normal(0.0, 2.0, size=200_000)
    curve = -0.5 - low * np.logaddexp(0, -score) + high * np.logaddexp(0, score)

    fitted = fit_calibrator(score, random.random(200_000) < sigmoid(curve), "beta")

    assert fitted.slopes[[0, -1]] == pytest.approx([low, high], abs=0.04)
    assert np.abs(fitted(score) - curve)[np.abs(score) < 4.0].max() < 0.1


def test_beta_makes_up_no_bend_where_clicks_are_rare() -> None:
    """Scores near 0.5 % do not tell what would be at 50 %: it stays near Platt's line."""
    log_odds, clicked = drawn(200_000, level=-7.0)
    near = np.linspace(-10.0, -4.0, 50)

    platt, beta = (fit_calibrator(log_odds, clicked, kind)(near) for kind in ("platt", "beta"))

    assert np.abs(beta - platt).max() < 0.05


def test_a_score_of_many_rows_is_one_cell() -> None:
    """Cut in two it would have two rates, and a line between them would be infinitely steep."""
    random = np.random.default_rng(0)
    log_odds = np.repeat([-2.0, -1.0], 30_000)
    clicked = random.random(60_000) < sigmoid(log_odds)

    for kind in ("piecewise", "isotonic"):
        fitted = fit_calibrator(log_odds, clicked, kind)

        assert fitted.knots == pytest.approx([-2.0, -1.0])
        assert sigmoid(fitted(np.array([-2.0, -1.0]))) == pytest.approx(
            [clicked[:30_000].mean(), clicked[30_000:].mean()], rel=1e-2
        )


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
