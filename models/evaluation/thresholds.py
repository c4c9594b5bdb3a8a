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
from models.evaluation.cells import REPLICATES, percentiles
from models.evaluation.metrics import Array, Float64s
from models.evaluation.redrawn_totals import redrawn_totals
from models.evaluation.units import Units, widest
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
    user_codes: npt.NDArray[np.integer] | None = None,
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
    user_codes: npt.NDArray[np.integer] | None,
    seed: int,
) -> AtThreshold:
    precision, recall, f1 = metrics.at_threshold(clicked, p_click, threshold)
    called = p_click >= threshold
    kinds = np.stack([called & clicked, called & ~clicked, ~called & clicked])  # (3, n)
    units = Units.of(clicked, user_codes)
    # (3, R) of hits, false alarms and misses, by user or by row or both
    drawings = [_redrawn(kinds, codes, seed).T for codes in units.drawings]
    n_called, n_hits, clicks = int(called.sum()), int(kinds[0].sum()), int(clicked.sum())

    def interval(value: float, part: tuple[int, ...], whole: tuple[int, ...], n: int) -> Interval:
        """Of sums of kinds: `part` over `whole`; with what as many independent rows allow where nothing varies."""
        drawn = [(each[list(part)].sum(axis=0), each[list(whole)].sum(axis=0)) for each in drawings]
        ends = (percentiles(above[below > 0] / below[below > 0]) for above, below in drawn)
        alone = wilson(round(value * n), n)
        return units.interval(value, alone if value in (0.0, 1.0) else widest(ends, alone), len(clicked), clicks)

    return AtThreshold(
        threshold=threshold,
        called=n_called,
        precision=interval(precision, (0,), (0, 1), n_called) if n_called else None,
        recall=interval(recall, (0,), (0, 2), clicks),
        f1=interval(f1, (0, 0), (0, 0, 1, 2), n_called + clicks - n_hits),
    )


def _redrawn(kinds: npt.NDArray[np.bool_], user_codes: npt.NDArray[np.integer] | None, seed: int) -> Float64s:
    """(R, 3) counts of the three kinds with rows, or users, redrawn."""
    random = random_stream(seed, "bootstrap at a threshold")
    if user_codes is None:
        return random.poisson(kinds.sum(axis=1), (REPLICATES, 3)).astype(np.float64)
    return redrawn_totals(kinds, user_codes, random)[1]
