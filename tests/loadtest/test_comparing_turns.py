"""Pairs of turns tell a slow-down from a mood of the machine, and know what they cannot tell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from loadtest.comparing.page import render_html
from loadtest.comparing.ratio import ratio_of, ratio_of_turns
from loadtest.comparing.sides import Side
from loadtest.comparing.verdict import Comparison, compare
from loadtest.errors import ComparisonError
from loadtest.report import Measured, Report
from loadtest.turns_run import order_of_turns
from tests.loadtest.report_samples import in_turns_of

TRIES = 20


def compared(rng: np.random.Generator, starts: int = 1, **measured: Any) -> Comparison:
    """The comparison of two made-up services that were measured in turns."""
    rounds = [in_turns_of(rng, shared=str(number), **measured) for number in range(starts)]
    return compare(*(Side(Path(name), tuple(both[place] for both in rounds)) for place, name in enumerate("ab")))


@pytest.mark.parametrize(("starts", "n_turns"), [(1, 40), (4, 12)])
def test_equal_services_pass_nineteen_of_twenty_tries_on_a_machine_that_wanders(starts: int, n_turns: int) -> None:
    """Its speed changes by half in a minute, and a turn is good to a tenth: that is what was seen on a shared one."""
    regressed = [
        compared(np.random.default_rng([1, starts, seed]), starts, n_turns=n_turns).regressed for seed in range(TRIES)
    ]

    assert sum(regressed) <= 1


@pytest.mark.parametrize(
    ("starts", "n_turns", "names"), [(1, 40, {"server CPU per request", "p50"}), (4, 12, {"server CPU per request"})]
)
def test_a_fifth_slower_is_found_nineteen_of_twenty_times_in_a_minute_and_a_half(
    starts: int, n_turns: int, names: set[str]
) -> None:
    """It is what the turns are for; the wider tolerance of a single round does not apply."""
    found: Counter[str] = Counter()
    for seed in range(TRIES):
        rng = np.random.default_rng([2, starts, seed])
        figures = compared(rng, starts, n_turns=n_turns, slower=1.2).figures
        found.update(figure.name for figure in figures if figure.verdict == "slower")

    assert all(found[name] >= TRIES - 1 for name in names)


def test_an_interval_of_pairs_holds_the_true_ratio_as_often_as_it_says() -> None:
    """99 % of 200 intervals over forty pairs: at least 96 %."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        moods = np.exp(np.cumsum(rng.normal(size=40)) * 0.07)
        a, b = moods * rng.lognormal(0, 0.09, 40), moods * rng.lognormal(np.log(1.1), 0.09, 40)
        ratio = ratio_of_turns([a], [b])
        held += ratio.low <= 1.1 <= ratio.high

    assert held >= 0.96 * 200


def test_a_steady_drift_is_not_blamed_on_the_second() -> None:
    """A B, B A: each is first as often as the other, so 2 % a turn leave nothing but their own spread."""
    drift = np.exp(0.02 * np.arange(80))
    sides: tuple[list[float], list[float]] = ([], [])
    for (side, _), speed in zip(order_of_turns(40), drift, strict=True):
        sides[side].append(float(speed))

    ratio = ratio_of_turns([np.array(sides[0])], [np.array(sides[1])])

    assert ratio.value == pytest.approx(1.0, abs=1e-9)
    assert 0.98 < ratio.low <= 1.0 <= ratio.high < 1.02


def test_a_start_of_its_own_widens_the_interval() -> None:
    """Four starts that differ by a tenth each way must not pass for forty-eight independent pairs."""
    rng = np.random.default_rng(4)
    luck = np.exp([0.1, -0.1, 0.1, -0.1])
    a = [rng.lognormal(0, 0.02, 12) for _ in luck]
    b = [fortunate * rng.lognormal(0, 0.02, 12) for fortunate in luck]

    of_starts, of_pairs = ratio_of_turns(a, b), ratio_of_turns([np.concatenate(a)], [np.concatenate(b)])

    assert of_starts.low < np.exp(-0.08)
    assert of_starts.high > np.exp(0.08)
    assert of_pairs.high / of_pairs.low < of_starts.high / of_starts.low


