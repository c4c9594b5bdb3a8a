"""Latency statistics over every single request: exact order statistics, no buckets.

A percentile is the nearest rank: the smallest seen latency such that the share q of all requests took at most that
long. It is given only where at least one request lies beyond it (n ≥ 1 / (1 − q)): a "p99.9" of 200 requests would be
their maximum under a grander name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from loadtest.results import CurvePoint, LatencySummary, Second
from loadtest.server_cpu import ScheduledTime

FloatArray = npt.NDArray[np.float64]

CURVE_POINTS_PER_DECADE = 24
"""Resolution of the percentile curve: points between 90 and 99 %, as many between 99 and 99.9 %, and so on."""


def percentile(latencies_ms: FloatArray, q: float) -> float:
    """Nearest-rank percentile of (n,) latencies, n ≥ 1; q is a share in [0, 1]."""
    return float(np.quantile(latencies_ms, q, method="inverted_cdf"))


def summarise(latencies_ms: FloatArray) -> LatencySummary:
    """Mean, percentiles and maximum of (n,) latencies in milliseconds; n may be 0."""
    n = len(latencies_ms)
    if n == 0:
        return LatencySummary(n=0)
    ordered = np.sort(latencies_ms)

    def where_supported(q: float, beyond: int) -> float | None:
        return percentile(ordered, q) if n >= beyond else None

    return LatencySummary(
        n=n,
        mean_ms=float(ordered.mean()),
        p50_ms=percentile(ordered, 0.5),
        p90_ms=where_supported(0.9, 10),
        p99_ms=where_supported(0.99, 100),
        p999_ms=where_supported(0.999, 1_000),
        p9999_ms=where_supported(0.9999, 10_000),
        max_ms=float(ordered[-1]),
    )


def percentile_curve(latencies_ms: FloatArray) -> list[CurvePoint]:
    """The latency at quantiles that are evenly spaced on the tail's logarithmic axis, as far as the sample reaches.

    The quantiles are 1 − 10^−x for x = 0, 1/24, 2/24, … up to 99.99 % or 1 − 1/n, whichever comes first.
    """
    n = len(latencies_ms)
    if n < 2:
        return []
    ordered = np.sort(latencies_ms)
    decades = min(4.0, float(np.log10(n)))
    steps = np.arange(int(decades * CURVE_POINTS_PER_DECADE) + 1) / CURVE_POINTS_PER_DECADE
    return [CurvePoint(q, percentile(ordered, q)) for q in (1.0 - 10.0**-steps).tolist()]


def timeline(
    due_s: FloatArray,
    latencies_ms: FloatArray,
    failed: npt.NDArray[np.bool_],
    good_within_ms: float = math.inf,
    server: Sequence[ScheduledTime | None] = (),
    late_ms: FloatArray | None = None,
) -> list[Second]:
    """Group requests by the second they were due in.

    Args:
        due_s: (n,) rising seconds since the start of the measured run, or turns of another length.
        latencies_ms: (n,) latencies; NaN where a request has none.
        failed: (n,) True where a request got no 2xx answer.
        good_within_ms: a later answer is not counted as good.
        server: what its processes did in each second from the first on, as far as known.
        late_ms: (n,) how late each was sent, where that is known.
    """
    good = ~failed & (latencies_ms <= good_within_ms)
    seconds: list[Second] = []
    for second in range(int(due_s[-1]) + 1 if len(due_s) else 0):
        start, end = np.searchsorted(due_s, [second, second + 1])
        known = latencies_ms[start:end]
        known = known[~np.isnan(known)]
        seconds.append(
            Second(
                second=second,
                n_requests=int(end - start),
                n_errors=int(failed[start:end].sum()),
                p50_ms=percentile(known, 0.5) if len(known) else None,
                p99_ms=percentile(known, 0.99) if len(known) else None,
                n_good=int(good[start:end].sum()),
                server=server[second] if second < len(server) else None,
                late_ms=percentile(late_ms[start:end], 0.99) if late_ms is not None and end > start else None,
            )
        )
    return seconds
