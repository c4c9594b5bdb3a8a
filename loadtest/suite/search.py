"""Search: the highest Poisson rate at which p99 stays within a bound, by bisection.

The p99 of one short run near saturation is a lottery, so each rate is measured several times and the median decides;
a failed request counts as missed. The rate that is reported was measured and kept the bound; a rate at most
`PRECISION` of the capacity above it did not. Where the generator itself was late the search stops: above that rate it
could only accuse the server of its own lateness.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from loadtest.suite.results import HighestRate, OpenRun, Tried

PRECISION = 0.04
LOWEST_SHARE, HIGHEST_SHARE = 0.1, 1.05
"""Of the closed-loop capacity: no queue keeps a low p99 above it."""


def judge_tries(rate_per_s: float, runs: Sequence[OpenRun]) -> Tried:
    """The median p99 of repeated runs at one rate; any failed request leaves none."""
    tails = sorted(float("inf") if run.errors or run.p99_ms is None else run.p99_ms for run in runs)
    tail_ms = statistics.median_low(tails)
    late = sum(not run.believable for run in runs) * 2 > len(runs)
    return Tried(rate_per_s, None if late or tail_ms == float("inf") else tail_ms, late)


def highest_rate(
    server: str, bound_ms: float, capacity_per_s: float, measure: Callable[[float], Tried], known: Sequence[Tried] = ()
) -> HighestRate:
    """Bisect between a tenth of the capacity and a little more than all of it.

    Args:
        measure: measures one rate.
        known: what an earlier search of the same server has seen; it narrows the range and is not measured again.
    """
    seen = list(known)

    def kept(tried: Tried) -> bool:
        return tried.p99_ms is not None and tried.p99_ms <= bound_ms

    def try_rate(rate_per_s: float) -> Tried:
        tried = measure(rate_per_s)
        seen.append(tried)
        return tried

    lowest, highest = LOWEST_SHARE * capacity_per_s, HIGHEST_SHARE * capacity_per_s
    missed = [tried for tried in seen if not kept(tried)]
    too_high = min(missed, key=lambda tried: tried.rate_per_s) if missed else None
    ceiling = too_high.rate_per_s if too_high else highest
    good = max((tried.rate_per_s for tried in seen if kept(tried) and tried.rate_per_s < ceiling), default=None)
    if good is None:
        first = try_rate(lowest)
        if not kept(first):
            return HighestRate(server, bound_ms, None, _reason(first), seen)
        good = lowest
    while ceiling - good > PRECISION * capacity_per_s:
        tried = try_rate((good + ceiling) / 2)
        if kept(tried):
            good = tried.rate_per_s
        else:
            ceiling, too_high = tried.rate_per_s, tried
    return HighestRate(server, bound_ms, good, _reason(too_high), sorted(seen, key=lambda tried: tried.rate_per_s))


def _reason(too_high: Tried | None) -> str:
    if too_high is None:
        return "range"
    return "generator" if too_high.late else "missed"
