"""Memory and start: what a worker takes after load, what two workers share, and how soon a service is ready.

Shared means: the kernel counts a page that two processes map as half a page in each one's proportional set size (Pss),
so the files of the item table must show a Pss of half of what is resident (Rss).
"""

from __future__ import annotations

import statistics
from pathlib import Path

from loadtest.suite.cores import choose_cores
from loadtest.suite.questions import QuestionBook
from loadtest.suite.servers import running
from loadtest.workload import read_workload
from tests.proofs.claim import Outcome
from tests.proofs.hot_path_arena import OURS, W100_CANDIDATES, arena, redis_of, service, w100
from tests.proofs.hot_path_pace import Pace
from tests.proofs.hot_path_processes import Memory, mapped_files, memory, workers

WORKER_BOUND_BYTES = 250_000_000
READY_BOUND_S = 2.0
SHARED_BOUND = 0.55
"""Largest Pss of the table's files as a share of their Rss; a half, were every page touched by both workers."""


def memory_of_workers(pace: Pace, scratch: Path) -> Outcome:
    """Resident memory of one worker after load, and how two workers hold the item table."""
    folder = w100()
    with arena(folder, [service(folder)], scratch / "one", pace.warmup_s) as one:
        one.generators.closed(one.server(OURS), W100_CANDIDATES, pace.closed_s)
        (pid,) = workers(one.server(OURS))
        alone = memory(pid)
    with arena(folder, [service(folder, workers=2)], scratch / "two", pace.warmup_s) as two:
        two.generators.closed(two.server(OURS), W100_CANDIDATES, pace.closed_s)
        pids = workers(two.server(OURS))
        whole = [memory(pid) for pid in pids]
        files = [mapped_files(pid, folder / "items") for pid in pids]
    tables = [sum(of_worker.values(), Memory(0, 0)) for of_worker in files]
    has_masks = all(any("derived-" in name for name in of_worker) for of_worker in files)
    shares = [table.pss_bytes / table.rss_bytes if table.rss_bytes else 1.0 for table in tables]
    each = ", ".join(
        f"{table.rss_bytes / 1e6:.1f} MB resident, {table.pss_bytes / 1e6:.1f} MB proportional" for table in tables
    )
    return Outcome.judged(
        f"one worker {alone.rss_bytes / 1e6:.0f} MB resident; of two workers {whole[0].rss_bytes / 1e6:.0f} and "
        f"{whole[1].rss_bytes / 1e6:.0f} MB resident, table and masks in each: {each}",
        {
            f"< {WORKER_BOUND_BYTES / 1e6:g} MB each": all(
                held.rss_bytes < WORKER_BOUND_BYTES for held in (alone, *whole)
            ),
            "both map the masks": has_masks,
            f"at most {SHARED_BOUND:.0%} of table and masks in each proportional set": max(shares) <= SHARED_BOUND,
        },
        {
            "one_worker": _bytes(alone),
            "two_workers": [_bytes(held) for held in whole],
            "table_files": [{Path(name).name: _bytes(held) for name, held in one.items()} for one in files],
        },
    )


def start_to_ready(pace: Pace, scratch: Path) -> Outcome:
    """Seconds from starting the command to its first answer; model and snapshot lie on disk, Redis runs.

    Beside it, and not judged, the same where the service starts its embedded Redis first, which reads 110 000 rows.
    """
    folder, cores = w100(), choose_cores()
    scratch.mkdir(parents=True, exist_ok=True)
    plan = service(folder)
    requests = QuestionBook(read_workload(folder / "workload.json"), folder, scratch).own(plan).requests

    def starts(n: int) -> list[float]:
        seconds = []
        for _ in range(n):
            with running(plan, requests.path, requests.bodies[0], scratch, cores.server) as server:
                seconds.append(server.ready_after_s)
        return seconds

    with redis_of(folder, cores):
        first, *later = starts(1 + pace.starts)  # the first one may have to write the snapshot
    with_redis = starts(pace.starts)
    median = statistics.median(later)
    return Outcome.judged(
        f"median {median:.2f} s of {', '.join(f'{s:.2f}' for s in later)}; with its embedded Redis "
        f"{statistics.median(with_redis):.2f} s",
        {f"≤ {READY_BOUND_S:g} s": median <= READY_BOUND_S},
        {"first_s": first, "later_s": later, "with_embedded_redis_s": with_redis},
    )


def _bytes(held: Memory) -> dict[str, int]:
    return {"rss_bytes": held.rss_bytes, "pss_bytes": held.pss_bytes}
