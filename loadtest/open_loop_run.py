"""One open-loop run inside an event loop: the schedule is followed, every request's end is noted, figures are made.

Numbers of requests are positions in the schedule. Per request this keeps three integers (due, sent, ended, in
nanoseconds of the monotonic clock) and an outcome: a status, or the name of an error. Nothing is aggregated before the
end, so percentiles are exact (`open_loop_result.py`).

A schedule may be followed piece by piece: the run's own clock stands still between two pieces. So two services can get
their loads in turns (`turns_run.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np

from loadtest.errors import TargetError
from loadtest.http_client import ConnectionPool
from loadtest.open_loop_options import OpenLoopOptions
from loadtest.open_loop_result import Notes, engine_result
from loadtest.pacing_timer import PacingTimer
from loadtest.results import EngineResult
from loadtest.sampler import Sampler
from loadtest.schedule import poisson_schedule
from loadtest.server_cpu import ScheduledTime, scheduled_time
from loadtest.target import Target

LEAD_NS = 20_000_000
"""From fixing the start to the first request: time for one turn of the event loop, so that nobody starts late."""
_MOST_SENDS_PER_TURN = 64
"""A generator that fell behind must still read answers between its sends."""
_SWEEP_S = 0.1
"""How often overdue requests are looked for; a timeout is noticed at most this much late."""


class OpenLoopRun:
    """Sends the scheduled requests and notes how each one ended; the connection pool's listener. See `opened`."""

    def __init__(self, payloads: Sequence[bytes], options: OpenLoopOptions, pool_address: tuple[str, int]) -> None:
        schedule_s = poisson_schedule(options.rate_per_s, options.warmup_s + options.duration_s, options.seed)
        n = len(schedule_s)
        self._payloads = payloads
        self._n_payloads = len(payloads)
        self._first_measured = int(np.searchsorted(schedule_s, options.warmup_s))
        self._sampler = Sampler(options.sample_every)
        self._options = options
        self._offsets_ns: list[int] = np.round(schedule_s * 1e9).astype(np.int64).tolist()
        self._due_ns: list[int] = []
        """Of the pieces begun so far."""
        self._started_ns = [0] * n
        self._ended_ns = [0] * n
        self._outcomes: list[int | str] = [0] * n
        self._next = 0
        self._reached_ns = 0
        """The run's own clock at the end of the piece."""
        self._n_open_ends = 0
        self._all_ended = asyncio.Event()
        self._pool = ConnectionPool(
            pool_address, bound=options.max_connections, connect_timeout_s=options.timeout_s, listener=self
        )
        self._timer = PacingTimer(asyncio.get_running_loop(), self._send_due)

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

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, target: Target, path: str, bodies: Sequence[bytes], options: OpenLoopOptions
    ) -> AsyncIterator[OpenLoopRun]:
        """A run whose first connections are there.

        Raises:
            TargetError: the host's name does not resolve. An absent server is not raised but counted as `refused`.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise TargetError(f"host {target.host!r} does not resolve: {error}") from error
        host, port = found[0][4][:2]
        run = cls([target.request(path, body) for body in bodies], options, (str(host), int(port)))
        sweeper = loop.create_task(run._sweep())
        try:
            await run._pool.open_some(8)
            yield run
        finally:
            sweeper.cancel()
            run._timer.close()
            await run._pool.close()

    async def follow(self, until_s: float, start_ns: int) -> None:
        """Send what is scheduled before `until_s`, and return when every one of these requests has ended.

        Args:
            until_s: on the run's own clock, which begins with the warm-up; what was sent before is not sent again.
            start_ns: monotonic moment at which that clock goes on from where the last piece ended.
        """
        until_ns = round(until_s * 1e9)
        first, last = self._next, bisect_left(self._offsets_ns, until_ns)
        self._due_ns += [start_ns + offset_ns - self._reached_ns for offset_ns in self._offsets_ns[first:last]]
        self._reached_ns = until_ns
        if first == last:
            return
        self._n_open_ends = last - first
        self._all_ended.clear()
        self._timer.arm(self._due_ns[first])
        await self._all_ended.wait()  # bounded: the sweeper ends every request at due time + timeout

    def _send_due(self) -> None:
        """Send what is due, then set the timer to the next due time."""
        due_ns, number = self._due_ns, self._next
        n_begun = len(due_ns)
        last = min(number + _MOST_SENDS_PER_TURN, n_begun)
        while number < last and due_ns[number] <= (now_ns := time.monotonic_ns()):
            self._started_ns[number] = now_ns
            self._pool.send(number)
            number += 1
        self._next = number
        if number < n_begun:
            self._timer.arm(due_ns[number])

    async def _sweep(self) -> None:
        timeout_ns = int(self._options.timeout_s * 1e9)
        while True:
            await asyncio.sleep(_SWEEP_S)
            n_overdue = bisect_right(self._due_ns, time.monotonic_ns() - timeout_ns)
            self._pool.expire(before=n_overdue)

    def result(self, server: Sequence[ScheduledTime | None], generator_cpu_share: float) -> EngineResult:
        """The figures, once the whole schedule was followed; arguments as in `engine_result`."""
        notes = Notes(self._offsets_ns, self._due_ns, self._started_ns, self._ended_ns, self._outcomes)
        return engine_result(
            self._options,
            notes,
            self._sampler,
            self._pool,
            first_measured=self._first_measured,
            server=server,
            generator_cpu_share=generator_cpu_share,
        )


async def run_open_loop(target: Target, path: str, bodies: Sequence[bytes], options: OpenLoopOptions) -> EngineResult:
    """Run once inside the current event loop; for figures worth keeping call this module as a process of its own.

    Never longer than warm-up + duration + timeout and a fraction of a second.

    Args:
        target, path: where the POST requests go.
        bodies: at least one JSON body; request i sends body i modulo their number.
    Raises:
        TargetError: the host's name does not resolve. An absent server is not raised but counted as `refused`.
    """
    async with OpenLoopRun.opened(target, path, bodies, options) as run:
        start_ns = time.monotonic_ns() + LEAD_NS
        watcher = asyncio.create_task(_watch_server(options, start_ns))
        cpu_before_s = time.process_time()
        try:
            await run.follow(options.warmup_s + options.duration_s, start_ns)
            server = await watcher  # ends with the last measured second
        finally:
            watcher.cancel()
        cpu_s = time.process_time() - cpu_before_s
        elapsed_s = (time.monotonic_ns() - start_ns) / 1e9
    return run.result(server, cpu_s / elapsed_s)


async def _watch_server(options: OpenLoopOptions, start_ns: int) -> list[ScheduledTime | None]:
    """What the server's processes got in each measured second; a look at a turn takes 0.1 ms of this loop's time."""
    seen: list[ScheduledTime | None] = []
    for second in range(int(options.duration_s) + 1 if options.server_pids else 0):
        turn_ns = start_ns + round((options.warmup_s + second) * 1e9)
        await asyncio.sleep((turn_ns - time.monotonic_ns()) / 1e9)
        seen.append(scheduled_time(options.server_pids))
    return [None if before is None or after is None else after - before for before, after in itertools.pairwise(seen)]
