"""Drawings: curves of a suite as self-contained SVG, for the page and as files beside a Markdown document.

Servers differ a hundredfold, so load and goodput are drawn as shares of each server's own capacity and times on a
logarithmic axis; absolute figures stand in the tables. Geometry and that axis are those of `loadtest/charts.py`.
Colours follow the order of the servers, so a server keeps its colour in every drawing. Text lies outside the plot; the
legend stands below it, inside the drawing, because a file has nothing else to put it in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtest import charts
from loadtest.charts import BOTTOM, LEFT, RIGHT, TOP, LatencyAxis, Line, LinearAxis, Tick
from loadtest.page import page_environment
from loadtest.suite.closed_rounds import per_s
from loadtest.suite.results import SuiteResult

Points = Sequence[tuple[float, float]]
N_COLOURS = 6
"""Styles in the template; a further server begins again."""
OF_CAPACITY = "offered load / the server's closed-loop capacity"
_LEGEND_ROW = 20


@dataclass(frozen=True, slots=True)
class Drawing:
    """One plot. `name` is a file name without its ending."""

    name: str
    title: str
    x_name: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]

    @property
    def height(self) -> int:
        """With the legend, one row per line."""
        return charts.HEIGHT + 8 + _LEGEND_ROW * len(self.lines)

    def svg(self) -> str:
        """The whole drawing as one SVG element."""
        return (
            page_environment()
            .get_template("suite_drawing.svg")
            .render(drawing=self, area=charts, legend_top=charts.HEIGHT, legend_row=_LEGEND_ROW)
        )


def latency_drawing(result: SuiteResult) -> Drawing:
    """p99 by offered load, of runs whose generator was punctual."""
    curves = {
        name: [
            (run.rate_per_s / capacity_per_s, run.p99_ms)
            for run in result.curves
            if run.server == name and run.believable and run.p99_ms is not None
        ]
        for name, capacity_per_s in _capacities_per_s(result).items()
    }
    return _with_times("latency-by-load", "p99 by offered load", OF_CAPACITY, curves)


def goodput_drawing(result: SuiteResult) -> Drawing:
    """Answers within 10 ms by offered load."""
    curves = {
        name: [
            (run.rate_per_s / capacity_per_s, run.goodput_per_s / capacity_per_s)
            for run in result.curves
            if run.server == name
        ]
        for name, capacity_per_s in _capacities_per_s(result).items()
    }
    x_axis = LinearAxis.of([x for points in curves.values() for x, _ in points], LEFT, RIGHT)
    y_axis = LinearAxis.of([y for points in curves.values() for _, y in points], BOTTOM, TOP)
    placed = {name: [(x_axis.place(x), y_axis.place(y)) for x, y in points] for name, points in curves.items()}
    title = "Answers within 10 ms / capacity"
    return Drawing("goodput-by-load", title, OF_CAPACITY, x_axis.ticks(), y_axis.ticks(), _lines(placed))


def cost_drawing(result: SuiteResult) -> Drawing:
    """Time of the server's core per request, by number of candidates."""
    curves = {
        server.name: [
            (float(cost.n_candidates), cost.us_per_request.median / 1e3)
            for cost in sorted(result.candidate_costs, key=lambda cost: cost.n_candidates)
            if cost.server == server.name
        ]
        for server in result.servers
    }
    return _with_times("cost-by-candidates", "Time per request", "candidates a request", curves)


def _with_times(name: str, title: str, x_name: str, curves: Mapping[str, Points]) -> Drawing:
    """Points whose second number is a time in milliseconds."""
    x_axis = LinearAxis.of([x for points in curves.values() for x, _ in points], LEFT, RIGHT)
    y_axis = LatencyAxis([y for points in curves.values() for _, y in points])
    placed = {name: [(x_axis.place(x), y_axis.place(y)) for x, y in points] for name, points in curves.items()}
    return Drawing(name, title, x_name, x_axis.ticks(), tuple(y_axis.ticks()), _lines(placed))


def _lines(curves: Mapping[str, Points]) -> tuple[Line, ...]:
    """One line a server that has points; the style is that of the server's place among all."""
    return tuple(
        Line(name, f"line-{index % N_COLOURS}", " ".join(f"{x:g},{y:g}" for x, y in points))
        for index, (name, points) in enumerate(curves.items())
        if points
    )


def _capacities_per_s(result: SuiteResult) -> dict[str, float]:
    """Of every server, so that each keeps its colour; infinite where none was measured, which nothing is a share of."""
    spreads = {server.name: per_s(result.closed, server.name) for server in result.servers}
    return {name: spread.median if spread and spread.median else math.inf for name, spread in spreads.items()}
