"""Verdict of a comparison: per figure slower, faster, the same or undecided; one slower figure is a regression.

A figure is slower only where its whole interval lies beyond the tolerance: a difference that is real but smaller than
that is not worth stopping a release for, and on a shared machine it is not even likely to be the service's. Where the
interval reaches over the tolerance nothing is decided, and that is said: undecided is not the same as equal.

Two things keep a neighbour's work on the machine from being taken for the service's fault. One round a side knows
nothing of what moves a whole round, so all but CPU time then need a wider tolerance. And where the scheduler says that
the service waited for a core much longer in B than in A, latencies that seem slower are undecided.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
import numpy as np

from loadtest.comparing.ratio import Ratio, Reals, ratio_of
from loadtest.comparing.sides import Side, differences, judged
from loadtest.errors import ComparisonError
from loadtest.report import Report
from loadtest.results import Second

TOLERANCE = 0.05
"""Relative change below which a figure counts as unchanged."""
WIDER = 2.0
"""Times the tolerance: for the p99, which rests on a hundredth of the requests, and for answers in time, which past
saturation depend on how long a queue happened to grow."""
ONE_ROUND = 4.0
"""Times the tolerance of all but CPU time where a side has one round only."""
DISTURBED_RATIO, DISTURBED_SHARE = 1.5, 0.05
"""Latencies are not held against B where it waited for a core this much longer than A, plus a share of A's p50."""
LEAST_SECONDS = 5
"""Whole measured seconds a side must have in all."""
LEAST_FOR_P99 = 100
"""Requests in a typical second, below which its p99 would be its maximum."""

FigureVerdict = Literal["slower", "faster", "same", "undecided"]


class ComparedFigure(msgspec.Struct, frozen=True):
    """One figure of both sides."""

    name: str
    unit: Literal["ms", "per_s", "us"]
    ratio: Ratio
    """B / A."""
    tolerance: float
    more_is_better: bool
    verdict: FigureVerdict


class Comparison(msgspec.Struct, frozen=True):
    """Two sides, figure by figure."""

    created_at: str
    a: list[Report]
    b: list[Report]
    a_path: str
    b_path: str
    figures: list[ComparedFigure]
    notes: list[str]
    """What was not compared or not held against B, each with the reason."""
    forced_over: list[str]
    """Differences of the circumstances that were overruled."""
    paired: bool
    """Rounds of both sides were taken as pairs."""

    @property
    def regressed(self) -> bool:
        """Whether any figure is slower."""
        return any(figure.verdict == "slower" for figure in self.figures)

    @property
    def undecided(self) -> bool:
        """Nothing is slower, but something may be."""
        return not self.regressed and any(figure.verdict == "undecided" for figure in self.figures)


def compare(a: Side, b: Side, *, tolerance: float = TOLERANCE, force: bool = False) -> Comparison:
    """Compare B with A.

    Raises:
        ComparisonError: circumstances differ (unless forced), or too little was measured to compare anything.
    """
    differ = differences(a, b)
    if differ and not force:
        raise ComparisonError("not comparable: " + "; ".join(differ) + "; --force compares all the same")
    paired = len(a.rounds) == len(b.rounds) and len(a.rounds) > 1
    rounds_a, rounds_b, notes = _punctual(a.rounds, b.rounds, paired)
    figures: list[ComparedFigure] = []
    one_round = min(len(rounds_a), len(rounds_b)) == 1
    disturbed = _disturbed(rounds_a, rounds_b)
    for name, unit, read, more_is_better, factor in FIGURES:
        of_a, of_b = [read(report) for report in rounds_a], [read(report) for report in rounds_b]
        reason = _reason(of_a, of_b)
        if reason:
            notes.append(f"{name}: {reason}")
            continue
        ratio = ratio_of([s for s in of_a if s is not None], [s for s in of_b if s is not None], paired=paired)
        allowed = tolerance * factor * (ONE_ROUND if one_round and unit != "us" else 1.0)
        verdict = _verdict(ratio, allowed, more_is_better)
        if verdict == "slower" and unit != "us" and disturbed:
            verdict = "undecided"
            notes.append(f"{name} seems slower, but {disturbed}")
        figures.append(ComparedFigure(name, unit, ratio, allowed, more_is_better, verdict))
    if not figures:
        raise ComparisonError("nothing to compare: " + "; ".join(notes))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Comparison(now, list(a.rounds), list(b.rounds), str(a.path), str(b.path), figures, notes, differ, paired)


