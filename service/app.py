"""The application: two hot paths in front, the framework behind, one OpenAPI document over both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from service import http_errors
from service.asgi import Message, Receive, RoutedApp, Send
from service.cold_path import ColdPath
from service.deadline import MonotonicClock
from service.docs_page import docs_page
from service.errors import RequestError, UnknownPath, WrongMethod
from service.openapi import with_hot_routes
from service.product_version import product_version
from service.readiness import Readiness
from service.request_id import RequestIds
from service.routes.docs import docs_routes
from service.telemetry import Telemetry
from service.wire import encode

DESCRIPTION = """Which of these candidates will this user click, and with what probability?

Answers come in time or say less: `degraded` lists what was unknown, late or down, and errors are problem details
(RFC 9457) with a stable `type`."""


class Application(FastAPI):
    """FastAPI for everything that is not in a hurry; the hot paths are asked before its routing and middleware."""

    def __init__(
        self,
        hot_paths: Iterable[RoutedApp],
        routers: Iterable[APIRouter],
        *,
        readiness: Readiness,
        request_ids: RequestIds,
        clock: MonotonicClock,
        telemetry: Telemetry,
    ) -> None:
        super().__init__(
            title="clickserve",
            version=product_version(),
            description=DESCRIPTION,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            exception_handlers={HTTPException: _answer_with_problem},
        )
        for router in routers:
            self.include_router(router)
        framework_document = super().openapi()
        self._document = with_hot_routes(framework_document)
        self.include_router(docs_routes(docs_page(self._document)))
        self._hot_paths = {hot_path.route: hot_path for hot_path in hot_paths}
        self._cold_path = ColdPath(
            super().__call__,
            [*framework_document["paths"], "/docs", "/openapi.json"],
            readiness=readiness,
            request_ids=request_ids,
            clock=clock,
            telemetry=telemetry,
        )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Sends a request down its path."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        await self._hot_paths.get(scope["path"], self._cold_path)(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """One document for all routes."""
        return self._document


async def _answer_with_problem(request: Request, error: Exception) -> Response:
    """What the framework refuses, in our words: it only ever refuses paths and methods."""
    assert isinstance(error, HTTPException)
    refused: RequestError = UnknownPath(request.url.path)
    if error.status_code == 405:
        refused = WrongMethod(request.method, (error.headers or {}).get("Allow", ""))
    problem = http_errors.problem_of(refused, request.state.request_id)
    response = Response(encode(problem), problem.status, media_type=http_errors.CONTENT_TYPE.decode())
    for name, value in http_errors.headers_of(refused):
        response.headers[name.decode()] = value.decode()
    return response
