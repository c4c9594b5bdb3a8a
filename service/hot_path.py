"""`POST /v1/rank` and `POST /v1/predict` as raw ASGI: from bytes on a connection to bytes on a connection.

They bypass the framework's routing, validation and middleware (measured 2026-11, one core: 6.4-6.5 k requests/s so,
4.1-4.5 k through a FastAPI `Request` route doing the same work) and are documented in its OpenAPI all the same
(`openapi.py`). Order of a request: head checked, body read within its limit, door, use case, answer. Whatever goes
wrong is answered as a problem; one last handler turns a defect into a logged 500, so that no caller sees a traceback.
"""

from __future__ import annotations

import logging

from service import http_errors
from service.admission import Admission
from service.answering import Answer
from service.asgi import REFUSED_STATUS, WHOLE_ANSWER, Message, Receive, Send, SendWhole
from service.deadline import HEADER as DEADLINE_HEADER
from service.deadline import MonotonicClock, deadline_of
from service.errors import BodyTooLarge, Overloaded, ServiceError, WrongMethod
from service.negotiation import Negotiate
from service.readiness import Readiness
from service.request_id import HEADER as REQUEST_ID_HEADER
from service.request_id import TRACE_HEADER, RequestIds
from service.settings import DeadlineSettings
from service.telemetry import Telemetry
from service.trace_context import trace_field
from service.wire import encode

_PROBLEM = (b"content-type", http_errors.CONTENT_TYPE)

CLIENT_LEFT = 499
"""Counted, never sent: the caller closed the connection before its body had arrived (nginx's number for it)."""

logger = logging.getLogger(__name__)


class _ClientLeft(Exception):
    """The connection closed in the middle of the body."""


class HotPath:
    """One of the two routes."""

    def __init__(
        self,
        route: str,
        negotiate: Negotiate,
        *,
        admission: Admission,
        readiness: Readiness,
        request_ids: RequestIds,
        deadline: DeadlineSettings,
        max_body_bytes: int,
        clock: MonotonicClock,
        telemetry: Telemetry,
    ) -> None:
        self.route = route
        self._negotiate = negotiate
        self._admission = admission
        self._readiness = readiness
        self._request_ids = request_ids
        self._deadline = deadline
        self._max_body_bytes = max_body_bytes
        self._clock = clock
        self._telemetry = telemetry

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request."""
        started_s = self._clock()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = self._request_ids.of(headers.get(REQUEST_ID_HEADER), headers.get(TRACE_HEADER))
        try:
            answer = await self._answer(scope["method"], headers, receive, request_id)
        except _ClientLeft:
            status = scope.get("state", {}).get(REFUSED_STATUS, CLIENT_LEFT)
            self._telemetry.answered(self.route, status, self._clock() - started_s)
            return
        except ServiceError as error:
            if isinstance(error, Overloaded):
                self._telemetry.shed(error.reason)
            problem = http_errors.problem_of(error, request_id)
            status, body = problem.status, encode(problem)
            headers_out = [_PROBLEM, *http_errors.headers_of(error)]
        except Exception:  # the last handler: a defect costs one request its answer, never its shape
            fields = {"request_id": request_id, "route": self.route, **trace_field(headers.get(TRACE_HEADER))}
            logger.exception("a request failed on a defect", extra=fields)
            problem = http_errors.internal_problem(request_id)
            status, body = problem.status, encode(problem)
            headers_out = [_PROBLEM]
        else:
            status, body = 200, answer.body
            headers_out = [
                (b"content-type", answer.content_type),
                (b"x-model-version", answer.model_version.encode()),
                (b"server-timing", answer.server_timing.encode()),
            ]
        headers_out.append((b"content-length", b"%d" % len(body)))
        headers_out.append((REQUEST_ID_HEADER, request_id.encode()))
        if self._readiness.draining:
            headers_out.append((b"connection", b"close"))
        # Counted before it is sent: whoever has an answer finds it in the count.
        self._telemetry.answered(self.route, status, self._clock() - started_s)
        send_whole: SendWhole | None = scope.get("extensions", {}).get(WHOLE_ANSWER)
        if send_whole is None or not send_whole(status, headers_out, body):
            await send({"type": "http.response.start", "status": status, "headers": headers_out})
            await send({"type": "http.response.body", "body": body})

    async def _answer(self, method: str, headers: dict[bytes, bytes], receive: Receive, request_id: str) -> Answer:
        """Checks the head, reads the body, waits at the door, and hands over."""
        if method != "POST":
            raise WrongMethod(method, "POST")
        use_case = self._negotiate(headers)
        body = await self._read(headers, receive)
        deadline = deadline_of(headers.get(DEADLINE_HEADER), self._clock(), self._deadline, self._clock)
        await self._admission.enter()
        try:
            return await use_case(body, deadline, request_id)
        finally:
            self._admission.leave()

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | bytearray:
        """The whole body; never holds more than the limit and one chunk.

        Raises:
            BodyTooLarge: announced or sent more than the limit.
        """
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self._max_body_bytes:
            raise BodyTooLarge(self._max_body_bytes)
        body: bytes | bytearray = b""
        more = True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise _ClientLeft
            chunk: bytes = event.get("body", b"")
            if len(body) + len(chunk) > self._max_body_bytes:
                raise BodyTooLarge(self._max_body_bytes)
            more = event.get("more_body", False)
            if not more and not body:
                return chunk
            if not isinstance(body, bytearray):
                body = bytearray(body)
            body += chunk
        return body
