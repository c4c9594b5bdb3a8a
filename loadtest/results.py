"""What a run of one generator found: plain records that travel as JSON between processes and into the report.

Times are milliseconds and end in `_ms`, shares lie in [0, 1]. `None` means "not known", never 0: a percentile that too
few requests stand behind, or something an engine does not measure.
"""

from __future__ import annotations

import msgspec

from loadtest.server_cpu import ScheduledTime


class LatencySummary(msgspec.Struct, frozen=True):
    """Exact percentiles (nearest rank: a time that was really seen) of `n` latencies."""

    n: int
    mean_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    p9999_ms: float | None = None
    max_ms: float | None = None


class CurvePoint(msgspec.Struct, frozen=True):
    """A share `quantile` of the requests was answered within `latency_ms`."""

    quantile: float
    latency_ms: float


class Second(msgspec.Struct, frozen=True):
    """The requests that were due in one second of the measured run."""

    second: int
    n_requests: int
    n_errors: int
    p50_ms: float | None
    p99_ms: float | None
    """Nearest rank; with fewer than 100 requests it is the slowest of them."""
    n_good: int | None = None
    """Of these requests, those with a 2xx answer in time to be useful."""
    server: ScheduledTime | None = None
    """What the scheduler did with the server's processes in this second; None where they are not known."""
    late_ms: float | None = None
    """p99 of how late the generator sent them; None where it does not know."""


class DegradedShare(msgspec.Struct, frozen=True):
    """What a sample of the 2xx answers said about itself."""

    n_inspected: int
    n_degraded: int
    codes: dict[str, int]
    """How many inspected answers carried each code; an answer may carry several."""
    n_unreadable: int
    """Inspected answers that were not JSON of the expected shape."""

    @property
    def share(self) -> float | None:
        """Degraded answers divided by inspected ones."""
        return self.n_degraded / self.n_inspected if self.n_inspected else None


class Lateness(msgspec.Struct, frozen=True):
    """How late the generator itself was: actual minus scheduled moment of each send."""

    summary: LatencySummary
    bound_p99_ms: float
    believable: bool
    """False where the p99 is above the bound: then the run says nothing about the server."""

    @classmethod
    def judge(cls, summary: LatencySummary, bound_p99_ms: float) -> Lateness:
        """Compare the tail with the bound; a generator that sent nothing was not late."""
        unjudged = cls(summary, bound_p99_ms, believable=True)
        tail_ms = unjudged.tail_ms
        return cls(summary, bound_p99_ms, believable=tail_ms is None or tail_ms <= bound_p99_ms)

    @property
    def tail_ms(self) -> float | None:
        """The p99, or the maximum where fewer than 100 requests were sent."""
        return self.summary.p99_ms if self.summary.p99_ms is not None else self.summary.max_ms


class Connections(msgspec.Struct, frozen=True):
    """What the connections of the open loop went through, warm-up included."""

    n_opened: int
    max_in_use: int
    n_resent: int
    """Requests sent once more because the server closed a kept-alive connection before the first byte of an answer."""
    n_waited: int
    """Requests that found every connection busy and waited, either for a new one or for one to become free."""


class EngineResult(msgspec.Struct, frozen=True):
    """One generator's run, warm-up left out unless said otherwise."""

    engine: str
    method: str
    """One sentence on what the latencies mean."""
    rate_per_s: float
    duration_s: float
    warmup_s: float
    n_requests: int
    n_ok: int
    """Requests answered with a 2xx status."""
    errors: dict[str, int]
    """Requests without one, by kind: refused, reset, closed, timeout, malformed, connect, http_3xx … http_5xx."""
    statuses: dict[str, int]
    latency: LatencySummary
    curve: list[CurvePoint]
    timeline: list[Second]
    degraded: DegradedShare
    lateness: Lateness | None
    connections: Connections | None
    generator_cpu_share: float | None
    """CPU seconds of the generator per second of the run; near 1 it is itself the bottleneck."""
    second_s: float = 1.0
    """Length of a `Second` of the timeline: a turn's, where two services were measured in turns."""
    n_good: int | None = None
    """2xx answers within the bound that makes them useful (`OpenLoopOptions.good_within_ms`)."""

    @property
    def goodput_per_s(self) -> float | None:
        """Useful answers per second of the measured run: the throughput where a late answer is worth nothing."""
        return None if self.n_good is None else self.n_good / self.duration_s

    @property
    def error_share(self) -> float | None:
        """Requests without a 2xx answer divided by all."""
        return (self.n_requests - self.n_ok) / self.n_requests if self.n_requests else None

    @property
    def achieved_per_s(self) -> float:
        """2xx answers per second of the measured run."""
        return self.n_ok / self.duration_s


class KeptAnswer(msgspec.Struct, frozen=True):
    """One answer of a closed loop, kept to be checked afterwards."""

    number: int
    """Position of its request in the prepared bodies."""
    body: bytes


class ClosedLoopResult(msgspec.Struct, frozen=True):
    """One closed-loop run, warm-up left out unless said otherwise."""

    n_connections: int
    duration_s: float
    warmup_s: float
    n_ok: int
    """200 answers that ended within the measured seconds."""
    n_answered_in_all: int
    """Whole answers of any status, warm-up and those in flight at the end included: what the server should count."""
    errors: dict[str, int]
    """By kind, warm-up included: http_2xx (not 200) … http_5xx, malformed, closed, reset, timeout, refused."""
    per_second: list[int]
    """200 answers in each whole second of the measured run."""
    per_s: float
    """200 answers a second, over the measured run."""
    per_s_low: float | None
    """95 % interval of the mean of the seconds; None for less than two whole ones."""
    per_s_high: float | None
    latency: LatencySummary
    """From sending to the whole answer. A closed loop waits with a stalled server: not comparable with an open one."""
    client_cpu_us: float
    """CPU microseconds of the client for each answer, user and system."""
    client_cpu_share: float
    """CPU seconds of the client per second; near 1 it is itself the bottleneck."""
    kept: list[KeptAnswer]
