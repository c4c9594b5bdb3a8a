"""Two services under one generator, in turns of a second, or another length: A B, B A, A B, … until both had theirs.

What a shared machine does to a service (a neighbour on the sibling of its core, a slower clock) changes over seconds to
minutes, and by more than what one wants to find. Two turns that follow each other are disturbed almost alike, so their
ratio is not; and because the order within pairs alternates, a steady drift cancels as well.

Both services have the same schedule of arrivals and the same requests, each on a clock of its own that stands still
while the other has its turn: turn i of A and turn i of B differ in nothing but the service. A turn begins when the last
answer of the one before it has come, and LEAD_NS later: no service is disturbed by what the other still has to do, and
the work on late answers is on the bill of the turn that asked for them. Inside a turn nothing waits for the server, so
latencies mean what they mean in a run of one service.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from loadtest.open_loop_options import OpenLoopOptions
from loadtest.open_loop_run import LEAD_NS, OpenLoopRun
from loadtest.results import EngineResult
from loadtest.server_cpu import ScheduledTime, scheduled_time
from loadtest.target import Target

TURN_S = 1.0
"""Long enough for a p99 at 100 requests a second; 3 s are hardly more precise, as the disturbances outlast them."""


def order_of_turns(n_turns: int) -> Iterator[tuple[int, int]]:
    """(side, turn) in the order of sending: side 0 and 1 have `n_turns` each, and take turns in being first."""
    for turn in range(n_turns):
        first = turn % 2
        yield first, turn
        yield 1 - first, turn


async def run_in_turns(
    services: Sequence[tuple[Target, tuple[int, ...]]], path: str, bodies: Sequence[bytes], options: OpenLoopOptions
) -> tuple[EngineResult, EngineResult]:
    """Both services' results, A's first; second i of a timeline is turn i.

    Args:
        services: A and B, each with the processes whose CPU time is noted.
        path, bodies: as in `run_open_loop`, the same for both.
        options: of one service: its warm-up, its measured seconds (as many turns of `second_s`), its rate.
    Raises:
        TargetError: a host's name does not resolve.
    """
    async with AsyncExitStack() as stack:
        runs = [
            await stack.enter_async_context(
                OpenLoopRun.opened(target, path, bodies, replace(options, server_pids=pids))
            )
            for target, pids in services
        ]
        began_s, cpu_before_s = time.monotonic(), time.process_time()
        for run in runs:
            await run.follow(options.warmup_s, time.monotonic_ns() + LEAD_NS)
        server: tuple[list[ScheduledTime | None], list[ScheduledTime | None]] = ([], [])
        for side, turn in order_of_turns(round(options.duration_s / options.second_s)):
            pids = services[side][1]
            before = scheduled_time(pids)
            until_s = options.warmup_s + (turn + 1) * options.second_s
            await runs[side].follow(until_s, time.monotonic_ns() + LEAD_NS)
            after = scheduled_time(pids)
            server[side].append(None if before is None or after is None else after - before)
        share = (time.process_time() - cpu_before_s) / (time.monotonic() - began_s)
    a, b = (run.result(seconds, share) for run, seconds in zip(runs, server, strict=True))
    return a, b