def test_pairs_of_turns_tell_more_than_the_same_seconds_one_by_one() -> None:
    """Else the trouble would be for nothing."""
    rng = np.random.default_rng(5)
    moods = np.exp(np.cumsum(rng.normal(size=40)) * 0.07)
    a, b = moods * rng.lognormal(0, 0.05, 40), moods * rng.lognormal(0, 0.05, 40)

    in_pairs, apart = ratio_of_turns([a], [b]), ratio_of([a], [b], paired=False)

    assert np.log(in_pairs.high / in_pairs.low) < np.log(apart.high / apart.low) / 3


def test_a_late_turn_tells_of_cpu_time_alone() -> None:
    """What the generator did to itself in one second says nothing about the others, nor about the service's work."""
    a, b = in_turns_of(np.random.default_rng(6), n_turns=14)
    side = Side(Path("a"), (a,))

    some = compare(side, Side(Path("b"), (with_late_turns(b, 4),)))
    many = compare(Side(Path("a"), (with_late_turns(a, 5),)), Side(Path("b"), (b,)))

    assert some.notes == [
        "4 of 14 pairs of turns: the load generator was late, so they tell of CPU time alone",
    ]
    assert not some.regressed
    assert [figure.name for figure in many.figures] == ["server CPU per request"]
    assert "p50: 9 pairs of turns, at least 10 are needed" in many.notes
    assert many.figures[0].ratio == compare(side, Side(Path("b"), (b,))).figures[-1].ratio


def test_a_generator_late_in_all_turns_at_services_nobody_watched_is_an_error() -> None:
    """Then there is nothing left to compare."""
    a, b = (with_late_turns(report, 14, watched=False) for report in in_turns_of(np.random.default_rng(6), n_turns=14))

    with pytest.raises(ComparisonError, match=r"nothing to compare: 14 of 14 pairs of turns: .*CPU per request: not"):
        compare(Side(Path("a"), (a,)), Side(Path("b"), (b,)))


def with_late_turns(report: Report, n_late: int, *, watched: bool = True) -> Report:
    """The report with a generator that was late, and slow, in its first turns."""
    run = report.measured[0].result
    timeline = [
        msgspec.structs.replace(
            turn,
            late_ms=7.0 if turn.second < n_late else 0.1,
            p50_ms=50.0 if turn.second < n_late else turn.p50_ms,
            server=turn.server if watched else None,
        )
        for turn in run.timeline
    ]
    measured = msgspec.structs.replace(report.measured[0], result=msgspec.structs.replace(run, timeline=timeline))
    return msgspec.structs.replace(report, measured=[measured])


def test_reports_of_two_measurements_are_no_pairs_of_turns() -> None:
    """Turn 3 of this hour has nothing in common with turn 3 of the last."""
    rng = np.random.default_rng(7)
    (a, _), (_, b) = in_turns_of(rng, shared="1"), in_turns_of(rng, shared="2")

    assert not compare(Side(Path("a"), (a,)), Side(Path("b"), (b,))).in_turns


def test_the_sides_may_be_named_the_other_way_round() -> None:
    """Then A is as much faster as B was slower."""
    a, b = (Side(Path("x"), (report,)) for report in in_turns_of(np.random.default_rng(8), slower=1.3))

    there, back = compare(a, b), compare(b, a)

    assert there.regressed
    assert not back.regressed
    assert back.in_turns
    assert there.figures[0].ratio.value == pytest.approx(1 / back.figures[0].ratio.value)


def test_shorter_turns_are_pairs_as_well_and_answers_stay_those_of_a_second() -> None:
    """Twenty turns of half a second: 100 requests in each, 200 a second."""
    rng = np.random.default_rng(9)
    a, b = in_turns_of(rng, n_turns=20, rate_per_s=100, slower=1.3)

    def halved(report: Report) -> Side:
        run = msgspec.structs.replace(report.measured[0].result, second_s=0.5, duration_s=10.0, rate_per_s=200.0)
        return Side(Path("x"), (msgspec.structs.replace(report, measured=[Measured(run, None)]),))

    found = compare(halved(a), halved(b))

    answers = next(figure for figure in found.figures if figure.name == "answers in time")
    assert answers.ratio.a == pytest.approx(200, rel=0.1)
    assert found.regressed
    assert "20 pairs of turns" in render_html(found)
    assert "in turns of 0.5\N{NO-BREAK SPACE}s" in render_html(found)
    with pytest.raises(ComparisonError, match=r"length of a turn: A has 0\.5 s, B 1 s"):
        compare(halved(a), Side(Path("y"), (b,)))
