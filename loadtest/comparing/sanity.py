"""Sanity: whether the figures of a report can have been measured at all, before anything is computed from them.

A report is a file that may have been written or mended by hand. A time of 0 has no logarithm, and a number of three
hundred digits fits on no page: what no bench can have seen is refused by its path.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from loadtest.report import Report
from loadtest.results import EngineResult

A_DAY_MS = 86_400_000.0
LARGEST = 1e15
"""Of any number in a report; its bytes of memory and its counts are far below."""


def nonsense(report: Report) -> str:
    """The first figure that cannot be, with its path and value; empty where all can."""
    for path, value in _numbers("", msgspec.to_builtins(report)):
        if not abs(value) <= LARGEST:
            shown = (
                f"{value:.3g}" if abs(value) < 10**308 else "a number of hundreds of digits"
            )  # which overflows a float
            return f"{path} is {shown}: no figure of a bench is beyond {LARGEST:g}"
    for position, measured in enumerate(report.measured):
        for said in _impossible(f"measured[{position}].result", measured.result):
            return said
    for position, point in enumerate(report.sweep.points if report.sweep else []):
        for said in _impossible(f"sweep.points[{position}].result", point.result):
            return said
    return ""


def _numbers(path: str, content: object) -> Iterator[tuple[str, float]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _numbers(f"{path}.{key}" if path else str(key), value)
    elif isinstance(content, list):
        for position, value in enumerate(content):
            yield from _numbers(f"{path}[{position}]", value)
    elif isinstance(content, (int, float)):
        yield path, content


def _impossible(path: str, result: EngineResult) -> Iterator[str]:
    """What cannot be in the run at this path."""
    for name in ("rate_per_s", "duration_s", "second_s"):
        if getattr(result, name) <= 0:
            yield f"{path}.{name} is {getattr(result, name):g}: expected more than 0"
    latency = result.latency
    for name in ("mean_ms", "p50_ms", "p90_ms", "p99_ms", "p999_ms", "p9999_ms", "max_ms"):
        yield from _no_time(f"{path}.latency.{name}", getattr(latency, name))
    for position, point in enumerate(result.curve):
        yield from _no_time(f"{path}.curve[{position}].latency_ms", point.latency_ms)
        if not 0 <= point.quantile < 1:
            yield f"{path}.curve[{position}].quantile is {point.quantile:g}: expected at least 0 and less than 1"
    yield from _no_part(f"{path}.n_ok", result.n_ok, result.n_requests)
    yield from _no_part(f"{path}.degraded.n_degraded", result.degraded.n_degraded, result.degraded.n_inspected)
    for status, n in result.statuses.items():
        yield from _no_part(f"{path}.statuses.{status}", n, result.n_requests)
    for position, second in enumerate(result.timeline):
        at = f"{path}.timeline[{position}]"
        yield from _no_time(f"{at}.p50_ms", second.p50_ms)
        yield from _no_time(f"{at}.p99_ms", second.p99_ms)
        yield from _no_part(f"{at}.n_errors", second.n_errors, second.n_requests)
        yield from _no_part(f"{at}.n_good", second.n_good or 0, second.n_requests)


def _no_time(path: str, value_ms: float | None) -> Iterator[str]:
    if value_ms is not None and not 0 < value_ms <= A_DAY_MS:
        yield f"{path} is {value_ms:g}: expected more than 0 and at most a day, in milliseconds"


def _no_part(path: str, n: int, of: int) -> Iterator[str]:
    if not 0 <= n <= of:
        yield f"{path} is {n}: expected 0 to {of}"
