"""The log: one JSON object a line on stderr, for machines first.

Every line has `ts` (UTC, milliseconds), `level`, `msg` and `pid`, a worker's lines also `worker`. What a call gives in
`extra` stands beside them under its own name: `request_id`, `model_version`, `error`; and `trace_id` where the line is
about a request that belongs to a trace (`docs/tracing.md`). Messages are fixed sentences and values are fields, so that
lines can be counted by `msg`. A traceback is a field as well, and only there for a defect.

A line is one write of less than a pipe's atomic 4 096 bytes nearly always, so processes that share a stderr do not mix.
Writing blocks when nobody reads: what is logged per request is therefore a sample that is 0 by default.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType

import msgspec

from service.asgi import AsgiApp, Message, Receive, Send
from service.trace_context import CURRENT_TRACE_ID, trace_field
from service.trace_context import HEADER as TRACE_HEADER

_NOT_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

access_logger = logging.getLogger("clickserve.access")
crash_logger = logging.getLogger("clickserve.crash")


class JsonLines(logging.Formatter):
    """A log record as one line of JSON; `fixed` fields are in every line."""

    def __init__(self, **fixed: object) -> None:
        super().__init__()
        self._fixed = fixed
        self._encode = msgspec.json.Encoder(enc_hook=str).encode

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "ts": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "msg": record.getMessage().strip(),
            "logger": record.name,
            "pid": record.process,
            **self._fixed,
        }
        if (trace_id := CURRENT_TRACE_ID.get()) is not None:
            line["trace_id"] = trace_id
        line.update((name, value) for name, value in vars(record).items() if name not in _NOT_FIELDS)
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            line["traceback"] = self.formatException(record.exc_info)
        return self._encode(line).decode()


def configure(level: str, **fixed: object) -> None:
    """Send this process's log to stderr, from `level` on; also warnings, and the exception that ends the process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(**fixed))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_crash


def _log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    crash_logger.critical("the process ends on an error nobody expected", exc_info=(kind, error, trace))


class AccessLog:
    """An ASGI layer that gives a share of the requests a line of their own."""

    def __init__(self, app: AsgiApp, sample: float, draw: Callable[[], float] = random.random) -> None:
        """`sample` is the share, 0 to 1; leave the layer out where it is 0."""
        self._app = app
        self._sample = sample
        self._draw = draw

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._draw() >= self._sample:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status, headers = 0, dict[bytes, bytes]()

        async def observed(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], dict(message["headers"])
            await send(message)

        await self._app(scope, receive, observed)
        access_logger.info(
            "request",
            extra={
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "duration_ms": round(1000 * (time.perf_counter() - started), 3),
                "request_id": headers.get(b"x-request-id", b"").decode("latin-1"),
                **trace_field(dict(scope["headers"]).get(TRACE_HEADER)),
                "model_version": headers.get(b"x-model-version", b"").decode("latin-1"),
            },
        )
