"""Bench of two running services in turns: one generator, two ordinary reports that know of each other.

`turns_run.py` says how the turns go, `comparing/` what their pairs tell. The first request to each is sent beforehand,
as in a bench of one.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from loadtest import engine_runs
from loadtest.bench import BenchResult, ProgressCallback, write_report
from loadtest.budgets import DEFAULT_BUDGETS, read_budgets
from loadtest.machine import read_machine
from loadtest.report import InTurns, Measured, Report
from loadtest.server_cpu import cpu_seconds
from loadtest.server_metrics import read_samples, server_side, settled_samples_of
from loadtest.target import Target, probe
from loadtest.turns_run import TURN_S
from loadtest.verdict import judge
from loadtest.workload import rank_bodies, read_workload

SIDES: tuple[Literal["a", "b"], Literal["a", "b"]] = ("a", "b")


@dataclass(frozen=True, slots=True)
class Service:
    """One of the two, and where its report goes."""

    url: str
    commit: str
    """Of its code, as far as known."""
    out_dir: Path
    """Created where it is missing; `report.json` and `report.html` in it are replaced."""
    pids: tuple[int, ...] = ()
    """Processes whose CPU time is put on its bill."""
    metrics_url: str | None = None
    """Its /metrics, which tells where the time went; None leaves that out."""


@dataclass(frozen=True, slots=True)
class TurnsOptions:
    """What to measure and how."""

    a: Service
    b: Service
    workload_path: Path
    rate_per_s: float = 1000.0
    """To the one whose turn it is."""
    n_turns: int = 40
    """Of each."""
    turn_s: float = TURN_S
    warmup_s: float = 2.0
    """Of each."""
    cpu: int | None = None
    """Core for the generator; None leaves it to the kernel."""
    budgets_path: Path = DEFAULT_BUDGETS
    seed: int = 7
    timeout_s: float = 5.0
    max_connections: int = 256


def run_bench_in_turns(
    options: TurnsOptions, on_progress: ProgressCallback = lambda _text, _fraction: None
) -> tuple[BenchResult, BenchResult]:
    """Measure both, judge each against the budgets, write both reports; A's first.

    Raises:
        as `run_bench`.
    """
    budgets = read_budgets(options.budgets_path)
    workload = read_workload(options.workload_path)
    bodies = rank_bodies(workload)
    services = (options.a, options.b)
    targets = [Target.parse(service.url) for service in services]
    on_progress("first requests", 0.0)
    first = [probe(target, workload.path, bodies[0]) for target in targets]
    for service in services:
        if service.metrics_url:
            read_samples(service.metrics_url)  # a wrong address is said before anything is measured
    machine = read_machine()
    before = settled_samples_of([service.metrics_url for service in services])
    cpu_before_s = [cpu_seconds(service.pids) for service in services]
    results = engine_runs.in_turns(
        list(zip(targets, (service.pids for service in services), strict=True)),
        options,
        budgets,
        lambda fraction: on_progress(f"in turns at {options.rate_per_s:g}/s", fraction),
    )
    cpu_after_s = [cpu_seconds(service.pids) for service in services]
    after = settled_samples_of([service.metrics_url for service in services])
    shared, now = uuid.uuid4().hex, datetime.now(UTC).isoformat(timespec="seconds")
    written = []
    for place, service in enumerate(services):
        earlier, later, earlier_s, later_s = before[place], after[place], cpu_before_s[place], cpu_after_s[place]
        cpu_s = None if earlier_s is None or later_s is None else later_s - earlier_s
        report = Report(
            created_at=now,
            url=targets[place].url,
            workload=workload.describe(),
            workload_sha256=workload.sha256(),
            mean_body_bytes=sum(map(len, bodies)) / len(bodies),
            server=first[place].server,
            model_version=first[place].model_version,
            commit=service.commit,
            machine=machine,
            budgets=budgets,
            verdict=judge(results[place], budgets.rank),
            measured=[Measured(results[place], cpu_s)],
            server_side=server_side(earlier, later, workload.path)
            if earlier is not None and later is not None
            else None,
            in_turns=InTurns(shared, SIDES[place], targets[1 - place].url),
        )
        written.append(write_report(report, service.out_dir))
    return written[0], written[1]
