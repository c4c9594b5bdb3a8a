"""Layers around the parts of a request, each of which gives its part a span where the request is recorded.

They stand only where tracing is on, so that the parts themselves know nothing of it. A request that is not recorded
passes them by: the outermost has looked at one header, the others at one context variable. Names and attributes follow
OpenTelemetry's conventions for HTTP servers and databases (semantic conventions 1.4x); what these have no word for
begins with `clickserve.`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from feature_store.clock import Clock
from feature_store.errors import StoreError
from feature_store.online.store import OnlineStore
from models.plans.plan import Scores
from service.asgi import WHOLE_ANSWER, Headers, Message, Receive, RoutedApp, Send, SendWhole
from service.deadline import Deadline
from service.errors import DeadlinePassed
from service.model_slots import ServedModel
from service.request_id import HEADER as REQUEST_ID_HEADER
from service.scoring import Pairs, Scored, Scoring
from service.telemetry import Telemetry
from service.trace_context import CURRENT_TRACE_ID, HEADER, SAMPLED, STATE_HEADER, TRACEPARENT
from service.tracing.export import SpanExport
from service.wire import PredictRequest, RankRequest

_REQUEST_SPAN: ContextVar[Span | None] = ContextVar("request_span", default=None)
"""Of the request in whose task the code runs; None where it is not recorded."""

CLIENT_LEFT = "client_left"
"""`error.type` of a request that nobody waited for."""


class TracedPath:
    """A hot path whose requests may be recorded."""

    def __init__(self, name: str, path: RoutedApp, export: SpanExport) -> None:
        """`name` is that of the spans."""
        self.route = path.route
        self._name = name
        self._path = path
        self._export = export

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request."""
        span = self._begun(scope)
        if span is None:
            await self._path(scope, receive, send)
            return
        watch = _Watch(span, send, scope.get("extensions", {}).get(WHOLE_ANSWER))
        if watch.send_whole is not None:
            scope = {**scope, "extensions": {**scope["extensions"], WHOLE_ANSWER: watch.whole}}
        in_span = _REQUEST_SPAN.set(span)
        in_trace = CURRENT_TRACE_ID.set(format_trace_id(span.get_span_context().trace_id))
        try:
            await self._path(scope, receive, watch.sent)
        finally:
            _REQUEST_SPAN.reset(in_span)
            CURRENT_TRACE_ID.reset(in_trace)
            watch.end()

    def _begun(self, scope: Message) -> Span | None:
        """The span of a request that is recorded."""
        headers: Headers = scope["headers"]
        parent = Context()
        for name, value in headers:
            if name == HEADER and (found := TRACEPARENT.fullmatch(value)):
                flags = int(found["flags"], 16)
                if self._export.drops_unsampled and not flags & SAMPLED:
                    return None
                caller = SpanContext(
                    trace_id=int(found["trace_id"], 16),
                    span_id=int(found["span_id"], 16),
                    is_remote=True,
                    trace_flags=TraceFlags(flags),
                    trace_state=_state(headers),
                )
                parent = set_span_in_context(NonRecordingSpan(caller), parent)
        span = self._export.tracer.start_span(self._name, context=parent, kind=SpanKind.SERVER)
        if not span.is_recording():
            return None
        span.set_attributes(_request_attributes(scope, self.route))
        return span


class _Watch:
    """Sees the answer pass, and tells the span."""

    def __init__(self, span: Span, send: Send, send_whole: SendWhole | None) -> None:
        self._span = span
        self._send = send
        self.send_whole = send_whole
        self._status: int | None = None

    def whole(self, status: int, headers: Headers, body: bytes) -> bool:
        """An answer in one piece."""
        assert self.send_whole is not None
        self._answered(status, headers)
        return self.send_whole(status, headers, body)

    async def sent(self, message: Message) -> None:
        """An answer as ASGI has it."""
        if message["type"] == "http.response.start":
            self._answered(message["status"], message["headers"])
        await self._send(message)

    def _answered(self, status: int, headers: Headers) -> None:
        self._status = status
        self._span.set_attribute("http.response.status_code", status)
        for name, value in headers:
            if name == REQUEST_ID_HEADER:
                self._span.set_attribute("clickserve.request_id", value.decode("ascii"))

    def end(self) -> None:
        """The request is over, answered or not."""
        if self._status is None:
            self._span.set_attribute("error.type", CLIENT_LEFT)
        elif self._status >= 500:  # 4xx is the caller's error, and none of this span
            _fail(self._span, str(self._status))
        self._span.end()


