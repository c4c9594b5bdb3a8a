"""One headless Locust run in a process of its own, brought into the same form as an open-loop run.

The number of users follows from the rate: each calls `CALLS_PER_USER_S` times a second as long as its answers take
less than the time between, so an answer slower than that makes Locust offer less than the rate that was asked for.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from loadtest.errors import EngineError
from loadtest.generator_process import run_generator
from loadtest.latency import percentile_curve, summarise
from loadtest.locust_stats import LocustStats
from loadtest.results import EngineResult
from loadtest.target import Target

CALLS_PER_USER_S = 10.0
LOCUSTFILE = Path(__file__).with_name("locustfile.py")
METHOD = (
    "A fixed number of users call at a steady pace, and each waits for its answer before it calls again; latency "
    "counts from the actual sending, so a stall delays at most one request per user and the others are never sent."
)
_STOP_TIMEOUT_S = 5
"""How long Locust lets requests in flight end."""


@dataclass(frozen=True, slots=True)
class LocustOptions:
    """One Locust run at one rate. Locust counts whole seconds: warm-up + duration are rounded up."""

    rate_per_s: float
    duration_s: float
    warmup_s: float = 2.0
    sample_every: int = 10
    cpu: int | None = None


def run_locust(
    target: Target, workload_path: Path, options: LocustOptions, on_progress: Callable[[float], None] = lambda _: None
) -> EngineResult:
    """Run Locust once. Percentiles are of the ranking route, exact to Locust's buckets of 0.01 ms.

    Raises:
        EngineError: Locust failed, hung, or wrote no statistics; holds the end of what it said.
        LoadTestError: the core is not available.
    """
    users = max(1, math.ceil(options.rate_per_s / CALLS_PER_USER_S))
    run_time_s = math.ceil(options.warmup_s + options.duration_s)
    with tempfile.TemporaryDirectory(prefix="clickserve-locust-") as folder:
        stats_path = Path(folder) / "stats.json"
        command = [
            *(sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--headless", "--host", target.url),
            *("--users", str(users), "--spawn-rate", str(users), "--run-time", f"{run_time_s}s"),
            *("--stop-timeout", str(_STOP_TIMEOUT_S), "--exit-code-on-error", "0", "--loglevel", "WARNING"),
            *("--only-summary", "--workload", str(workload_path), "--user-rate", repr(options.rate_per_s / users)),
            *("--warmup-s", repr(options.warmup_s), "--sample-every", str(options.sample_every)),
            *("--stats-out", str(stats_path)),
        ]
        run_generator(
            "Locust",
            command,
            expected_s=run_time_s + 2,
            limit_s=run_time_s + _STOP_TIMEOUT_S,
            cpu=options.cpu,
            on_progress=on_progress,
        )
        try:
            stats = msgspec.json.decode(stats_path.read_bytes(), type=LocustStats)
        except (OSError, msgspec.DecodeError) as error:
            raise EngineError(f"Locust ended well but left no statistics: {error}") from error
    return _as_result(stats, options, run_time_s - options.warmup_s)


def _as_result(stats: LocustStats, options: LocustOptions, duration_s: float) -> EngineResult:
    buckets = np.array([bucket for bucket, _ in stats.response_times_ms], dtype=np.float64)
    counts = np.array([count for _, count in stats.response_times_ms], dtype=np.int64)
    latencies_ms = np.repeat(buckets, counts)
    return EngineResult(
        engine="locust",
        method=METHOD,
        rate_per_s=options.rate_per_s,
        duration_s=duration_s,
        warmup_s=options.warmup_s,
        n_requests=stats.n_requests,
        n_ok=stats.n_requests - sum(stats.errors.values()),
        errors=stats.errors,
        statuses={},
        latency=summarise(latencies_ms),
        curve=percentile_curve(latencies_ms),
        timeline=[],
        degraded=stats.degraded,
        lateness=None,
        connections=None,
        generator_cpu_share=stats.cpu_share,
    )
