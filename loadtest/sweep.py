"""Sweep: the same service at rising rates, past the one at which it stops keeping its promise.

Rates double from a low one until useful answers become fewer although more is asked for (saturation), or the generator
itself is late: above that the run would accuse the server of its client's lateness. Then the gap between the highest
rate that kept the promise and the lowest above it that did not is halved a few times, on the scale of ratios. Points
are short, so each is a measurement with the noise of a few seconds: the highest rate is good to about a tenth.
Bounded: at most `MOST_POINTS` runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from loadtest.budgets import RankBudget
from loadtest.results import EngineResult

MOST_POINTS = 16
LOWEST_PER_S = 100.0
REFINEMENTS = 3
"""Halvings of a factor of two: the answer is within 2^(1/8), 9 %, of the boundary."""
FALLEN = 0.9
"""Share of the best goodput so far below which it has fallen, not trembled."""

EndedBy = Literal["goodput", "generator", "range"]


class SweepPoint(msgspec.Struct, frozen=True):
    """One rate: what was seen, and what the server spent on it."""

    result: EngineResult
    """Without its percentile curve."""
    server_cpu_s: float | None
    kept: bool
    """The promised p99 and error share were kept, and the generator was punctual."""

    @property
    def rate_per_s(self) -> float:
        """The offered rate."""
        return self.result.rate_per_s

    @property
    def late(self) -> bool:
        """The generator was late: the figures say nothing about the server."""
        return self.result.lateness is not None and not self.result.lateness.believable

    @property
    def goodput_per_s(self) -> float:
        """Answers in time per second."""
        return self.result.goodput_per_s or 0.0

    @property
    def shed_share(self) -> float:
        """Requests answered 503, divided by all: the service refused them to protect the others."""
        return self.result.statuses.get("503", 0) / max(self.result.n_requests, 1)


class Sweep(msgspec.Struct, frozen=True):
    """Points by rising rate."""

    points: list[SweepPoint]
    good_within_ms: float
    """An answer later than this is not counted as goodput."""
    ended_by: EndedBy
    """`goodput`: it fell; `generator`: the generator was late; `range`: all given rates were measured."""

    @property
    def punctual(self) -> list[SweepPoint]:
        """The points that say something about the service."""
        return [point for point in self.points if not point.late]

    @property
    def highest_kept(self) -> SweepPoint | None:
        """The highest rate that kept the promise; None where none did."""
        return max((point for point in self.points if point.kept), key=lambda point: point.rate_per_s, default=None)

    @property
    def lowest_missed_above(self) -> SweepPoint | None:
        """The next higher rate that a punctual generator saw missed; None where there is none."""
        kept = self.highest_kept
        above = [p for p in self.points if not p.kept and not p.late and (not kept or p.rate_per_s > kept.rate_per_s)]
        return min(above, key=lambda point: point.rate_per_s, default=None)

    @property
    def best(self) -> SweepPoint:
        """The point with the most answers in time."""
        return max(self.points, key=lambda point: point.goodput_per_s)


def judge_point(result: EngineResult, server_cpu_s: float | None, budget: RankBudget) -> SweepPoint:
    """A point of a run: is the promise on the tail and on errors kept?"""
    tail_ms = result.latency.p99_ms
    slow = budget.p99_ms is not None and (tail_ms is None or tail_ms > budget.p99_ms)
    failed = (result.error_share or 0.0) > (budget.error_share if budget.error_share is not None else 1.0)
    late = result.lateness is not None and not result.lateness.believable
    return SweepPoint(
        msgspec.structs.replace(result, curve=[]), server_cpu_s, kept=not (slow or failed or late or not result.n_ok)
    )


def run_sweep(
    measure: Callable[[float], SweepPoint], good_within_ms: float, rates_per_s: Sequence[float] = ()
) -> Sweep:
    """Measure given rates by rising order, or find them.

    Args:
        measure: runs one rate. A rate at which the generator was late is measured once more: on a machine shared with
            others one hiccup must not end the sweep.
        rates_per_s: all of them are measured, unless the generator is late twice; empty finds them.
    """

    def punctual(rate_per_s: float) -> SweepPoint:
        point = measure(rate_per_s)
        return measure(rate_per_s) if point.late else point

    points: list[SweepPoint] = []
    ended_by: EndedBy = "range"
    for rate_per_s in sorted(rates_per_s) or [LOWEST_PER_S * 2.0**power for power in range(MOST_POINTS - REFINEMENTS)]:
        points.append(punctual(rate_per_s))
        if points[-1].late:
            ended_by = "generator"
            break
        if not rates_per_s and points[-1].goodput_per_s < FALLEN * max(point.goodput_per_s for point in points):
            ended_by = "goodput"
            break
    for _ in range(0 if rates_per_s else REFINEMENTS):
        between = _boundary(points)
        if between is not None:
            points.append(punctual(between))
    return Sweep(sorted(points, key=lambda point: point.rate_per_s), good_within_ms, ended_by)


def _boundary(points: Sequence[SweepPoint]) -> float | None:
    """The rate half-way, as a ratio, between the highest kept and the next one above it; None without such a gap."""
    kept = max((point.rate_per_s for point in points if point.kept), default=None)
    above = min((point.rate_per_s for point in points if kept is not None and point.rate_per_s > kept), default=None)
    return None if kept is None or above is None else float(round(math.sqrt(kept * above)))
