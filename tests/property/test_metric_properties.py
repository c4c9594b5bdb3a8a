"""What must hold of metrics for any sample at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from models.evaluation import metrics
from models.evaluation.intervals import all_metrics


@st.composite
def samples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both kinds and probabilities with many ties, on a grid that float arithmetic cannot merge."""
    n = draw(st.integers(2, 60))
    clicked = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda labels: 0 < sum(labels) < n))
    grid = draw(st.lists(st.integers(1, 99), min_size=n, max_size=n))
    return np.array(clicked), np.array(grid) / 100.0


@given(samples())
def test_always_guessing_the_mean_has_entropy_one(sample: tuple[np.ndarray, np.ndarray]) -> None:
    """The definition's anchor: the guess against itself."""
    clicked, _ = sample

    assert metrics.normalized_entropy(clicked, np.full(len(clicked), clicked.mean())) == pytest.approx(1.0)


@given(samples(), st.sampled_from([np.sqrt, np.square, lambda p: p / 2, lambda p: np.log(p)]))
def test_auc_sees_order_alone(sample: tuple[np.ndarray, np.ndarray], rising: object) -> None:
    """Any rising map of the scores leaves it as it is."""
    clicked, p_click = sample

    assert metrics.auc(clicked, rising(p_click)) == pytest.approx(metrics.auc(clicked, p_click))  # type: ignore[operator]


@given(samples())
def test_turning_the_order_round_turns_auc_round(sample: tuple[np.ndarray, np.ndarray]) -> None:
    """What is lost on one side is won on the other."""
    clicked, p_click = sample

    assert metrics.auc(clicked, 1 - p_click) == pytest.approx(1 - metrics.auc(clicked, p_click))


@given(samples(), st.randoms(use_true_random=False))
def test_no_metric_depends_on_the_order_of_rows(sample: tuple[np.ndarray, np.ndarray], random: object) -> None:
    """Ties are the usual culprit. (Calibration error is left out: its bins may cut through a tie.)"""
    clicked, p_click = sample
    order = np.array(random.sample(range(len(clicked)), len(clicked)))  # type: ignore[attr-defined]

    for metric in (metrics.auc, metrics.average_precision, metrics.log_loss, metrics.calibration_ratio):
        assert metric(clicked[order], p_click[order]) == pytest.approx(metric(clicked, p_click))
    assert metrics.best_f1(clicked[order], p_click[order])[0] == pytest.approx(metrics.best_f1(clicked, p_click)[0])


@given(samples())
def test_metrics_stay_in_their_range(sample: tuple[np.ndarray, np.ndarray]) -> None:
    """And every interval holds its figure, however small the sample."""
    figures = all_metrics(*sample)

    for figure in figures.values():
        assert np.isfinite([figure.value, figure.low, figure.high]).all()
        assert figure.low <= figure.value <= figure.high
    for name in ("auc", "pr_auc", "f1"):
        assert 0.0 <= figures[name].low <= figures[name].high <= 1.0


@given(samples(), st.sampled_from([0.01, 0.05, 0.1, 0.5]))
def test_lift_is_the_mean_over_all_orders_of_tied_rows(sample: tuple[np.ndarray, np.ndarray], share: float) -> None:
    """Written out: each row enters with the part of it that has room, and tied rows are one row of their mean label."""
    clicked, p_click = sample
    label = np.array([clicked[p_click == p].mean() for p in p_click])
    room, gained = share * len(clicked), 0.0
    for row in np.argsort(-p_click, kind="stable"):
        part = min(1.0, max(0.0, room))
        gained, room = gained + part * label[row], room - 1.0

    assert metrics.lift(clicked, p_click, share) == pytest.approx(gained / (share * len(clicked)) / clicked.mean())


@given(samples(), st.integers(0, 100))
def test_figures_at_a_threshold_are_those_of_scikit_learn(sample: tuple[np.ndarray, np.ndarray], percent: int) -> None:
    """A score equal to the threshold is called a click."""
    clicked, p_click = sample
    called = p_click >= percent / 100.0

    precision, recall, f1 = metrics.at_threshold(clicked, p_click, percent / 100.0)

    expected = precision_recall_fscore_support(clicked, called, average="binary", zero_division=0.0)[:3]
    assert (recall, f1) == pytest.approx(expected[1:])
    assert np.isnan(precision) if not called.any() else precision == pytest.approx(expected[0])
