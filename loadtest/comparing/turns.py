"""Turns: which reports were measured in turns under one generator, and which of their turns make pairs.

A pair tells of waiting only where the generator was punctual in both of its turns. That is asked of each turn, not of
the run: on a shared machine it is late now and then, and what it did in the other turns is still true. CPU time is told
by every pair: the same requests were sent, if some of them late, and to both services alike.
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


def pairs_of_turns(rounds: list[tuple[Report, Report]]) -> tuple[list[Pairs], list[Pairs]]:
    """All pairs of turns of each round, and those in which the generator was punctual."""
    every = [list(zip(whole_seconds(report_a), whole_seconds(report_b), strict=False)) for report_a, report_b in rounds]
    punctual = [
        [pair for pair in pairs if not _late(pair[0], report_a) and not _late(pair[1], report_b)]
        for pairs, (report_a, report_b) in zip(every, rounds, strict=True)
    ]
    return every, punctual


def n_pairs(rounds: list[Pairs]) -> int:
    """Of all rounds."""
    return sum(map(len, rounds))


def _late(turn: Second, report: Report) -> bool:
    lateness = judged(report).lateness
    return lateness is not None and turn.late_ms is not None and turn.late_ms > lateness.bound_p99_ms
