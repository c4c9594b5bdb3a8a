"""The calibrator: a strictly increasing, piecewise-linear map from log-odds to log-odds.

A model's log-odds are ordered well before they are true. The map stretches and shifts them without changing their
order, so ranking and bidding use one number. All kinds are one shape:

    identity    y = x                               nothing was fitted
    platt       y = a x + b                         two parameters
    beta        a line with one smooth bend         three parameters, drawn with 32 knots
    piecewise   straight lines between knots        up to 32 knots; beyond the ends it goes on with the end slopes
    isotonic    the same                            the same, where isotonic regression put them

Where a column names the segment of a row, a rising line of that segment may follow (`models/segments.py`).

Log-odds in, log-odds out, float64; the probability is its sigmoid. Fitting is `models/fitting/calibration.py`, the
ONNX form `models/export/calibrator_graph.py`; this is the reference both are held against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from models.errors import TrainingError
from models.segments import NO_SEGMENT, Int32s, SegmentLines

Float64s = npt.NDArray[np.float64]
CalibratorKind = Literal["identity", "platt", "beta", "piecewise", "isotonic"]
CalibratorChoice = Literal["auto", "platt", "beta", "piecewise", "isotonic", "none"]
"""What a person may ask for: a kind, the one that the number of clicks supports, or none."""
CALIBRATOR_CHOICES: tuple[CalibratorChoice, ...] = get_args(CalibratorChoice)


@dataclass(frozen=True, slots=True)
class CalibratorMap:
    """y = offset + slopes[0] * x + sum over knots of (slopes[j + 1] - slopes[j]) * max(0, x - knots[j]).

    knots: (k,) float64, ascending; empty for identity and Platt.
    slopes: (k + 1,) float64, all above 0: before the first knot, between knots, after the last.
    fitted_on, clicks: impressions and clicks behind it.
    segments: the lines that follow it; None where no column names a segment.
    """

    kind: CalibratorKind
    offset: float
    knots: Float64s
    slopes: Float64s
    fitted_on: int = 0
    clicks: int = 0
    segments: SegmentLines | None = None

    def __post_init__(self) -> None:
        if len(self.slopes) != len(self.knots) + 1 or not np.all(self.slopes > 0) or np.any(np.diff(self.knots) <= 0):
            raise TrainingError(
                f"a calibrator must be strictly increasing, got slopes {self.slopes} between knots {self.knots}"
            )

    @classmethod
    def identity(cls) -> CalibratorMap:
        """Changes nothing."""
        return cls("identity", 0.0, np.empty(0), np.ones(1))

    def __call__(self, log_odds: Float64s, segment: Int32s = NO_SEGMENT) -> Float64s:
        """(n,) log-odds and (1 or n,) segments, see `segments_of` -> (n,) calibrated log-odds."""
        result: Float64s = self.offset + self.slopes[0] * log_odds
        for knot, change in zip(self.knots, np.diff(self.slopes), strict=True):
            result = result + change * np.maximum(0.0, log_odds - knot)
        if self.segments is not None:
            result = self.segments.scales[segment] * result + self.segments.shifts[segment]
        return result

    def followed_by(self, line: CalibratorMap) -> CalibratorMap:
        """The same map, then the line: of one shape again, because lines of lines are lines.

        Raises:
            TrainingError: what follows has knots, or either has segments.
        """
        if len(line.knots) or line.segments is not None or self.segments is not None:
            raise TrainingError("only maps without segments can be joined, and only a straight line can follow")
        scale = line.slopes[0]
        kind: CalibratorKind = self.kind if len(self.knots) else "platt"
        offset = line.offset + scale * self.offset
        return CalibratorMap(kind, float(offset), self.knots, scale * self.slopes, line.fitted_on, line.clicks)

    def segments_of(self, features: npt.NDArray[np.float32]) -> Int32s:
        """The segment of each row of (n, d) features: (n,), or (1,) where there are no segments."""
        return NO_SEGMENT if self.segments is None else self.segments.numbers(features[:, self.segments.column])

    def pieces(self, correction: float) -> CalibratorPieces:
        """The map of `x + correction` as straight lines."""
        knots = self.knots - correction
        # Neighbouring lines meet at their knot.
        steps = np.cumsum(-np.diff(self.slopes) * knots)
        first = self.offset + self.slopes[0] * correction
        intercepts = first + np.concatenate([[0.0], steps])
        segments = self.segments
        scales, shifts = (np.ones(1), np.zeros(1)) if segments is None else (segments.scales, segments.shifts)
        return CalibratorPieces(knots, intercepts, self.slopes, scales, shifts)


class CalibratorPieces(NamedTuple):
    """A calibrator as kernels want it: the straight line that holds at a margin, then the line of the segment.

    knots: (k,); intercepts, slopes: (k + 1,). Below knots[0] and up to it the first line holds, and so on.
    scales, shifts: (S + 1,), see `SegmentLines`.
    """

    knots: Float64s
    intercepts: Float64s
    slopes: Float64s
    scales: Float64s
    shifts: Float64s

    def p_click(self, raw_logit: Float64s, segment: Int32s | None) -> Float64s:
        """(n,) margins -> (n,) probabilities. segment: (1 or n,), None where all rows are of segment 0."""
        piece = np.searchsorted(self.knots, raw_logit)
        log_odds = self.intercepts[piece] + self.slopes[piece] * raw_logit
        return sigmoid(log_odds if segment is None else self.scales[segment] * log_odds + self.shifts[segment])


def p_click_of(
    raw_logit: Float64s, correction: float, calibrator: CalibratorMap, segment: Int32s = NO_SEGMENT
) -> Float64s:
    """(n,) margins -> (n,) click probabilities: correction for sampling, calibrator, sigmoid; in this order.

    The correction is exact only in the learner's own log-odds, so it comes before the calibrator bends them.
    `segment`: (1 or n,), from `calibrator.segments_of`.
    """
    return sigmoid(calibrator(raw_logit + correction, segment))


def sigmoid(log_odds: Float64s) -> Float64s:
    """1 / (1 + exp(-x)) without overflow."""
    smaller = np.exp(-np.abs(log_odds))
    result: Float64s = np.where(log_odds >= 0, 1.0, smaller) / (1.0 + smaller)
    return result
