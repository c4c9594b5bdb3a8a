"""One run of a load generator against one server, with everybody's CPU bill.

Generators are processes of their own on the client's core. The bill covers the whole run, warm-up included, and so do
the requests it is divided by.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from loadtest.errors import EngineError
from loadtest.generator_process import run_generator
from loadtest.results import ClosedLoopResult, EngineResult
from loadtest.server_cpu import CpuTime, cpu_time
from loadtest.suite.plan import SuitePlan
from loadtest.suite.questions import QuestionBook
from loadtest.suite.results import CpuBill
from loadtest.suite.servers import Server

R = TypeVar("R", bound=msgspec.Struct)

TIMEOUT_S = 5.0
_US = 1e6


@dataclass(frozen=True, slots=True)
class Generators:
    """Runs generators, one at a time."""

    plan: SuitePlan
    questions: QuestionBook
    servers: Sequence[Server]
    """All that are up, so that the idle ones can be watched."""
    redis_pids: tuple[int, ...]
    client_core: int | None
    folder: Path
    """For results of runs; each replaces the one before."""

    def can_ask(self, server: Server, n_candidates: int) -> bool:
        """Whether there are requests of that size for that server."""
        return self.questions.for_server(server.plan, n_candidates) is not None

    def closed(
        self, server: Server, n_candidates: int, duration_s: float, keep_every: int = 0
    ) -> tuple[ClosedLoopResult, CpuBill]:
        """A closed-loop run.

        Raises:
            EngineError: the generator failed.
        """
        plan = self.plan
        arguments = [
            *("--connections", str(plan.n_connections), "--duration", repr(duration_s)),
            *("--warmup", repr(plan.warmup_s), "--keep-every", str(keep_every)),
        ]
        result, spent = self._run("loadtest.closed_loop", server, n_candidates, arguments, duration_s, ClosedLoopResult)
        return result, spent(result.n_answered_in_all, result.client_cpu_us)

    def open(
        self, server: Server, n_candidates: int, rate_per_s: float, duration_s: float, seed: int
    ) -> tuple[EngineResult, CpuBill]:
        """An open-loop run.

        Raises:
            EngineError: the generator failed.
        """
        plan = self.plan
        arguments = [
            *("--rate", repr(rate_per_s), "--duration", repr(duration_s), "--warmup", repr(plan.warmup_s)),
            *("--seed", str(seed), "--lateness-bound-ms", repr(plan.lateness_bound_ms)),
            *("--good-within-ms", repr(plan.good_within_ms)),
        ]
        result, spent = self._run("loadtest.open_loop", server, n_candidates, arguments, duration_s, EngineResult)
        n_sent = round(result.n_requests * (plan.warmup_s + duration_s) / duration_s)
        share = result.generator_cpu_share
        return result, spent(n_sent, None if share is None else share / rate_per_s * _US)

    def _run(
        self,
        module: str,
        server: Server,
        n_candidates: int,
        arguments: Sequence[str],
        duration_s: float,
        result_type: type[R],
    ) -> tuple[R, Callable[[int, float | None], CpuBill]]:
        questions = self.questions.for_server(server.plan, n_candidates)
        if questions is None:
            raise EngineError(f"{server.name} cannot be asked for {n_candidates} candidates")
        result_path = self.folder / "generator.json"
        result_path.unlink(missing_ok=True)
        command = [
            *(sys.executable, "-m", module, "--url", server.target.url, "--prepared", str(questions.file)),
            *(*arguments, "--timeout", repr(TIMEOUT_S), "--out", str(result_path)),
        ]
        run_s = self.plan.warmup_s + duration_s
        busy, idle, redis = self._who(server)
        before = [cpu_time(pids) for pids in (busy, redis, idle)]
        run_generator(
            module,
            command,
            expected_s=run_s + 1,
            limit_s=run_s + 2 * TIMEOUT_S,
            cpu=self.client_core,
            on_progress=_ignore,
        )
        after = [cpu_time(pids) for pids in (busy, redis, idle)]
        spent, by_redis, by_idle = (_difference(*pair) for pair in zip(after, before, strict=True))
        try:
            result = msgspec.json.decode(result_path.read_bytes(), type=result_type)
        except (OSError, msgspec.DecodeError) as error:
            raise EngineError(f"{module} ended well but left no result: {error}") from error

        def bill(n_requests: int, client_us: float | None) -> CpuBill:
            per_request = _US / max(n_requests, 1)
            return CpuBill(
                server_user_us=None if spent is None else spent.user_s * per_request,
                server_system_us=None if spent is None else spent.system_s * per_request,
                redis_us=None if by_redis is None else by_redis.total_s * per_request,
                client_us=client_us,
                idle_servers_share=None if by_idle is None else by_idle.total_s / run_s,
            )

        return result, bill

    def _who(self, server: Server) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Processes of the measured server, of the idle ones, and of Redis."""
        idle = tuple(pid for other in self.servers if other is not server for pid in other.process_ids())
        return server.process_ids(), idle, self.redis_pids


def _difference(after: CpuTime | None, before: CpuTime | None) -> CpuTime | None:
    return None if after is None or before is None else after - before


def _ignore(_fraction: float) -> None:
    """A run of the suite is one step of its progress."""
