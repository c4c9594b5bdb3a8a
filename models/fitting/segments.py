"""Fits the lines of segments behind the map of all rows.

A segment of at least 100 clicks gets a line of greatest posterior probability, expected around the line that changes
nothing: the fewer its clicks, the nearer its promise stays to the one for everybody. Smaller segments follow the map of
all rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.fitting.calibrating_line import Bools, fit_line
from models.segments import Float64s, SegmentLines, segment_numbers

MIN_CLICKS_SEGMENT = 100
"""Of clicks and of non-clicks: below, a segment's level is known to no better than 10 %."""
LARGEST_SEGMENT = 1_023
"""Larger numbers are no segment: where somebody names users by mistake, the tables stay small."""
SCALE_SD, SHIFT_SD = 0.25, 0.5
"""How far a segment's line is expected to lie from the map of all rows, in log-odds, before its clicks are seen. The
shift's expectation weighs as much as 1 / 0.5**2 = 4 clicks of low probability, so it fades where clicks are many."""


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
    expected = np.array([SCALE_SD, SHIFT_SD])
    for segment in np.flatnonzero(is_fitted):
        inside = number == segment
        scales[segment], shifts[segment] = fit_line(log_odds[inside], clicked[inside], pull=expected**-2.0)
    counts = (np.where(is_fitted, count, 0)[:size].tolist() for count in (impressions, clicks))
    return SegmentLines(column, scales, shifts, *map(tuple, counts))


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
