"""Budgets are read strictly, and a run is judged by all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest.budgets import RankBudget, read_budgets
from loadtest.errors import BudgetError
from loadtest.results import DegradedShare, EngineResult, LatencySummary, Lateness
from loadtest.verdict import judge


def result(**changes: Any) -> EngineResult:
    """A run that keeps the shipped budgets."""
    fine = EngineResult(
        engine="open-loop",
        method="",
        rate_per_s=500.0,
        duration_s=20.0,
        warmup_s=2.0,
        n_requests=10_000,
        n_ok=10_000,
        errors={},
        statuses={"200": 10_000},
        latency=LatencySummary(10_000, 0.5, 0.4, 0.9, 3.0, 6.0, 8.0, 9.0),
        curve=[],
        timeline=[],
        degraded=DegradedShare(1_000, 0, {}, 0),
        lateness=Lateness(LatencySummary(10_000, 0.02, 0.02, 0.03, 0.1, 0.2, 0.3, 0.4), 1.0, believable=True),
        connections=None,
        generator_cpu_share=0.1,
    )
    return msgspec.structs.replace(fine, **changes)


def slow(p99_ms: float | None) -> LatencySummary:
    """A summary with this p99."""
    return LatencySummary(10_000, 0.5, 0.4, 0.9, p99_ms)


def test_the_shipped_budgets_hold_the_promise_of_the_service() -> None:
    """p99 below 10 ms and no error is what the product promises; a changed file must be a deliberate change."""
    budgets = read_budgets()

    assert (budgets.rank.p50_ms, budgets.rank.p99_ms, budgets.rank.error_share) == (2.0, 10.0, 0.0)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[rank]\np99_mss = 10.0", "rank.p99_mss: unknown key; did you mean 'p99_ms'?"),
        ("[rnak]\np99_ms = 10.0", "rnak: unknown key; did you mean 'rank'?"),
        ("", "rank: required, but not there"),
        ('[rank]\np99_ms = "10"', "rank.p99_ms: expected float | null, got str"),
        ("[rank]\np99_ms = 0", "rank.p99_ms: expected float > 0"),
        ("[rank]\nerror_share = 1.5", "rank.error_share: expected float <= 1"),
        ("[rank\n", "not TOML"),
    ],
)
def test_a_wrong_budget_file_is_refused_with_its_path(tmp_path: Path, content: str, complaint: str) -> None:
    """A misspelt bound that is ignored would let every run pass."""
    path = tmp_path / "budgets.toml"
    path.write_text(content)

    with pytest.raises(BudgetError) as raised:
        read_budgets(path)

    assert str(raised.value).startswith(f"budgets {path}: {complaint}")


def test_a_missing_budget_file_is_named(tmp_path: Path) -> None:
    """Not a traceback."""
    with pytest.raises(BudgetError, match="cannot be read: No such file"):
        read_budgets(tmp_path / "none.toml")


def test_a_run_within_all_budgets_passes() -> None:
    """The headline names the figure that matters most."""
    verdict = judge(result(), read_budgets().rank)

    assert verdict.passed
    assert verdict.headline == "p99 3.00 ms, within its budget of 10 ms"


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"latency": slow(10.001)}, "p99 10.00 ms, over its budget of 10 ms"),
        ({"latency": slow(None)}, "p99 is not known, because too few requests were answered"),
        ({"n_ok": 9_999, "errors": {"timeout": 1}}, "errors 0.01 %, over its budget of 0 %"),
    ],
)
def test_one_missed_budget_fails_the_run(changes: dict[str, Any], missed: str) -> None:
    """A fast service that loses requests is not fast."""
    verdict = judge(result(**changes), read_budgets().rank)

    assert verdict.outcome == "failed"
    assert verdict.headline == missed


@pytest.mark.parametrize("p99_ms", [9.16, 12.0])
def test_the_run_of_a_late_generator_is_not_judged(p99_ms: float) -> None:
    """Its load was not the offered one: a kept budget would be praise, and a missed one blame, for another run."""
    late = Lateness(slow(7.0), 1.0, believable=False)

    verdict = judge(result(lateness=late, latency=slow(p99_ms)), RankBudget(p99_ms=10.0))

    assert verdict.outcome == "not_judged"
    assert not verdict.passed
    assert verdict.headline.startswith("not judged: the generator was late by 7.00 ms at p99, bound 1 ms")


def test_a_bound_left_out_is_not_judged() -> None:
    """A team that promises nothing about p50 is not failed by it."""
    verdict = judge(result(latency=LatencySummary(10_000, 50.0, 50.0, 60.0, 9.0)), RankBudget(p99_ms=10.0))

    assert verdict.passed
    assert [check.name for check in verdict.checks] == ["p99"]
