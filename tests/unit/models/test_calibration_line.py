"""Slope and intercepts against scikit-learn's optimum, and their intervals against a known truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from models.calibrator import sigmoid
from models.evaluation.calibration_line import recalibration
from models.evaluation.intervals import all_metrics
from models.evaluation.metrics import Z_95


def sample(seed: int, slope: float, intercept: float, n: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    """Promises that are off by a known line, and clicks; scores on a coarse grid, so many are tied."""
    random = np.random.default_rng(seed)
    logit = random.normal(-1.5, 1.0, size=n).round(1)
    return random.random(n) < sigmoid(intercept + slope * logit), sigmoid(logit)


@pytest.mark.parametrize(("promised", "rate"), [(1e-6, 0.95), (1e-3, 0.95), (0.9999, 0.05)])
def test_promises_that_are_off_by_far_have_a_line_all_the_same(promised: float, rate: float) -> None:
    """Newton's whole step would end where no curvature is left: labels turned round, a unit taken wrongly."""
    random = np.random.default_rng(0)
    p_click = sigmoid(np.log(promised / (1 - promised)) + random.normal(0.0, 0.3, size=2_000).round(2))
    clicked = random.random(2_000) < rate

    found = recalibration(clicked, p_click, None)

    assert found is not None
    shifted = sigmoid(np.log(p_click / (1 - p_click)) + found.in_the_large.value)
    assert shifted.mean() == pytest.approx(clicked.mean(), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 3.0), st.floats(-1.0, 1.0))
def test_the_coefficients_are_those_of_scikit_learn(seed: int, slope: float, intercept: float) -> None:
    """Whatever the line is, down to slopes that Newton overshoots from."""
    clicked, p_click = sample(seed, slope, intercept, n=500)
    logit = np.log(p_click / (1 - p_click)).reshape(-1, 1)

    found = recalibration(clicked, p_click, None)

    expected = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(logit, clicked)
    assert found is not None
    assert found.slope.value == pytest.approx(expected.coef_[0, 0], abs=1e-4)
    assert found.intercept.value == pytest.approx(expected.intercept_[0], abs=1e-4)


def test_in_the_large_the_promised_clicks_become_the_seen_ones() -> None:
    """The definition of the intercept at slope 1."""
    clicked, p_click = sample(seed=1, slope=0.7, intercept=0.4)

    found = recalibration(clicked, p_click, None)

    assert found is not None
    shifted = sigmoid(np.log(p_click / (1 - p_click)) + found.in_the_large.value)
    assert shifted.sum() == pytest.approx(clicked.sum())


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.6, -0.5)])
def test_intervals_cover_the_truth_as_often_as_they_say(slope: float, intercept: float) -> None:
    """200 samples of 2 000 impressions, rows independent."""
    covered = np.zeros(2)

    for seed in range(200):
        found = recalibration(*sample(seed, slope, intercept), None)
        assert found is not None
        off = np.array([found.slope.value - slope, found.intercept.value - intercept])
        covered += np.abs(off) <= Z_95 * np.array([found.slope.error, found.intercept.error])

    assert np.all((covered >= 180) & (covered <= 198)), covered


def test_impressions_of_one_user_are_not_independent() -> None:
    """Rows repeated twenty times as one user's say what they say once; taken as rows they would claim far more."""
    clicked, p_click = sample(seed=3, slope=1.0, intercept=0.0, n=500)
    repeated, repeated_p = clicked.repeat(20), p_click.repeat(20)

    once = recalibration(clicked, p_click, None)
    as_users = recalibration(repeated, repeated_p, np.arange(500).repeat(20))
    as_rows = recalibration(repeated, repeated_p, None)

    assert once is not None
    assert as_users is not None
    assert as_rows is not None
    assert as_users.slope == pytest.approx(once.slope)
    assert as_rows.slope.error < 0.3 * once.slope.error


@pytest.mark.parametrize(
    "p_click",
    [np.full(6, 0.3), np.array([0.9, 0.8, 0.7, 0.1, 0.1, 0.1]), np.array([0.5, 0.8, 0.7, 0.5, 0.1, 0.1])],
    ids=["constant", "separated", "separated but for a tie"],
)
def test_where_no_finite_slope_is_best_none_is_told(p_click: np.ndarray) -> None:
    """A search would walk off to infinity and stop somewhere."""
    clicked = np.array([True, True, True, False, False, False])

    assert recalibration(clicked, p_click, None) is None
    assert "calibration_slope" not in all_metrics(clicked, p_click)
