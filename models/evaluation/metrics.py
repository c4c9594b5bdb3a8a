"""Figures that judge click probabilities, as plain functions of labels and probabilities.

`clicked` is (n,) bool or 0/1 integers, one per impression; `p_click` is (n,) float in [0, 1]. Every function raises
MetricError where its figure is not defined: no rows, lengths that differ, or a sample with only one kind of label. None
of them says how sure it is: `intervals.py` does, and nothing is published without.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import MetricError

Float64s = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1, so that one certain mistake stays finite."""

LARGEST_LOSS = float(-np.log(CLIP))
"""Of one impression, in nats."""

ECE_BINS = 15

Z_95 = 1.959963984540054
"""Half the width of a normal 95 % interval, in standard errors."""


def log_loss(clicked: Array, p_click: Array) -> float:
    """Mean negative log-likelihood, in nats; smaller is better."""
    _check(clicked, p_click)
    return float(log_losses(clicked, p_click).mean())


def log_losses(clicked: Array, p_click: Array) -> Float64s:
    """(n,) negative log-likelihood of each impression, in nats."""
    p = np.clip(p_click.astype(np.float64), CLIP, 1.0 - CLIP)
    losses: Float64s = -np.log(np.where(clicked, p, 1.0 - p))
    return losses


def log_loss_of_logit(clicked: npt.NDArray[np.bool_], logit: Float64s) -> float:
    """Log loss of sigmoid(logit), without the rounding of a probability near 0 or 1."""
    return float((np.logaddexp(0.0, logit) - np.where(clicked, logit, 0.0)).mean())


def entropy(rate: float | Float64s) -> float | Float64s:
    """Log loss of always guessing `rate` on a sample with exactly that click rate, in nats."""
    return -rate * np.log(rate) - (1.0 - rate) * np.log(1.0 - rate)


def normalized_entropy(clicked: Array, p_click: Array) -> float:
    """Log loss of `p_click` divided by the log loss of always guessing this sample's mean CTR.

    Below 1 the model beats that guess; at 1 it knows nothing. Unlike AUC it notices wrong scale.

    Args:
        clicked: (n,) bool or 0/1 integers, one per impression.
        p_click: (n,) float in [0, 1]; clipped by 1e-7 so that one certain mistake stays finite.
    Returns:
        A ratio without unit, 0 or more; smaller is better.
    Raises:
        MetricError: lengths differ, n is 0, or all labels are equal (the divisor would be 0).

    Source: He et al. 2014, "Practical Lessons from Predicting Clicks on Ads at Facebook".
    """
    clicks = _both_labels(clicked, p_click)
    return log_loss(clicked, p_click) / float(entropy(clicks / len(clicked)))


def auc(clicked: Array, p_click: Array) -> float:
    """Chance that a click is scored above a non-click; ties count half. 0.5 knows nothing, 1 orders perfectly."""
    clicks = _both_labels(clicked, p_click)
    ranks = mid_ranks(p_click)
    above = ranks[np.asarray(clicked, dtype=np.bool_)].sum() - clicks * (clicks + 1) / 2
    return float(above / (clicks * (len(clicked) - clicks)))


def average_precision(clicked: Array, p_click: Array) -> float:
    """Area under the precision-recall curve as a step function: mean precision at each click; chance is the CTR.

    Tied scores enter together, so that the order of rows does not matter.
    """
    _both_labels(clicked, p_click)
    hits, shown = _from_the_top(clicked, p_click)
    gained = np.diff(hits, prepend=0)
    return float((hits / shown * gained).sum() / hits[-1])


def calibration_ratio(clicked: Array, p_click: Array) -> float:
    """Promised clicks over seen clicks: above 1 the model promises too much."""
    clicks = _both_labels(clicked, p_click)
    return float(p_click.sum(dtype=np.float64) / clicks)


def relative_calibration_error(clicked: Array, p_click: Array, bins: int = ECE_BINS) -> float:
    """Mean gap between promised and seen CTR over bins of equal mass, divided by the mean CTR.

    Relative, because at 1 % CTR an absolute error below 0.01 says nothing: always guessing the mean passes it. A
    perfect model does not reach 0 either; `relative_calibration_floor` tells what chance alone leaves.
    """
    clicks = _both_labels(clicked, p_click)
    promised, seen, _ = equal_mass_bins(clicked, p_click, bins)
    return float(np.abs(promised - seen).sum() / clicks)


