"""Bench: measure a running service at one rate, judge it, write a report.

The engines run one after the other, each in a process of its own, so that neither takes CPU time or connections from
the other. The open loop is judged where it ran; Locust stands beside it. One request is sent first, so that a wrong
URL or a workload the service refuses is an error with a reason instead of a run full of errors.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from loadtest.budgets import DEFAULT_BUDGETS, Budgets, read_budgets
from loadtest.errors import EngineError
from loadtest.generator_process import run_generator
from loadtest.locust_run import LocustOptions, run_locust
from loadtest.machine import read_commit, read_machine
from loadtest.report import Measured, Report, render_html
from loadtest.results import EngineResult
from loadtest.server_cpu import cpu_seconds
from loadtest.target import Target, probe
from loadtest.verdict import Verdict, judge
from loadtest.workload import rank_bodies, read_workload

Engine = Literal["open-loop", "locust", "both"]
ProgressCallback = Callable[[str, float], None]
"""Told what is going on and the fraction of the whole bench that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure, how, and where to write the report."""

    url: str
    workload_path: Path
    out_dir: Path
    """Created where it is missing; `report.json` and `report.html` in it are replaced."""
    rate_per_s: float = 500.0
    duration_s: float = 20.0
    warmup_s: float = 2.0
    engine: Engine = "open-loop"
    cpu: int | None = None
    """Core for the generators; None leaves it to the kernel."""
    server_pids: tuple[int, ...] = ()
    """Processes whose CPU time is put on the server's bill."""
    budgets_path: Path = DEFAULT_BUDGETS
    seed: int = 7
    timeout_s: float = 5.0
    max_connections: int = 256


@dataclass(frozen=True, slots=True)
class BenchResult:
    """A finished bench and where its report lies."""

    report: Report
    json_path: Path
    html_path: Path

    @property
    def verdict(self) -> Verdict:
        """Passed, failed, or not judged, with the reasons."""
        return self.report.verdict

    @property
    def passed(self) -> bool:
        """True only where every budget was kept."""
        return self.verdict.passed


def run_bench(options: BenchOptions, on_progress: ProgressCallback = lambda _text, _fraction: None) -> BenchResult:
    """Measure, judge, write the report.

    Raises:
        WorkloadError, BudgetError: a file is wrong.
        TargetError: the service does not answer the first request, or refuses it.
        EngineError: a generator failed or hung.
        LoadTestError: the core is not available.
    """
    budgets = read_budgets(options.budgets_path)
    workload = read_workload(options.workload_path)
    bodies = rank_bodies(workload)
    target = Target.parse(options.url)
    on_progress("first request", 0.0)
    first = probe(target, workload.path, bodies[0])
    machine = read_machine()

    engines = ["open-loop", "locust"] if options.engine == "both" else [options.engine]
    measured = []
    for position, engine in enumerate(engines):

        def tell(fraction: float, engine: str = engine, position: int = position) -> None:
            on_progress(f"{engine} at {options.rate_per_s:g}/s", (position + fraction) / len(engines))

        cpu_before_s = cpu_seconds(options.server_pids)
        run = _run_open_loop if engine == "open-loop" else _run_locust
        result = run(target, options, budgets, tell)
        measured.append(Measured(result, _difference(cpu_seconds(options.server_pids), cpu_before_s)))

    report = Report(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        url=target.url,
        workload=workload.describe(),
        workload_sha256=workload.sha256(),
        mean_body_bytes=sum(map(len, bodies)) / len(bodies),
        server=first.server,
        model_version=first.model_version,
        commit=read_commit(),
        machine=machine,
        budgets=budgets,
        verdict=judge(measured[0].result, budgets.rank),
        measured=measured,
    )
    return _write(report, options.out_dir)


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _run_open_loop(
    target: Target, options: BenchOptions, budgets: Budgets, on_progress: Callable[[float], None]
) -> EngineResult:
    run_s = options.warmup_s + options.duration_s
    with tempfile.TemporaryDirectory(prefix="clickserve-open-loop-") as folder:
        result_path = Path(folder) / "result.json"
        command = [
            *(sys.executable, "-m", "loadtest.open_loop", "--url", target.url, "--out", str(result_path)),
            *("--workload", str(options.workload_path), "--rate", repr(options.rate_per_s)),
            *("--duration", repr(options.duration_s), "--warmup", repr(options.warmup_s)),
            *("--seed", str(options.seed), "--timeout", repr(options.timeout_s)),
            *("--max-connections", str(options.max_connections)),
            *("--lateness-bound-ms", repr(budgets.generator.lateness_p99_ms)),
        ]
        run_generator(
            "the open loop",
            command,
            expected_s=run_s + 1,
            limit_s=run_s + options.timeout_s,
            cpu=options.cpu,
            on_progress=on_progress,
        )
        try:
            return msgspec.json.decode(result_path.read_bytes(), type=EngineResult)
        except (OSError, msgspec.DecodeError) as error:
            raise EngineError(f"the open loop ended well but left no result: {error}") from error


def _run_locust(
    target: Target, options: BenchOptions, _budgets: Budgets, on_progress: Callable[[float], None]
) -> EngineResult:
    locust_options = LocustOptions(options.rate_per_s, options.duration_s, options.warmup_s, cpu=options.cpu)
    return run_locust(target, options.workload_path, locust_options, on_progress)


def _write(report: Report, out_dir: Path) -> BenchResult:
    out_dir.mkdir(parents=True, exist_ok=True)
    json_path, html_path = out_dir / "report.json", out_dir / "report.html"
    json_path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    html_path.write_text(render_html(report), encoding="utf-8")
    return BenchResult(report, json_path, html_path)
