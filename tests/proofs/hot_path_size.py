"""Size: requests of 500 candidates, what each further candidate costs, and ten times the users and ads."""

from __future__ import annotations

from pathlib import Path

from loadtest.results import EngineResult
from loadtest.suite.candidate_cost import marginal_us, measure_costs
from loadtest.suite.open_rates import at_case
from loadtest.suite.plan import OpenCase
from service.reference_workload.parameters import WorkloadParameters
from tests.proofs.claim import Outcome
from tests.proofs.hot_path_arena import ECHO, OURS, W100_CANDIDATES, arena, baselines, built, service, w100
from tests.proofs.hot_path_latency import median_ms, open_runs, run_figures
from tests.proofs.hot_path_pace import Pace
from tests.proofs.hot_path_steady import figures, is_within, p99_pairs, shown

LARGE, LARGE_RATE_PER_S, LARGE_P99_MS = 500, 500.0, 3.0
COUNTS, MARGINAL_BOUND_US = (100, 200, 500, 1_000), 1.0
SCALE_RATE_PER_S = 1_000.0


def large_requests(pace: Pace, scratch: Path) -> Outcome:
    """p99 of 500 candidates at 500 requests/s, and the slope of the cost beyond 100 candidates."""
    folder = w100()
    case = OpenCase(LARGE_RATE_PER_S, LARGE)
    with arena(folder, [service(folder), *baselines(folder, ECHO)], scratch, pace.warmup_s) as one:
        runs = open_runs(one, case, pace)
        costs = measure_costs(
            one.generators, [one.server(OURS)], COUNTS, pace.cost_rounds, pace.cost_s, lambda _step: None
        )
    ours, echo = at_case(runs, OURS, case), at_case(runs, ECHO, case)
    p50_ms, p99_ms, echo_ms = median_ms(ours, "p50_ms"), median_ms(ours, "p99_ms"), median_ms(echo, "p99_ms")
    margin_us = marginal_us(costs, OURS)
    errors = [run.errors for run in runs if run.errors]
    by_count = {cost.n_candidates: cost.us_per_request.median for cost in costs}
    details = {
        **run_figures(runs),
        "us_per_request": by_count,
        "server_cpu_us": {cost.n_candidates: cost.server_cpu_us.median for cost in costs if cost.server_cpu_us},
    }
    margin = "not measured" if margin_us is None else f"{margin_us:.2f} µs"
    latency = (
        "refused: the generator was late"
        if p99_ms is None or p50_ms is None
        else f"p50 {p50_ms:.2f}, p99 {p99_ms:.2f} ms"
    )
    return Outcome.judged(
        f"500 candidates at 500/s: {latency} (echo p99 {'-' if echo_ms is None else f'{echo_ms:.2f}'} ms); "
        f"{margin} per candidate beyond 100; µs per request by candidates: "
        + ", ".join(f"{count} {us:.0f}" for count, us in by_count.items()),
        {
            f"p99 ≤ {LARGE_P99_MS:g} ms": p99_ms is not None and p99_ms <= LARGE_P99_MS,
            f"≤ {MARGINAL_BOUND_US:g} µs a candidate": margin_us is not None and margin_us <= MARGINAL_BOUND_US,
            f"no errors (got {errors})": not errors,
        },
        details,
    )


def scale(pace: Pace, scratch: Path) -> Outcome:
    """W100 beside a workload with ten times its users and ten times its ads, in alternating pairs."""
    users, ads = WorkloadParameters().users * pace.growth, WorkloadParameters().ads * pace.growth
    folder, large = w100(), built(f"times-{pace.growth}", "--users", users, "--ads", ads)
    usual_runs: list[EngineResult] = []
    large_runs: list[EngineResult] = []
    with (
        arena(folder, [service(folder)], scratch / "usual", pace.warmup_s) as usual,
        arena(large, [service(large)], scratch / "large", pace.warmup_s) as grown,
    ):
        for turn in range(pace.rounds):
            sides = [(usual, usual_runs), (grown, large_runs)]
            for one, kept in sides if turn % 2 == 0 else reversed(sides):
                run, _ = one.generators.open(
                    one.server(OURS), W100_CANDIDATES, SCALE_RATE_PER_S, pace.open_s, seed=turn
                )
                kept.append(run)
    pairs = p99_pairs(usual_runs, large_runs)
    errors = [run.errors for run in (*usual_runs, *large_runs) if run.errors]
    return Outcome.judged(
        f"{users:,} users, {ads:,} ads at {SCALE_RATE_PER_S:g}/s: {shown(pairs)}",
        {"p99 within 20 % or 0.3 ms": is_within(pairs), f"no errors (got {errors})": not errors},
        {"usual": [figures(run) for run in usual_runs], "large": [figures(run) for run in large_runs]},
    )
