"""Reliability: promised against seen click rate, score by score, with the uncertainty of each point."""

from __future__ import annotations

import msgspec
import numpy as np

from models.errors import MetricError
from models.evaluation.metrics import Z_95, Array

DECILES = 10


class ReliabilityBin(msgspec.Struct, frozen=True):
    """Impressions of neighbouring scores: what they promised on average, and what came."""

    n: int
    clicks: int
    promised: float
    """Mean p_click."""
    seen: float
    """Clicks per impression."""
    low: float
    high: float
    """95 % interval of the true click rate (Wilson)."""

    @property
    def agrees(self) -> bool:
        """Whether the promise lies within what the clicks allow."""
        return self.low <= self.promised <= self.high


def reliability(clicked: Array, p_click: Array, bins: int = DECILES) -> tuple[ReliabilityBin, ...]:
    """Bins of equal numbers of impressions, by rising p_click; fewer where there are fewer rows.

    Args:
        clicked: (n,) bool or 0/1.
        p_click: (n,) float in [0, 1].
    Raises:
        MetricError: no rows, or lengths that differ.
    """
    if len(clicked) != len(p_click) or len(clicked) == 0:
        raise MetricError(f"reliability needs as many labels as probabilities, got {len(clicked)} and {len(p_click)}")
    order = np.argsort(p_click, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    return tuple(_bin(np.asarray(clicked)[part], p_click[part]) for part in parts)


def _bin(clicked: Array, p_click: Array) -> ReliabilityBin:
    n, clicks = len(clicked), int(np.count_nonzero(clicked))
    low, high = wilson(clicks, n)
    return ReliabilityBin(
        n=n, clicks=clicks, promised=float(p_click.mean(dtype=np.float64)), seen=clicks / n, low=low, high=high
    )


def wilson(clicks: float, n: float) -> tuple[float, float]:
    """95 % interval of a rate; honest also at 0 clicks. Source: Wilson 1927."""
    rate, z2 = clicks / n, Z_95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * float(np.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)))
    return max(0.0, centre - half), min(1.0, centre + half)
