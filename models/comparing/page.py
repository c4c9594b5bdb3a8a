"""The page of a ladder: one HTML file that needs nothing but itself, verdict first, for light, dark, phone and paper.

`compare.json` holds the same figures and more; the page rounds them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from models.comparing.figures import Ladder, LeftOut, Standing
from models.comparing.front import STEP, chosen
from models.comparing.scatter_plot import scatter_plot
from models.comparing.verdict import title, useful, verdict
from models.registry.manifest import Interval

TEMPLATES = Path(__file__).parent / "templates"


class Report(msgspec.Struct, frozen=True):
    """A finished comparison: the document of `compare.json`."""

    created_ms: int
    product: str
    """Version of clickserve."""
    commit: str
    source: str
    rows: tuple[float, float]
    """Part of the log, in time order, that was used; the last fifth of it judges."""
    seeds: tuple[int, ...]
    trained_on: int
    trained_on_clicks: int
    ladder: Ladder
    standings: tuple[Standing, ...]
    chosen: str
    useful: bool
    """Whether the chosen one beats the base rate beyond doubt."""
    verdict: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    machine: dict[str, Any]
    load: dict[str, Any] | None
    """How latency was measured; None where it was not."""
    why_no_latency: str
    """Empty where it was measured."""


def report_of(
    ladder: Ladder,
    places: tuple[Standing, ...],
    *,
    created_ms: int,
    product: str,
    commit: str,
    source: str,
    rows: tuple[float, float],
    seeds: tuple[int, ...],
    trained_on: int,
    trained_on_clicks: int,
    left_out: tuple[LeftOut, ...],
    machine: dict[str, Any],
    load: dict[str, Any] | None,
    why_no_latency: str,
) -> Report:
    """The figures with what follows from them."""
    best = chosen(places)
    return Report(
        created_ms=created_ms,
        product=product,
        commit=commit,
        source=source,
        rows=rows,
        seeds=seeds,
        trained_on=trained_on,
        trained_on_clicks=trained_on_clicks,
        ladder=ladder,
        standings=places,
        chosen=best,
        useful=useful(ladder.contender(best)),
        verdict=verdict(ladder, places),
        left_out=left_out,
        machine=machine,
        load=load,
        why_no_latency=why_no_latency,
    )


def render_page(report: Report) -> str:
    """The HTML of a report."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "title_of": title,
        "moment": _moment,
        "span": _span,
        "percent": _percent,
        "percent_span": _percent_span,
        "delta": _delta,
        "bytes": size_text,
        "seconds": seconds_text,
        "ms": milliseconds_text,
    }
    ladder = report.ladder
    lowest = min(ladder.contenders, key=lambda each: each.entropy.value)
    rungs = [
        {
            "place": place,
            "contender": ladder.contender(place.learner),
            "to_lowest": None if place.learner == lowest.learner else ladder.difference(place.learner, lowest.learner),
            "price": price_texts(place),
        }
        for place in report.standings
    ]
    values = {
        "report": report,
        "ladder": ladder,
        "rungs": rungs,
        "lowest": lowest,
        "plot": scatter_plot(ladder, report.standings),
        "step": STEP,
    }
    return environment.get_template("compare.html.j2").render(values)


def price_texts(place: Standing) -> tuple[str, str, str] | None:
    """µs of p50, bytes and seconds for each 0.001 of NE; None where there is no gain to pay for."""
    price = place.price
    if price is None:
        return None
    served = "–" if price.p50_us is None else f"{price.p50_us:+,.2f} µs" if price.p50_clear else "p50 not clear"
    sign = "+" if price.graph_bytes >= 0 else "-"
    return served, f"{sign}{size_text(abs(price.graph_bytes))}", f"{price.train_s:+,.2f} s"


def size_text(size_bytes: float) -> str:
    """Bytes as people say them."""
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= size:
            return f"{size_bytes / size:,.1f} {unit}"
    return f"{size_bytes:,.0f} B"


def seconds_text(seconds: float) -> str:
    """A length of time to three digits or so."""
    return f"{seconds:,.1f} s" if seconds < 600 else f"{seconds / 60:,.1f} min"


def milliseconds_text(microseconds: float | None) -> str:
    """µs as milliseconds; a dash for what is not known."""
    return "–" if microseconds is None else f"{microseconds / 1000:.3f} ms"


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


def _span(interval: Interval, digits: int = 4) -> str:
    return f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def _percent(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f} %"  # + 0.0: never -0.0


def _percent_span(interval: Interval) -> str:
    return f"{_percent(interval.low).removesuffix(' %')} to {_percent(interval.high)}"


def _delta(interval: Interval) -> str:
    return f"{interval.value:+.4f}"
