"""Verdict: a measured run against its budgets.

A late generator makes latencies longer, never shorter (they count from the due time). So a run that keeps its budgets
passes even with a late generator; one that misses them with a late generator has shown nothing about the server and is
called "not believable". Both of the other outcomes count as not passed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from loadtest.budgets import RankBudget
from loadtest.results import EngineResult

Outcome = Literal["passed", "failed", "not_believable"]


class Check(msgspec.Struct, frozen=True):
    """One bound and what was measured. `measured` is None where too few requests were sent to know."""

    name: str
    unit: Literal["ms", "share"]
    measured: float | None
    bound: float

    @property
    def kept(self) -> bool:
        """Whether the bound was kept; what is not known was not kept."""
        return self.measured is not None and self.measured <= self.bound


class Verdict(msgspec.Struct, frozen=True):
    """The outcome, in a word, a sentence and its parts."""

    outcome: Outcome
    headline: str
    engine: str
    """The engine that was judged."""
    checks: list[Check]

    @property
    def passed(self) -> bool:
        """True only where every budget was kept."""
        return self.outcome == "passed"


def judge(result: EngineResult, budget: RankBudget) -> Verdict:
    """Compare a run with its budget; a bound of None is not judged."""
    candidates: list[tuple[str, Literal["ms", "share"], float | None, float | None]] = [
        ("p99", "ms", result.latency.p99_ms, budget.p99_ms),
        ("p50", "ms", result.latency.p50_ms, budget.p50_ms),
        ("p99.9", "ms", result.latency.p999_ms, budget.p999_ms),
        ("errors", "share", result.error_share, budget.error_share),
        ("degraded", "share", result.degraded.share, budget.degraded_share),
    ]
    checks = [Check(name, unit, measured, bound) for name, unit, measured, bound in candidates if bound is not None]
    missed = [check for check in checks if not check.kept]
    late = result.lateness is not None and not result.lateness.believable
    outcome: Outcome = "passed" if not missed else "not_believable" if late else "failed"
    headline = "; ".join(map(_sentence, missed or checks[:1])) or "no budget to keep"
    if outcome == "not_believable":
        headline += "; but the generator itself was too late to blame the server"
    return Verdict(outcome, headline, result.engine, checks)


def _sentence(check: Check) -> str:
    if check.measured is None:
        return f"{check.name} is not known, because too few requests were answered"
    measured, bound = (
        (f"{check.measured:.2f} ms", f"{check.bound:g} ms")
        if check.unit == "ms"
        else (f"{check.measured * 100:.2f} %", f"{check.bound * 100:g} %")
    )
    return f"{check.name} {measured}, {'within' if check.kept else 'over'} its budget of {bound}"
