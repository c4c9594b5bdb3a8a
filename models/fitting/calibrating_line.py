"""Straight lines for calibrators: of greatest likelihood, and the shift that makes promised clicks add up.

All in log-odds and float64. Slopes stay between `MIN_SLOPE` and `MAX_SLOPE`: a calibrator rises strictly, and beyond
these a score knows either nothing or more than a click log can tell.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.calibrator import Float64s, sigmoid

MIN_SLOPE, MAX_SLOPE = 0.1, 10.0
NEWTON_STEPS = 50

Bools = npt.NDArray[np.bool_]


def fit_line(log_odds: Float64s, clicked: Bools, pull: Float64s) -> tuple[float, float]:
    """Slope and offset of greatest likelihood, the slope kept within its bounds.

    pull: (2,) how strongly slope and level at the mean are drawn to those of the line that changes nothing, as
        1 / variance in log-odds.
    """
    # Centred, so that slope and offset hardly depend on each other.
    centre = float(log_odds.mean())
    slope, level = fit_weights([log_odds - centre], clicked, np.array([1.0, centre]), pull)
    slope = float(np.clip(slope, MIN_SLOPE, MAX_SLOPE))
    return slope, float(level - slope * centre)


def fit_weights(columns: list[Float64s], clicked: Bools, expected: Float64s, pull: Float64s) -> Float64s:
    """Weights of the columns, then the intercept, of greatest posterior probability; Newton's method.

    Args:
        columns: m of (n,), centred.
        clicked: (n,) bool.
        expected: (m + 1,) where the search begins, and what the weights are drawn to.
        pull: (m + 1,) how strongly, as 1 / variance; 0 not at all.
    """
    design = np.stack([*columns, np.ones(len(clicked))])  # (m + 1, n)
    weights = expected.copy()
    for _ in range(NEWTON_STEPS):
        p = sigmoid(weights @ design)
        gradient = design @ (clicked - p) - pull * (weights - expected)
        hessian = (design * (p * (1.0 - p))) @ design.T + np.diag(pull + 1e-9)
        step = np.linalg.solve(hessian, gradient).clip(-1.0, 1.0)
        weights += step
        if np.abs(step).max() < 1e-10:
            break
    return weights


def shift_to_mean(log_odds: Float64s, clicked: Bools) -> float:
    """The shift after which the promised clicks add up to the seen ones."""
    return shift_to_sum(log_odds, float(np.count_nonzero(clicked)))


def shift_to_sum(log_odds: Float64s, promised: float) -> float:
    """The shift after which the probabilities add up to `promised`, which lies between 0 and their number.

    The sum rises with the shift, so Newton's method is held between bounds that close in on it: where all scores are
    extreme, its own steps would leap from one end to the other.
    """
    shift = 0.0
    extent = float(np.abs(log_odds).max()) + 40.0
    low, high = -extent, extent
    for _ in range(2 * NEWTON_STEPS):
        p = sigmoid(log_odds + shift)
        missing = promised - float(p.sum())
        low, high = (shift, high) if missing > 0 else (low, shift)
        step = missing / max(float((p * (1.0 - p)).sum()), 1e-300)
        if not low <= shift + step <= high:
            step = (low + high) / 2.0 - shift
        shift += step
        if abs(step) < 1e-12:
            break
    return shift
