"""What a suite found, as plain records: the JSON file, and everything the pages are drawn from.

Times end in their unit. CPU is microseconds per request sent, warm-up included on both sides. `None` is "not known".
"""

from __future__ import annotations

import msgspec

from loadtest.intervals import Spread
from loadtest.machine import Machine
from loadtest.suite.agreement import Agreement
from loadtest.suite.cores import Cores
from loadtest.suite.inner_parts import InnerParts


class CpuBill(msgspec.Struct, frozen=True):
    """Who spent how much CPU on a request."""

    server_user_us: float | None
    server_system_us: float | None
    redis_us: float | None
    client_us: float | None
    idle_servers_share: float | None
    """Share of a core that the other servers of the suite, sent nothing, spent meanwhile: near 0, or they disturbed."""

    @property
    def server_us(self) -> float | None:
        """User and system time of the server's processes."""
        if self.server_user_us is None or self.server_system_us is None:
            return None
        return self.server_user_us + self.server_system_us


class ClosedRound(msgspec.Struct, frozen=True):
    """One closed-loop run of one server."""

    server: str
    round: int
    n_candidates: int
    per_s: float
    per_s_low: float | None
    per_s_high: float | None
    """95 % interval from the seconds of this run."""
    p50_ms: float | None
    p99_ms: float | None
    errors: dict[str, int]
    client_cpu_share: float
    cpu: CpuBill
    n_checked: int
    """Answers given under load that were compared with the reference."""
    n_degraded: int = 0
    """Answers given under load that were not, because they carried a degraded code."""


class OpenRun(msgspec.Struct, frozen=True):
    """One open-loop run of one server at one rate."""

    server: str
    run: int
    rate_per_s: float
    n_candidates: int
    n_requests: int
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    max_ms: float | None
    answered_per_s: float
    goodput_per_s: float
    """2xx answers within 10 ms of their due time."""
    errors: dict[str, int]
    degraded_share: float | None
    lateness_p99_ms: float | None
    believable: bool
    """False where the generator was late beyond its bound: the percentiles are refused."""
    cpu: CpuBill


class Tried(msgspec.Struct, frozen=True):
    """One rate of a search and what was seen there."""

    rate_per_s: float
    p99_ms: float | None
    """Median of the runs; None where some requests failed or the generator was late."""
    late: bool


class HighestRate(msgspec.Struct, frozen=True):
    """The highest Poisson rate that a server was seen to serve with p99 within a bound."""

    server: str
    bound_ms: float
    rate_per_s: float | None
    """None: not even at the lowest rate that was tried."""
    ended_by: str
    """`missed`: a rate above misses the bound; `generator`: above it the generator was late; `range`: nothing higher
    was tried."""
    tried: list[Tried]


class CandidateCost(msgspec.Struct, frozen=True):
    """What a request of so many candidates costs a server, closed loop."""

    server: str
    n_candidates: int
    us_per_request: Spread
    """Microseconds of one core per request: 1 / requests per second."""
    server_cpu_us: Spread | None
    answer_bytes: float | None


class Spending(msgspec.Struct, frozen=True):
    """Where one server spends its time."""

    server: str
    stages_us: dict[str, float]
    """Median of each stage the server itself reports in its Server-Timing header; empty where it sends none."""
    libraries: dict[str, float]
    """Share of its CPU samples by the shared library (or kernel) they fell into; empty where perf is not there."""
    memory_bytes: int | None
    """Proportional set size of all its processes after the load."""
    n_processes: int


class MeasuredServer(msgspec.Struct, frozen=True):
    """A server of the run."""

    name: str
    says: str
    role: str
    software: str | None
    ready_after_s: float
    agreement: Agreement | None
    """With the subject; None for the echo server."""


class Absent(msgspec.Struct, frozen=True):
    """A server that could not be measured, and why."""

    name: str
    says: str
    reason: str


class PlanFacts(msgspec.Struct, frozen=True):
    """How long and how often everything was measured."""

    mode: str
    n_connections: int
    closed_rounds: int
    closed_s: float
    open_runs: int
    open_s: float
    warmup_s: float
    lateness_bound_ms: float


class SuiteResult(msgspec.Struct, frozen=True):
    """A whole suite."""

    created_at: str
    """ISO 8601, UTC."""
    seconds: float
    """How long it took."""
    commit: str
    machine: Machine
    cores: Cores
    workload: str
    workload_sha256: str
    mean_body_bytes: float
    plan: PlanFacts
    subject: str
    echo: str
    servers: list[MeasuredServer]
    absent: list[Absent]
    closed: list[ClosedRound]
    open: list[OpenRun]
    """At fixed rates."""
    curves: list[OpenRun]
    """At shares of each server's own capacity, past saturation."""
    highest: list[HighestRate]
    candidate_costs: list[CandidateCost]
    spending: list[Spending]
    variants: list[ClosedRound]
    """The subject and its variants, in rounds of their own."""
    variant_servers: list[MeasuredServer]
    inner_parts: InnerParts = InnerParts()
