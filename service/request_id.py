"""The name under which a request appears in answers and logs.

The caller's `X-Request-ID` where it is 1 to 128 visible ASCII characters (anything else could break a log line or a
header), else the trace id of its `traceparent`, else a new one: random per process, then counted, because a random
number per request costs a system call.
"""

from __future__ import annotations

import itertools
import re
import secrets

from service.trace_context import HEADER as TRACE_CONTEXT_HEADER
from service.trace_context import trace_id_of

HEADER = b"x-request-id"
TRACE_HEADER = TRACE_CONTEXT_HEADER

_VISIBLE_ASCII = re.compile(rb"[!-~]{1,128}")


class RequestIds:
    """Names requests. One per process."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    def of(self, request_id: bytes | None, traceparent: bytes | None) -> str:
        """The id of a request with these header values; None where a header is absent."""
        if request_id is not None and _VISIBLE_ASCII.fullmatch(request_id):
            return request_id.decode("ascii")
        if traceparent is not None and (trace_id := trace_id_of(traceparent)):
            return trace_id
        return f"{self._prefix}-{next(self._numbers):x}"
