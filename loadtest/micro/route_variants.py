"""The service's application with one decision of its route undone each; everything behind the route stays the same.

The two FastAPI variants do what the hot path does around the use case (request id, deadline, door, counters), so that
the difference is the route alone: routing, dependency solving, request and response objects; and in the typed one also
a model object per body and per candidate on the way in, and per result on the way out.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field

from service.admission import Admission
from service.answering import Answer
from service.asgi import AsgiApp, Message, Receive, Send
from service.bootstrap import Runtime
from service.deadline import Deadline, deadline_of
from service.openapi import RANK_ROUTE
from service.rank_form import JSON, RankForm, Ranking
from service.request_id import HEADER, TRACE_HEADER, RequestIds
from service.settings import Settings
from service.wire import RankRequest

COUNTERS = ("answered", "refused", "stages", "scored", "shed", "degraded", "views", "store_error", "event_loop_lag")
"""Methods of `Telemetry` that requests call."""


@dataclass(frozen=True, slots=True)
class RouteVariant:
    """One way to serve the same answers."""

    says: str
    application: Callable[[Runtime, Settings], AsgiApp]


class _Candidate(BaseModel):
    ad_id: str = Field(min_length=1, max_length=64)


class RankBody(BaseModel):
    """A request as FastAPI's tutorial would declare it."""

    user_id: str = Field(min_length=1, max_length=64)
    candidates: list[str | _Candidate] = Field(min_length=1, max_length=1_000)
    context: dict[str, float | str | bool | None] = {}
    top_k: int | None = Field(None, ge=1)
    model: str = "default"


class ModelName(BaseModel):
    """Which model answered."""

    name: str
    version: str
    variant: str


class RankedAd(BaseModel):
    """One result."""

    ad_id: str
    p_click: float | None


class Features(BaseModel):
    """How well the entities were known."""

    missing: int
    stale: int
    age_ms_max: int | None


class TypedAnswer(BaseModel):
    """An answer as FastAPI's tutorial would declare it."""

    request_id: str
    model: ModelName
    results: list[RankedAd]
    degraded: list[str]
    features: Features


class _Door:
    """What the hot path does around a use case."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self._telemetry = runtime.telemetry
        self._clock = time.monotonic
        self._deadline = settings.deadline
        self._admission = Admission(settings.admission, self._clock)
        self._request_ids = RequestIds()

    async def through(
        self, headers: Mapping[str, str], use_case: Callable[[Deadline, str], Awaitable[Answer]]
    ) -> tuple[Answer, dict[str, str]]:
        """The answer and its headers."""
        started_s = self._clock()
        request_id = self._request_ids.of(*(_bytes(headers.get(name.decode())) for name in (HEADER, TRACE_HEADER)))
        deadline = deadline_of(_bytes(headers.get("x-deadline-ms")), started_s, self._deadline, self._clock)
        await self._admission.enter()
        try:
            answer = await use_case(deadline, request_id)
        finally:
            self._admission.leave()
        self._telemetry.answered(RANK_ROUTE, 200, self._clock() - started_s)
        return answer, {
            "x-model-version": answer.model_version,
            "server-timing": answer.server_timing,
            "x-request-id": request_id,
        }


def whole(runtime: Runtime, _settings: Settings) -> AsgiApp:
    """The service as it is."""
    return runtime.app


def request_route(runtime: Runtime, settings: Settings) -> AsgiApp:
    """FastAPI's routing, bytes in and bytes out."""
    door, rank = _Door(runtime, settings), runtime.answering.rank

    async def answered(request: Request) -> Response:
        body = await request.body()
        answer, headers = await door.through(
            request.headers, lambda deadline, request_id: rank(JSON, JSON, body, deadline, request_id)
        )
        return Response(answer.body, headers=headers, media_type=answer.content_type.decode())

    return _with_route(answered)


def typed_route(runtime: Runtime, settings: Settings) -> AsgiApp:
    """FastAPI as its tutorial shows it."""
    door, rank = _Door(runtime, settings), runtime.answering.rank

    async def answered(body: RankBody, request: Request, response: Response) -> TypedAnswer:
        made: list[TypedAnswer] = []

        def keep(ranking: Ranking) -> bytes:
            made.append(_typed_answer(ranking))
            return b""

        form = RankForm(lambda _body, _most: _rank_request(body), keep, JSON.content_type)
        _, headers = await door.through(
            request.headers, lambda deadline, request_id: rank(form, form, b"", deadline, request_id)
        )
        response.headers.update(headers)
        return made[0]

    return _with_route(answered)


def without_metrics(runtime: Runtime, _settings: Settings) -> AsgiApp:
    """Nothing is counted."""

    def ignore(*_: object, **__: object) -> None:
        pass

    for name in COUNTERS:
        assert hasattr(runtime.telemetry, name)
        setattr(runtime.telemetry, name, ignore)
    return runtime.app


def two_writes(runtime: Runtime, _settings: Settings) -> AsgiApp:
    """Head and body as the two ASGI messages that every server understands."""

    async def plain(scope: Message, receive: Receive, send: Send) -> None:
        scope.pop("extensions", None)
        await runtime.app(scope, receive, send)

    return plain


def unfrozen(runtime: Runtime, _settings: Settings) -> AsgiApp:
    """The garbage collector looks at everything that lives as long as the process."""
    gc.unfreeze()
    return runtime.app


VARIANTS = {
    "hot-path": RouteVariant("as it is: a raw ASGI callable, one write, counters on, garbage frozen", whole),
    "request-route": RouteVariant("a FastAPI route that takes Request and gives Response", request_route),
    "typed-route": RouteVariant("a FastAPI route with pydantic models of body and answer", typed_route),
    "two-writes": RouteVariant("head and body of an answer written apart", two_writes),
    "no-metrics": RouteVariant("no request is counted or timed: the cost of metrics", without_metrics),
    "gc-not-frozen": RouteVariant("long-lived objects stay in sight of the garbage collector", unfrozen),
}
"""By name; the first is what the others are compared with."""


def _with_route(endpoint: Callable[..., Awaitable[object]]) -> AsgiApp:
    app = FastAPI(openapi_url=None)
    app.add_api_route(RANK_ROUTE, endpoint, methods=["POST"])
    return app


def _rank_request(body: RankBody) -> RankRequest:
    ad_ids = [ad if isinstance(ad, str) else ad.ad_id for ad in body.candidates]
    if len(set(ad_ids)) < len(ad_ids):
        raise ValueError("an ad is named twice")
    return RankRequest(body.model, body.user_id, ad_ids, None, dict(body.context), body.top_k or len(ad_ids))


def _typed_answer(ranking: Ranking) -> TypedAnswer:
    p_click, known = ranking.p_click.tolist(), ranking.knowledge
    return TypedAnswer(
        request_id=ranking.request_id,
        model=ModelName(name=ranking.model.name, version=ranking.model.version, variant=ranking.model.variant),
        results=[RankedAd(ad_id=ranking.ad_ids[at], p_click=p_click[at]) for at in ranking.order.tolist()],
        degraded=list(ranking.degraded),
        features=Features(missing=known.missing, stale=known.stale, age_ms_max=known.age_ms_max),
    )


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode("latin-1")
