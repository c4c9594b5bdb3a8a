"""Open loop: latency at fixed Poisson rates beside the echo server's, and the highest rates that keep a bound.

Latency counts from the scheduled arrival. A figure is the median of the runs whose generator was punctual; where it was
late in half of them or more the figure is refused, and the claim fails saying so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loadtest.suite.open_rates import at_case, measure_rates, median_of_punctual, open_run
from loadtest.suite.plan import OpenCase
from loadtest.suite.results import HighestRate, OpenRun, Tried
from loadtest.suite.search import highest_rate, judge_tries
from loadtest.suite.servers import Server
from tests.proofs.claim import Outcome
from tests.proofs.hot_path_arena import ECHO, OURS, W100_CANDIDATES, Arena, arena, baselines, service, w100
from tests.proofs.hot_path_pace import Pace

SEARCH_BOUNDS_MS = (10.0, 2.0)
MOST_REFUSED = 0.001
"""Of our requests. A core that the host takes away for longer than `admission.queue_ms` leaves requests too old to be
worth answering; they are refused, have no latency, and at this share cannot move a p99 by much."""


def at_rate(
    rate_per_s: float, p50_bound_ms: float | None, p99_bound_ms: float, times_echo: float, pace: Pace, scratch: Path
) -> Outcome:
    """p50 within its bound, p99 within the larger of its bound and so many times the echo's."""
    folder = w100()
    case = OpenCase(rate_per_s, W100_CANDIDATES)
    with arena(folder, [service(folder), *baselines(folder, ECHO)], scratch, pace.warmup_s) as one:
        runs = open_runs(one, case, pace)
    ours, echo = at_case(runs, OURS, case), at_case(runs, ECHO, case)
    p50_ms, p99_ms, echo_ms = median_ms(ours, "p50_ms"), median_ms(ours, "p99_ms"), median_ms(echo, "p99_ms")
    details = run_figures(runs)
    errors = [(run.server, run.errors) for run in runs if run.errors]
    refused = sum(sum(run.errors.values()) for run in ours) / sum(run.n_requests for run in ours)
    if p50_ms is None or p99_ms is None or echo_ms is None:
        return Outcome(f"refused: the generator was late, or nothing was answered; errors {errors}", False, details)
    allowed_ms = max(p99_bound_ms, times_echo * echo_ms)
    return Outcome.judged(
        f"p50 {p50_ms:.2f} ms, p99 {p99_ms:.2f} ms, {refused:.3%} refused; echo p99 {echo_ms:.2f} ms",
        {
            f"p99 ≤ {allowed_ms:.2f} ms": p99_ms <= allowed_ms,
            f"p50 ≤ {p50_bound_ms} ms": p50_bound_ms is None or p50_ms <= p50_bound_ms,
            f"at most {MOST_REFUSED:.1%} refused (got {refused:.3%}, {errors})": refused <= MOST_REFUSED,
        },
        details,
    )


def highest_rates(pace: Pace, scratch: Path) -> Outcome:
    """Highest Poisson rates with p99 within 10 ms and 2 ms: ours and each baseline's that is installed."""
    folder = w100()
    with arena(folder, [service(folder), *baselines(folder)], scratch, pace.warmup_s) as one:
        found = {server.name: _search(one, server, pace) for server in one.servers}
        absent = one.absent
    words = "; ".join(f"{name} " + ", ".join(map(_in_words, rates)) for name, rates in found.items())
    return Outcome.judged(
        words + "".join(f"; {name} not measured ({reason})" for name, reason in absent.items()),
        {
            "ours keeps both bounds at some rate": all(rate.rate_per_s is not None for rate in found[OURS]),
            "tuned and tutorial were measured": {"tuned", "tutorial"} <= found.keys(),
        },
        {
            name: [
                {
                    "bound_ms": rate.bound_ms,
                    "rate_per_s": rate.rate_per_s,
                    "ended_by": rate.ended_by,
                    "tried": [(tried.rate_per_s, tried.p99_ms) for tried in rate.tried],
                }
                for rate in rates
            ]
            for name, rates in found.items()
        },
    )


def open_runs(one: Arena, case: OpenCase, pace: Pace) -> list[OpenRun]:
    """Runs of all servers at one rate, in alternating order; none is left out for being too slow."""
    capacity = {server.name: float("inf") for server in one.servers}
    return measure_rates(one.generators, one.servers, [case], capacity, pace.rounds, pace.open_s, lambda _step: None)


def median_ms(runs: Sequence[OpenRun], figure: str) -> float | None:
    """The median of the punctual runs; None (refused) where they are not the majority."""
    spread = median_of_punctual(runs, figure)
    return None if spread is None else spread.median


def run_figures(runs: Sequence[OpenRun]) -> dict[str, object]:
    """What a proof keeps of runs, by server."""
    return {
        name: [
            {
                "p50_ms": run.p50_ms,
                "p99_ms": run.p99_ms,
                "p999_ms": run.p999_ms,
                "max_ms": run.max_ms,
                "errors": run.errors,
                "degraded_share": run.degraded_share,
                "late_p99_ms": run.lateness_p99_ms,
                "punctual": run.believable,
                "server_cpu_us": run.cpu.server_us,
            }
            for run in runs
            if run.server == name
        ]
        for name in dict.fromkeys(run.server for run in runs)
    }


def _search(one: Arena, server: Server, pace: Pace) -> list[HighestRate]:
    """For each bound, the widest first: what was seen there narrows the next one's range."""
    generators = one.generators
    capacity = generators.closed(server, W100_CANDIDATES, pace.closed_s)[0].per_s

    def measure(rate_per_s: float) -> Tried:
        runs = []
        for run in range(pace.search_runs):
            result, cpu = generators.open(server, W100_CANDIDATES, rate_per_s, pace.search_s, seed=run)
            runs.append(open_run(server.name, run, W100_CANDIDATES, result, cpu))
        return judge_tries(rate_per_s, runs)

    found: list[HighestRate] = []
    for bound_ms in SEARCH_BOUNDS_MS:
        known = found[-1].tried if found else ()
        found.append(highest_rate(server.name, bound_ms, capacity, measure, known))
    return found


def _in_words(found: HighestRate) -> str:
    rate = "none" if found.rate_per_s is None else f"{found.rate_per_s:,.0f}/s"
    at_least = "≥ " if found.rate_per_s is not None and found.ended_by != "missed" else ""
    return f"{at_least}{rate} at p99 ≤ {found.bound_ms:g} ms"
