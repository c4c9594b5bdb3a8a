"""Open rates: latency at given Poisson rates, each measured several times in alternating order.

A figure is the median of the runs whose generator was punctual; where more than half were not, it is refused. A rate
that a server cannot do at all (above its closed-loop capacity) is left to the load curve: its p99 would only tell how
long the run was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

from loadtest.intervals import Spread
from loadtest.results import EngineResult
from loadtest.suite.generators import Generators
from loadtest.suite.plan import OpenCase
from loadtest.suite.results import CpuBill, OpenRun
from loadtest.suite.servers import Server

MOST_SHARE_OF_CAPACITY = 0.97
"""Poisson arrivals above it are as good as past saturation."""


def open_run(server: str, run: int, n_candidates: int, result: EngineResult, cpu: CpuBill) -> OpenRun:
    """The part of a run that the suite keeps."""
    latency, lateness = result.latency, result.lateness
    return OpenRun(
        server=server,
        run=run,
        rate_per_s=result.rate_per_s,
        n_candidates=n_candidates,
        n_requests=result.n_requests,
        p50_ms=latency.p50_ms,
        p90_ms=latency.p90_ms,
        p99_ms=latency.p99_ms,
        p999_ms=latency.p999_ms,
        max_ms=latency.max_ms,
        answered_per_s=result.achieved_per_s,
        goodput_per_s=result.goodput_per_s or 0.0,
        errors=result.errors,
        degraded_share=result.degraded.share,
        lateness_p99_ms=lateness.tail_ms if lateness else None,
        believable=lateness is not None and lateness.believable,
        cpu=cpu,
    )


def measure_rates(
    generators: Generators,
    servers: Sequence[Server],
    cases: Sequence[OpenCase],
    capacity_per_s: Mapping[str, float],
    n_runs: int,
    duration_s: float,
    on_step: Callable[[str], None],
) -> list[OpenRun]:
    """Measure every server at every rate that it can do, `n_runs` times.

    Args:
        capacity_per_s: closed-loop requests a second of each server, at 100 candidates.
    """
    runs = []
    for run in range(n_runs):
        for case in cases:
            for server in servers if run % 2 == 0 else list(reversed(servers)):
                if case.rate_per_s > MOST_SHARE_OF_CAPACITY * capacity_per_s[server.name]:
                    continue
                if not generators.can_ask(server, case.n_candidates):
                    continue
                on_step(f"open loop: {server.name} at {case.rate_per_s:g}/s, run {run + 1} of {n_runs}")
                result, cpu = generators.open(server, case.n_candidates, case.rate_per_s, duration_s, seed=run)
                runs.append(open_run(server.name, run, case.n_candidates, result, cpu))
    return runs


def at_case(runs: Sequence[OpenRun], server: str, case: OpenCase) -> list[OpenRun]:
    """The runs of one server in one case."""
    return [
        run
        for run in runs
        if (run.server, run.rate_per_s, run.n_candidates) == (server, case.rate_per_s, case.n_candidates)
    ]


def median_of_punctual(runs: Sequence[OpenRun], figure: str) -> Spread | None:
    """A latency over repeated runs; None (refused) where the generator was late in half of them or more.

    Args:
        figure: name of a field of `OpenRun`, such as `p99_ms`.
    """
    values = [value for run in runs if run.believable and (value := attrgetter(figure)(run)) is not None]
    return Spread.of(values) if len(values) * 2 > len(runs) else None
