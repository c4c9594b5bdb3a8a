"""The calibrator: a strictly increasing, piecewise-linear map from log-odds to log-odds.

A model's log-odds are ordered well before they are true. The map stretches and shifts them without changing their
order, so ranking and bidding use one number. All kinds are one shape:

    identity    y = x                               nothing was fitted
    platt       y = a x + b                         two parameters
    piecewise   straight lines between knots        up to 32 knots; beyond the ends it goes on with the end slopes

Log-odds in, log-odds out, float64; the probability is its sigmoid. Fitting is `models/fitting/calibration.py`, the
ONNX form `models/export/calibrator_graph.py`; this is the reference both are held against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.errors import TrainingError

Float64s = npt.NDArray[np.float64]
CalibratorKind = Literal["identity", "platt", "piecewise"]


@dataclass(frozen=True, slots=True)
class CalibratorMap:
    """y = offset + slopes[0] * x + sum over knots of (slopes[j + 1] - slopes[j]) * max(0, x - knots[j]).

    knots: (k,) float64, ascending; empty for identity and platt.
    slopes: (k + 1,) float64, all above 0: before the first knot, between knots, after the last.
    fitted_on, clicks: impressions and clicks behind it.
    """

    kind: CalibratorKind
    offset: float
    knots: Float64s
    slopes: Float64s
    fitted_on: int = 0
    clicks: int = 0

    def __post_init__(self) -> None:
        if len(self.slopes) != len(self.knots) + 1 or not np.all(self.slopes > 0) or np.any(np.diff(self.knots) <= 0):
            raise TrainingError(
                f"a calibrator must be strictly increasing, got slopes {self.slopes} between knots {self.knots}"
            )

    @classmethod
    def identity(cls) -> CalibratorMap:
        """Changes nothing."""
        return cls("identity", 0.0, np.empty(0), np.ones(1))

    def __call__(self, log_odds: Float64s) -> Float64s:
        """(n,) -> (n,) calibrated log-odds."""
        result: Float64s = self.offset + self.slopes[0] * log_odds
        for knot, change in zip(self.knots, np.diff(self.slopes), strict=True):
            result = result + change * np.maximum(0.0, log_odds - knot)
        return result

    def segments(self, correction: float) -> tuple[Float64s, Float64s, Float64s]:
        """The map of `x + correction` as one straight line per segment: knots (k,), intercepts and slopes (k + 1,).

        Below knots[0] and up to it the first line holds, and so on.
        """
        knots = self.knots - correction
        # Neighbouring lines meet at their knot.
        steps = np.cumsum(-np.diff(self.slopes) * knots)
        first = self.offset + self.slopes[0] * correction
        return knots, first + np.concatenate([[0.0], steps]), self.slopes


def p_click_of(raw_logit: Float64s, correction: float, calibrator: CalibratorMap) -> Float64s:
    """(n,) margins -> (n,) click probabilities: correction for sampling, calibrator, sigmoid; in this order.

    The correction is exact only in the learner's own log-odds, so it comes before the calibrator bends them.
    """
    return sigmoid(calibrator(raw_logit + correction))


def sigmoid(log_odds: Float64s) -> Float64s:
    """1 / (1 + exp(-x)) without overflow."""
    smaller = np.exp(-np.abs(log_odds))
    result: Float64s = np.where(log_odds >= 0, 1.0, smaller) / (1.0 + smaller)
    return result
