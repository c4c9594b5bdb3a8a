"""Fits the lines of segments behind the map of all rows.

A segment of at least 100 clicks gets a line of greatest posterior probability, expected around the line that changes
nothing. How far from it lines are expected is estimated from all segments together (empirical Bayes): where segments
differ by no more than chance explains, lines stay flat, because each would only add the error of its own clicks; where
they differ much, clicks are believed. Smaller segments follow the map of all rows.

Source of the estimate: DerSimonian and Laird 1986, "Meta-analysis in clinical trials", with the mean known to be 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.calibrator import sigmoid
from models.fitting.calibrating_line import Bools, fit_line
from models.segments import Float64s, SegmentLines, segment_numbers

MIN_CLICKS_SEGMENT = 100
"""Of clicks and of non-clicks: below, a segment's level is known to no better than 10 %."""
LARGEST_SEGMENT = 1_023
"""Larger numbers are no segment: where somebody names users by mistake, the tables stay small."""
LEAST_SPREAD, LARGEST_SPREAD = 0.02, 0.5
"""Bounds of how far segments' levels are expected to lie from the map of all rows, in log-odds. An expectation of 0.5
weighs as much as 1 / 0.5**2 = 4 clicks of low probability, one of 0.02 as much as 2 500."""
SCALE_TO_SHIFT = 0.5
"""How far slopes are expected from 1, of how far levels are expected from 0: both differ where segments do."""


def fit_segments(log_odds: Float64s, clicked: Bools, column: int, values: npt.NDArray[np.float32]) -> SegmentLines:
    """A line for each segment that has the clicks for it.

    Args:
        log_odds: (n,) what the map of all rows makes of out-of-sample rows.
        clicked: (n,) bool.
        column: which of the model's float columns names the segment.
        values: (n,) what it says; anything but a whole number from 1 to `LARGEST_SEGMENT` is of no segment.
    """
    number = segment_numbers(values, LARGEST_SEGMENT + 1)
    impressions = np.bincount(number, minlength=LARGEST_SEGMENT + 1)
    clicks = np.bincount(number[clicked], minlength=LARGEST_SEGMENT + 1)
    is_fitted = np.minimum(clicks, impressions - clicks) >= MIN_CLICKS_SEGMENT
    is_fitted[0] = False
    size = int(np.flatnonzero(is_fitted).max(initial=0)) + 1
    scales, shifts = np.ones(size), np.zeros(size)
    spread = spread_of_levels(log_odds, clicked, number, is_fitted)
    pull = np.array([SCALE_TO_SHIFT * spread, spread]) ** -2.0
    for segment in np.flatnonzero(is_fitted):
        inside = number == segment
        scales[segment], shifts[segment] = fit_line(log_odds[inside], clicked[inside], pull)
    counts = (np.where(is_fitted, count, 0)[:size].tolist() for count in (impressions, clicks))
    return SegmentLines(column, scales, shifts, *map(tuple, counts))


def spread_of_levels(log_odds: Float64s, clicked: Bools, number: npt.NDArray[np.integer], is_fitted: Bools) -> float:
    """How far the levels of segments lie from the map of all rows beyond what chance explains, as an sd of log-odds.

    Args:
        log_odds, clicked, number: (n,) promise, outcome and segment of each row.
        is_fitted: (S,) which segments have the clicks for a line.
    """
    p = sigmoid(log_odds)
    missing, information = (
        np.bincount(number, weights, len(is_fitted))[is_fitted] for weights in (clicked - p, p * (1.0 - p))
    )
    # A level's first Newton step is missing / information, and chance alone spreads it by 1 / information.
    beyond_chance = float((missing**2 / information).sum()) - len(information)
    variance = beyond_chance / max(float(information.sum()), 1e-300)
    return float(np.clip(np.sqrt(max(variance, 0.0)), LEAST_SPREAD, LARGEST_SPREAD))


def kept_lines(old: SegmentLines, new: SegmentLines) -> SegmentLines:
    """New lines where there are some, and the old ones of all other segments."""
    size = max(len(old), len(new))
    is_new = np.pad(np.array(new.fitted_on) > 0, (0, size - len(new)))
    scales, shifts = (
        np.where(is_new, _padded(fresh, size, neutral), _padded(known, size, neutral))
        for fresh, known, neutral in ((new.scales, old.scales, 1.0), (new.shifts, old.shifts, 0.0))
    )
    counts = (tuple(_padded(np.array(count), size, 0).tolist()) for count in (new.fitted_on, new.clicks))
    return SegmentLines(new.column, scales, shifts, *counts)


def _padded(values: npt.NDArray[Any], size: int, neutral: float) -> npt.NDArray[Any]:
    return np.pad(values, (0, size - len(values)), constant_values=neutral)
