"""Calibrators of many straight lines: through the rates of cells that rise, which is all that is assumed of scores.

    piecewise   cells of equal clicks, at least 400 each, whose rates are then made to rise
    isotonic    all distinct scores are made to rise first; the blocks that come out are joined to at least 200 clicks
                and as many non-clicks each, so no block is all clicks or none

Rates are made to rise by pooling adjacent violators (PAV). Each cell is one knot, at the log-odds of its mean promise:
the score at which a true model would show the cell's rate. Between knots the map is straight and at least as steep as
`MIN_SLOPE`, because a flat piece would tie different scores; beyond the outer ones Platt's slope goes on. At most 32
knots. A score is never cut in two, however many rows share it.

Source: Ayer et al. 1955 for PAV; Zadrozny and Elkan 2002 for isotonic calibration.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from models.calibrator import CalibratorMap, Float64s, sigmoid
from models.fitting.calibrating_line import MAX_SLOPE, MIN_SLOPE, Bools, shift_to_mean

MAX_KNOTS = 32
CLICKS_PER_CELL = 400
CLICKS_PER_BLOCK = 200
"""Of 50, 100, 200 and 400, a size that loses little on every kind of scores of `docs/calibration.md`; and so the cells'
400, of 100 to 1 000. 200 clicks know a rate to 7 %."""


class _Cells(NamedTuple):
    """Neighbouring scores, cell by cell, in ascending order; sums are over their rows."""

    rows: Float64s
    clicks: Float64s
    promised: Float64s
    """Sum of the promises."""
    first: Float64s
    last: Float64s
    """Smallest and largest log-odds."""

    def joined(self, starts: npt.NDArray[np.int64]) -> _Cells:
        """Cells of several of these each, beginning at these places."""
        ends = np.append(starts[1:], len(self.rows)) - 1
        rows, clicks, promised = (np.add.reduceat(each, starts) for each in (self.rows, self.clicks, self.promised))
        return _Cells(rows, clicks, promised, self.first[starts], self.last[ends])

    def made_to_rise(self) -> _Cells:
        """Neighbours whose rates do not rise are joined."""
        pooled = isotonic_regression(self.clicks / self.rows, weights=self.rows)
        return self.joined(pooled.blocks[:-1])


def fit_piecewise(log_odds: Float64s, clicked: Bools, outer_slope: float) -> CalibratorMap:
    """Lines through cells of equal clicks.

    Args:
        log_odds: (n,) of more than one value.
        clicked: (n,) bool, of both kinds.
        outer_slope: Platt's, beyond the outer knots; and everywhere where there is but one cell.
    """
    cells = _distinct(log_odds, clicked)
    clicks = float(cells.clicks.sum())
    n_cells = int(max(1, min(MAX_KNOTS, clicks // CLICKS_PER_CELL)))
    # Cells of equal clicks: each knows its rate equally well.
    edges = np.linspace(0.0, clicks, n_cells + 1)[:-1]
    starts = np.unique(np.searchsorted(np.cumsum(cells.clicks), edges, side="right")[1:])
    starts = np.r_[0, starts[(starts > 0) & (starts < len(cells.rows))]]
    return _lines("piecewise", cells.joined(starts).made_to_rise(), log_odds, clicked, outer_slope)


def fit_isotonic(log_odds: Float64s, clicked: Bools, outer_slope: float) -> CalibratorMap:
    """Lines through the blocks of isotonic regression; arguments as `fit_piecewise`."""
    blocks = _distinct(log_odds, clicked).made_to_rise()
    least = max(CLICKS_PER_BLOCK, float(blocks.clicks.sum()) / MAX_KNOTS)
    starts, clicks, others = [0], 0.0, 0.0
    for i, (rows, hits) in enumerate(zip(blocks.rows.tolist(), blocks.clicks.tolist(), strict=True)):
        if clicks >= least and others >= CLICKS_PER_BLOCK:
            starts.append(i)
            clicks, others = 0.0, 0.0
        clicks, others = clicks + hits, others + rows - hits
    if len(starts) > 1 and (clicks < least or others < CLICKS_PER_BLOCK):
        starts.pop()  # the last one is too small and joins its neighbour
    return _lines("isotonic", blocks.joined(np.array(starts)), log_odds, clicked, outer_slope)


def _distinct(log_odds: Float64s, clicked: Bools) -> _Cells:
    """One cell for each distinct score."""
    order = np.argsort(log_odds, kind="stable")
    x, y = log_odds[order], clicked[order].astype(np.float64)
    starts = np.flatnonzero(np.r_[True, np.diff(x) > 0.0])
    return _Cells(np.ones(len(x)), y, sigmoid(x), x, x).joined(starts)


def _lines(
    kind: Literal["piecewise", "isotonic"], cells: _Cells, log_odds: Float64s, clicked: Bools, outer_slope: float
) -> CalibratorMap:
    """Straight lines from cell to cell, moved so that promised clicks add up."""
    fitted_on, clicks = len(clicked), int(np.count_nonzero(clicked))
    if len(cells.rows) < 2:
        offset = shift_to_mean(outer_slope * log_odds, clicked)
        return CalibratorMap("platt", offset, np.empty(0), np.array([outer_slope]), fitted_on, clicks)
    with np.errstate(divide="ignore"):  # a mean promise of 0 or 1 is put back among the scores that made it
        knots = np.clip(_logit(cells.promised / cells.rows), cells.first, cells.last)
    heights = _logit((cells.clicks + 0.5) / (cells.rows + 1.0))
    inner = np.clip(np.diff(heights) / np.diff(knots), MIN_SLOPE, MAX_SLOPE)
    slopes = np.r_[outer_slope, inner, outer_slope]
    shape = CalibratorMap(kind, float(heights[0] - outer_slope * knots[0]), knots, slopes)
    offset = shape.offset + shift_to_mean(shape(log_odds), clicked)
    return CalibratorMap(kind, offset, knots, slopes, fitted_on, clicks)


def _logit(p: Float64s) -> Float64s:
    result: Float64s = np.log(p / (1.0 - p))
    return result
