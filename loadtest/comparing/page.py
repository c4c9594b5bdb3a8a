"""Page of a comparison: the verdict in a sentence, every figure with its interval, both circumstances side by side."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from loadtest import charts
from loadtest.charts import Chart
from loadtest.comparing.figures import n_seconds
from loadtest.comparing.ratio import BLOCK, LEVEL
from loadtest.comparing.shares import ComparedShare
from loadtest.comparing.sides import judged
from loadtest.comparing.verdict import ComparedFigure, Comparison
from loadtest.page import count, ms, page_environment, share, turn_length, us
from loadtest.report import Report
from loadtest.whole_files import write_whole

WIDTH = 240
"""Of an interval's drawing, in its own units."""


def _per_s(value: float) -> str:
    return f"{count(value)}/s"


WRITES: dict[str, Callable[[float], str]] = {"ms": ms, "us": us, "per_s": _per_s}


def headline(comparison: Comparison) -> str:
    """The outcome in one sentence."""
    worse, slower = _shares(comparison, "worse"), _figures(comparison, "slower")
    if worse or slower:
        said = [f"B is worse: {', '.join(worse)}"] if worse else []
        return "; ".join(said + ([f"B is slower: {', '.join(slower)}"] if slower else []))
    if comparison.undecided:
        open_ones = [share.name for share in comparison.shares if share.verdict == "undecided"]
        open_ones += [figure.name for figure in comparison.figures if figure.verdict == "undecided"]
        more = "more turns" if comparison.in_turns else "longer, or in more rounds"
        return f"No regression is proven, but {', '.join(open_ones)} could not be decided: measure {more}"
    better, faster = _shares(comparison, "better"), _figures(comparison, "faster")
    said = [f"B is better: {', '.join(better)}"] if better else []
    said += [f"B is faster: {', '.join(faster)}"] if faster else []
    return "; ".join(said) or "B is as fast as A, as far as was measured"


def _shares(comparison: Comparison, verdict: str) -> list[str]:
    return [
        f"{found.name} {share(found.a)} → {share(found.b)}" for found in comparison.shares if found.verdict == verdict
    ]


def _figures(comparison: Comparison, verdict: str) -> list[str]:
    return [f"{found.name} {change(found.ratio.value)}" for found in comparison.figures if found.verdict == verdict]


def change(ratio: float) -> str:
    """A ratio as a change: `+20.3 %`, to a tenth below 100 %."""
    percent = (ratio - 1) * 100
    written = f"{percent:+.1f}\N{NO-BREAK SPACE}%" if abs(percent) < 100 else f"× {ratio:.2f}"
    return written.replace("-", "\N{MINUS SIGN}")


def document(comparison: Comparison) -> dict[str, Any]:
    """The comparison without the reports' own figures, as plain values."""
    figures = [
        {
            "name": figure.name,
            "unit": figure.unit,
            "a": figure.ratio.a,
            "b": figure.ratio.b,
            "ratio": figure.ratio.value,
            "low": figure.ratio.low,
            "high": figure.ratio.high,
            "tolerance": figure.tolerance,
            "verdict": figure.verdict,
        }
        for figure in comparison.figures
    ]
    shares = [
        {
            "name": found.name,
            "a": found.a,
            "b": found.b,
            "counted": {"a": [found.n_a, found.of_a], "b": [found.n_b, found.of_b]},
            "difference": found.b - found.a,
            "low": found.low,
            "high": found.high,
            "tolerance": found.tolerance,
            "verdict": found.verdict,
        }
        for found in comparison.shares
    ]
    return {
        "regressed": comparison.regressed,
        "undecided": comparison.undecided,
        "verdict": headline(comparison),
        "interval": LEVEL,
        "a": {"path": comparison.a_path, "rounds": len(comparison.a), "commit": comparison.a[0].commit},
        "b": {"path": comparison.b_path, "rounds": len(comparison.b), "commit": comparison.b[0].commit},
        "paired": comparison.paired,
        "in_turns": comparison.in_turns,
        "figures": figures,
        "shares": shares,
        "notes": comparison.notes,
        "forced_over": comparison.forced_over,
    }


