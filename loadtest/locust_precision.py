"""Two corrections without which Locust cannot measure an answer shorter than a millisecond.

Buckets: Locust keeps response times in whole milliseconds; here 0.01 ms.

Liveness check: before each request geventhttpclient asks `select` whether the kept-alive connection was closed, with
the clock already running. gevent's `select` never returns without a turn of the event loop, whose timers count whole
milliseconds: every request seemed 0.5 to 2 ms slower than it was. The plain system call with a timeout of 0 answers
at once and blocks nobody.

Only `locustfile.py` imports this, in Locust's own process.
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import geventhttpclient.connectionpool
import locust.stats
from gevent import monkey

BUCKETS_PER_MS = 100


def bucket_by_10_us(response_time_ms: float) -> float:
    """Round a response time to 0.01 ms; a key of Locust's histogram."""
    return round(response_time_ms * BUCKETS_PER_MS) / BUCKETS_PER_MS


def readable_now(sockets: Sequence[Any], *_: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """`select.select` for one socket and a timeout of 0, without gevent; by poll, which has no bound on descriptors."""
    poller = monkey.get_original("select", "poll")()
    poller.register(sockets[0], select.POLLIN)
    return (list(sockets) if poller.poll(0) else [], [], [])


def make_precise() -> None:
    """Replace both in this process."""
    locust.stats.bucket_response_time = bucket_by_10_us  # type: ignore[assignment]  # documented as replaceable
    geventhttpclient.connectionpool.select = SimpleNamespace(select=readable_now)  # type: ignore[attr-defined]
