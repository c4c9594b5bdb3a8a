"""Plans: what a suite measures, how long, how often. `full` is for publication, `quick` for a look in two minutes."""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.suite.results import PlanFacts


@dataclass(frozen=True, slots=True)
class OpenCase:
    """A Poisson rate and the size of its requests."""

    rate_per_s: float
    n_candidates: int


@dataclass(frozen=True, slots=True)
class SuitePlan:
    """Durations in seconds, warm-up not included."""

    mode: str
    closed_rounds: int
    """Each measures every server once, in an order that turns around from round to round."""
    closed_s: float
    open_runs: int
    open_s: float
    open_cases: tuple[OpenCase, ...]
    search_bounds_ms: tuple[float, ...]
    """Bounds of p99 for which the highest rate is searched; none skips the search."""
    search_runs: int
    """Runs at each rate of a search, whose median p99 decides."""
    search_s: float
    curve_shares: tuple[float, ...]
    """Offered load as a share of the closed-loop capacity; above 1 lies past saturation."""
    curve_s: float
    candidate_counts: tuple[int, ...]
    candidate_rounds: int
    candidate_s: float
    agreement_requests: int
    spending_s: float
    """How long a server is sampled under load."""
    inner_parts: bool = False
    """Whether `loadtest/micro` is run as well, a few minutes."""
    n_connections: int = 8
    warmup_s: float = 1.0
    lateness_bound_ms: float = 1.0
    good_within_ms: float = 10.0

    def facts(self) -> PlanFacts:
        """For the report."""
        return PlanFacts(
            mode=self.mode,
            n_connections=self.n_connections,
            closed_rounds=self.closed_rounds,
            closed_s=self.closed_s,
            open_runs=self.open_runs,
            open_s=self.open_s,
            warmup_s=self.warmup_s,
            lateness_bound_ms=self.lateness_bound_ms,
        )


RATES_PER_S = (500.0, 1_000.0, 2_000.0, 4_000.0)

FULL = SuitePlan(
    mode="full",
    closed_rounds=5,
    closed_s=5,
    open_runs=5,
    open_s=10,
    open_cases=(*(OpenCase(rate, 100) for rate in RATES_PER_S), OpenCase(500.0, 500)),
    search_bounds_ms=(10.0, 2.0),
    search_runs=3,
    search_s=4,
    curve_shares=(0.1, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.3, 1.6, 2.0),
    curve_s=5,
    candidate_counts=(1, 10, 50, 100, 200, 500, 1_000),
    candidate_rounds=3,
    candidate_s=3,
    agreement_requests=300,
    spending_s=5,
    inner_parts=True,
)

QUICK = SuitePlan(
    mode="quick",
    closed_rounds=2,
    closed_s=2,
    open_runs=1,
    open_s=2,
    open_cases=(OpenCase(500.0, 100), OpenCase(2_000.0, 100)),
    search_bounds_ms=(),
    search_runs=1,
    search_s=2,
    curve_shares=(0.5, 0.8, 1.2),
    curve_s=2,
    candidate_counts=(10, 100, 500),
    candidate_rounds=1,
    candidate_s=1,
    agreement_requests=100,
    spending_s=2,
    warmup_s=0.5,
)
