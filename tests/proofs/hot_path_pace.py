"""How long and how often the claims of the hot path measure. Bounds do not depend on it.

`FULL` is what is recorded. `SHORT` shows in some minutes that every claim runs; its verdicts mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Durations are seconds, warm-up not included."""

    rounds: int = 5
    """Runs of each server, or pairs of runs, in alternating order."""
    closed_s: float = 5.0
    open_s: float = 10.0
    warmup_s: float = 1.0
    scoring_requests: int = 2_000
    """Distinct requests, all of them scored in each round."""
    search_runs: int = 3
    """At each rate of a search."""
    search_s: float = 3.0
    cost_rounds: int = 3
    cost_s: float = 3.0
    growth: int = 10
    """So many times the users and the ads."""
    starts: int = 5
    stalls: int = 10
    between_stalls_s: float = 2.0
    watched_s: float = 20.0
    """How long changed ads are watched."""
    soak_minutes: int = 10
    minute_s: float = 60.0


FULL = Pace()
SHORT = Pace(
    rounds=1,
    closed_s=1.0,
    open_s=2.0,
    warmup_s=0.5,
    scoring_requests=200,
    search_runs=1,
    search_s=0.5,
    cost_rounds=1,
    cost_s=0.5,
    growth=2,
    starts=1,
    stalls=3,
    between_stalls_s=0.5,
    watched_s=4.0,
    soak_minutes=3,
    minute_s=2.0,
)
