"""Report of a bench: what was measured, where, against which budget, as JSON and as one page of HTML.

The page (`page.py`) says the verdict first, in words; then how much more the service can do, who waits how long, where
the time goes, what was lost, and under which circumstances all that was measured.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from loadtest import charts
from loadtest.budgets import Budgets
from loadtest.machine import Machine
from loadtest.page import page_environment
from loadtest.results import EngineResult
from loadtest.server_metrics import ServerSide, StageTime
from loadtest.statuses import failures, failures_in_words
from loadtest.sweep import Sweep
from loadtest.sweep_charts import goodput_chart, load_chart
from loadtest.verdict import Verdict
from loadtest.words import plain_words, why_engines_differ


class Measured(msgspec.Struct, frozen=True):
    """One engine's result and what the server spent on it."""

    result: EngineResult
    server_cpu_s: float | None
    """CPU seconds of the server's processes during the run, warm-up included."""

    @property
    def server_cpu_us_per_request(self) -> float | None:
        """CPU microseconds of the server per request, warm-up included on both sides."""
        result = self.result
        if self.server_cpu_s is None or not result.n_requests:
            return None
        n_sent = result.n_requests * (result.warmup_s + result.duration_s) / result.duration_s
        return self.server_cpu_s / n_sent * 1e6


class InTurns(msgspec.Struct, frozen=True):
    """That a service was measured in turns with another one, under one generator (`turns_run.py`)."""

    id: str
    """The two reports of one such measurement share it, and only they."""
    side: Literal["a", "b"]
    other_url: str
    """Where the other one answered."""


class Report(msgspec.Struct, frozen=True):
    """A whole bench. `measured` holds the judged engine first."""

    created_at: str
    """ISO 8601, UTC."""
    url: str
    workload: str
    workload_sha256: str
    mean_body_bytes: float
    server: str | None
    """Server header of the first answer."""
    model_version: str | None
    """X-Model-Version header of the first answer."""
    commit: str
    machine: Machine
    budgets: Budgets
    verdict: Verdict
    measured: list[Measured]
    server_side: ServerSide | None = None
    """What the service counted itself during the judged run."""
    sweep: Sweep | None = None
    in_turns: InTurns | None = None


def render_html(report: Report) -> str:
    """The page for a person."""
    results = [measured.result for measured in report.measured]
    budget_ms = report.budgets.rank.p99_ms
    sweep = report.sweep
    sweep_drawings = [load_chart(sweep, budget_ms), goodput_chart(sweep)] if sweep is not None else []
    drawings = [charts.percentile_chart(results, budget_ms), *map(charts.timeline_chart, results)]
    return (
        page_environment()
        .get_template("report.html")
        .render(
            report=report,
            words=plain_words(report),
            why=why_engines_differ(results),
            judged=results[0],
            results=results,
            sweep_drawings=[drawing for drawing in sweep_drawings if drawing is not None],
            drawings=[drawing for drawing in drawings if drawing is not None],
            spent=time_spent(report.server_side, results[0]) if report.server_side else [],
            area=charts,
            failed=[[(name, n) for name, n, _ in failures([result])] for result in results],
            kinds_of_failure=failures(results),
            lost_in_sweep=failures_in_words(point.result for point in sweep.points) if sweep is not None else "",
            codes=sorted({code for result in results for code in result.degraded.codes}),
            raw=msgspec.to_builtins(report),
        )
    )


class Spent(msgspec.Struct, frozen=True):
    """One part of a mean request's time, as its caller saw it."""

    name: str
    mean_us: float
    share: float
    """Of all parts together."""
    stage: StageTime | None = None
    """Where it is a stage the service times itself."""


def time_spent(server: ServerSide, result: EngineResult) -> list[Spent]:
    """The parts of a mean request: the service's stages, the rest inside it, and what its caller waited outside.

    The parts are means over the same run, the service's with and the caller's without its warm-up, so the last one is
    good to a few per cent; it is left out where it is not positive.
    """
    if not server.n_requests:
        return []
    parts: list[tuple[str, float, StageTime | None]] = [
        (stage.stage, stage.mean_us * stage.n / server.n_requests, stage) for stage in server.stages
    ]
    parts.append(("rest of the service", server.mean_us - server.stages_us, None))
    if result.latency.mean_ms is not None:
        parts.append(("outside the service", result.latency.mean_ms * 1000 - server.mean_us, None))
    parts = [part for part in parts if part[1] > 0]
    total_us = sum(mean_us for _, mean_us, _ in parts)
    return [Spent(name, mean_us, mean_us / total_us, stage) for name, mean_us, stage in parts]
