"""A sweep finds the rate up to which the promise holds, ends in time, and blames no service for its generator."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from loadtest.bench import BenchOptions, run_bench
from loadtest.charts import BOTTOM, LEFT, RIGHT, TOP
from loadtest.latency import summarise
from loadtest.report import render_html
from loadtest.results import Lateness
from loadtest.sweep import MOST_POINTS, Sweep, SweepPoint, run_sweep
from loadtest.sweep_charts import goodput_chart, load_chart
from loadtest.words import plain_words, sweep_in_short
from tests.loadtest.report_samples import point_of, report_of, sweep_of
from tests.loadtest.running_server import StartServer

LATE = Lateness(summarise(np.full(2_000, 7.0)), 1.0, believable=False)


def late(point: SweepPoint) -> SweepPoint:
    """The same point of a generator that could not keep its schedule."""
    return SweepPoint(msgspec.structs.replace(point.result, lateness=LATE), point.server_cpu_s, kept=False)


@pytest.mark.parametrize("capacity_per_s", [250.0, 900.0, 4_000.0])
def test_the_boundary_is_found_within_a_tenth(capacity_per_s: float) -> None:
    """The simulated service keeps p99 within 10 ms up to about 0.7 of its capacity, found here by trying every rate."""
    rng = np.random.default_rng(1)
    kept = [rate for rate in range(20, int(capacity_per_s), 10) if point_of(rng, rate, capacity_per_s).kept]

    sweep = run_sweep(lambda rate: point_of(rng, round(rate), capacity_per_s), 10.0)

    assert sweep.ended_by == "goodput"
    assert sweep.highest_kept is not None
    assert sweep.highest_kept.rate_per_s == pytest.approx(max(kept), rel=0.12)
    assert len(sweep.points) <= MOST_POINTS
    assert [point.rate_per_s for point in sweep.points] == sorted(point.rate_per_s for point in sweep.points)


def test_a_service_that_never_tires_ends_the_sweep_all_the_same() -> None:
    """The sweep is bounded by its points, not by the service."""
    rng = np.random.default_rng(1)
    asked: list[float] = []

    def measure(rate: float) -> SweepPoint:
        asked.append(rate)
        point = point_of(rng, 200)
        result = msgspec.structs.replace(point.result, rate_per_s=rate, n_good=round(rate * point.result.duration_s))
        return msgspec.structs.replace(point, result=result)

    sweep = run_sweep(measure, 10.0)

    assert sweep.ended_by == "range"
    assert len(asked) <= MOST_POINTS


def test_a_late_generator_ends_the_sweep_and_is_not_held_against_the_service() -> None:
    """Above that rate nothing is known; the point stays in the report as what it is."""
    rng = np.random.default_rng(1)

    sweep = run_sweep(lambda rate: late(point_of(rng, 800)) if rate >= 800 else point_of(rng, round(rate)), 10.0)

    assert sweep.ended_by == "generator"
    assert sweep.highest_kept is not None
    assert sweep.lowest_missed_above is None


@pytest.mark.parametrize(
    ("n_punctual", "in_words", "in_short"),
    [
        (0, "nothing can be said about the service: already at 6,400", "nothing can be said: the generator was late"),
        (1, "was punctual, the highest 6,400 requests", "promise kept at no rate up to 6,400/s; above, the generator"),
        (2, "At no rate of the sweep did the service keep", "promise kept at no rate"),
    ],
)
def test_a_service_is_not_blamed_for_rates_at_which_its_generator_was_late(
    n_punctual: int, in_words: str, in_short: str
) -> None:
    """ "Kept at no rate" is an accusation; it needs a punctual generator."""
    points = [point_of(np.random.default_rng(1), rate) for rate in (6_400, 8_000)]
    given = [point if place < n_punctual else late(point) for place, point in enumerate(points)]
    sweep = Sweep(given, 10.0, "range" if n_punctual == 2 else "generator")
    swept = report_of(points[0].result, sweep=sweep)

    page = render_html(swept)

    assert in_words in " ".join(plain_words(swept))
    assert sweep_in_short(sweep).startswith(in_short)
    assert (n_punctual > 0) == ("per second" in page and "<circle" in page)


def test_one_hiccup_of_the_generator_is_measured_again() -> None:
    """On a shared machine a single late point says nothing."""
    rng = np.random.default_rng(1)
    seen: list[float] = []

    def measure(rate: float) -> SweepPoint:
        seen.append(rate)
        point = point_of(rng, round(rate))
        return late(point) if seen.count(rate) == 1 and rate == 200 else point

    sweep = run_sweep(measure, 10.0)

    assert seen.count(200) == 2
    assert sweep.ended_by == "goodput"
    assert not any(point.late for point in sweep.points)


def test_given_rates_are_all_measured_in_rising_order() -> None:
    """Who names the rates wants them, saturated or not."""
    rng = np.random.default_rng(1)

    sweep = run_sweep(lambda rate: point_of(rng, round(rate)), 10.0, (6_400, 200, 3_200))

    assert [point.rate_per_s for point in sweep.points] == [200, 3_200, 6_400]
    assert [point.kept for point in sweep.points] == [True, False, False]
    assert sweep.ended_by == "range"


def test_what_is_drawn_of_a_sweep_lies_inside_the_plot() -> None:
    """A point outside the frame is a wrong picture; a late one is not drawn as the service's latency."""
    sweep = sweep_of(np.random.default_rng(1))
    with_late = msgspec.structs.replace(sweep, points=[*sweep.points[:-1], late(sweep.points[-1])])

    charts = [load_chart(sweep, 10.0), goodput_chart(sweep), load_chart(with_late, 10.0), goodput_chart(with_late)]

    drawn = [chart for chart in charts if chart is not None]
    assert len(drawn) == 4
    for chart in drawn:
        assert all(LEFT <= mark.x <= RIGHT and TOP <= mark.y <= BOTTOM for mark in chart.marks)
    assert [len(chart.marks) for chart in drawn] == [20, 10, 18, 9]


def test_a_bench_sweeps_a_real_server(start_server: StartServer, workload_file: Path, tmp_path: Path) -> None:
    """A server that needs 20 ms for each answer misses 10 ms at every rate, and the report says so in words."""
    budgets = tmp_path / "budgets.toml"
    budgets.write_text("[rank]\np99_ms = 10.0\n[generator]\nlateness_p99_ms = 5000.0\n")
    server = start_server("--delay-ms", "20")

    result = run_bench(
        BenchOptions(
            server.url, workload_file, tmp_path, rate_per_s=50, duration_s=2, warmup_s=0, budgets_path=budgets,
            server_pids=(server.pid,), sweep_rates_per_s=(50, 100), sweep=True, sweep_s=1,
        )
    )  # fmt: skip

    sweep = result.report.sweep
    assert sweep is not None
    assert [(point.rate_per_s, point.kept, point.goodput_per_s) for point in sweep.points] == [
        (50, False, 0), (100, False, 0),
    ]  # fmt: skip
    assert "At no rate of the sweep did the service keep 99 of 100 within 10 ms." in result.html_path.read_text()
    by_second = [second.server for second in result.report.measured[0].result.timeline]
    assert all(server is not None and server.ran_ms > 0 for server in by_second)
