"""Intervals and spreads of a handful of repeated measurements: what a figure of a short run may be trusted for."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

_T_975 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)
"""Student's t at 97.5 % for 1 to 15 degrees of freedom (any table); beyond, 2.1 and falling: rounded up."""


class Spread(msgspec.Struct, frozen=True):
    """Median of repeated measurements, with the lowest and the highest of them."""

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one value; an even number of them has the mean of the middle two as median."""
        return cls(statistics.median(values), min(values), max(values), len(values))


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % confidence interval of the mean by Student's t; None for fewer than two values.

    Takes the values as independent. Neighbouring seconds of one run are nearly so; what moves a whole run (another
    tenant of the machine) shows between rounds, not here.
    """
    n = len(values)
    if n < 2:
        return None
    half = _T_975[min(n - 2, len(_T_975) - 1)] * statistics.stdev(values) / math.sqrt(n)
    mean = statistics.fmean(values)
    return mean - half, mean + half