class TracedStore:
    """An online store whose reads appear in the traces of their requests. Reads of one turn share one command."""

    def __init__(self, store: OnlineStore, url: str, export: SpanExport) -> None:
        self._store = store
        self._export = export
        self._attributes = _store_attributes(url)

    async def get_many(self, keys: Sequence[bytes], *, timeout_ms: float) -> list[bytes | None]:
        """As the store has it."""
        request_span = _REQUEST_SPAN.get()
        if request_span is None:
            return await self._store.get_many(keys, timeout_ms=timeout_ms)
        span = _child(self._export, "features.fetch", request_span, SpanKind.CLIENT)
        span.set_attributes({**self._attributes, "clickserve.n_keys": len(keys)})
        try:
            values = await self._store.get_many(keys, timeout_ms=timeout_ms)
            span.set_attribute("clickserve.n_found", len(values) - values.count(None))
        except StoreError as error:
            _fail(span, type(error).__name__)
            raise
        finally:
            span.end()
        return values

    async def ping(self, *, timeout_ms: float) -> float:
        """As the store has it."""
        return await self._store.ping(timeout_ms=timeout_ms)

    async def aclose(self) -> None:
        """As the store has it."""
        await self._store.aclose()


class TracedScoring(Scoring):
    """Scoring whose model runs appear in the traces of their requests."""

    def __init__(
        self,
        store: OnlineStore,
        *,
        features_ms: float,
        clock: Clock,
        telemetry: Telemetry,
        url: str,
        export: SpanExport,
    ) -> None:
        """As `Scoring`; `url` is the store's."""
        traced = TracedStore(store, url, export)
        super().__init__(traced, features_ms=features_ms, clock=clock, telemetry=telemetry)
        self._export = export

    async def rank(self, model: ServedModel, request: RankRequest, deadline: Deadline) -> Scored:
        """As `Scoring` has it."""
        return _told(model, await super().rank(model, request, deadline))

    async def predict(self, model: ServedModel, request: PredictRequest, deadline: Deadline) -> Scored:
        """As `Scoring` has it."""
        return _told(model, await super().predict(model, request, deadline))

    async def _run_model(self, model: ServedModel, pairs: Pairs, deadline: Deadline) -> Scores:
        request_span = _REQUEST_SPAN.get()
        if request_span is None:
            return await super()._run_model(model, pairs, deadline)
        span = _child(self._export, "model.run", request_span, SpanKind.INTERNAL)
        span.set_attributes(
            {**_model_attributes(model), "clickserve.plan": model.predictor.plan.name, "clickserve.n": len(pairs.ads)}
        )
        try:
            scores = await super()._run_model(model, pairs, deadline)
            span.set_attribute("clickserve.n_scored", len(scores.p_click))
        except DeadlinePassed as error:
            _fail(span, type(error).__name__)
            raise
        finally:
            span.end()
        return scores


def _told(model: ServedModel, scored: Scored) -> Scored:
    """Tells the request's span what was scored."""
    span = _REQUEST_SPAN.get()
    if span is not None:
        span.set_attributes(
            {**_model_attributes(model), "clickserve.n": scored.n, "clickserve.degraded": list(scored.degraded)}
        )
    return scored


def _child(export: SpanExport, name: str, parent: Span, kind: SpanKind) -> Span:
    return export.tracer.start_span(name, context=set_span_in_context(parent, Context()), kind=kind)


def _fail(span: Span, error_type: str) -> None:
    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR))


def _model_attributes(model: ServedModel) -> dict[str, AttributeValue]:
    return {"clickserve.model.name": model.name, "clickserve.model.version": model.version}


def _request_attributes(scope: Message, route: str) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "http.request.method": scope["method"],
        "http.route": route,
        "url.path": scope["path"],
        "url.scheme": scope.get("scheme", "http"),
        "network.protocol.version": scope.get("http_version", "1.1"),
    }
    for name, address in (("server", scope.get("server")), ("client", scope.get("client"))):
        if address:
            attributes[f"{name}.address"] = address[0]
            if address[1] is not None:
                attributes[f"{name}.port"] = address[1]
    return attributes


def _state(headers: Headers) -> TraceState:
    """What vendors say of the trace, handed on as it came."""
    lines = [value.decode("latin-1") for name, value in headers if name == STATE_HEADER]
    return TraceState.from_header(lines)


def _store_attributes(url: str) -> dict[str, AttributeValue]:
    """Where the store is, without what opens it."""
    parts = urlsplit(url)
    attributes: dict[str, AttributeValue] = {"db.system.name": "redis", "db.operation.name": "MGET"}
    if parts.scheme == "unix":
        return {**attributes, "server.address": parts.path, "network.transport": "unix"}
    hosts = parts.netloc.rpartition("@")[2]
    host, colon, port = hosts.rpartition(":")
    if "," not in hosts and colon and port.isdigit():
        return {**attributes, "server.address": host.strip("[]"), "server.port": int(port)}
    return {**attributes, "server.address": hosts}