def write_page(comparison: Comparison, out_dir: Path) -> Path:
    """Write `compare.html` and `compare.json` into a folder; answers the page's path. Raises as `write_whole`."""
    out_dir.mkdir(parents=True, exist_ok=True)
    page, figures = out_dir / "compare.html", msgspec.json.encode(document(comparison))
    write_whole(
        {
            out_dir / "compare.json": msgspec.json.format(figures, indent=2) + b"\n",
            page: render_html(comparison),
        }
    )
    return page


def render_html(comparison: Comparison) -> str:
    """The page for a person."""
    last = [judged(side[-1]) for side in (comparison.a, comparison.b)]
    named = [msgspec.structs.replace(result, engine=name) for result, name in zip(last, ("a", "b"), strict=True)]
    chart = charts.percentile_chart(named, comparison.a[0].budgets.rank.p99_ms)
    return (
        page_environment()
        .get_template("compare.html")
        .render(
            comparison=comparison,
            headline=headline(comparison),
            rows=[_row(figure, comparison) for figure in comparison.figures],
            shares=[_share_row(found) for found in comparison.shares],
            width=WIDTH,
            chart=None if chart is None else _titled(chart, comparison),
            area=charts,
            conditions=_conditions(comparison.a[0], comparison.b[0]),
            level=f"{LEVEL * 100:g}",
            block=BLOCK,
            n_pairs=sum(n_seconds(judged(report)) for report in comparison.a),
            turn=turn_length(judged(comparison.a[0]).second_s),
            raw=document(comparison),
        )
    )


def _titled(chart: Chart, comparison: Comparison) -> Chart:
    rounds = max(len(comparison.a), len(comparison.b))
    return dataclasses.replace(
        chart,
        title="Latency by percentile" + (", the last round of each" if rounds > 1 else ""),
        lines=[dataclasses.replace(line, name=line.name.upper()) for line in chart.lines],
    )


def _row(figure: ComparedFigure, comparison: Comparison) -> dict[str, Any]:
    """A figure as text and as the places of its interval on an axis that all rows share."""
    ratio = figure.ratio
    ends = [value for f in comparison.figures for value in (f.ratio.low, f.ratio.high, 1 + f.tolerance)]
    reach = max(abs(math.log(value)) for value in ends) * 1.1

    def place(value: float) -> float:
        return round((math.log(value) / reach + 1) / 2 * WIDTH, 1)

    write = WRITES[figure.unit]
    return {
        "name": figure.name,
        "a": write(ratio.a),
        "b": write(ratio.b),
        "change": change(ratio.value),
        "interval": f"{change(ratio.low)} to {change(ratio.high)}",
        "verdict": figure.verdict,
        "tolerance": f"±{figure.tolerance * 100:g}\N{NO-BREAK SPACE}%",
        "band": (place(1 / (1 + figure.tolerance)), place(1 + figure.tolerance)),
        "line": (place(ratio.low), place(ratio.high)),
        "dot": place(ratio.value),
        "one": place(1.0),
    }


def _share_row(found: ComparedShare) -> dict[str, str]:
    return {
        "name": found.name,
        "a": share(found.a),
        "b": share(found.b),
        "counts": f"{count(found.n_a)} of {count(found.of_a)}, {count(found.n_b)} of {count(found.of_b)}",
        "interval": f"{_points(found.low)} to {_points(found.high)}",
        "tolerance": f"{found.tolerance * 100:g}",
        "verdict": found.verdict,
    }


def _points(difference: float) -> str:
    """A difference of two shares in hundredths of all requests."""
    return f"{difference * 100:+.2f}".replace("-", "\N{MINUS SIGN}")


def _conditions(a: Report, b: Report) -> list[tuple[str, str, str]]:
    """What was measured where, of the first round of both."""

    def one(report: Report) -> dict[str, str]:
        result, machine = judged(report), report.machine
        versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
        return {
            "When": report.created_at,
            "Commit": report.commit,
            "Model": report.model_version or "–",
            "Load": f"{result.rate_per_s:g} requests/s for {result.duration_s:g} s, {result.engine}"
            + (", in turns with the other" if report.in_turns else ""),
            "Workload": f"{report.workload}; SHA-256 {report.workload_sha256[:16]}",
            "Machine": f"{machine.cpu_model}, {machine.cores_allowed} of {machine.cores} cores, {machine.os}",
            "Load before": f"{machine.load_average_1m:.2f}",
            "Libraries": versions,
        }

    of_b = one(b)
    return [(name, value, of_b[name]) for name, value in one(a).items()]
