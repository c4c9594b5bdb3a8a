"""Engine runs: one generator in a process of its own at one rate, and the CPU time the server spent on it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from loadtest.budgets import Budgets
from loadtest.errors import EngineError
from loadtest.generator_process import run_generator
from loadtest.locust_run import LocustOptions, run_locust
from loadtest.results import EngineResult
from loadtest.server_cpu import cpu_seconds
from loadtest.target import Target

GOOD_WITHIN_MS = 10.0
"""An answer later than this is not useful, where no p99 is promised that would say so."""
OnFraction = Callable[[float], None]


class RunOptions(Protocol):
    """What a run needs to know; `BenchOptions` has it."""

    @property
    def workload_path(self) -> Path: ...
    @property
    def cpu(self) -> int | None: ...
    @property
    def server_pids(self) -> tuple[int, ...]: ...
    @property
    def seed(self) -> int: ...
    @property
    def max_connections(self) -> int: ...


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
    options: RunOptions,
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
    with tempfile.TemporaryDirectory(prefix="clickserve-open-loop-") as folder:
        result_path = Path(folder) / "result.json"
        command = [
            *(sys.executable, "-m", "loadtest.open_loop", "--url", target.url, "--out", str(result_path)),
            *("--workload", str(options.workload_path), "--rate", repr(rate_per_s)),
            *("--duration", repr(duration_s), "--warmup", repr(warmup_s)),
            *("--seed", str(options.seed), "--timeout", repr(timeout_s)),
            *("--max-connections", str(options.max_connections)),
            *("--lateness-bound-ms", repr(budgets.generator.lateness_p99_ms)),
            *("--good-within-ms", repr(good_within_ms(budgets))),
            *(argument for pid in options.server_pids for argument in ("--server-pid", str(pid))),
        ]
        run_generator(
            "the open loop",
            command,
            expected_s=run_s + 1,
            limit_s=run_s + timeout_s,
            cpu=options.cpu,
            on_progress=on_progress,
        )
        try:
            return msgspec.json.decode(result_path.read_bytes(), type=EngineResult)
        except (OSError, msgspec.DecodeError) as error:
            raise EngineError(f"the open loop ended well but left no result: {error}") from error


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
