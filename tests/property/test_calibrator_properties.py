"""What holds of a calibrator of any kind, whatever scores and clicks it was fitted to."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.calibrator import CALIBRATOR_CHOICES, Float64s, p_click_of, sigmoid
from models.export.graph import export_graph
from models.fitting.beta_curve import DRAWING_ERROR, drawn_curve
from models.fitting.calibrating_line import MAX_SLOPE, MIN_SLOPE, Bools
from models.fitting.calibration import MIN_CLICKS, fit_calibrator
from models.fitting.rising_lines import MAX_KNOTS
from models.fitting.segments import fit_segments
from models.plans.generic import GenericPlan
from models.plans.source import calibrator_of
from models.specs import LinearSpec

FITTED = [choice for choice in CALIBRATOR_CHOICES if choice != "none"]
every_kind = pytest.mark.parametrize("choice", FITTED)
many = settings(max_examples=60)


class Sample(NamedTuple):
    """n scores and what came of them."""

    log_odds: Float64s
    clicked: Bools


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Smooth, tied, constant, narrow, extreme or turned round; clicks from one to all but one."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.sampled_from([60, 500, 6_000]))
    true = random.normal(draw(st.sampled_from([-5.0, -1.5, 2.0])), 1.2, size=n)
    clicked = random.random(n) < sigmoid(true)
    rare = draw(st.sampled_from(["as drawn", "as drawn", "one click", "all but one"]))
    if rare != "as drawn":
        clicked[:] = rare == "all but one"
        clicked[random.integers(n)] = rare == "one click"
    bend = draw(st.sampled_from(["none", "tied", "two values", "constant", "narrow", "wide", "extreme", "turned"]))
    log_odds = {
        "none": true,
        "tied": np.round(true * 2.0) / 2.0,
        "two values": np.where(true > np.median(true), 0.5, -3.0),
        "constant": np.full(n, -3.0),
        "narrow": -3.0 + 1e-3 * true,
        "wide": 30.0 * true,
        "extreme": np.where(random.random(n) < 0.1, 1e4 * np.sign(true), true),
        "turned": -true,
    }[bend]
    return Sample(log_odds, clicked)


def askable(sample: Sample) -> Float64s:
    """Ascending scores, those of the sample and others around and far from them, too far apart for rounding to tie."""
    scores = np.unique(np.concatenate([sample.log_odds, np.linspace(-40, 40, 2_001), [-1e5, 1e5]]))
    kept = [scores[0]]
    for score in scores[1:].tolist():
        if score - kept[-1] > 1e-9 * max(1.0, abs(score)):
            kept.append(score)
    return np.array(kept)


@every_kind
@many
@given(sample=samples())
def test_a_higher_score_is_a_higher_probability(choice: str, sample: Sample) -> None:
    """Also for ties and extremes, and scores that no row had: order inside a segment is the learner's."""
    calibrator = fit_calibrator(*sample, choice)  # type: ignore[arg-type]

    answered = calibrator(askable(sample))

    assert np.isfinite(answered).all()
    assert (np.diff(answered) > 0).all()
    assert len(calibrator.knots) <= MAX_KNOTS
    if calibrator.kind != "identity":
        assert (calibrator.slopes > MIN_SLOPE * (1 - 1e-6)).all()
        assert (calibrator.slopes < MAX_SLOPE * (1 + 1e-6)).all()


@every_kind
@many
@given(sample=samples())
def test_promised_clicks_add_up_to_the_seen_ones(choice: str, sample: Sample) -> None:
    """Whatever its shape; where it had too little to be fitted it is the identity and says so."""
    calibrator = fit_calibrator(*sample, choice)  # type: ignore[arg-type]

    clicks, n = int(np.count_nonzero(sample.clicked)), len(sample.clicked)
    if min(clicks, n - clicks) < MIN_CLICKS or np.ptp(sample.log_odds) == 0:
        assert calibrator.kind == "identity"
    elif calibrator.kind != "identity":
        assert sigmoid(calibrator(sample.log_odds)).sum() == pytest.approx(clicks, rel=1e-7)
        assert (calibrator.fitted_on, calibrator.clicks) == (n, clicks)
    else:
        assert choice == "auto"


@every_kind
@settings(max_examples=25)
@given(sample=samples(), correction=st.sampled_from([0.0, -3.0]))
def test_the_graph_answers_as_the_reference(choice: str, sample: Sample, correction: float) -> None:
    """Margins from -60 to 60 in ONNX Runtime; and what a plan reads back from the graph is the same map."""
    calibrator = fit_calibrator(*sample, choice)  # type: ignore[arg-type]
    graph = export_graph(LINE, correction, calibrator, n_features=1, n_ids=0)
    features = np.linspace(-3, 3, 500, dtype=np.float32)[:, None]

    scores = GenericPlan(graph).score(features, np.empty((500, 0), np.int64))

    margins = np.clip(np.sign(features[:, 0]) * np.log1p(np.abs(features[:, 0].astype(np.float64))), -1, 1) * 60.0
    np.testing.assert_allclose(scores.raw_logit, margins, rtol=1e-6, atol=1e-6)
    # ONNX Runtime's sigmoid ends at 1e-16, below which no click can be counted.
    np.testing.assert_allclose(scores.p_click, p_click_of(margins, correction, calibrator), rtol=1e-9, atol=1e-15)
    read_correction, read = calibrator_of(graph)
    assert read_correction == correction
    np.testing.assert_array_equal(read.knots, calibrator.knots)
    np.testing.assert_allclose(read.slopes, calibrator.slopes, rtol=1e-9)
    assert read.offset == calibrator.offset


LINE = LinearSpec(
    intercept=0.0,
    mean=np.zeros(1),
    spread=np.ones(1),
    slope=np.full(1, 60.0),
    limit=1.0,
    edges=np.full((1, 1), np.inf),
    bin_weights=np.zeros((1, 3)),
    id_sizes=np.empty(0, np.int64),
    id_offsets=np.empty(0, np.int64),
    id_weights=np.empty(0),
)
"""Margins from -60 to 60, whatever its one number says."""


@given(low=st.floats(MIN_SLOPE, MAX_SLOPE), high=st.floats(MIN_SLOPE, MAX_SLOPE), level=st.floats(-5, 5))
def test_the_drawn_beta_curve_is_the_curve_to_the_stated_error(low: float, high: float, level: float) -> None:
    """At any score, and with exactly its slopes at both ends."""
    scores = np.r_[-500, np.linspace(-40, 40, 8_001), 500]
    curve = level - low * np.logaddexp(0, -scores) + high * np.logaddexp(0, scores)

    drawn = drawn_curve(low, high, level)

    assert np.abs(drawn(scores) - curve).max() <= DRAWING_ERROR * abs(high - low) + 1e-9
    assert (drawn.slopes[0], drawn.slopes[-1]) == (low, high)


@every_kind
@settings(max_examples=25)
@given(sample=samples(), seed=st.integers(0, 2**32 - 1))
def test_the_order_inside_a_segment_is_the_learners(choice: str, sample: Sample, seed: int) -> None:
    """The lines of segments, fitted behind a map of any kind, turn nothing round."""
    segment = np.random.default_rng(seed).integers(0, 4, size=len(sample.clicked)).astype(np.float32)
    everybody = fit_calibrator(*sample, choice)  # type: ignore[arg-type]
    lines = fit_segments(everybody(sample.log_odds), sample.clicked, 0, segment)
    calibrator = replace(everybody, segments=lines)
    scores = askable(sample)

    for number in range(len(lines)):
        answered = calibrator(scores, np.array([number], np.int32))

        assert (np.diff(answered) > 0).all()
