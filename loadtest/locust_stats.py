"""The file by which a Locust process hands its statistics over: read and written by processes of different kinds.

It has a module of its own because importing `locustfile.py` would patch the reader's sockets.
"""

from __future__ import annotations

import msgspec

from loadtest.results import DegradedShare


class LocustStats(msgspec.Struct, frozen=True):
    """What Locust counted for the ranking route after the warm-up."""

    n_requests: int
    errors: dict[str, int]
    """Failed requests by kind, named as the open loop names them."""
    response_times_ms: list[tuple[float, int]]
    """Histogram (bucket, count) in rising order, buckets 0.01 ms wide; failed requests are in it, as Locust has it."""
    degraded: DegradedShare
    cpu_share: float
    """CPU seconds of the Locust process per second after the warm-up."""
