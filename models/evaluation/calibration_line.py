"""Logistic recalibration: what would have to be done to the log-odds to make them true.

    log-odds of a click = intercept + slope * logit(p_click)

Slope 1 and intercept 0 are exact. A slope below 1 says that the model spreads its promises too far (overfitting), above
1 that it is too timid; the ratio of promised to seen clicks sees neither. Calibration in the large is the intercept
where the slope is held at 1: how far all log-odds are off on average.

Intervals: sandwich variance by users, which stands when the line is not the truth and when a user's impressions depend
on each other; normal quantiles.
Cost: about ten passes over the rows.
Sources: Cox 1958, "Two further applications of a model for binary regression"; Liang & Zeger 1986 for the variance;
names after Van Calster et al. 2019, "Calibration: the Achilles heel of predictive analytics".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from models.evaluation.metrics import CLIP, Array, Float64s

STEPS = 100
LARGEST_STEP = 4.0
"""In log-odds. Where promises are off by a factor of a hundred a whole step lands where every probability rounds to 1,
and no curvature is left to come back by."""
ENOUGH = 1e-10
"""Newton stops where no coefficient moves by more, in standard deviations of the logits."""


class Estimate(NamedTuple):
    """A coefficient and its standard error."""

    value: float
    error: float


class Recalibration(NamedTuple):
    """Intercept and slope of the recalibration, and the intercept where the slope is held at 1."""

    intercept: Estimate
    slope: Estimate
    in_the_large: Estimate


def recalibration(
    clicked: npt.NDArray[np.bool_], p_click: Array, user_codes: npt.NDArray[np.integer] | None
) -> Recalibration | None:
    """The three coefficients; None where clicks and non-clicks do not overlap, so that no finite slope is best.

    Args:
        clicked: (n,) bool; both labels.
        p_click: (n,) float in [0, 1], clipped by 1e-7. A constant has no slope either.
        user_codes: (n,) whose impression it was; None takes impressions as independent.
    """
    of_clicks, of_others = p_click[clicked], p_click[~clicked]
    if of_clicks.min() >= of_others.max() or of_clicks.max() <= of_others.min():
        return None
    p = np.clip(p_click.astype(np.float64), CLIP, 1.0 - CLIP)
    logit = np.log(p) - np.log1p(-p)
    middle, spread = float(logit.mean()), float(logit.std())
    if spread == 0.0:  # they differ beyond the clip only
        return None
    none = np.zeros(len(logit))
    design = np.column_stack([np.ones(len(logit)), (logit - middle) / spread])
    line, of_line = _fit(design, clicked, none, user_codes)
    level, of_level = _fit(design[:, :1], clicked, logit, user_codes)
    # Back from standardised logits: slope b / spread, intercept a - b * middle / spread.
    back = np.array([[1.0, -middle / spread], [0.0, 1.0 / spread]])
    coefficients, variance = back @ line, back @ of_line @ back.T
    errors = np.sqrt(np.diag(variance))
    return Recalibration(
        intercept=Estimate(float(coefficients[0]), float(errors[0])),
        slope=Estimate(float(coefficients[1]), float(errors[1])),
        in_the_large=Estimate(float(level[0]), float(np.sqrt(of_level[0, 0]))),
    )


def _fit(
    design: Float64s, clicked: npt.NDArray[np.bool_], offset: Float64s, user_codes: npt.NDArray[np.integer] | None
) -> tuple[Float64s, Float64s]:
    """Coefficients (k,) of the logistic regression with an offset, and their sandwich variance (k, k)."""
    at = np.zeros(design.shape[1])
    loss = _loss(design, clicked, offset, at)
    for _ in range(STEPS):
        p = expit(design @ at + offset)
        step = np.linalg.solve((design * (p * (1.0 - p))[:, None]).T @ design, design.T @ (clicked - p))
        step *= min(1.0, LARGEST_STEP / np.abs(step).max(initial=LARGEST_STEP))
        while (next_loss := _loss(design, clicked, offset, at + step)) > loss + 1e-12 and np.abs(step).max() > ENOUGH:
            step /= 2.0  # far from the optimum a whole step may overshoot
        at, loss = at + step, next_loss
        if np.abs(step).max() <= ENOUGH:
            break
    p = expit(design @ at + offset)
    bread = np.linalg.inv((design * (p * (1.0 - p))[:, None]).T @ design)
    scores = design * (clicked - p)[:, None]
    if user_codes is not None:
        users, code = np.unique(user_codes, return_inverse=True)
        scores = np.column_stack([np.bincount(code, column, minlength=len(users)) for column in scores.T])
    clusters = len(scores)
    meat = scores.T @ scores * (clusters / max(1, clusters - 1))
    return at, bread @ meat @ bread


def _loss(design: Float64s, clicked: npt.NDArray[np.bool_], offset: Float64s, at: Float64s) -> float:
    margins = design @ at + offset
    return float(np.logaddexp(0.0, margins).mean() - np.where(clicked, margins, 0.0).mean())
