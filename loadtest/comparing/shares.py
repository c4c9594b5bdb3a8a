"""Shares: of all requests the failed ones, those that were refused at once, and answers with less than full knowledge.

A service that fails is quick at it: no figure of speed tells. A share is compared by its difference B - A, in
hundredths of all requests and not as a ratio, because a good service's share is 0. Its interval is made of the exact
intervals of both sides (square and add: Zou and Donner 2008).

Failures come in bursts, so 100 of them in one second are not 100 witnesses. Counts are divided by how much more the
blocks of BLOCK seconds differ than independent requests would (design effect, Rao and Scott 1992); where failures are
spread evenly it is 1 and takes nothing away. Nothing else is allowed for: one round is enough, as no neighbour on the
machine makes a service answer 500. All turns count, also those at which the generator was late: the same requests were
sent to both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from loadtest.comparing.binomial import share_interval
from loadtest.comparing.ratio import BLOCK, LEVEL
from loadtest.comparing.sides import judged
from loadtest.report import Report
from loadtest.results import EngineResult, Second

LOST_TOLERANCE = 0.001
"""Of all requests: more of them lost than this is worth stopping a release for; the service promises 99.9 %."""
DEGRADED_TOLERANCE = 0.01
"""Of the answers looked at: they are answers all the same."""
LEAST_ANSWERED = 0.5
"""Of all requests: below it the answered ones are a choice, and their speed says nothing of the service."""

Counts = tuple[int, int]
"""Hits, of how many."""
ShareVerdict = Literal["worse", "better", "same", "undecided"]


class ComparedShare(msgspec.Struct, frozen=True):
    """One share of both sides; less of it is better."""

    name: str
    n_a: int
    of_a: int
    n_b: int
    of_b: int
    """`n_b` of `of_b` requests of B; so for A."""
    low: float
    high: float
    """Of the difference B - A."""
    tolerance: float
    """Difference that counts as none."""
    verdict: ShareVerdict

    @property
    def a(self) -> float:
        """A's share."""
        return self.n_a / self.of_a

    @property
    def b(self) -> float:
        """B's share."""
        return self.n_b / self.of_b


@dataclass(frozen=True, slots=True)
class _Share:
    name: str
    of_run: Callable[[EngineResult], Counts | None]
    """None where it is not known."""
    tolerance: float
    in_bursts: bool
    """Whether the seconds' failures tell how much its hits come in bursts."""


def _lost(result: EngineResult) -> Counts:
    return result.n_requests - result.n_ok, result.n_requests


def _refused(result: EngineResult) -> Counts | None:
    return (result.statuses.get("503", 0), result.n_requests) if result.statuses else None


def _degraded(result: EngineResult) -> Counts | None:
    return result.degraded.n_degraded, result.degraded.n_inspected


SHARES = (
    _Share("failed requests", _lost, LOST_TOLERANCE, in_bursts=True),
    _Share("refused at once (503)", _refused, LOST_TOLERANCE, in_bursts=True),
    _Share("degraded answers", _degraded, DEGRADED_TOLERANCE, in_bursts=False),
)


def compared_shares(a: Sequence[Report], b: Sequence[Report]) -> list[ComparedShare]:
    """Every share that both sides know."""
    runs = [[judged(report) for report in side] for side in (a, b)]
    bursts = [burstiness(side) for side in runs]
    found = []
    for share in SHARES:
        counts = [[share.of_run(run) for run in side] for side in runs]
        sums = [_summed([of_run for of_run in side if of_run is not None]) for side in counts]
        if any(of_run is None for side in counts for of_run in side) or not all(n for _, n in sums):
            continue
        found.append(_compared(share, sums[0], sums[1], bursts if share.in_bursts else (1.0, 1.0)))
    return found


def unanswered(a: Sequence[Report], b: Sequence[Report]) -> str:
    """Why speed means nothing; empty where both sides answered most of what they were asked."""
    said = []
    for name, side in (("A", a), ("B", b)):
        n_lost, n = _summed([_lost(judged(report)) for report in side])
        if n - n_lost < LEAST_ANSWERED * n or not n:
            said.append(f"{name} answered {n - n_lost:,} of {n:,} requests")
    return f"{' and '.join(said)}: how fast says nothing, as a service that answers nothing is fast" if said else ""


def burstiness(runs: Sequence[EngineResult]) -> float:
    """By how much the failures of blocks of seconds differ more than independent ones would, as a factor of the
    variance; at least 1. It is 1 too where nothing failed, everything did, or no seconds are known."""
    blocks = np.array(
        [_block(run.timeline[at : at + BLOCK]) for run in runs for at in range(0, len(run.timeline), BLOCK)]
    )
    n_failed, n = blocks.sum(axis=0) if len(blocks) else (0, 0)
    if len(blocks) < 2 or not 0 < n_failed < n:
        return 1.0
    share = n_failed / n
    beside = blocks[:, 0] - share * blocks[:, 1]  # failures more than the share would give
    variance = len(blocks) / (len(blocks) - 1) * float((beside**2).sum()) / n**2
    return max(1.0, float(variance / (share * (1 - share) / n)))


def _block(seconds: Sequence[Second]) -> Counts:
    return sum(second.n_errors for second in seconds), sum(second.n_requests for second in seconds)


def _summed(counts: Sequence[Counts]) -> Counts:
    return sum(n_hit for n_hit, _ in counts), sum(n for _, n in counts)


def _compared(share: _Share, a: Counts, b: Counts, bursts: Sequence[float]) -> ComparedShare:
    of_a, of_b = a[0] / a[1], b[0] / b[1]
    (low_a, high_a), (low_b, high_b) = (
        share_interval(n_hit / burst, n / burst, LEVEL) for (n_hit, n), burst in zip((a, b), bursts, strict=True)
    )
    low = of_b - of_a - math.hypot(of_b - low_b, high_a - of_a)
    high = of_b - of_a + math.hypot(high_b - of_b, of_a - low_a)
    verdict: ShareVerdict = "undecided"
    if low > share.tolerance:
        verdict = "worse"
    elif high < -share.tolerance:
        verdict = "better"
    elif (-share.tolerance <= low and high <= share.tolerance) or a[0] == b[0] == 0:
        verdict = (
            "same"  # where nothing at all was seen there is nothing to hold against anybody, however short the run
        )
    return ComparedShare(share.name, *a, *b, low, high, share.tolerance, verdict)
