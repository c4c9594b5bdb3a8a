"""Charts as geometry: pixel positions that the report's template draws as SVG. No text lies inside the plot area.

Latency runs on a logarithmic axis, because a report must show 0.3 ms and 90 ms at once. Quantiles run on the tail's
logarithmic axis, log10(1 / (1 − q)): each step from 90 to 99 to 99.9 % is as wide as the one before, and holds a tenth
of its requests. A drawing is 480 units wide so that its text stays readable when a phone shrinks it to 340 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from loadtest.results import EngineResult

WIDTH, HEIGHT = 480, 280
LEFT, RIGHT, TOP, BOTTOM = 66, 466, 12, 232
_QUANTILE_TICKS = ((0.0, "0"), (0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99"))


@dataclass(frozen=True, slots=True)
class Tick:
    """A label and its place along an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """A drawn line: `style` is a CSS class, `points` the SVG attribute."""

    name: str
    style: str
    points: str


@dataclass(frozen=True, slots=True)
class Mark:
    """One measured point; `style` is a CSS class."""

    x: float
    y: float
    style: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything the template needs to draw one plot."""

    title: str
    x_name: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]
    budget_y: float | None = None
    budget_name: str = ""
    error_x: list[float] = field(default_factory=list)
    """Where seconds with errors lie on the x axis."""
    marks: list[Mark] = field(default_factory=list)
    """The single measurements behind the lines."""
    table: str = "in the table below"
    """Where the figures stand, for those who do not see the drawing."""


class LatencyAxis:
    """Milliseconds to pixels, logarithmic, from the step (1, 2, 5) below the smallest to the one above the largest."""

    def __init__(self, values_ms: Iterable[float]) -> None:
        positive = [value for value in values_ms if value > 0] or [1.0]
        self._low = math.log10(_step_below(min(positive)))
        self._high = math.log10(_step_above(max(positive)))
        if self._high - self._low < 0.5:
            self._high = self._low + 0.5

    def place(self, latency_ms: float) -> float:
        share = (math.log10(max(latency_ms, 10**self._low)) - self._low) / (self._high - self._low)
        return round(BOTTOM - share * (BOTTOM - TOP), 1)

    def ticks(self) -> list[Tick]:
        """At 1, 2 and 5 of each decade, or at 1 alone where that would crowd."""
        leads = (1, 2, 5) if self._high - self._low <= 2.4 else (1,)
        decades = range(math.floor(self._low), math.ceil(self._high) + 1)
        values = [lead * 10.0**decade for decade in decades for lead in leads]
        inside = [v for v in values if self._low - 1e-9 <= math.log10(v) <= self._high + 1e-9]
        return [Tick(self.place(value), _label(value)) for value in inside]


@dataclass(frozen=True, slots=True)
class LinearAxis:
    """Values from 0 to a round number above the largest, onto pixels from `start` to `end`."""

    top: float
    step: float
    start: float
    end: float

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float) -> LinearAxis:
        """An axis with at most six steps of 1, 2 or 5 times a power of ten."""
        largest = max([*values, 1e-9])
        step = 10.0 ** math.floor(math.log10(largest))
        step = next(step * part for part in (0.2, 0.5, 1, 2, 5) if step * part * 6 >= largest)
        return cls(math.ceil(largest / step) * step, step, start, end)

    def place(self, value: float) -> float:
        """The pixel of a value."""
        return round(self.start + value / self.top * (self.end - self.start), 1)

    def ticks(self) -> tuple[Tick, ...]:
        """At every step, 0 included."""
        values = [index * self.step for index in range(round(self.top / self.step) + 1)]
        return tuple(Tick(self.place(value), _short(value)) for value in values)


def percentile_chart(results: Sequence[EngineResult], p99_budget_ms: float | None) -> Chart | None:
    """Latency by percentile, one line per engine; None where nothing was answered."""
    drawn = [result for result in results if result.curve]
    if not drawn:
        return None
    budget = [p99_budget_ms] if p99_budget_ms else []
    axis = LatencyAxis([point.latency_ms for result in drawn for point in result.curve] + budget)
    decades = max(-math.log10(1 - result.curve[-1].quantile) for result in drawn)

    def x(quantile: float) -> float:
        return round(LEFT - math.log10(1 - quantile) / decades * (RIGHT - LEFT), 1) if decades else float(LEFT)

    lines = [
        Line(
            result.engine,
            result.engine,
            " ".join(f"{x(point.quantile)},{axis.place(point.latency_ms)}" for point in result.curve),
        )
        for result in drawn
    ]
    return Chart(
        title="Latency by percentile",
        x_name="percentile of requests",
        x_ticks=[Tick(x(q), label) for q, label in _QUANTILE_TICKS if -math.log10(1 - q) <= decades + 1e-9],
        y_ticks=axis.ticks(),
        lines=lines,
        budget_y=axis.place(p99_budget_ms) if p99_budget_ms else None,
        budget_name=f"p99 budget {p99_budget_ms:g} ms" if p99_budget_ms else "",
    )


def timeline_chart(result: EngineResult) -> Chart | None:
    """p50 and p99 of each second of a run; None where the engine keeps no timeline or nothing was answered."""
    seconds = [second for second in result.timeline if second.p50_ms is not None and second.p99_ms is not None]
    if not seconds:
        return None
    axis = LatencyAxis([value for s in seconds for value in (s.p50_ms, s.p99_ms) if value is not None])
    last = max(result.timeline[-1].second, 1)

    def x(second: float) -> float:
        return round(LEFT + second / last * (RIGHT - LEFT), 1)

    def points(name: str) -> str:
        return " ".join(f"{x(second.second)},{axis.place(getattr(second, name))}" for second in seconds)

    step = max(1, math.ceil(last / 6))
    piece = "second" if result.second_s == 1 else "turn"
    return Chart(
        title="Latency over time",
        x_name=f"{piece} of the measured run",
        x_ticks=[Tick(x(second), str(second)) for second in range(0, last + 1, step)],
        y_ticks=axis.ticks(),
        lines=[
            Line(f"p99 of each {piece}", "p99", points("p99_ms")),
            Line(f"p50 of each {piece}", "p50", points("p50_ms")),
        ],
        table="in the table below it",
        error_x=[x(second.second) for second in result.timeline if second.n_errors],
    )


def _step_below(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value))
    return max(lead * decade for lead in (1, 2, 5) if lead * decade <= value * (1 + 1e-9))


def _step_above(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value))
    return min(lead * decade for lead in (1, 2, 5, 10) if lead * decade >= value * (1 - 1e-9))


def _label(latency_ms: float) -> str:
    return f"{latency_ms / 1000:g} s" if latency_ms >= 1000 else f"{latency_ms:g} ms"


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1_000 else f"{value:g}"
