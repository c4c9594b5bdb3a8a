"""Verdict: a measured run against its budgets.

A run whose generator was late is not judged, whatever it measured: the requests came in bursts of the generator's
making and not at the moments of the schedule, so a missed budget is not the server's fault, and a kept one was kept
under another load than the offered one. Not judged counts as not passed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from loadtest.budgets import RankBudget
from loadtest.results import EngineResult, Lateness

Outcome = Literal["passed", "failed", "not_judged"]


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
    if result.lateness is not None and not result.lateness.believable:
        return Verdict("not_judged", _excuse(result.lateness), result.engine, checks)
    missed = [check for check in checks if not check.kept]
    headline = "; ".join(map(_sentence, missed or checks[:1])) or "no budget to keep"
    return Verdict("failed" if missed else "passed", headline, result.engine, checks)


def _excuse(lateness: Lateness) -> str:
    return (
        f"not judged: the generator was late by {lateness.tail_ms:.2f} ms at p99, bound {lateness.bound_p99_ms:g} ms; "
        "give it a core of its own or a lower rate"
    )


def _sentence(check: Check) -> str:
    if check.measured is None:
        return f"{check.name} is not known, because too few requests were answered"
    measured, bound = (
        (f"{check.measured:.2f} ms", f"{check.bound:g} ms")
        if check.unit == "ms"
        else (f"{check.measured * 100:.2f} %", f"{check.bound * 100:g} %")
    )
    return f"{check.name} {measured}, {'within' if check.kept else 'over'} its budget of {bound}"
