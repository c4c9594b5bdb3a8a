"""Figures that are compared: what each is of one measured second, and of a round second by second.

Only whole seconds count. A second without a figure (nothing was answered, nobody watched the processes) is left out; a
round that lacks more than half of its seconds, or asks too little of a second for a p99, has no figure at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from loadtest.comparing.ratio import Reals
from loadtest.comparing.sides import judged
from loadtest.report import Report
from loadtest.results import EngineResult, Second

WIDER = 2.0
"""Times the tolerance: for the p99, which rests on a hundredth of the requests, and for answers in time, which past
saturation depend on how long a queue happened to grow."""
LEAST_FOR_P99 = 100
"""Requests in a typical second (or turn), below which its p99 would be its maximum."""

Unit = Literal["ms", "per_s", "us"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a second."""

    name: str
    unit: Unit
    of_second: Callable[[Second], float | None]
    """None where it is not known."""
    more_is_better: bool = False
    factor: float = 1.0
    """Times the tolerance."""
    least_requests: int = 0
    """In a typical second."""

    def of_round(self, report: Report) -> Reals | None:
        """Of each second of a round; answers in time are those of the sweep's best rate where there was a sweep."""
        seconds = whole_seconds(report)
        if self.unit == "per_s" and report.sweep is not None:
            best = report.sweep.best.result
            seconds = _whole(best)
        values = self._of_seconds(seconds, judged(report).second_s)
        known = values[~np.isnan(values)]
        return known if len(known) * 2 > len(values) else None

    def of_pairs(self, pairs: Sequence[tuple[Second, Second]], turn_s: float) -> tuple[Reals, Reals] | None:
        """Of turns of A and of B, those pairs where both know it; None as in `of_round`."""
        a, b = (self._of_seconds([pair[side] for pair in pairs], turn_s) for side in (0, 1))
        known = ~np.isnan(a) & ~np.isnan(b)
        return (a[known], b[known]) if known.sum() * 2 > len(known) else None

    def _of_seconds(self, seconds: Sequence[Second], second_s: float) -> Reals:
        """NaN where it is not known, or not positive."""
        if not seconds or np.median([second.n_requests for second in seconds]) < self.least_requests:
            return np.full(len(seconds), np.nan)
        found = [self.of_second(second) for second in seconds]
        length_s = second_s if self.unit == "per_s" else 1.0
        return np.array([value / length_s if value is not None and value > 0 else np.nan for value in found])


def whole_seconds(report: Report) -> list[Second]:
    """Of the judged run; of services measured in turns these are the turns, whatever their length."""
    return _whole(judged(report))


def _whole(result: EngineResult) -> list[Second]:
    return [second for second in result.timeline if second.second < n_seconds(result)]


def n_seconds(result: EngineResult) -> int:
    """Whole seconds of a run, or turns."""
    return math.floor(result.duration_s / result.second_s + 1e-9)


def _cpu_us(second: Second) -> float | None:
    return None if second.server is None or not second.n_requests else second.server.ran_ms / second.n_requests * 1000


def _in_time(second: Second) -> float | None:
    """A second without any good answer has no logarithm: it counts as half an answer."""
    return None if second.n_good is None else max(float(second.n_good), 0.5)


FIGURES = (
    Figure("p50", "ms", lambda second: second.p50_ms),
    Figure("p99", "ms", lambda second: second.p99_ms, factor=WIDER, least_requests=LEAST_FOR_P99),
    Figure("answers in time", "per_s", _in_time, more_is_better=True, factor=WIDER),
    Figure("server CPU per request", "us", _cpu_us),
)
