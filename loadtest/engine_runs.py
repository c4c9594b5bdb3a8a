"""Engine runs: one generator in a process of its own at one rate, and the CPU time the servers spent on it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from loadtest.budgets import Budgets
from loadtest.errors import EngineError
from loadtest.generator_process import run_generator
from loadtest.locust_run import LocustOptions, run_locust
from loadtest.open_loop_run import LEAD_NS
from loadtest.results import EngineResult
from loadtest.server_cpu import cpu_seconds
from loadtest.target import Target

GOOD_WITHIN_MS = 10.0
"""An answer later than this is not useful, where no p99 is promised that would say so."""
OnFraction = Callable[[float], None]
Result = TypeVar("Result")


class RunOptions(Protocol):
    """What a run needs to know; `BenchOptions` has it."""

    @property
    def workload_path(self) -> Path: ...
    @property
    def cpu(self) -> int | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def max_connections(self) -> int: ...


class OneServiceOptions(RunOptions, Protocol):
    """And of a run of one service."""

    @property
    def server_pids(self) -> tuple[int, ...]: ...


class TurnsOptions(RunOptions, Protocol):
    """And of a run of two in turns; `bench_turns.TurnsOptions` has it."""

    @property
    def rate_per_s(self) -> float: ...
    @property
    def n_turns(self) -> int: ...
    @property
    def turn_s(self) -> float: ...
    @property
    def warmup_s(self) -> float: ...
    @property
    def timeout_s(self) -> float: ...


def good_within_ms(budgets: Budgets) -> float:
    """The promised p99: what comes later is no useful answer."""
    return budgets.rank.p99_ms or GOOD_WITHIN_MS


def measured_cpu(run: Callable[[], EngineResult], server_pids: tuple[int, ...]) -> tuple[EngineResult, float | None]:
    """A run and the CPU seconds of the server's processes meanwhile; None where they are not known."""
    before_s = cpu_seconds(server_pids)
    result = run()
    after_s = cpu_seconds(server_pids)
    return result, None if after_s is None or before_s is None else after_s - before_s


def open_loop(
    target: Target,
    options: OneServiceOptions,
    budgets: Budgets,
    *,
    rate_per_s: float,
    duration_s: float,
    warmup_s: float,
    timeout_s: float,
    on_progress: OnFraction,
) -> EngineResult:
    """The open loop at one rate.

    Raises:
        EngineError: it failed or hung.
        LoadTestError: the core is not available.
    """
    run_s = warmup_s + duration_s
    arguments = _arguments(
        target,
        options,
        budgets,
        rate_per_s=rate_per_s,
        duration_s=duration_s,
        warmup_s=warmup_s,
        timeout_s=timeout_s,
        server_pids=options.server_pids,
    )
    written = _generated(arguments, options.cpu, on_progress, expected_s=run_s + 1, limit_s=run_s + timeout_s)
    return _read(written, EngineResult)


def in_turns(
    services: Sequence[tuple[Target, tuple[int, ...]]],
    options: TurnsOptions,
    budgets: Budgets,
    on_progress: OnFraction,
) -> list[EngineResult]:
    """The open loop at two services in turns; their results, A's first. Raises as `open_loop`.

    Args:
        services: A and B with the processes whose CPU time is noted.
    """
    (target, pids), (other, other_pids) = services
    arguments = _arguments(
        target,
        options,
        budgets,
        rate_per_s=options.rate_per_s,
        duration_s=options.n_turns * options.turn_s,
        warmup_s=options.warmup_s,
        timeout_s=options.timeout_s,
        server_pids=pids,
    )
    arguments += [
        "--turn",
        repr(options.turn_s),
        "--against",
        other.url,
        *(word for pid in other_pids for word in ("--against-pid", str(pid))),
    ]
    run_s = 2 * (options.warmup_s + options.n_turns * (options.turn_s + LEAD_NS / 1e9))
    # Each turn waits for its last answer, which may time out.
    limit_s = run_s + 2 * (options.n_turns + 1) * options.timeout_s
    written = _generated(arguments, options.cpu, on_progress, expected_s=run_s + 1, limit_s=limit_s)
    return _read(written, list[EngineResult])


def _arguments(
    target: Target,
    options: RunOptions,
    budgets: Budgets,
    *,
    rate_per_s: float,
    duration_s: float,
    warmup_s: float,
    timeout_s: float,
    server_pids: tuple[int, ...],
) -> list[str]:
    """Of the open loop's command line, all but where to write."""
    return [
        *("--url", target.url),
        *("--workload", str(options.workload_path), "--rate", repr(rate_per_s)),
        *("--duration", repr(duration_s), "--warmup", repr(warmup_s)),
        *("--seed", str(options.seed), "--timeout", repr(timeout_s)),
        *("--max-connections", str(options.max_connections)),
        *("--lateness-bound-ms", repr(budgets.generator.lateness_p99_ms)),
        *("--good-within-ms", repr(good_within_ms(budgets))),
        *(argument for pid in server_pids for argument in ("--server-pid", str(pid))),
    ]


def _generated(
    arguments: list[str], cpu: int | None, on_progress: OnFraction, *, expected_s: float, limit_s: float
) -> bytes | None:
    """Run the open loop to its end; what it wrote, None where it wrote nothing."""
    with tempfile.TemporaryDirectory(prefix="clickserve-open-loop-") as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, "-m", "loadtest.open_loop", *arguments, "--out", str(path)]
        run_generator(
            "the open loop", command, expected_s=expected_s, limit_s=limit_s, cpu=cpu, on_progress=on_progress
        )
        return path.read_bytes() if path.exists() else None


def _read(written: bytes | None, kind: type[Result]) -> Result:
    if written is None:
        raise EngineError("the open loop ended well but left no result")
    try:
        return msgspec.json.decode(written, type=kind)
    except msgspec.DecodeError as error:
        raise EngineError(f"the open loop ended well but its result cannot be read: {error}") from error


def locust(
    target: Target,
    options: RunOptions,
    *,
    rate_per_s: float,
    duration_s: float,
    warmup_s: float,
    on_progress: OnFraction,
) -> EngineResult:
    """Locust at one rate. Raises as `open_loop`."""
    locust_options = LocustOptions(rate_per_s, duration_s, warmup_s, cpu=options.cpu)
    return run_locust(target, options.workload_path, locust_options, on_progress)
