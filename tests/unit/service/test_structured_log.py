"""The log is JSON lines, and says nothing that a line could be torn or a secret be lost by."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from service.asgi import Message
from service.structured_log import AccessLog, JsonLines
from service.trace_context import CURRENT_TRACE_ID


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What a logger of its own, named `test`, writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(worker=1))
    logger = logging.getLogger("test")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)


def test_a_line_is_one_json_object_with_the_fields_of_the_call(stream: io.StringIO) -> None:
    """Machines filter by field and count by message."""
    logging.getLogger("test").warning("the store is down", extra={"request_id": "r1", "model_version": "v3"})

    line = json.loads(stream.getvalue())

    assert stream.getvalue().count("\n") == 1
    assert line["ts"].endswith("Z")
    assert {name: line[name] for name in ("level", "msg", "worker", "request_id", "model_version")} == {
        "level": "warning",
        "msg": "the store is down",
        "worker": 1,
        "request_id": "r1",
        "model_version": "v3",
    }


def test_a_line_of_a_recorded_request_names_its_trace(stream: io.StringIO) -> None:
    """Also where the code that logs knows nothing of requests."""
    token = CURRENT_TRACE_ID.set("4bf9")
    logging.getLogger("test").info("inside")
    CURRENT_TRACE_ID.reset(token)
    logging.getLogger("test").info("outside")

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]

    assert [line.get("trace_id") for line in lines] == ["4bf9", None]


def test_text_from_outside_cannot_begin_a_line(stream: io.StringIO) -> None:
    """A forged line would be believed by whoever reads the log."""
    logging.getLogger("test").info('x\n{"level":"error"}', extra={"path": "/\r\n\x1b[31m"})

    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_what_json_cannot_say_is_written_as_text(stream: io.StringIO) -> None:
    """A log call must not fail for its value."""
    logging.getLogger("test").info("loaded", extra={"error": ValueError("no"), "share": float("nan")})

    line = json.loads(stream.getvalue())

    assert (line["error"], line["share"]) == ("no", None)


def test_a_defect_keeps_its_traceback_in_a_field(stream: io.StringIO) -> None:
    """Lines of a bare traceback would be lines of no object."""
    try:
        raise KeyError("missing")
    except KeyError:
        logging.getLogger("test").error("failed", exc_info=sys.exc_info())

    line = json.loads(stream.getvalue())

    assert line["error"] == "KeyError: 'missing'"
    assert "test_structured_log.py" in line["traceback"]


@pytest.mark.parametrize(("drawn", "lines"), [(0.2, 1), (0.3, 0)])
async def test_a_share_of_the_requests_gets_a_line(caplog: pytest.LogCaptureFixture, drawn: float, lines: int) -> None:
    """All of them would cost more than the answers, and block when nobody reads the log."""
    caplog.set_level(logging.INFO, "clickserve.access")
    sent: list[Message] = []

    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-request-id", b"r1")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    logged = AccessLog(app, sample=0.25, draw=lambda: drawn)
    traceparent = (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
    await logged({"type": "http", "method": "POST", "path": "/v1/rank", "headers": [traceparent]}, receive, send)

    assert len(sent) == 2
    expected = (200, "r1", "4bf92f3577b34da6a3ce929d0e0e4736")
    assert [(record.status, record.request_id, record.trace_id) for record in caplog.records] == [expected] * lines
