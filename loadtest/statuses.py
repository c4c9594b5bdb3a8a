"""Statuses: what it means when this service answers other than 2xx, in a caller's words.

The service's own table is `service/http_errors.py`, and docs/http-api.md has the bodies; a test holds this one to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from loadtest.results import EngineResult

MEANINGS = {
    400: "the body could not be read",
    404: "no such path or model",
    405: "the path has no such method",
    408: "the request did not arrive in full in time",
    413: "the body is too large",
    415: "the body has a form that is not read here",
    422: "the workload asks what the service cannot answer",
    431: "request line and headers are too large",
    500: "a defect of the service, whose log has it",
    501: "a method of no path",
    503: "refused at once to protect the others",
    504: "the deadline passed with nothing scored",
}
_NOT_HTTP = {
    "timeout": "no answer within the generator's patience",
    "refused": "the connection was refused",
    "reset": "the connection was reset",
    "closed": "the connection was closed without an answer",
    "malformed": "the answer was no HTTP",
    "connect": "no connection could be made",
}


def failures(results: Iterable[EngineResult]) -> list[tuple[str, int, str]]:
    """How requests failed: status or kind of error, how often, what it means ("" where not known); most often first.

    Kinds such as `http_5xx` are told by their statuses where the engine counted these.
    """
    found: Counter[str] = Counter()
    for result in results:
        statuses = {status: n for status, n in result.statuses.items() if not status.startswith("2")}
        told = {f"http_{status[:1]}xx" for status in statuses}
        found.update(statuses)
        found.update({kind: n for kind, n in result.errors.items() if kind not in told})
    return [(name, n, _meaning(name)) for name, n in found.most_common() if n]


def failures_in_words(results: Iterable[EngineResult]) -> str:
    """`12 × 504 (the deadline passed with nothing scored), 5 × timeout (…)`; empty where nothing failed."""
    return ", ".join(f"{n:,} × {name}" + (f" ({meaning})" if meaning else "") for name, n, meaning in failures(results))


def _meaning(name: str) -> str:
    return MEANINGS.get(int(name), "") if name.isdecimal() else _NOT_HTTP.get(name, "")