def relative_calibration_floor(clicked: Array, p_click: Array, bins: int = ECE_BINS) -> float:
    """What `relative_calibration_error` would be on average if every probability were exactly true."""
    clicks = _both_labels(clicked, p_click)
    _, _, variance = equal_mass_bins(clicked, p_click, bins)
    return float(np.sqrt(2.0 * variance / np.pi).sum() / clicks)


def best_f1(clicked: Array, p_click: Array) -> tuple[float, float]:
    """The largest F1 any threshold reaches on this sample, and that threshold.

    The threshold is chosen on the sample it is judged on, so the figure flatters a little; F1 is printed because people
    ask for it, and decides nothing.
    """
    _both_labels(clicked, p_click)
    hits, shown = _from_the_top(clicked, p_click)
    f1 = 2.0 * hits / (shown + hits[-1])
    best = int(np.argmax(f1))
    return float(f1[best]), float(np.sort(p_click)[::-1][shown[best] - 1])


def lift(clicked: Array, p_click: Array, share: float) -> float:
    """Click rate among the best-scored `share` of the impressions over that of all: 1 is chance.

    Impressions tied at the edge count with the part of them that has room, so the order of rows does not matter.
    """
    clicks = _both_labels(clicked, p_click)
    hits, shown = _from_the_top(clicked, p_click)
    # Clicks as a function of the impressions taken from the top: straight between the ends of each run of ties.
    taken = share * len(clicked)
    return float(np.interp(taken, np.r_[0, shown], np.r_[0.0, hits]) / taken * len(clicked) / clicks)


def at_threshold(clicked: Array, p_click: Array, threshold: float) -> tuple[float, float, float]:
    """Precision, recall and F1 where every impression with p_click >= threshold is called a click.

    Where none is, precision has no value and is answered with NaN; recall and F1 are 0.
    """
    clicks = _both_labels(clicked, p_click)
    called = p_click >= threshold
    shown, hits = int(np.count_nonzero(called)), int(np.count_nonzero(called & np.asarray(clicked, dtype=np.bool_)))
    return (hits / shown if shown else float("nan")), hits / clicks, 2.0 * hits / (shown + clicks)


def equal_mass_bins(clicked: Array, p_click: Array, bins: int) -> tuple[Float64s, Float64s, Float64s]:
    """Promised clicks, seen clicks and variance of the seen ones if the promise is true, per bin of rising p_click."""
    order = np.argsort(p_click, kind="stable")
    starts = np.unique(np.linspace(0, len(order), bins + 1)[:-1].astype(np.int64))
    p = p_click[order].astype(np.float64)
    promised = np.add.reduceat(p, starts)
    seen = np.add.reduceat(np.asarray(clicked)[order].astype(np.float64), starts)
    return promised, seen, np.add.reduceat(p * (1.0 - p), starts)


def mid_ranks(values: Array) -> Float64s:
    """(n,) ranks from 1, equal values sharing the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    size = np.diff(np.r_[first, len(values)])
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(first + (size + 1) / 2.0, size)
    return ranks


def _from_the_top(clicked: Array, p_click: Array) -> tuple[Float64s, npt.NDArray[np.int64]]:
    """Clicks and impressions at or above each distinct score, best score first."""
    order = np.argsort(p_click, kind="stable")[::-1]
    ordered = p_click[order]
    last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
    hits = np.cumsum(np.asarray(clicked)[order].astype(np.float64))[last]
    return hits, last + 1


def _check(clicked: Array, p_click: Array) -> None:
    if len(clicked) != len(p_click):
        raise MetricError(f"{len(clicked)} labels cannot be compared with {len(p_click)} probabilities")
    if len(clicked) == 0:
        raise MetricError("a metric of no rows is not defined; give it at least one click and one non-click")


def _both_labels(clicked: Array, p_click: Array) -> int:
    """Number of clicks, once it is sure that there are clicks and non-clicks."""
    _check(clicked, p_click)
    clicks = int(np.count_nonzero(clicked))
    if clicks in (0, len(clicked)):
        raise MetricError(
            f"all {len(clicked)} impressions have the same label ({'clicked' if clicks else 'not clicked'}); "
            "take a longer stretch of the log that holds both kinds"
        )
    return clicks
