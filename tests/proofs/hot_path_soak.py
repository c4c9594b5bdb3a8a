"""Ten minutes at 1 000 requests/s: is the last minute as fast as the second, and does memory stay?

A run of the generator per minute, one right after the other, because only a run has exact percentiles; less than a
second lies between two of them. Memory is that of the worker, read after each minute.
"""

from __future__ import annotations

from pathlib import Path

from tests.proofs.claim import Outcome
from tests.proofs.hot_path_arena import OURS, W100_CANDIDATES, arena, service, w100
from tests.proofs.hot_path_pace import Pace
from tests.proofs.hot_path_processes import memory, workers
from tests.proofs.hot_path_steady import figures, is_within, p99_pairs, shown

RATE_PER_S = 1_000.0
GROWTH_BOUND = 0.02
SECOND = 1


def soak(pace: Pace, scratch: Path) -> Outcome:
    """p99 of the second and the last minute, and resident memory after the first and the last."""
    folder = w100()
    minutes, rss_bytes = [], []
    with arena(folder, [service(folder)], scratch, pace.warmup_s) as one:
        (pid,) = workers(one.server(OURS))
        for minute in range(pace.soak_minutes):
            run, _ = one.generators.open(one.server(OURS), W100_CANDIDATES, RATE_PER_S, pace.minute_s, seed=minute)
            minutes.append(run)
            rss_bytes.append(memory(pid).rss_bytes)
    pairs = p99_pairs([minutes[SECOND]], [minutes[-1]])
    growth = rss_bytes[-1] / rss_bytes[0] - 1
    errors = [run.errors for run in minutes if run.errors]
    return Outcome.judged(
        f"second minute against the last: {shown(pairs)}; resident memory {rss_bytes[0] / 1e6:.1f} to "
        f"{rss_bytes[-1] / 1e6:.1f} MB, {growth:+.2%}",
        {
            "p99 within 20 % or 0.3 ms": is_within(pairs),
            f"memory grows < {GROWTH_BOUND:.0%}": growth < GROWTH_BOUND,
            f"no errors (got {errors})": not errors,
        },
        {"minutes": [figures(run) for run in minutes], "rss_bytes": rss_bytes},
    )
