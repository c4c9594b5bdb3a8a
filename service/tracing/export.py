"""Spans leave this process: recorded by the SDK, kept in a bounded queue, sent by a thread of low priority.

The SDK configures itself by the standard variables: sampler, resource, limits, batches, endpoint, headers, TLS. Around
its queue and its exporter stand two thin layers, which count: what finds no room is dropped here, before the SDK would
drop the oldest without telling, and so a collector that is dead or slow costs memory for `OTEL_BSP_MAX_QUEUE_SIZE`
spans and nothing else. A request never waits: ending a span appends to a queue.
The tracer provider is not made the process's global one: what other libraries would record is not asked for.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.trace import Tracer

from service.product_version import product_version
from service.quiet_threads import give_way

SERVICE_NAME = "clickserve"
DEFAULT_QUEUE_SPANS = 2_048
"""Of the specification."""
FLUSH_WITHIN_S = 0.4
"""What the end of a worker waits for the last spans: less than `STOP_RESERVE_MS`, which is kept for it."""
SELDOM_S = 60.0
_EXPORTER_LOGGER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"

logger = logging.getLogger(__name__)


class Counts(NamedTuple):
    """Spans since the start."""

    exported: int
    no_room: int
    """Dropped because the queue was full."""
    failed: int
    """Given up because the collector did not take them."""


class SpanExport:
    """What records and sends the spans of one process."""

    def __init__(self, exporter: SpanExporter, resource: Resource, queue_spans: int) -> None:
        """Starts the thread that sends; sampler, limits and rhythm come from the environment."""
        self._exporter = _WatchedExporter(exporter)
        self._queue = _BoundedQueue(self._exporter, queue_spans)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(self._queue)
        self._seldom = _Seldom(time.monotonic)
        logging.getLogger(_EXPORTER_LOGGER).addFilter(self._seldom)
        self.tracer: Tracer = self._provider.get_tracer(SERVICE_NAME, product_version())
        self.drops_unsampled = isinstance(self._provider.sampler, ParentBased)
        """Whether a caller that does not record its part decides for us, as all `parentbased_…` samplers have it."""

    @classmethod
    def start(cls, environment: Mapping[str, str]) -> SpanExport:
        """As the variables say; `service.name` is `clickserve` where they do not."""
        export = cls(OTLPSpanExporter(), _resource(environment), _queue_spans(environment))
        sampler = export._provider.sampler.get_description()
        logger.info("traces are exported", extra={"sampler": sampler})
        return export

    @property
    def counts(self) -> Counts:
        """So far."""
        return Counts(self._exporter.exported, self._queue.no_room, self._exporter.failed)

    def close(self, within_s: float = FLUSH_WITHIN_S) -> None:
        """Sends what is left, but returns in time whatever the collector does; the rest counts as failed. Blocks."""
        flushing = threading.Thread(target=self._queue.shutdown, daemon=True)
        flushing.start()
        flushing.join(within_s)
        self._exporter.give_up(self._queue.accepted)
        logging.getLogger(_EXPORTER_LOGGER).removeFilter(self._seldom)


class _BoundedQueue(SpanProcessor):
    """The SDK's batches, with a door in front that counts whom it turns away."""

    def __init__(self, exporter: _WatchedExporter, queue_spans: int) -> None:
        self._exporter = exporter
        self._queue_spans = queue_spans
        self._batches = BatchSpanProcessor(exporter, max_queue_size=queue_spans)
        self.accepted = 0
        self.no_room = 0

    @property
    def waiting(self) -> int:
        """Spans that the exporter has not been handed yet."""
        return self.accepted - self._exporter.handed

    def on_start(self, span: ReadableSpan, parent_context: Context | None = None) -> None:
        """Nothing is done before a span has ended."""

    def on_end(self, span: ReadableSpan) -> None:
        """Called on the event loop: counting and appending."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self.waiting >= self._queue_spans:
            self.no_room += 1
            return
        self.accepted += 1
        self._batches.on_end(span)

    def shutdown(self) -> None:
        """Sends what is left."""
        self._batches.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Sends what is there."""
        return self._batches.force_flush(timeout_millis)


class _WatchedExporter(SpanExporter):
    """Counts what became of the spans, and says once when sending begins to fail, and when it works again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._has_given_way = self._fails = self._is_over = False
        self.handed = self.exported = self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Called in the thread of the batches."""
        if not self._has_given_way:  # encoding a batch takes milliseconds of Python, for which requests shall not wait
            self._has_given_way = True
            give_way()
        self.handed += len(spans)
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if not self._is_over:
                self._ended(len(spans), fails=result is not SpanExportResult.SUCCESS)
        return result

    def _ended(self, n: int, *, fails: bool) -> None:
        if fails:
            self.failed += n
        else:
            self.exported += n
        if fails != self._fails:
            self._fails = fails
            if fails:
                logger.warning("traces cannot be exported, requests go on without them")
            else:
                logger.info("traces are exported again")

    def give_up(self, n_accepted: int) -> None:
        """Counts what is not sent by now as failed, and ends the attempts of an export that may be under way."""
        self._is_over = True
        self.failed = n_accepted - self.exported
        self._exporter.shutdown()

    def shutdown(self) -> None:
        """Nothing: `give_up` follows, also where the last batch never ends."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """It keeps nothing itself."""
        return True


class _Seldom(logging.Filter):
    """Lets the exporter say why it failed once a minute: it would with every batch and attempt."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._next_s = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is written."""
        if self._clock() < self._next_s:
            return False
        self._next_s = self._clock() + SELDOM_S
        return True


def _resource(environment: Mapping[str, str]) -> Resource:
    """Who sends; the variables win over what we say of ourselves."""
    own: dict[str, str | int] = {
        "service.name": SERVICE_NAME,
        "service.version": product_version(),
        "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
        "process.pid": os.getpid(),
    }
    named = {pair.partition("=")[0].strip() for pair in environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")}
    if environment.get("OTEL_SERVICE_NAME"):
        named.add("service.name")
    return Resource.create({name: value for name, value in own.items() if name not in named})


def _queue_spans(environment: Mapping[str, str]) -> int:
    """`OTEL_BSP_MAX_QUEUE_SIZE`, where it is a number."""
    said = environment.get("OTEL_BSP_MAX_QUEUE_SIZE", "").strip()
    return int(said) if said.isdigit() and int(said) else DEFAULT_QUEUE_SPANS
