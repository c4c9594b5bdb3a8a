"""Verdict of a comparison: per figure slower, faster, the same or undecided; one slower figure is a regression, and
so is one share (`shares.py`: failed, refused, degraded) that is surely higher.

A figure is slower only where its whole interval lies beyond the tolerance: a difference that is real but smaller than
that is not worth stopping a release for, and on a shared machine it is not even likely to be the service's. Where the
interval reaches over the tolerance nothing is decided, and that is said: undecided is not the same as equal.

Two things keep a neighbour's work on the machine from being taken for the service's fault. One round a side knows
nothing of what moves a whole round, so all but CPU time then need a wider tolerance. And where the scheduler says that
the service waited for a core much longer in B than in A, latencies that seem slower are undecided. Of services that
were measured in turns neither is asked: a neighbour is in both turns of a pair, and what is left of the waiting is B's
own doing. For shares neither is asked.

A side that answered less than half of what it was asked has no speed: with more failures in B that is a regression all
the same, else there is nothing to compare.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from loadtest.comparing.figures import FIGURES, LEAST_FOR_P99, Unit, whole_seconds
from loadtest.comparing.ratio import Ratio, Reals, ratio_of, ratio_of_turns
from loadtest.comparing.shares import ComparedShare, compared_shares, unanswered
from loadtest.comparing.sides import Side, differences, judged
from loadtest.comparing.turns import LEAST_PAIRS, n_pairs, pairs_of_turns, rounds_in_turns
from loadtest.errors import ComparisonError
from loadtest.report import Report

TOLERANCE = 0.05
"""Relative change below which a figure counts as unchanged."""
ONE_ROUND = 4.0
"""Times the tolerance of all but CPU time where a side has one round only."""
DISTURBED_RATIO, DISTURBED_SHARE = 1.5, 0.05
"""Latencies are not held against B where it waited for a core this much longer than A, plus a share of A's p50."""
LEAST_SECONDS = 5
"""Whole measured seconds a side must have in all."""

NOT_KNOWN = f"not known on both sides, or fewer than {LEAST_FOR_P99} requests a second (or turn) for a p99"

FigureVerdict = Literal["slower", "faster", "same", "undecided"]


class ComparedFigure(msgspec.Struct, frozen=True):
    """One figure of both sides."""

    name: str
    unit: Unit
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
    """Empty where a side answered too little for its speed to mean anything."""
    shares: list[ComparedShare]
    notes: list[str]
    """What was not compared or not held against B, each with the reason."""
    forced_over: list[str]
    """Differences of the circumstances that were overruled."""
    paired: bool
    """Rounds of both sides were taken as pairs."""
    in_turns: bool
    """And every turn of their services."""

    @property
    def regressed(self) -> bool:
        """Whether any figure is slower or any share worse."""
        return any(figure.verdict == "slower" for figure in self.figures) or any(
            share.verdict == "worse" for share in self.shares
        )

    @property
    def undecided(self) -> bool:
        """Nothing is slower or worse, but something may be."""
        verdicts = [figure.verdict for figure in self.figures] + [share.verdict for share in self.shares]
        return not self.regressed and "undecided" in verdicts


def compare(a: Side, b: Side, *, tolerance: float = TOLERANCE, force: bool = False) -> Comparison:
    """Compare B with A.

    Raises:
        ComparisonError: circumstances differ (unless forced), or too little was measured to compare anything.
    """
    differ = differences(a, b)
    if differ and not force:
        raise ComparisonError("not comparable: " + "; ".join(differ) + "; --force compares all the same")
    in_turns = rounds_in_turns(a, b)
    paired = in_turns is not None or (len(a.rounds) == len(b.rounds) and len(a.rounds) > 1)
    if in_turns is None:
        rounds_a, rounds_b, notes = _punctual(a.rounds, b.rounds, paired)
    else:
        rounds_a, rounds_b, notes = list(a.rounds), list(b.rounds), []
    shares, mute = compared_shares(rounds_a, rounds_b), unanswered(rounds_a, rounds_b)
    figures: list[ComparedFigure] = []
    if mute:
        more = [mute]
    elif in_turns is None:
        figures, more = _by_rounds(rounds_a, rounds_b, tolerance, paired)
    else:
        figures, more = _by_turns(in_turns, tolerance)
    notes += more
    if not figures and not any(share.verdict == "worse" for share in shares):
        raise ComparisonError("nothing to compare: " + "; ".join(notes))
    return Comparison(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        a=list(a.rounds),
        b=list(b.rounds),
        a_path=str(a.path),
        b_path=str(b.path),
        figures=figures,
        shares=shares,
        notes=notes,
        forced_over=differ,
        paired=paired,
        in_turns=in_turns is not None,
    )


