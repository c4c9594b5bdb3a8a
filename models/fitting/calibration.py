"""Fits the calibrator to scores of rows the model did not learn from.

A calibrator is measured on clicks and so is itself uncertain: with C clicks its level is known to 1 / sqrt(C). It gets
only as many parameters as the clicks can carry, and whatever its shape, the promised clicks of the rows it was fitted
on add up to the seen ones exactly.

    below 200 clicks       identity
    from 200 clicks        Platt: a line, two parameters by maximum likelihood
    from 500 clicks        beta: a line with one bend (`beta_curve.py`)
    from 3 000 clicks      piecewise-linear (`rising_lines.py`)
    from 10 000 clicks     isotonic (`rising_lines.py`)

Each step is where the richer kind loses little on scores that need it not, and gains more on scores that do;
`docs/calibration.md` has the figures.

Sources: Platt 1999; those of the other kinds stand in their modules.
"""

from __future__ import annotations

import numpy as np

from models.calibrator import CalibratorChoice, CalibratorMap, Float64s
from models.fitting.beta_curve import fit_beta
from models.fitting.calibrating_line import Bools, fit_line, shift_to_mean
from models.fitting.rising_lines import fit_isotonic, fit_piecewise

MIN_CLICKS = 20
"""Of clicks and of non-clicks. Below, nothing is fitted, whatever was asked for."""
MIN_CLICKS_PLATT = 200
"""Of clicks and of non-clicks. Below, a fitted level is off by 7 % or more: worse than the learner's own."""
_STEPS: tuple[tuple[int, CalibratorChoice], ...] = (
    (10_000, "isotonic"),
    (3_000, "piecewise"),
    (500, "beta"),
    (MIN_CLICKS_PLATT, "platt"),
)
"""From how many clicks, or non-clicks where these are fewer."""


def fit_calibrator(log_odds: Float64s, clicked: Bools, choice: CalibratorChoice = "auto") -> CalibratorMap:
    """The kind that was chosen, or the richest one that these out-of-sample rows support.

    Where all scores are one, or clicks or non-clicks are fewer than `MIN_CLICKS`, it is the identity; where the clicks
    make but one cell, piecewise and isotonic are Platt's line. The map's own kind says which it is.

    Args:
        log_odds: (n,) corrected log-odds of rows that the scoring model did not learn from.
        clicked: (n,) bool.
    """
    clicks = int(np.count_nonzero(clicked))
    fewer = min(clicks, len(clicked) - clicks)
    if choice == "auto":
        choice = next((kind for least, kind in _STEPS if fewer >= least), "none")
    if choice == "none" or fewer < MIN_CLICKS or np.ptp(log_odds) == 0.0:
        return CalibratorMap.identity()
    if choice == "beta":
        return fit_beta(log_odds, clicked)
    slope, offset = _platt(log_odds, clicked)
    if choice == "piecewise":
        return fit_piecewise(log_odds, clicked, outer_slope=slope)
    if choice == "isotonic":
        return fit_isotonic(log_odds, clicked, outer_slope=slope)
    return CalibratorMap("platt", offset, np.empty(0), np.array([slope]), len(clicked), clicks)


def _platt(log_odds: Float64s, clicked: Bools) -> tuple[float, float]:
    """Slope and offset of greatest likelihood, moved so that promised clicks add up."""
    slope, offset = fit_line(log_odds, clicked, pull=np.zeros(2))
    return slope, offset + shift_to_mean(slope * log_odds + offset, clicked)
