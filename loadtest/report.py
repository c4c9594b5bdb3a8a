"""Report of a bench: what was measured, where, against which budget, as JSON and as one page of HTML.

The page needs nothing but itself: no script runs, no font or image is fetched, and the whole report lies in it as JSON.
Every text that came from outside (URL, error kinds, codes, CPU name) is escaped by the template engine.
"""

from __future__ import annotations

from pathlib import Path

import jinja2
import msgspec

from loadtest import charts
from loadtest.budgets import Budgets
from loadtest.machine import Machine
from loadtest.results import EngineResult
from loadtest.verdict import Verdict

TEMPLATES = Path(__file__).with_name("templates")
ENGINE_NAMES = {"open-loop": "Open loop", "locust": "Locust"}


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


def render_html(report: Report) -> str:
    """The page for a person."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ms=_ms, share=_share, count=_count, engine_name=lambda name: ENGINE_NAMES.get(name, name)
    )
    results = [measured.result for measured in report.measured]
    drawings = [charts.percentile_chart(results, report.budgets.rank.p99_ms), *map(charts.timeline_chart, results)]
    return environment.get_template("report.html").render(
        report=report,
        judged=results[0],
        results=results,
        drawings=[drawing for drawing in drawings if drawing is not None],
        area=charts,
        kinds_of_error=sorted({kind for result in results for kind in result.errors}),
        codes=sorted({code for result in results for code in result.degraded.codes}),
        raw=msgspec.to_builtins(report),
    )


def _ms(value: float | None) -> str:
    """Milliseconds, to 10 µs below 100 ms; a dash for what is not known."""
    if value is None:
        return "–"
    return f"{value:.2f}\N{NO-BREAK SPACE}ms" if value < 100 else f"{value:,.0f}\N{NO-BREAK SPACE}ms"


def _share(value: float | None) -> str:
    """A share as a percentage; one that is above 0 never reads as 0."""
    if value is None:
        return "–"
    return (
        "<\N{NO-BREAK SPACE}0.01\N{NO-BREAK SPACE}%" if 0 < value < 0.0001 else f"{value * 100:.2f}\N{NO-BREAK SPACE}%"
    )


def _count(value: float) -> str:
    return f"{value:,.0f}"
