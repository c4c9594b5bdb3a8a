"""Reports made up for tests: figures of a believable service, with chosen faults, drawn by a seed."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from loadtest.budgets import Budgets, RankBudget
from loadtest.latency import percentile_curve, summarise, timeline
from loadtest.machine import Machine
from loadtest.report import InTurns, Measured, Report
from loadtest.results import DegradedShare, EngineResult, Lateness
from loadtest.server_cpu import ScheduledTime
from loadtest.server_metrics import ServerSide, StageTime
from loadtest.sweep import Sweep, SweepPoint, judge_point
from loadtest.turns_run import order_of_turns
from loadtest.verdict import judge

BUDGETS = Budgets(rank=RankBudget(p50_ms=2.0, p99_ms=10.0, error_share=0.01))


def run_of(
    rng: np.random.Generator,
    *,
    slower: float = 1.0,
    rate_per_s: int = 200,
    duration_s: int = 20,
    round_noise: float = 0.0,
    second_noise: float = 0.05,
    waited_us: float = 5.0,
    moods: npt.NDArray[np.float64] | None = None,
    failing: float = 0.0,
    failing_seconds: tuple[int, ...] | None = None,
    failing_with: str = "500",
    **changes: Any,
) -> EngineResult:
    """One open-loop run of a service whose requests take about a millisecond.

    Args:
        slower: factor on latency and CPU time.
        round_noise, second_noise: standard deviations of the logarithms of what a whole run and what a second is
            disturbed by; the latter fades over seconds, as a neighbour's work does.
        waited_us: what a request of the service waited for a core.
        moods: (duration_s,) factor of each second on latency and CPU time.
        failing: share of the requests that are answered `failing_with`, in these seconds only (None: in all).
    """
    disturbed = np.empty(duration_s)
    disturbed[0] = rng.normal() * second_noise
    for second in range(1, duration_s):
        disturbed[second] = 0.6 * disturbed[second - 1] + 0.8 * second_noise * rng.normal()
    moods = np.ones(duration_s) if moods is None else moods
    by_second = np.exp(disturbed + rng.normal() * round_noise) * slower * moods
    due_s = np.sort(rng.uniform(0, duration_s, rate_per_s * duration_s))
    latencies_ms = rng.lognormal(0, 0.5, len(due_s)) * by_second[due_s.astype(int)]
    counts = np.bincount(due_s.astype(int), minlength=duration_s)
    cpu_ms = counts * 0.13 * slower * moods * np.exp(rng.normal(size=duration_s) * 0.02)
    server = [ScheduledTime(float(ms), float(n) * waited_us / 1000) for ms, n in zip(cpu_ms, counts, strict=True)]
    hit = np.ones(len(due_s), dtype=bool) if failing_seconds is None else np.isin(due_s.astype(int), failing_seconds)
    failed = hit & (rng.uniform(size=len(due_s)) < failing) if failing else np.zeros(len(due_s), dtype=bool)
    n_failed, answered_ms = int(failed.sum()), latencies_ms[~failed]
    latencies_ms[failed] = np.nan
    good = int((answered_ms <= 10).sum())
    result = EngineResult(
        engine="open-loop",
        method="counted from the due time",
        rate_per_s=float(rate_per_s),
        duration_s=float(duration_s),
        warmup_s=1.0,
        n_requests=len(due_s),
        n_ok=len(due_s) - n_failed,
        errors={f"http_{failing_with[0]}xx": n_failed} if n_failed else {},
        statuses={"200": len(due_s) - n_failed, **({failing_with: n_failed} if n_failed else {})},
        latency=summarise(answered_ms),
        curve=percentile_curve(answered_ms),
        timeline=timeline(due_s, latencies_ms, failed, 10.0, server),
        degraded=DegradedShare(200, 7, {"store_timeout": 7}, 0),
        lateness=Lateness(summarise(np.full(2_000, 0.02)), 1.0, believable=True),
        connections=None,
        generator_cpu_share=0.05,
        n_good=good,
    )
    return msgspec.structs.replace(result, **changes)


def in_turns_of(
    rng: np.random.Generator,
    *,
    slower: float = 1.0,
    n_turns: int = 40,
    drift: float = 0.05,
    noise: float = 0.09,
    shared: str = "0",
    **run: Any,
) -> tuple[Report, Report]:
    """Reports of two services that were measured in turns, the second `slower`; on a machine
    whose speed wanders.

    Args:
        drift, noise: standard deviations of the logarithm of the machine's speed: of its steps from one turn to the
            next (it wanders by a factor of 1.5 in a minute), and of what a turn has to itself. The noise is in both
            turns of a pair, so the logarithm of their ratio has a standard deviation of 0.13.
    """
    wandering = np.cumsum(rng.normal(size=2 * n_turns)) * drift + rng.normal(size=2 * n_turns) * noise
    moods = np.empty((2, n_turns))
    for (side, turn), mood in zip(order_of_turns(n_turns), np.exp(wandering), strict=True):
        moods[side, turn] = mood
    a, b = (
        report_of(
            run_of(rng, duration_s=n_turns, slower=factor, moods=moods_of, **run),
            in_turns=InTurns(shared, name, "http://127.0.0.1:8081"),
        )
        for name, factor, moods_of in (("a", 1.0, moods[0]), ("b", slower, moods[1]))
    )
    return a, b


def report_of(*results: EngineResult, **changes: Any) -> Report:
    """A report on these runs, the first one judged."""
    whole = Report(
        created_at="2026-11-21T10:00:00+00:00",
        url="http://127.0.0.1:8080",
        workload="POST /v1/rank, 100 candidates of 10000 ads, 100000 users, Zipf exponent 1.1, 2000 distinct requests",
        workload_sha256="ab" * 32,
        mean_body_bytes=1234.5,
        server="uvicorn",
        model_version="v000001-cfd399f0",
        commit="0123456789abcdef0123456789abcdef01234567+dirty",
        machine=Machine(
            "AMD EPYC 7763 64-Core Processor", 2, 2, 1.5, 0.25, 8 << 30, "Some Linux 12", "CPython 3.11.7",
            {"fastapi": "0.165.0", "numpy": "2.4.6", "onnxruntime": "1.31.1"},
        ),
        budgets=BUDGETS,
        verdict=judge(results[0], BUDGETS.rank),
        measured=[Measured(result, 1.1) for result in results],
    )  # fmt: skip
    return msgspec.structs.replace(whole, **changes)


def point_of(rng: np.random.Generator, rate_per_s: int, capacity_per_s: float = 3_000.0) -> SweepPoint:
    """A point of a service that answers faster than 10 ms up to its capacity, and far beyond it almost nothing."""
    over = rate_per_s / capacity_per_s
    slower = 1 / max(1 - over, 0.02)
    result = run_of(rng, rate_per_s=rate_per_s, duration_s=2, slower=slower)
    if over > 1:
        shed = int(result.n_requests * (1 - 1 / over))
        result = msgspec.structs.replace(
            result,
            n_ok=result.n_requests - shed,
            errors={"http_5xx": shed},
            statuses={"200": result.n_requests - shed, "503": shed},
        )
    return judge_point(result, 0.3, BUDGETS.rank)


def sweep_of(rng: np.random.Generator) -> Sweep:
    """A sweep past saturation."""
    rates = (100, 200, 400, 800, 1_600, 1_900, 2_263, 2_700, 3_200, 6_400)
    return Sweep([point_of(rng, rate) for rate in rates], 10.0, "goodput")


def server_side_of() -> ServerSide:
    """Stages as the service tells them, one of them beyond its last bucket."""
    stages = [("parse", 9.0), ("features", 182.0), ("assemble", 21.0), ("model", 31.0), ("rank", 6.0), ("encode", 11.0)]
    return ServerSide(
        n_requests=4_200,
        mean_us=290.0,
        stages=[StageTime(name, 4_200, us, us * 0.9, None if name == "features" else us * 3) for name, us in stages],
        shed={"queue_full": 12_345},
        degraded={"store_timeout": 147, "user_missing": 12},
    )


def full_report(seed: int = 1) -> Report:
    """A report with everything a page can show."""
    rng = np.random.default_rng(seed)
    locust = run_of(rng, engine="locust", lateness=None, timeline=[], statuses={})
    return report_of(run_of(rng), locust, sweep=sweep_of(rng), server_side=server_side_of())
