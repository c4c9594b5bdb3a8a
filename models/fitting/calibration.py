"""Fits the calibrator to scores of rows the model did not learn from.

A calibrator is measured on clicks and so is itself uncertain: with C clicks its level is known to 1 / sqrt(C). It gets
only as many parameters as the clicks can carry, and whatever its shape, the promised clicks of the rows it was fitted
on add up to the seen ones exactly.

    below 200 clicks      identity
    below 5 000 clicks    Platt, two parameters by maximum likelihood
    from 5 000 clicks     piecewise-linear: pool adjacent violators (PAV) on cells of at least 1 000 clicks, at most 32
                          knots, then a floor under the slopes, because a flat piece would tie different scores

Sources: Platt 1999; Ayer et al. 1955 for PAV.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.calibrator import CalibratorMap, Float64s, sigmoid

MIN_CLICKS_PLATT = 200
MIN_CLICKS_PIECEWISE = 5_000
CLICKS_PER_KNOT = 1_000
MAX_KNOTS = 32
MIN_SLOPE, MAX_SLOPE = 0.1, 10.0
NEWTON_STEPS = 50

Bools = npt.NDArray[np.bool_]


def fit_calibrator(log_odds: Float64s, clicked: Bools) -> CalibratorMap:
    """The richest calibrator that these out-of-sample rows support.

    Args:
        log_odds: (n,) corrected log-odds of rows that the scoring model did not learn from.
        clicked: (n,) bool.
    """
    clicks = int(np.count_nonzero(clicked))
    if min(clicks, len(clicked) - clicks) < MIN_CLICKS_PLATT or np.ptp(log_odds) == 0.0:
        return CalibratorMap.identity()
    slope, offset = _platt(log_odds, clicked)
    if clicks < MIN_CLICKS_PIECEWISE:
        return CalibratorMap("platt", offset, np.empty(0), np.array([slope]), len(clicked), clicks)
    return _piecewise(log_odds, clicked, clicks, outer_slope=slope)


def _platt(log_odds: Float64s, clicked: Bools) -> tuple[float, float]:
    """Slope and offset of greatest likelihood, moved so that promised clicks add up."""
    slope, offset = fit_line(log_odds, clicked, pull=np.zeros(2))
    return slope, offset + _shift_to_mean(slope * log_odds + offset, clicked)


def fit_line(log_odds: Float64s, clicked: Bools, pull: Float64s) -> tuple[float, float]:
    """Slope and offset of greatest likelihood, the slope kept within its bounds; Newton's method.

    pull: (2,) how strongly slope and level at the mean are drawn to those of the line that changes nothing, as
        1 / variance in log-odds.
    """
    # Centred, so that slope and offset hardly depend on each other.
    centre = float(log_odds.mean())
    x = log_odds - centre
    slope, level = 1.0, centre
    for _ in range(NEWTON_STEPS):
        p = sigmoid(slope * x + level)
        weight = p * (1.0 - p)
        gradient = np.array([(x * (clicked - p)).sum(), (clicked - p).sum()]) - pull * [slope - 1.0, level - centre]
        hessian = np.array([[(weight * x * x).sum(), (weight * x).sum()], [(weight * x).sum(), weight.sum()]])
        step = np.linalg.solve(hessian + np.diag(pull + 1e-9), gradient).clip(-1.0, 1.0)
        slope, level = slope + step[0], level + step[1]
        if np.abs(step).max() < 1e-10:
            break
    slope = float(np.clip(slope, MIN_SLOPE, MAX_SLOPE))
    return slope, float(level - slope * centre)


def _piecewise(log_odds: Float64s, clicked: Bools, clicks: int, outer_slope: float) -> CalibratorMap:
    """Straight lines between the cells that PAV leaves; beyond the outer knots Platt's slope goes on."""
    n_cells = min(MAX_KNOTS, clicks // CLICKS_PER_KNOT)
    order = np.argsort(log_odds, kind="stable")
    x, y = log_odds[order], clicked[order].astype(np.float64)
    # Cells of equal clicks: each knows its rate equally well.
    starts = np.unique(np.searchsorted(np.cumsum(y), np.linspace(0.0, clicks, n_cells + 1)[:-1], side="right"))
    rows = np.diff(np.r_[starts, len(x)]).astype(np.float64)
    # A cell speaks at the log-odds of its mean promise: the score at which a true model would show the cell's rate.
    promise = np.add.reduceat(sigmoid(x), starts) / rows
    rate = (np.add.reduceat(y, starts) + 0.5) / (rows + 1.0)
    pooled_promise, pooled_rate = _pool_adjacent_violators(promise, rate, rows)
    knots, heights = _logit(pooled_promise), _logit(pooled_rate)
    if len(knots) < 2:
        offset = _shift_to_mean(outer_slope * log_odds, clicked)
        return CalibratorMap("platt", offset, np.empty(0), np.array([outer_slope]), len(clicked), clicks)
    inner = np.clip(np.diff(heights) / np.diff(knots), MIN_SLOPE, MAX_SLOPE)
    slopes = np.r_[outer_slope, inner, outer_slope]
    shape = CalibratorMap("piecewise", heights[0] - outer_slope * knots[0], knots, slopes, len(clicked), clicks)
    offset = shape.offset + _shift_to_mean(shape(log_odds), clicked)
    return CalibratorMap("piecewise", float(offset), knots, slopes, len(clicked), clicks)


def _pool_adjacent_violators(at: Float64s, rate: Float64s, weight: Float64s) -> tuple[Float64s, Float64s]:
    """Neighbouring cells whose rates fall are merged into their weighted mean until all rates rise."""
    merged: list[tuple[float, float, float]] = []
    for cell in zip(at.tolist(), rate.tolist(), weight.tolist(), strict=True):
        merged.append(cell)
        while len(merged) > 1 and merged[-2][1] >= merged[-1][1]:
            (at_a, rate_a, weight_a), (at_b, rate_b, weight_b) = merged[-2:]
            total = weight_a + weight_b
            merged[-2:] = [
                (
                    (at_a * weight_a + at_b * weight_b) / total,
                    (rate_a * weight_a + rate_b * weight_b) / total,
                    total,
                )
            ]
    pooled = np.array(merged)
    return pooled[:, 0], pooled[:, 1]


def _shift_to_mean(log_odds: Float64s, clicked: Bools) -> float:
    """The shift after which the promised clicks add up to the seen ones; Newton's method from 0."""
    clicks, shift = float(np.count_nonzero(clicked)), 0.0
    for _ in range(NEWTON_STEPS):
        p = sigmoid(log_odds + shift)
        step = float(np.clip((clicks - p.sum()) / (p * (1.0 - p)).sum(), -1.0, 1.0))
        shift += step
        if abs(step) < 1e-12:
            break
    return shift


def _logit(p: Float64s) -> Float64s:
    result: Float64s = np.log(p / (1.0 - p))
    return result
