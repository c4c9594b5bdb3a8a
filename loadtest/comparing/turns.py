"""Turns: which reports were measured in turns under one generator, and which of their turns make pairs.

A pair counts only where the generator was punctual in both of its turns. That is asked of each turn, not of the run: on
a shared machine it is late now and then, and what it did in the other turns is still true.
"""

from __future__ import annotations

from loadtest.comparing.figures import whole_seconds
from loadtest.comparing.sides import Side, judged
from loadtest.report import Report
from loadtest.results import Second

Pairs = list[tuple[Second, Second]]

LEAST_PAIRS = 10
"""In all; of fewer a bootstrap tells too narrow an interval."""


def rounds_in_turns(a: Side, b: Side) -> list[tuple[Report, Report]] | None:
    """Each round of A with the round of B that had the other turns; None unless every round has one."""
    of_a, of_b = ({r.in_turns.id: r for r in side.rounds if r.in_turns is not None} for side in (a, b))
    if len(of_a) < len(a.rounds) or len(of_b) < len(b.rounds) or of_a.keys() != of_b.keys():
        return None
    return [(report, of_b[shared]) for shared, report in of_a.items()]


def punctual_pairs(rounds: list[tuple[Report, Report]]) -> tuple[list[Pairs], int]:
    """The pairs of turns of each round in which the generator was punctual, and how many were left out.

    Rounds without any are left out.
    """
    kept, n_all = [], 0
    for report_a, report_b in rounds:
        pairs = list(zip(whole_seconds(report_a), whole_seconds(report_b), strict=False))
        n_all += len(pairs)
        kept.append([pair for pair in pairs if not _late(pair[0], report_a) and not _late(pair[1], report_b)])
    return [pairs for pairs in kept if pairs], n_all - sum(map(len, kept))


def _late(turn: Second, report: Report) -> bool:
    lateness = judged(report).lateness
    return lateness is not None and turn.late_ms is not None and turn.late_ms > lateness.bound_p99_ms
