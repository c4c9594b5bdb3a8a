"""One open-loop run inside an event loop: the schedule is followed, every request's end is noted, figures are made.

Numbers of requests are positions in the schedule. Per request this keeps three integers (due, sent, ended, in
nanoseconds of the monotonic clock) and an outcome: a status, or the name of an error. Nothing is aggregated before the
end, so percentiles are exact.

Percentiles cover 2xx answers and timeouts (with the time they were given: leaving them out would be coordinated
omission by another name). Other errors have no latency, because a fast refusal must not improve a percentile.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadtest.errors import TargetError
from loadtest.http_client import TIMEOUT, ConnectionPool
from loadtest.latency import percentile_curve, summarise, timeline
from loadtest.pacing_timer import PacingTimer
from loadtest.results import Connections, EngineResult, Lateness
from loadtest.sampler import Sampler
from loadtest.schedule import poisson_schedule
from loadtest.server_cpu import ScheduledTime, scheduled_time
from loadtest.target import Target

METHOD = (
    "Requests are sent on a Poisson schedule fixed before the run; latency counts from the moment a request was due, "
    "so a stall delays every request that falls into it."
)
_LEAD_NS = 20_000_000
"""From fixing the start to the first request: time for one turn of the event loop, so that nobody starts late."""
_MOST_SENDS_PER_TURN = 64
"""A generator that fell behind must still read answers between its sends."""
_SWEEP_S = 0.1
"""How often overdue requests are looked for; a timeout is noticed at most this much late."""


@dataclass(frozen=True, slots=True)
class OpenLoopOptions:
    """One run at one rate."""

    rate_per_s: float
    duration_s: float
    """Length of the measured part."""
    warmup_s: float = 2.0
    """Sent before it at the same rate and left out of all figures except those on connections."""
    seed: int = 7
    timeout_s: float = 5.0
    """Counted from the due time. Ends the request and its connection; also bounds the run's end."""
    max_connections: int = 256
    """Beyond it requests wait in line, and their latency grows."""
    sample_every: int = 10
    """One answer in this many is read for degraded codes."""
    lateness_bound_ms: float = 1.0
    """p99 of the generator's own lateness above which it is not to be believed."""
    good_within_ms: float = 10.0
    """A 2xx answer later than this after its due time does not count as goodput."""
    server_pids: tuple[int, ...] = ()
    """Processes whose CPU time is noted at the turn of each measured second."""


