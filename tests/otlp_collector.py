"""A collector of traces: OTLP over HTTP as the protocol has it, keeping what it is sent. It can also refuse or hang."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Manner = Literal["takes", "refuses", "hangs"]


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """One span as it came over the wire; ids as hexadecimal digits."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    failed: bool
    started_ns: int
    ended_ns: int
    trace_state: str
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    """Listens on a free port until closed."""

    def __init__(self, manner: Manner) -> None:
        self.manner = manner
        self.spans: list[ReceivedSpan] = []
        self.n_requests = 0
        self.over = threading.Event()
        self.asked = threading.Event()
        """Set once anybody has sent anything."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """For `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def named(self, name: str) -> list[ReceivedSpan]:
        """The spans of that name."""
        return [span for span in self.spans if span.name == name]

    def close(self) -> None:
        """Ends whatever hangs."""
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@contextmanager
def collector(manner: Manner = "takes") -> Iterator[Collector]:
    """A collector that ends with the test."""
    started = Collector(manner)
    try:
        yield started
    finally:
        started.close()


def _handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.n_requests += 1
            collector.asked.set()
            if collector.manner == "hangs":
                collector.over.wait()
            status = 200 if collector.manner == "takes" else 400
            if status == 200:
                assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
                collector.spans += _decoded(body)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    return Handler


def _decoded(body: bytes) -> list[ReceivedSpan]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

    request = ExportTraceServiceRequest.FromString(body)
    return [
        ReceivedSpan(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            failed=span.status.code == Status.STATUS_CODE_ERROR,
            started_ns=span.start_time_unix_nano,
            ended_ns=span.end_time_unix_nano,
            trace_state=span.trace_state,
            attributes={pair.key: _value(pair.value) for pair in span.attributes},
            resource={pair.key: _value(pair.value) for pair in of_resource.resource.attributes},
        )
        for of_resource in request.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)
