"""Traces of a whole service: every worker sends its own, also the last before it stops."""

from __future__ import annotations

import os
import signal

import pytest

from tests.artifacts import ServedProject
from tests.e2e.service_process import service
from tests.otlp_collector import collector
from tests.raw_http import RawConnection, request

pytest.importorskip("opentelemetry.sdk.trace", reason="tracing is an extra: pip install 'clickserve[otel]'")

N_REQUESTS = 40


@pytest.fixture(autouse=True)
def no_variables_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine of the tests is told about tracing must not decide them."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


async def test_every_worker_sends_all_of_its_spans_before_it_ends(arguments: list[str], project: ServedProject) -> None:
    """Spans wait seconds for their batch; a stop must not lose those of the last requests."""
    with collector() as sink:
        # Longer than the test: nothing is sent before the end.
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
        with service(*arguments, "--workers", "2", environment=variables) as process:
            process.wait_for("ready")
            await ask(process.port, project)

            process.signal(signal.SIGTERM)
            status = process.wait()

    assert status == 0
    assert len(sink.named("rank")) == len(sink.named("features.fetch")) == len(sink.named("model.run")) == N_REQUESTS
    assert len({span.resource["service.instance.id"] for span in sink.spans}) == 2


async def test_a_collector_that_hangs_does_not_hold_up_the_end(arguments: list[str], project: ServedProject) -> None:
    """A worker that outstays its grace is killed, and the exit status would say so."""
    with collector("hangs") as sink:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "1"}
        with service(*arguments, environment=variables) as process:
            process.wait_for("ready")
            await ask(process.port, project)
            assert sink.asked.wait(20)

            process.signal(signal.SIGTERM)
            status = process.wait()

    assert status == 0


async def test_a_line_about_a_request_names_its_trace(arguments: list[str], project: ServedProject) -> None:
    """With tracing or without: whoever reads a trace looks for the log of that moment."""
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    with service(*arguments, "--set", "log.access_sample=1") as process:
        process.wait_for("ready")
        connection = await RawConnection.open(process.port)
        for headers in ({"traceparent": f"00-{trace_id}-00f067aa0ba902b7-00"}, {}):
            connection.send(request("POST", "/v1/rank", project.rank_body(2), **headers))
            await connection.answer()
        await connection.close()

        lines = [process.wait_for("request", count=count) for count in (1, 2)]

    assert [line.get("trace_id") for line in lines] == [trace_id, None]


async def ask(port: int, project: ServedProject) -> None:
    """Requests on as many connections, so that every worker has some."""
    connections = [await RawConnection.open(port) for _ in range(N_REQUESTS)]
    for connection in connections:
        connection.send(project.rank_request())
        assert (await connection.answer()).status == 200
        await connection.close()