def _punctual(a: Sequence[Report], b: Sequence[Report], paired: bool) -> tuple[list[Report], list[Report], list[str]]:
    """The rounds whose generator was punctual; of pairs both or none."""

    def late(report: Report) -> bool:
        lateness = judged(report).lateness
        return lateness is not None and not lateness.believable

    if paired:
        kept = [pair for pair in zip(a, b, strict=True) if not any(map(late, pair))]
        left_a, left_b = [one for one, _ in kept], [two for _, two in kept]
    else:
        left_a, left_b = ([report for report in side if not late(report)] for side in (a, b))
    said = []
    if paired and len(left_a) < len(a):
        said.append(f"{len(a) - len(left_a)} of {len(a)} pairs of rounds: the load generator was late")
    elif len(left_a) < len(a) or len(left_b) < len(b):
        said.append(
            f"{len(a) - len(left_a)} of {len(a)} rounds of A and {len(b) - len(left_b)} of {len(b)} of B: "
            "the load generator was late"
        )
    if not left_a or not left_b:
        raise ComparisonError(
            f"nothing to compare: {said[0]} in every round, so the figures are its own; give it a core of its own"
        )
    return left_a, left_b, said


def _disturbed(a: Sequence[Report], b: Sequence[Report]) -> str:
    """Why B's latencies are not its own; empty where they are, or where nobody watched."""
    waits = [[_waited_us(report) for report in side] for side in (a, b)]
    known = [[wait for wait in side if wait is not None] for side in waits]
    p50_ms = [judged(report).latency.p50_ms for report in a]
    if not known[0] or not known[1] or None in p50_ms:
        return ""
    wait_a, wait_b = (statistics.median(side) for side in known)
    if wait_b <= DISTURBED_RATIO * wait_a + DISTURBED_SHARE * statistics.median(filter(None, p50_ms)) * 1000:
        return ""
    return (
        f"for each request the service waited {wait_b:.0f} µs for a core in B and {wait_a:.0f} µs in A: other work "
        "disturbed B, measure again"
    )


def _waited_us(report: Report) -> float | None:
    """Time the service was ready and had no core, per request; the median second."""
    seconds = [second for second in _whole_seconds(report) if second.server is not None and second.n_requests]
    waits = [second.server.waited_ms / second.n_requests * 1000 for second in seconds if second.server is not None]
    return statistics.median(waits) if waits else None


def _verdict(ratio: Ratio, tolerance: float, more_is_better: bool) -> FigureVerdict:
    """Of a ratio B / A; turned round where more is better."""
    low, high = (1 / ratio.high, 1 / ratio.low) if more_is_better else (ratio.low, ratio.high)
    if low > 1 + tolerance:
        return "slower"
    if high < 1 / (1 + tolerance):
        return "faster"
    return "same" if low >= 1 / (1 + tolerance) and high <= 1 + tolerance else "undecided"


# -- what one round says, second by second ---------------------------------------------------------------------------


def _p50(report: Report) -> Reals | None:
    return _of_seconds(report, lambda second: second.p50_ms)


def _p99(report: Report) -> Reals | None:
    seconds = _whole_seconds(report)
    if not seconds or np.median([second.n_requests for second in seconds]) < LEAST_FOR_P99:
        return None
    return _of_seconds(report, lambda second: second.p99_ms)


def _cpu_us(report: Report) -> Reals | None:
    return _of_seconds(
        report,
        lambda second: (
            None if second.server is None or not second.n_requests else second.server.ran_ms / second.n_requests * 1000
        ),
    )


def _throughput(report: Report) -> Reals | None:
    """Answers in time: at the sweep's best rate where there was one, otherwise at the rate of the run."""
    result = report.sweep.best.result if report.sweep else judged(report)
    seconds = _whole(result.timeline, result.duration_s)
    good = [float(second.n_good) for second in seconds if second.n_good is not None]
    # A second without any good answer has no logarithm: it counts as half an answer.
    return np.maximum(np.array(good), 0.5) if len(good) == len(seconds) > 0 else None


def _of_seconds(report: Report, figure: Callable[[Second], float | None]) -> Reals | None:
    found = [figure(second) for second in _whole_seconds(report)]
    known = [value for value in found if value is not None and value > 0]
    return np.array(known) if known and len(known) * 2 > len(found) else None


def _whole_seconds(report: Report) -> list[Second]:
    result = judged(report)
    return _whole(result.timeline, result.duration_s)


def _whole(timeline: Sequence[Second], duration_s: float) -> list[Second]:
    return [second for second in timeline if second.second < math.floor(duration_s)]


def _reason(a: Sequence[Reals | None], b: Sequence[Reals | None]) -> str:
    """Why a figure cannot be compared; empty where it can."""
    if any(seconds is None for side in (a, b) for seconds in side):
        return f"not known on both sides, or fewer than {LEAST_FOR_P99} requests a second for a p99"
    shortest = min(sum(len(seconds) for seconds in side if seconds is not None) for side in (a, b))
    if shortest < LEAST_SECONDS:
        return f"{shortest} seconds on the shorter side, at least {LEAST_SECONDS} are needed"
    return ""


FIGURES: tuple[tuple[str, Literal["ms", "per_s", "us"], Callable[[Report], Reals | None], bool, float], ...] = (
    ("p50", "ms", _p50, False, 1.0),
    ("p99", "ms", _p99, False, WIDER),
    ("answers in time", "per_s", _throughput, True, WIDER),
    ("server CPU per request", "us", _cpu_us, False, 1.0),
)
