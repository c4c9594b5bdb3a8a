"""Result of an open-loop run: figures from what was noted of every request.

Percentiles cover 2xx answers and timeouts (with the time they were given: leaving them out would be coordinated
omission by another name). Other errors have no latency, because a fast refusal must not improve a percentile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.http_client import TIMEOUT, ConnectionPool
from loadtest.latency import percentile_curve, summarise, timeline
from loadtest.open_loop_options import OpenLoopOptions
from loadtest.results import Connections, EngineResult, Lateness
from loadtest.sampler import Sampler
from loadtest.server_cpu import ScheduledTime

METHOD = (
    "Requests are sent on a Poisson schedule fixed before the run; latency counts from the moment a request was due, "
    "so a stall delays every request that falls into it."
)


@dataclass(frozen=True, slots=True)
class Notes:
    """Of each request, by its position in the schedule: nanoseconds, and how it ended."""

    offsets_ns: list[int]
    """When it is due on the run's own clock, which begins with the warm-up."""
    due_ns: list[int]
    """When it was due on the monotonic clock, as this and the next two."""
    started_ns: list[int]
    ended_ns: list[int]
    outcomes: list[int | str]
    """A status, or the name of an error."""


def engine_result(
    options: OpenLoopOptions,
    notes: Notes,
    sampler: Sampler,
    pool: ConnectionPool,
    *,
    first_measured: int,
    server: Sequence[ScheduledTime | None],
    generator_cpu_share: float,
) -> EngineResult:
    """The figures of a run that has ended.

    Args:
        first_measured: position of the first request after the warm-up.
        server: what the scheduler did with the server's processes in each measured second, as far as known.
    """
    measured = slice(first_measured, None)
    due_ns = np.array(notes.due_ns[measured], dtype=np.int64)
    outcomes = notes.outcomes[measured]
    kinds = [_kind_of_error(outcome) for outcome in outcomes]
    failed = np.array([kind is not None for kind in kinds], dtype=bool)
    has_latency = ~failed | np.array([outcome == TIMEOUT for outcome in outcomes], dtype=bool)
    latencies_ms = (np.array(notes.ended_ns[measured], dtype=np.int64) - due_ns) / 1e6
    latencies_ms[~has_latency] = np.nan
    known_ms = latencies_ms[has_latency]
    late_ms = (np.array(notes.started_ns[measured], dtype=np.int64) - due_ns) / 1e6
    due_s = np.array(notes.offsets_ns[measured], dtype=np.float64) / 1e9 - options.warmup_s
    return EngineResult(
        engine="open-loop",
        method=METHOD,
        rate_per_s=options.rate_per_s,
        duration_s=options.duration_s,
        warmup_s=options.warmup_s,
        n_requests=len(outcomes),
        n_ok=int((~failed).sum()),
        errors=dict(Counter(kind for kind in kinds if kind is not None)),
        statuses=dict(Counter(str(outcome) for outcome in outcomes if isinstance(outcome, int))),
        latency=summarise(known_ms),
        curve=percentile_curve(known_ms),
        timeline=timeline(due_s / options.second_s, latencies_ms, failed, options.good_within_ms, server, late_ms),
        degraded=sampler.summary(),
        lateness=Lateness.judge(summarise(late_ms), options.lateness_bound_ms),
        connections=Connections(pool.n_opened, pool.max_in_use, pool.n_resent, pool.n_waited),
        generator_cpu_share=generator_cpu_share,
        second_s=options.second_s,
        n_good=int((latencies_ms[~failed] <= options.good_within_ms).sum()),
    )


def _kind_of_error(outcome: int | str) -> str | None:
    if isinstance(outcome, str):
        return outcome
    return None if 200 <= outcome < 300 else f"http_{outcome // 100}xx"
