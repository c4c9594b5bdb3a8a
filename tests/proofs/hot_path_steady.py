"""What "within 20 %" means: the median of alternating pairs differs by at most 20 % or 0.3 ms."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from loadtest.results import EngineResult

SHARE, ABSOLUTE_MS = 0.20, 0.3


def rise(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Median ratio and median difference in ms of (steady, disturbed) pairs."""
    return (
        statistics.median(disturbed / steady for steady, disturbed in pairs),
        statistics.median(disturbed - steady for steady, disturbed in pairs),
    )


def is_within(pairs: Sequence[tuple[float, float]]) -> bool:
    """Whether the disturbed runs are no slower than steady ones; False where there is nothing to compare."""
    if not pairs:
        return False
    ratio, difference_ms = rise(pairs)
    return ratio <= 1 + SHARE or difference_ms <= ABSOLUTE_MS


def p99_pairs(steady: Sequence[EngineResult], disturbed: Sequence[EngineResult]) -> list[tuple[float, float]]:
    """p99 in ms of the pairs whose generator was punctual in both runs; none where that is half of them or less."""
    pairs = [
        (a.latency.p99_ms, b.latency.p99_ms)
        for a, b in zip(steady, disturbed, strict=True)
        if is_punctual(a) and is_punctual(b) and a.latency.p99_ms is not None and b.latency.p99_ms is not None
    ]
    return pairs if len(pairs) * 2 > len(steady) else []


def is_punctual(run: EngineResult) -> bool:
    """Whether the generator kept its schedule, so that latencies are the server's."""
    return run.lateness is not None and run.lateness.believable


def figures(run: EngineResult) -> dict[str, object]:
    """The part of a run that a proof keeps."""
    return {
        "rate_per_s": run.rate_per_s,
        "n": run.n_requests,
        "p50_ms": run.latency.p50_ms,
        "p99_ms": run.latency.p99_ms,
        "p999_ms": run.latency.p999_ms,
        "max_ms": run.latency.max_ms,
        "errors": run.errors,
        "degraded": run.degraded.codes,
        "late_p99_ms": run.lateness.tail_ms if run.lateness else None,
        "punctual": is_punctual(run),
    }


def shown(pairs: Sequence[tuple[float, float]]) -> str:
    """Both medians in words."""
    if not pairs:
        return "refused: the generator was late in half of the pairs or more"
    ratio, difference_ms = rise(pairs)
    steady_ms, disturbed_ms = (statistics.median(side) for side in zip(*pairs, strict=True))
    return f"p99 {steady_ms:.2f} ms steady, {disturbed_ms:.2f} ms then: × {ratio:.2f}, {difference_ms:+.2f} ms"
