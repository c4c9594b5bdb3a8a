"""The trace that a request belongs to, as its `traceparent` header says: W3C Trace Context, level 1 and later.

https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import re
from contextvars import ContextVar

HEADER = b"traceparent"
STATE_HEADER = b"tracestate"
SAMPLED = 1
"""Bit of the flags: the caller records its part of the trace."""

TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?P<trace_id>(?!0{32})[0-9a-f]{32})-(?P<span_id>(?!0{16})[0-9a-f]{16})-"
    rb"(?P<flags>[0-9a-f]{2})(?:(?<!^00.{53})-.*)?"
)

CURRENT_TRACE_ID: ContextVar[str | None] = ContextVar("trace_id", default=None)
"""Of the request in whose task a log line is written, where it is recorded (`service/tracing`)."""


def trace_id_of(traceparent: bytes | None) -> str | None:
    """The trace id in 32 digits; None where the header is absent or no `traceparent`."""
    found = None if traceparent is None else TRACEPARENT.fullmatch(traceparent)
    return None if found is None else found["trace_id"].decode("ascii")


def trace_field(traceparent: bytes | None) -> dict[str, str]:
    """The trace id as a field of a log line, where there is one."""
    trace_id = trace_id_of(traceparent)
    return {} if trace_id is None else {"trace_id": trace_id}
