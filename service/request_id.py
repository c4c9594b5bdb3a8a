"""The name under which a request appears in answers and logs.

The caller's `X-Request-ID` where it is 1 to 128 visible ASCII characters (anything else could break a log line or a
header), else the trace id of its `traceparent`, else a new one: random per process, then counted, because a random
number per request costs a system call.
"""

from __future__ import annotations

import itertools
import re
import secrets

HEADER = b"x-request-id"
TRACE_HEADER = b"traceparent"

_VISIBLE_ASCII = re.compile(rb"[!-~]{1,128}")
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
"""W3C Trace Context, https://www.w3.org/TR/trace-context/#traceparent-header."""


class RequestIds:
    """Names requests. One per process."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    def of(self, request_id: bytes | None, traceparent: bytes | None) -> str:
        """The id of a request with these header values; None where a header is absent."""
        if request_id is not None and _VISIBLE_ASCII.fullmatch(request_id):
            return request_id.decode("ascii")
        if traceparent is not None and (trace := _TRACEPARENT.fullmatch(traceparent)):
            return trace[1].decode("ascii")
        return f"{self._prefix}-{next(self._numbers):x}"
