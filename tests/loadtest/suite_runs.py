"""Recorded runs of a suite, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

import msgspec

from loadtest.intervals import Spread
from loadtest.machine import Machine
from loadtest.suite.agreement import Agreement
from loadtest.suite.cores import Cores
from loadtest.suite.inner_parts import (
    AdMemory,
    ExchangeCost,
    FormBytes,
    FormTimes,
    InnerParts,
    MaskCost,
    PlannedModel,
    PlanTime,
    PlanTimes,
    ReadCost,
    RouteCost,
    RouteCosts,
    StoreTimes,
    WireCosts,
)
from loadtest.suite.results import (
    Absent,
    CandidateCost,
    ClosedRound,
    CpuBill,
    HighestRate,
    MeasuredServer,
    OpenRun,
    PlanFacts,
    Spending,
    SuiteResult,
    Tried,
)

CPU = CpuBill(server_user_us=80.0, server_system_us=20.0, redis_us=5.0, client_us=14.0, idle_servers_share=0.001)


def inner_parts() -> InnerParts:
    """What `loadtest/micro` might have found."""
    typed = RouteCost(
        "pydantic", Spread.of([2_000.0]), Spread.of([0.3, 0.35]), Spread.of([3.4]), Spread.of([440.0]), 34.0
    )
    bids = ExchangeCost(
        *(FormTimes(20.65, 7.35, 2.81), FormTimes(5.2, 2.84, 1.83), FormTimes(16.74, 3.38, 4.96)),
        *(FormBytes(2_962, 1_466), FormBytes(7_051, 1_679)),
    )
    whole, half = PlanTime(20.0, 26.0, 16.0), PlanTime(2.7, 2.9, 119.6)
    return InnerParts(
        routes=RouteCosts("100 candidates of 1000 ads", "0123456789abcdef", {"typed-route": typed}),
        ad_memory=AdMemory(
            "compiled",
            100,
            10_000,
            512.0,
            108.1,
            [MaskCost(200, 800, 2_486, 671_088, {"from_masks": 16.0, "from_rows": 134.0})],
        ),
        plans=PlanTimes({"200 trees": PlannedModel({"100": {"compiled": whole, "compiled, join": half}})}),
        online_store=StoreTimes(100_000, {"64 callers": ReadCost(3.7, 4.8, 64.1)}),
        wire=WireCosts(100, 51, True, {"bids": bids}),
    )


def closed(server: str, round_: int, per_s: float) -> ClosedRound:
    """A round without errors."""
    return ClosedRound(server, round_, 100, per_s, per_s * 0.98, per_s * 1.02, 0.9, 1.4, {}, 0.4, CPU, 20)


def opened(server: str, run: int, p99_ms: float | None, **changes: Any) -> OpenRun:
    """A run at 500/s by a punctual generator."""
    whole = OpenRun(
        server=server,
        run=run,
        rate_per_s=500.0,
        n_candidates=100,
        n_requests=5_000,
        p50_ms=0.3,
        p90_ms=0.6,
        p99_ms=p99_ms,
        p999_ms=2.0,
        max_ms=3.0,
        answered_per_s=500.0,
        goodput_per_s=499.0,
        errors={},
        degraded_share=0.0,
        lateness_p99_ms=0.1,
        believable=True,
        cpu=CPU,
    )
    return msgspec.structs.replace(whole, **changes)


def suite_result(**changes: Any) -> SuiteResult:
    """A small suite: ours, echo, one baseline, one that is not installed, one variant."""
    whole = SuiteResult(
        created_at="2026-11-21T10:00:00+00:00",
        seconds=125.0,
        commit="0123456789abcdef",
        machine=Machine("Some CPU", 2, 2, None, 0.25, 8 << 30, "Some Linux", "CPython 3.11.7", {"numpy": "2.4.6"}),
        cores=Cores(0, 1, 2),
        workload="POST /v1/rank, 100 candidates of 10000 ads",
        workload_sha256="ab" * 32,
        mean_body_bytes=900.0,
        plan=PlanFacts("full", 8, 2, 5.0, 3, 10.0, 1.0, 1.0),
        subject="ours",
        echo="echo",
        servers=[
            MeasuredServer("ours", "this service", "subject", "uvicorn", 1.1, Agreement(300, 30_000, 0.0)),
            MeasuredServer("echo", "answers {}", "echo", "uvicorn", 0.2, None),
            MeasuredServer("tuned", "<b>expert's</b> | FastAPI", "baseline", None, 0.4, Agreement(300, 30_000, 3e-8)),
        ],
        absent=[Absent("mlserver", "MLServer", "mlserver ended with status 69 before it answered: not installed")],
        closed=[
            *(closed("ours", 0, 7_000.0), closed("echo", 0, 40_000.0), closed("tuned", 0, 1_400.0)),
            *(closed("ours", 1, 6_000.0), closed("echo", 1, 30_000.0), closed("tuned", 1, 1_500.0)),
        ],
        open=[opened("ours", run, p99_ms) for run, p99_ms in enumerate([0.9, 0.8, 1.1])],
        curves=[
            opened("ours", 0, 1.0, rate_per_s=1_000.0),
            opened("ours", 0, 80.0, rate_per_s=9_000.0, goodput_per_s=5_500.0, errors={"http_5xx": 3}),
            opened("tuned", 0, None, rate_per_s=3_000.0, goodput_per_s=0.0, believable=False),
        ],
        highest=[HighestRate("ours", 10.0, 6_400.0, "missed", [Tried(6_400.0, 8.0, False)])],
        candidate_costs=[
            CandidateCost("ours", 100, Spread.of([150.0]), Spread.of([140.0]), 4_800.0),
            CandidateCost("ours", 1_000, Spread.of([600.0]), None, None),
        ],
        spending=[Spending("ours", {"features": 60.0}, {"libpython3.11": 0.6, "kernel": 0.4}, 120 << 20, 2)],
        variants=[closed("ours", 0, 7_000.0), closed("numpy-kernel", 0, 3_500.0)],
        variant_servers=[MeasuredServer("numpy-kernel", "NumPy", "variant", None, 1.0, Agreement(300, 30_000, 1e-7))],
    )
    return msgspec.structs.replace(whole, **changes)
