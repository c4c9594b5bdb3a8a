"""Charts of a sweep: what callers wait, and how much they get, as more is asked for.

Both share the x axis (requests offered per second, linear), so that the eye can go from one to the other. Points at
which the generator was late are left out: they are the generator's. Goodput is drawn beside the line of a service that
answers everything in time.
"""

from __future__ import annotations

from loadtest.charts import BOTTOM, LEFT, RIGHT, TOP, Chart, LatencyAxis, Line, LinearAxis, Mark
from loadtest.sweep import Sweep, SweepPoint

OFFERED = "requests offered per second"


def load_chart(sweep: Sweep, p99_budget_ms: float | None) -> Chart | None:
    """p50 and p99 by offered load with the promised p99; None where no point can be believed."""
    points = [point for point in sweep.punctual if point.result.latency.p99_ms is not None]
    if not points:
        return None
    x_axis = _offered(sweep)
    budget = [p99_budget_ms] if p99_budget_ms else []
    y_axis = LatencyAxis([value for point in points for value in _latencies(point)] + budget)
    lines, marks = [], []
    for style, title, place in (("p99", "p99: the slowest of 100", 1), ("p50", "p50: half of all", 0)):
        at = [(x_axis.place(p.rate_per_s), y_axis.place(_latencies(p)[place]), p.kept) for p in points]
        lines.append(Line(title, style, " ".join(f"{x},{y}" for x, y, _ in at)))
        marks += [Mark(x, y, f"{style} {'kept' if kept else 'missed'}") for x, y, kept in at]
    return Chart(
        title="Waiting time by offered load",
        x_name=OFFERED,
        x_ticks=list(x_axis.ticks()),
        y_ticks=y_axis.ticks(),
        lines=lines,
        budget_y=y_axis.place(p99_budget_ms) if p99_budget_ms else None,
        budget_name=f"promised p99, {p99_budget_ms:g} ms" if p99_budget_ms else "",
        marks=marks,
    )


def goodput_chart(sweep: Sweep) -> Chart | None:
    """Answers in time per second by offered load; None where no point can be believed."""
    points = sweep.punctual
    if not points:
        return None
    x_axis = _offered(sweep)
    y_axis = LinearAxis.of([value for p in points for value in (p.rate_per_s, p.goodput_per_s)], BOTTOM, TOP)
    at = [(x_axis.place(p.rate_per_s), y_axis.place(p.goodput_per_s), p.kept) for p in points]
    end = points[-1].rate_per_s
    return Chart(
        title=f"Answers within {sweep.good_within_ms:g} ms per second",
        x_name=OFFERED,
        x_ticks=list(x_axis.ticks()),
        y_ticks=list(y_axis.ticks()),
        lines=[
            Line("answered in time", "p99", " ".join(f"{x},{y}" for x, y, _ in at)),
            Line("all that was asked", "asked", f"{LEFT},{BOTTOM} {x_axis.place(end)},{y_axis.place(end)}"),
        ],
        marks=[Mark(x, y, f"p99 {'kept' if kept else 'missed'}") for x, y, kept in at],
    )


def _offered(sweep: Sweep) -> LinearAxis:
    return LinearAxis.of([point.rate_per_s for point in sweep.points], LEFT, RIGHT)


def _latencies(point: SweepPoint) -> tuple[float, float]:
    latency = point.result.latency
    assert latency.p50_ms is not None  # callers draw points with a p99 only
    assert latency.p99_ms is not None
    return latency.p50_ms, latency.p99_ms
