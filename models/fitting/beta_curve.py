"""Beta calibration: a line with one smooth bend, where probabilities leave the neighbourhood of 0.

    y = c + a * ln p - b * ln(1 - p) = c + a x + (b - a) * softplus(x),        p = sigmoid(x)

Its slope goes from a, where clicks are rare, to b, where they are sure, and is halfway at p = 1/2; a = b is Platt's
line. Scores of rare clicks alone do not tell b: the bend, b - a, is drawn to 0 by as much as one unit of log-odds, so
that beta falls back to Platt and does not make up a bend.

A calibrator is straight between knots, so the curve is drawn with 32 of them, the same for all curves: packed by the
root of its curvature, every chord is off by the same. The first and last lines have the slopes a and b themselves, and
heights are moved by half the chords' error, so the drawing errs by at most `DRAWING_ERROR * |b - a|` at any score:
0.0007 where the bend is 1.

Source: Kull, Silva Filho, Flach 2017, "Beta calibration".
"""

from __future__ import annotations

import numpy as np

from models.calibrator import CalibratorMap, Float64s
from models.fitting.calibrating_line import MAX_SLOPE, MIN_SLOPE, Bools, fit_weights, shift_to_mean

N_KNOTS = 32
BEND_SD = 1.0
DRAWING_ERROR = 7e-4
"""In log-odds, of a bend of 1: the largest distance between the curve and its drawing is 0.00059 (tested)."""


def fit_beta(log_odds: Float64s, clicked: Bools) -> CalibratorMap:
    """The curve of greatest posterior probability, drawn; promised clicks add up to the seen ones.

    Args:
        log_odds: (n,) of more than one value.
        clicked: (n,) bool, of both kinds.
    """
    softplus = np.logaddexp(0.0, log_odds)
    centre, middle = float(log_odds.mean()), float(softplus.mean())
    columns, expected = [log_odds - centre, softplus - middle], np.array([1.0, 0.0, centre])
    low, bend, _ = fit_weights(columns, clicked, expected, pull=np.array([0.0, BEND_SD**-2.0, 0.0]))
    high = float(np.clip(low + bend, MIN_SLOPE, MAX_SLOPE))
    drawn = drawn_curve(float(np.clip(low, MIN_SLOPE, MAX_SLOPE)), high, 0.0)
    offset = drawn.offset + shift_to_mean(drawn(log_odds), clicked)
    return CalibratorMap("beta", offset, drawn.knots, drawn.slopes, len(clicked), int(np.count_nonzero(clicked)))


def drawn_curve(low: float, high: float, level: float) -> CalibratorMap:
    """The curve c + a x + (b - a) softplus(x) as straight lines; a, b, c are `low`, `high`, `level`."""
    # The root of the curvature, sqrt(p (1 - p)), has the integral 2 atan(exp(x / 2)), which ends at pi. Equal steps
    # in it make equal errors; the outer lines make the same one a step's 1 / sqrt(2) from the ends.
    step = np.pi / (N_KNOTS - 1 + np.sqrt(2.0))
    passed = step / np.sqrt(2.0) + step * np.arange(N_KNOTS)
    knots = 2.0 * np.log(np.tan(passed / 2.0))
    bend = high - low
    heights = level + low * knots + bend * (np.logaddexp(0.0, knots) - step * step / 16.0)
    slopes = np.concatenate([[low], np.diff(heights) / np.diff(knots), [high]])
    return CalibratorMap("beta", float(heights[0] - low * knots[0]), knots, slopes)
