"""Metrics on samples small enough to check by hand, and their refusals."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import MetricError
from models.evaluation import metrics

CLICKED = np.array([True, False, True, False, False])
P_CLICK = np.array([0.9, 0.8, 0.4, 0.4, 0.1])


def test_auc_counts_pairs_and_halves_ties() -> None:
    """Of six pairs the first click wins three, the second one and a half."""
    assert metrics.auc(CLICKED, P_CLICK) == pytest.approx(4.5 / 6)


def test_average_precision_takes_ties_together() -> None:
    """Precision 1 at the first click; the second comes with its tie, two clicks of four."""
    assert metrics.average_precision(CLICKED, P_CLICK) == pytest.approx((1.0 + 2 / 4) / 2)


def test_log_loss_is_in_nats() -> None:
    """Always saying one half costs ln 2."""
    assert metrics.log_loss(CLICKED, np.full(5, 0.5)) == pytest.approx(np.log(2))


def test_a_certain_mistake_stays_finite() -> None:
    """One absurd row must not swallow the figure of a million."""
    assert metrics.log_loss(np.array([True, False]), np.array([0.0, 0.0])) == pytest.approx(-np.log(1e-7) / 2, rel=1e-6)


def test_calibration_ratio_is_promised_over_seen() -> None:
    """2.6 promised, 2 came."""
    assert metrics.calibration_ratio(CLICKED, P_CLICK) == pytest.approx(1.3)


def test_best_f1_finds_the_threshold() -> None:
    """From 0.4 up: two of four are clicks, none is missed; from 0.9 up: one of one, one missed. Equal at 2/3."""
    f1, threshold = metrics.best_f1(CLICKED, P_CLICK)

    assert f1 == pytest.approx(2 / 3)
    assert threshold in (0.4, 0.9)


def test_exact_probabilities_do_not_reach_zero_calibration_error() -> None:
    """The floor says what chance leaves, so that nobody reads noise as a fault."""
    random = np.random.default_rng(0)
    p = random.uniform(0.005, 0.03, size=100_000)
    clicked = random.random(100_000) < p

    error, floor = metrics.relative_calibration_error(clicked, p), metrics.relative_calibration_floor(clicked, p)

    assert 0.5 * floor < error < 1.6 * floor
    assert metrics.relative_calibration_error(clicked, 1.5 * p) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    "metric",
    [
        metrics.auc,
        metrics.average_precision,
        metrics.normalized_entropy,
        metrics.calibration_ratio,
        metrics.relative_calibration_error,
        metrics.best_f1,
    ],
)
@pytest.mark.parametrize(
    ("clicked", "p_click", "message"),
    [
        ([], [], "no rows"),
        ([True, False], [0.5], "2 labels cannot be compared with 1"),
        ([True, True], [0.5, 0.5], r"all 2 impressions have the same label \(clicked\)"),
        ([False, False], [0.5, 0.5], r"same label \(not clicked\)"),
    ],
)
def test_an_undefined_metric_is_refused(
    metric: object, clicked: list[bool], p_click: list[float], message: str
) -> None:
    """A number where none is defined would be believed."""
    with pytest.raises(MetricError, match=message):
        metric(np.array(clicked, dtype=np.bool_), np.array(p_click))  # type: ignore[operator]
