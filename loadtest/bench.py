"""Bench: measure a running service at one rate, and where asked at rising ones; judge it, write a report.

The engines run one after the other, each in a process of its own, so that neither takes CPU time or connections from
the other. The open loop is judged where it ran; Locust stands beside it, and a sweep of rates (`sweep.py`) comes last,
because it leaves the service overloaded. One request is sent first, so that a wrong
URL or a workload the service refuses is an error with a reason instead of a run full of errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from loadtest import engine_runs
from loadtest.budgets import DEFAULT_BUDGETS, Budgets, read_budgets
from loadtest.engine_runs import good_within_ms, measured_cpu
from loadtest.machine import read_commit, read_machine
from loadtest.report import Measured, Report, render_html
from loadtest.results import EngineResult
from loadtest.server_metrics import read_samples, server_side, settled_samples
from loadtest.sweep import MOST_POINTS, Sweep, SweepPoint, judge_point, run_sweep
from loadtest.target import Target, probe
from loadtest.verdict import Verdict, judge
from loadtest.whole_files import write_whole
from loadtest.workload import rank_bodies, read_workload

Engine = Literal["open-loop", "locust", "both"]
ProgressCallback = Callable[[str, float], None]
"""Told what is going on and the fraction of the whole bench that is done, 0 to 1."""

SWEEP_WARMUP_S = 1.0
SWEEP_TIMEOUT_S = 2.0


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
    metrics_url: str | None = None
    """The service's /metrics, which tells where the time went; None leaves that out."""
    sweep: bool = False
    """Also measure rising rates, past the one the service can keep up with."""
    sweep_rates_per_s: tuple[float, ...] = ()
    """These rates instead of those the sweep finds."""
    sweep_s: float = 5.0
    """Measured seconds of each rate of the sweep."""
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
        TargetError: the service does not answer the first request, or refuses it, or shows no metrics.
        EngineError: a generator failed or hung.
        LoadTestError: the core is not available.
    """
    budgets = read_budgets(options.budgets_path)
    workload = read_workload(options.workload_path)
    bodies = rank_bodies(workload)
    target = Target.parse(options.url)
    on_progress("first request", 0.0)
    first = probe(target, workload.path, bodies[0])
    if options.metrics_url:
        read_samples(options.metrics_url)  # a wrong address is said before anything is measured
    machine = read_machine()

    engines = ["open-loop", "locust"] if options.engine == "both" else [options.engine]
    share = (1 / 3 if options.sweep else 1.0) / len(engines)  # of the bar; a sweep takes longest
    measured, server = [], None
    for position, engine in enumerate(engines):

        def tell(fraction: float, engine: str = engine, position: int = position) -> None:
            on_progress(f"{engine} at {options.rate_per_s:g}/s", (position + fraction) * share)

        before = settled_samples(options.metrics_url) if options.metrics_url and not position else None
        measured.append(_measure(engine, target, options, budgets, tell))
        if options.metrics_url and before is not None:
            server = server_side(before, settled_samples(options.metrics_url), workload.path)

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
        server_side=server,
        sweep=_sweep(target, options, budgets, on_progress) if options.sweep else None,
    )
    return write_report(report, options.out_dir)


def _measure(
    engine: str, target: Target, options: BenchOptions, budgets: Budgets, tell: Callable[[float], None]
) -> Measured:
    """One engine at the bench's rate."""
    rate_per_s, duration_s, warmup_s = options.rate_per_s, options.duration_s, options.warmup_s

    def run() -> EngineResult:
        if engine == "locust":
            return engine_runs.locust(
                target, options, rate_per_s=rate_per_s, duration_s=duration_s, warmup_s=warmup_s, on_progress=tell
            )
        return engine_runs.open_loop(
            target,
            options,
            budgets,
            rate_per_s=rate_per_s,
            duration_s=duration_s,
            warmup_s=warmup_s,
            timeout_s=options.timeout_s,
            on_progress=tell,
        )

    return Measured(*measured_cpu(run, options.server_pids))


def _sweep(target: Target, options: BenchOptions, budgets: Budgets, on_progress: ProgressCallback) -> Sweep:
    """Rising rates; requests get less time than in the judged run, so that an overloaded point ends soon."""
    n_begun = 0

    def measure(rate_per_s: float) -> SweepPoint:
        nonlocal n_begun
        fraction = 1 / 3 + min(n_begun / (len(options.sweep_rates_per_s) or MOST_POINTS), 1.0) * 2 / 3
        n_begun += 1
        on_progress(f"sweep | {rate_per_s:,.0f} requests/s", min(fraction, 0.99))
        result, cpu_s = measured_cpu(
            lambda: engine_runs.open_loop(
                target,
                options,
                budgets,
                rate_per_s=rate_per_s,
                duration_s=options.sweep_s,
                warmup_s=min(options.warmup_s, SWEEP_WARMUP_S),
                timeout_s=min(options.timeout_s, SWEEP_TIMEOUT_S),
                on_progress=lambda _: None,
            ),
            options.server_pids,
        )
        return judge_point(result, cpu_s, budgets.rank)

    sweep = run_sweep(measure, good_within_ms(budgets), options.sweep_rates_per_s)
    on_progress("sweep | done", 1.0)
    return sweep


def write_report(report: Report, out_dir: Path) -> BenchResult:
    """Write `report.json` and `report.html` into a folder, which is created where it is missing.

    Raises:
        OSError: naming the file that cannot be written; an earlier report stays.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    json_path, html_path = out_dir / "report.json", out_dir / "report.html"
    write_whole({json_path: msgspec.json.format(msgspec.json.encode(report), indent=2), html_path: render_html(report)})
    return BenchResult(report, json_path, html_path)