class _Run:
    """Sends the scheduled requests and notes how each one ended; the connection pool's listener."""

    def __init__(
        self, payloads: Sequence[bytes], schedule_s: npt.NDArray[np.float64], options: OpenLoopOptions
    ) -> None:
        self._payloads = payloads
        self._n_payloads = len(payloads)
        self._n = len(schedule_s)
        self._first_measured = int(np.searchsorted(schedule_s, options.warmup_s))
        self._sampler = Sampler(options.sample_every)
        self._options = options
        self._offsets_ns: list[int] = np.round(schedule_s * 1e9).astype(np.int64).tolist()
        self._due_ns: list[int] = []
        self._started_ns = [0] * self._n
        self._ended_ns = [0] * self._n
        self._outcomes: list[int | str] = [0] * self._n
        self._next = 0
        self._n_open_ends = self._n
        self._server: list[ScheduledTime | None] = []

    # -- what the connection pool asks and tells ---------------------------------------------------------------------

    def payload(self, number: int) -> bytes:
        return self._payloads[number % self._n_payloads]

    def wants_body(self, number: int) -> bool:
        return number >= self._first_measured and self._sampler.wants(number)

    def answered(self, number: int, status: int, body: bytes) -> None:
        self._end(number, status)
        if body and 200 <= status < 300:
            self._sampler.inspect(body)

    def failed(self, number: int, kind: str) -> None:
        self._end(number, kind)

    def _end(self, number: int, outcome: int | str) -> None:
        self._ended_ns[number] = time.monotonic_ns()
        self._outcomes[number] = outcome
        self._n_open_ends -= 1
        if self._n_open_ends == 0:
            self._all_ended.set()

    # -- the run -----------------------------------------------------------------------------------------------------

    async def execute(self, address: tuple[str, int]) -> EngineResult:
        loop = asyncio.get_running_loop()
        self._all_ended = asyncio.Event()
        options = self._options
        self._pool = ConnectionPool(
            address, bound=options.max_connections, connect_timeout_s=options.timeout_s, listener=self
        )
        await self._pool.open_some(8)
        self._timer = PacingTimer(loop, self._send_due)
        sweeper = loop.create_task(self._sweep())
        try:
            start_ns = time.monotonic_ns() + _LEAD_NS
            watcher = loop.create_task(self._watch_server(start_ns))
            cpu_before_s = time.process_time()
            self._due_ns = [start_ns + offset_ns for offset_ns in self._offsets_ns]
            if self._n:
                self._timer.arm(self._due_ns[0])
                await self._all_ended.wait()  # bounded: the sweeper ends every request at due time + timeout
            await watcher  # ends with the last measured second
            cpu_s = time.process_time() - cpu_before_s
            elapsed_s = (time.monotonic_ns() - start_ns) / 1e9
        finally:
            sweeper.cancel()
            self._timer.close()
            await self._pool.close()
        return self._result(cpu_share=cpu_s / elapsed_s)

    def _send_due(self) -> None:
        """Send what is due, then set the timer to the next due time."""
        due_ns, number = self._due_ns, self._next
        last = min(number + _MOST_SENDS_PER_TURN, self._n)
        while number < last and due_ns[number] <= (now_ns := time.monotonic_ns()):
            self._started_ns[number] = now_ns
            self._pool.send(number)
            number += 1
        self._next = number
        if number < self._n:
            self._timer.arm(due_ns[number])

    async def _sweep(self) -> None:
        timeout_ns = int(self._options.timeout_s * 1e9)
        while True:
            await asyncio.sleep(_SWEEP_S)
            n_overdue = bisect_right(self._due_ns, time.monotonic_ns() - timeout_ns)
            self._pool.expire(before=n_overdue)

    async def _watch_server(self, start_ns: int) -> None:
        """Look at the server's processes at the turn of each measured second; 0.1 ms of this loop's time each."""
        options = self._options
        for second in range(int(options.duration_s) + 1 if options.server_pids else 0):
            turn_ns = start_ns + round((options.warmup_s + second) * 1e9)
            await asyncio.sleep((turn_ns - time.monotonic_ns()) / 1e9)
            self._server.append(scheduled_time(options.server_pids))

    def _result(self, cpu_share: float) -> EngineResult:
        options, measured = self._options, slice(self._first_measured, None)
        due_ns = np.array(self._due_ns[measured], dtype=np.int64)
        outcomes = self._outcomes[measured]
        kinds = [_kind_of_error(outcome) for outcome in outcomes]
        failed = np.array([kind is not None for kind in kinds], dtype=bool)
        has_latency = ~failed | np.array([outcome == TIMEOUT for outcome in outcomes], dtype=bool)
        latencies_ms = (np.array(self._ended_ns[measured], dtype=np.int64) - due_ns) / 1e6
        latencies_ms[~has_latency] = np.nan
        known_ms = latencies_ms[has_latency]
        late_ms = (np.array(self._started_ns[measured], dtype=np.int64) - due_ns) / 1e6
        due_s = np.array(self._offsets_ns[measured], dtype=np.float64) / 1e9 - options.warmup_s
        pool = self._pool
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
            timeline=timeline(due_s, latencies_ms, failed, options.good_within_ms, self._server_by_second()),
            degraded=self._sampler.summary(),
            lateness=Lateness.judge(summarise(late_ms), options.lateness_bound_ms),
            connections=Connections(pool.n_opened, pool.max_in_use, pool.n_resent, pool.n_waited),
            generator_cpu_share=cpu_share,
            n_good=int((latencies_ms[~failed] <= options.good_within_ms).sum()),
        )

    def _server_by_second(self) -> list[ScheduledTime | None]:
        return [
            None if before is None or after is None else after - before
            for before, after in itertools.pairwise(self._server)
        ]


def _kind_of_error(outcome: int | str) -> str | None:
    if isinstance(outcome, str):
        return outcome
    return None if 200 <= outcome < 300 else f"http_{outcome // 100}xx"


async def run_open_loop(target: Target, path: str, bodies: Sequence[bytes], options: OpenLoopOptions) -> EngineResult:
    """Run once inside the current event loop; for figures worth keeping call this module as a process of its own.

    Never longer than warm-up + duration + timeout and a fraction of a second.

    Args:
        target, path: where the POST requests go.
        bodies: at least one JSON body; request i sends body i modulo their number.
    Raises:
        TargetError: the host's name does not resolve. An absent server is not raised but counted as `refused`.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TargetError(f"host {target.host!r} does not resolve: {error}") from error
    host, port = found[0][4][:2]
    schedule_s = poisson_schedule(options.rate_per_s, options.warmup_s + options.duration_s, options.seed)
    run = _Run([target.request(path, body) for body in bodies], schedule_s, options)
    return await run.execute((str(host), int(port)))
