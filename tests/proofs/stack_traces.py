"""What tracing costs a request that is not recorded: nothing where it is off, a header's look where it is on."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path
from unittest.mock import patch

from service.asgi import Message, Receive, RoutedApp, Send
from service.tracing.switch import start_tracing
from tests.otlp_collector import collector
from tests.proofs.claim import Claim, Outcome

MOST_US = {"unsampled by its caller": 5.0, "not drawn": 20.0}
ROUNDS, REQUESTS = 15, 5_000
HEADERS = [
    (b"host", b"ranking:8080"),
    (b"user-agent", b"shop"),
    (b"accept", b"*/*"),
    (b"content-type", b"application/json"),
    (b"content-length", b"900"),
]
UNSAMPLED = (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")


class _Nothing:
    """A path that does nothing, so that only the layer around it is timed."""

    route = "/v1/rank"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers nothing."""


def unrecorded_requests(_: Path) -> Outcome:
    """CPU of this thread per request in the layer, less the same calls without it, in alternation."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    spent: dict[str, list[float]] = {}
    with collector() as sink:
        variables |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0",
        }
        with patch.dict(os.environ, variables, clear=True):
            off = start_tracing({})
            tracing = start_tracing(os.environ)
        if tracing is None:
            return Outcome("the extra otel is not installed", False, {})
        plain = _Nothing()
        traced = tracing.path(plain)
        for name, headers in (("unsampled by its caller", [*HEADERS, UNSAMPLED]), ("not drawn", HEADERS)):
            spent[name] = [_us(traced, headers) - _us(plain, headers) for _ in range(ROUNDS)]
        tracing.close()
        checks = {
            f"{name} within {MOST_US[name]:g} µs": statistics.median(spent[name]) <= MOST_US[name] for name in spent
        }
        checks["off is no layer at all"] = off is None
        checks["nothing was sent"] = sink.n_requests == 0
    return Outcome.judged(
        "; ".join(f"{name} {statistics.median(values):.2f} µs" for name, values in spent.items()),
        checks,
        {"rounds": ROUNDS, "requests": REQUESTS, "us": {name: sorted(values) for name, values in spent.items()}},
    )


def _us(path: RoutedApp, headers: list[tuple[bytes, bytes]]) -> float:
    async def ask() -> float:
        began = time.thread_time()
        for _ in range(REQUESTS):
            await path({"headers": headers}, _never, _never)
        return time.thread_time() - began

    return asyncio.run(ask()) / REQUESTS * 1e6


async def _never(*_: object) -> Message:
    raise AssertionError("nothing is read or sent here")


CLAIMS = [
    Claim(
        "traces-unrecorded",
        "python -m tests.proofs stack --only traces-unrecorded",
        "a request that is not recorded costs, median of 15 alternating rounds: nothing where tracing is off, at most "
        "5 µs where its caller does not sample it, at most 20 µs where the ratio does not draw it",
        unrecorded_requests,
    ),
]