def _by_rounds(
    rounds_a: Sequence[Report], rounds_b: Sequence[Report], tolerance: float, paired: bool
) -> tuple[list[ComparedFigure], list[str]]:
    """The figures of rounds that were measured one after the other; then what was left out and why."""
    notes: list[str] = []
    figures: list[ComparedFigure] = []
    one_round = min(len(rounds_a), len(rounds_b)) == 1
    disturbed = _disturbed(rounds_a, rounds_b)
    for figure in FIGURES:
        of_a, of_b = ([figure.of_round(report) for report in side] for side in (rounds_a, rounds_b))
        reason = _reason(of_a, of_b)
        if reason:
            notes.append(f"{figure.name}: {reason}")
            continue
        ratio = ratio_of([s for s in of_a if s is not None], [s for s in of_b if s is not None], paired=paired)
        allowed = tolerance * figure.factor * (ONE_ROUND if one_round and figure.unit != "us" else 1.0)
        verdict = _verdict(ratio, allowed, figure.more_is_better)
        if verdict == "slower" and figure.unit != "us" and disturbed:
            verdict = "undecided"
            notes.append(f"{figure.name} seems slower, but {disturbed}")
        figures.append(ComparedFigure(figure.name, figure.unit, ratio, allowed, figure.more_is_better, verdict))
    return figures, notes


def _by_turns(rounds: list[tuple[Report, Report]], tolerance: float) -> tuple[list[ComparedFigure], list[str]]:
    """The same of two services measured in turns: neither a single start nor a neighbour widens what is allowed."""
    every, punctual = pairs_of_turns(rounds)
    notes = []
    if n_pairs(punctual) < n_pairs(every):
        notes.append(
            f"{n_pairs(every) - n_pairs(punctual)} of {n_pairs(every)} pairs of turns: the load generator was late, so "
            "they tell of CPU time alone"
        )
    figures: list[ComparedFigure] = []
    for figure in FIGURES:
        pairs = every if figure.unit == "us" else [of_round for of_round in punctual if of_round]
        turn_s = judged(rounds[0][0]).second_s
        if n_pairs(pairs) < LEAST_PAIRS:
            notes.append(f"{figure.name}: {n_pairs(pairs)} pairs of turns, at least {LEAST_PAIRS} are needed")
            continue
        known = [found for of_round in pairs if (found := figure.of_pairs(of_round, turn_s)) is not None]
        if len(known) < len(pairs):
            notes.append(f"{figure.name}: {NOT_KNOWN}")
            continue
        ratio = ratio_of_turns([of_a for of_a, _ in known], [of_b for _, of_b in known])
        allowed = tolerance * figure.factor
        verdict = _verdict(ratio, allowed, figure.more_is_better)
        figures.append(ComparedFigure(figure.name, figure.unit, ratio, allowed, figure.more_is_better, verdict))
    return figures, notes


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
    seconds = [second for second in whole_seconds(report) if second.server is not None and second.n_requests]
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


def _reason(a: Sequence[Reals | None], b: Sequence[Reals | None]) -> str:
    """Why a figure cannot be compared; empty where it can."""
    if any(seconds is None for side in (a, b) for seconds in side):
        return NOT_KNOWN
    shortest = min(sum(len(seconds) for seconds in side if seconds is not None) for side in (a, b))
    if shortest < LEAST_SECONDS:
        return f"{shortest} seconds on the shorter side, at least {LEAST_SECONDS} are needed"
    return ""
