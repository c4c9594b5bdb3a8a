"""Every route but the two hot ones, as the framework serves them, with what all answers have in common.

Adds the request id, counts the answer, closes the connection while draining, answers HEAD as GET, and is the last
handler of defects, so that an answer of a health check looks like an answer of a ranking. Not in a hurry.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from service import http_errors
from service.asgi import AsgiApp, Message, Receive, Send
from service.deadline import MonotonicClock
from service.readiness import Readiness
from service.request_id import HEADER as REQUEST_ID_HEADER
from service.request_id import TRACE_HEADER, RequestIds
from service.telemetry import Telemetry
from service.trace_context import trace_field
from service.wire import encode

OTHER = "other"
"""Route label of paths that do not exist: what callers invent must not become labels."""

logger = logging.getLogger(__name__)


class ColdPath:
    """An ASGI layer around the framework."""

    def __init__(
        self,
        app: AsgiApp,
        routes: Collection[str],
        *,
        readiness: Readiness,
        request_ids: RequestIds,
        clock: MonotonicClock,
        telemetry: Telemetry,
    ) -> None:
        """`routes` are the paths that metrics name."""
        self._app = app
        self._routes = frozenset(routes)
        self._readiness = readiness
        self._request_ids = request_ids
        self._clock = clock
        self._telemetry = telemetry

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request."""
        started_s = self._clock()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = self._request_ids.of(headers.get(REQUEST_ID_HEADER), headers.get(TRACE_HEADER))
        route = scope["path"] if scope["path"] in self._routes else OTHER
        has_begun = False

        async def send_with_common_headers(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, request_id.encode())]
                if self._readiness.draining:
                    message["headers"].append((b"connection", b"close"))
                self._telemetry.answered(route, message["status"], self._clock() - started_s)
            await send(message)

        inner = {**scope, "state": {**scope.get("state", {}), "request_id": request_id}}
        if scope["method"] == "HEAD":  # the server drops the body of an answer to HEAD
            inner["method"] = "GET"
        try:
            await self._app(inner, receive, send_with_common_headers)
        except Exception:  # the last handler, as on the hot path
            fields = {"request_id": request_id, "route": route, **trace_field(headers.get(TRACE_HEADER))}
            logger.exception("a request failed on a defect", extra=fields)
            if has_begun:
                return
            problem = http_errors.internal_problem(request_id)
            body = encode(problem)
            content = [(b"content-type", http_errors.CONTENT_TYPE), (b"content-length", b"%d" % len(body))]
            await send_with_common_headers(
                {"type": "http.response.start", "status": problem.status, "headers": content}
            )
            await send({"type": "http.response.body", "body": body})
