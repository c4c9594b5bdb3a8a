"""Precision, recall and F1 where everything at or above a threshold is called a click, with their intervals.

The threshold is the asker's, so nothing is chosen on the rows that judge it (best F1 is, and flatters a little).
Redrawing needs three counts only, exact for any scores: called and clicked, called and not, clicked and not called.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from models.evaluation import metrics
from models.evaluation.calibration import wilson
from models.evaluation.cells import REPLICATES
from models.evaluation.metrics import Array, Float64s
from models.evaluation.redrawn_totals import redrawn_totals
from models.random_streams import random_stream
from models.registry.manifest import Interval


class AtThreshold(msgspec.Struct, frozen=True):
    """What a threshold does to a sample."""

    threshold: float
    called: int
    """Impressions with p_click >= threshold."""
    precision: Interval | None
    """Clicks among the called ones; None where none is called."""
    recall: Interval
    """Called ones among the clicks."""
    f1: Interval


def at_thresholds(
    clicked: npt.NDArray[np.bool_],
    p_click: Array,
    thresholds: Sequence[float],
    user_codes: npt.NDArray[np.int64] | None = None,
    seed: int = 0,
) -> tuple[AtThreshold, ...]:
    """Figures at each threshold, in the order given.

    Args:
        clicked, p_click: (n,) outcome and promise.
        user_codes: (n,) whose impression it was; None draws impressions one by one.
    Raises:
        MetricError: no rows, lengths that differ, or only one kind of label.
    """
    return tuple(_at(clicked, p_click, threshold, user_codes, seed) for threshold in thresholds)


def _at(
    clicked: npt.NDArray[np.bool_],
    p_click: Array,
    threshold: float,
    user_codes: npt.NDArray[np.int64] | None,
    seed: int,
) -> AtThreshold:
    precision, recall, f1 = metrics.at_threshold(clicked, p_click, threshold)
    called = p_click >= threshold
    kinds = np.stack([called & clicked, called & ~clicked, ~called & clicked])  # (3, n)
    hits, false_alarms, misses = _redrawn(kinds, user_codes, seed).T
    n_called, n_hits, clicks = int(called.sum()), int(kinds[0].sum()), int(clicked.sum())

    def interval(value: float, part: Float64s, whole: Float64s, n: int) -> Interval:
        low, high = np.quantile(part / np.maximum(whole, 1.0), (0.025, 0.975))
        if value in (0.0, 1.0):  # no replicate differs: what as many independent rows allow
            low, high = wilson(round(value * n), n)
        return Interval(value, min(float(low), value), max(float(high), value), len(clicked), clicks)

    return AtThreshold(
        threshold=threshold,
        called=n_called,
        precision=interval(precision, hits, hits + false_alarms, n_called) if n_called else None,
        recall=interval(recall, hits, hits + misses, clicks),
        f1=interval(f1, 2.0 * hits, 2.0 * hits + false_alarms + misses, n_called + clicks - n_hits),
    )


def _redrawn(kinds: npt.NDArray[np.bool_], user_codes: npt.NDArray[np.int64] | None, seed: int) -> Float64s:
    """(R, 3) counts of the three kinds with rows, or users, redrawn."""
    random = random_stream(seed, "bootstrap at a threshold")
    if user_codes is None:
        return random.poisson(kinds.sum(axis=1), (REPLICATES, 3)).astype(np.float64)
    return redrawn_totals(kinds, user_codes, random)[1]
