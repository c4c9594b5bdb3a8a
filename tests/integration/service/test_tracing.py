"""A recorded request appears at the collector as its caller's part of one trace; one that is not recorded does not."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from service.settings import Settings
from service.tracing.switch import start_tracing
from tests.artifacts import ServedProject
from tests.integration.service.conftest import Worker, running, settings_of
from tests.otlp_collector import Collector, ReceivedSpan, collector
from tests.stores import HurtableServer

pytest.importorskip("opentelemetry.sdk.trace", reason="tracing is an extra: pip install 'clickserve[otel]'")

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"


@pytest.fixture(autouse=True)
def no_variables_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine of the tests is told about tracing must not decide them."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector, named by the environment."""
    with collector() as started:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", started.url)
        yield started


@asynccontextmanager
async def traced(settings: Settings) -> AsyncIterator[Worker]:
    """A worker that records; all spans have arrived when it has stopped."""
    tracing = start_tracing(os.environ)
    assert tracing is not None
    async with running(settings, tracing) as worker:
        yield worker


async def test_a_ranking_is_three_spans_of_its_callers_trace(
    settings: Settings, shop: ServedProject, sink: Collector
) -> None:
    """Names, kinds, parents and times, as somebody reads them who looks for lost milliseconds."""
    async with traced(settings) as worker:
        answer = await worker.rank(shop.rank_body(7), traceparent=SAMPLED, tracestate="shop=1,other=2")

    spans = {span.name: span for span in sink.spans}
    rank, fetch, run = spans["rank"], spans["features.fetch"], spans["model.run"]
    assert len(sink.spans) == 3
    assert {span.trace_id for span in sink.spans} == {TRACE}
    assert (rank.parent_id, fetch.parent_id, run.parent_id) == (CALLER, rank.span_id, rank.span_id)
    assert (rank.kind, fetch.kind, run.kind) == ("SERVER", "CLIENT", "INTERNAL")
    assert rank.started_ns <= fetch.started_ns <= fetch.ended_ns <= run.started_ns <= run.ended_ns <= rank.ended_ns
    assert rank.trace_state == "shop=1,other=2"
    assert not any(span.failed for span in sink.spans)
    assert answer.status == 200
    assert answer.headers["x-request-id"] == rank.attributes["clickserve.request_id"] == TRACE


async def test_attributes_follow_the_conventions(settings: Settings, shop: ServedProject, sink: Collector) -> None:
    """Dashboards and searches of every vendor are built on them."""
    async with traced(settings) as worker:
        await worker.rank({**shop.rank_body(7), "user_id": "nobody"}, x_request_id="r1")
        port = worker.port

    spans = {span.name: span.attributes for span in sink.spans}
    model = {"clickserve.model.name": "default", "clickserve.model.version": shop.version}
    client_port = spans["rank"].pop("client.port")
    assert spans["rank"] == model | {
        "http.request.method": "POST",
        "http.route": "/v1/rank",
        "http.response.status_code": 200,
        "url.path": "/v1/rank",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": port,
        "client.address": "127.0.0.1",
        "clickserve.request_id": "r1",
        "clickserve.n": 7,
        "clickserve.degraded": ["user_missing"],
    }
    assert 0 < client_port < 65_536
    path = settings.redis.url.partition("unix://")[2].partition("?")[0]
    assert spans["features.fetch"] == {
        "db.system.name": "redis",
        "db.operation.name": "MGET",
        "network.transport": "unix",
        "server.address": path,
        "clickserve.n_keys": 1,
        "clickserve.n_found": 0,
    }
    assert spans["model.run"].pop("clickserve.plan").startswith("linear")
    assert spans["model.run"] == model | {"clickserve.n": 7, "clickserve.n_scored": 7}


async def test_the_callers_sampled_bit_decides(settings: Settings, shop: ServedProject, sink: Collector) -> None:
    """Half a trace is of no use to anybody; without a caller's word the default records."""
    async with traced(settings) as worker:
        for traceparent in (UNSAMPLED, SAMPLED, UNSAMPLED):
            await worker.rank(shop.rank_body(2), traceparent=traceparent)
        await worker.rank(shop.rank_body(2))

    recorded = [span.trace_id for span in sink.named("rank")]
    assert recorded[0] == TRACE
    assert len(recorded) == 2
    assert recorded[1] != TRACE


@pytest.mark.parametrize(
    ("sampler", "argument", "n_recorded"),
    [
        ("always_off", "", 0),
        ("always_on", "", 3),
        ("parentbased_always_off", "", 1),
        ("parentbased_traceidratio", "0", 1),
        ("traceidratio", "1", 3),
    ],
)
async def test_the_standard_samplers_are_obeyed(
    settings: Settings,
    shop: ServedProject,
    sink: Collector,
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    argument: str,
    n_recorded: int,
) -> None:
    """Of three requests: one sampled by its caller, one not, one without a caller's word."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)

    async with traced(settings) as worker:
        for headers in ({"traceparent": SAMPLED}, {"traceparent": UNSAMPLED}, {}):
            await worker.rank(shop.rank_body(2), **headers)

    assert len(sink.named("rank")) == n_recorded


@pytest.mark.parametrize(
    "header", ["", "nonsense", f"00-{'0' * 32}-{CALLER}-01", f"ff-{TRACE}-{CALLER}-01", f"{SAMPLED}-more"]
)
async def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(
    settings: Settings, shop: ServedProject, sink: Collector, header: str
) -> None:
    """A broken header must neither break the request nor join strangers."""
    async with traced(settings) as worker:
        answer = await worker.rank(shop.rank_body(2), traceparent=header)

    (rank,) = sink.named("rank")
    assert (answer.status, rank.parent_id) == (200, "")
    assert rank.trace_id not in (TRACE, "0" * 32)


async def test_a_prediction_has_a_span_of_its_name(settings: Settings, shop: ServedProject, sink: Collector) -> None:
    """Other routes have none: probes would fill the collector."""
    async with traced(settings) as worker:
        instances = {"instances": [{"user_id": "u1", "ad_id": "a1"}, {"user_id": "u2", "ad_id": "a1"}]}
        await worker.ask("POST", "/v1/predict", instances)
        await worker.ask("GET", "/readyz")

    assert sorted(span.name for span in sink.spans) == ["features.fetch", "model.run", "predict"]
    (predict,) = sink.named("predict")
    assert (predict.attributes["http.route"], predict.attributes["clickserve.n"]) == ("/v1/predict", 2)


async def test_what_is_the_callers_error_is_none_of_the_span(
    settings: Settings, shop: ServedProject, sink: Collector
) -> None:
    """As the conventions have it; a refusal for want of room is ours."""
    crowded = replace(settings, admission=replace(settings.admission, max_inflight=1, max_queued=0))
    async with traced(crowded) as worker:
        await worker.rank({"user_id": "u1", "candidates": []})
        connections = [await worker.connect() for _ in range(8)]
        for connection in connections:
            connection.send(shop.rank_request())
        shed = [await connection.answer() for connection in connections]

    def told(span: ReceivedSpan) -> tuple[int, bool, str | None]:
        return span.attributes["http.response.status_code"], span.failed, span.attributes.get("error.type")

    assert 503 in {answer.status for answer in shed}
    assert set(map(told, sink.named("rank"))) == {(422, False, None), (200, False, None), (503, True, "503")}


async def test_a_store_that_does_not_answer_fails_its_span_alone(
    shop: ServedProject, sink: Collector, tmp_path: Path
) -> None:
    """The request is answered with defaults, and the trace says where its time went."""
    server = HurtableServer(tmp_path / "valkey")
    try:
        shop.materialize(server.url)
        async with traced(settings_of(shop.registry_dir, server.url, tmp_path, deadline__features_ms=100)) as worker:
            server.freeze()
            answer = await worker.rank(shop.rank_body(2))
            server.thaw()
    finally:
        server.close()

    (rank,), (fetch,) = sink.named("rank"), sink.named("features.fetch")
    assert answer.json()["degraded"] == ["store_timeout"] == rank.attributes["clickserve.degraded"]
    assert (rank.failed, fetch.failed, fetch.attributes["error.type"]) == (False, True, "StoreTimeout")


async def test_spans_say_who_sent_them(
    settings: Settings, shop: ServedProject, sink: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standard variables win over what the service says of itself."""
    async with traced(settings) as worker:
        await worker.rank(shop.rank_body(2))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ranking")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=7")
    async with traced(settings) as worker:
        await worker.rank(shop.rank_body(2))

    own, named = (span.resource for span in sink.named("rank"))
    assert (own["service.name"], own["process.pid"]) == ("clickserve", os.getpid())
    assert own["service.instance.id"].endswith(str(os.getpid()))
    assert (named["service.name"], named["service.version"]) == ("ranking", "7")
    assert named["deployment.environment.name"] == "test"


@pytest.mark.parametrize("manner", ["refuses", "hangs"])
async def test_a_collector_in_trouble_costs_spans_and_no_request(
    settings: Settings, shop: ServedProject, monkeypatch: pytest.MonkeyPatch, manner: str
) -> None:
    """All are answered while it takes nothing; what is lost is counted, and the end does not wait for it."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    with collector(manner) as troubled:  # type: ignore[arg-type]
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{troubled.url}/v1/traces")
        async with traced(settings) as worker:
            answers = [await worker.rank(shop.rank_body(2)) for _ in range(20)]
            assert troubled.asked.wait(20)
        registry = worker.runtime.telemetry.registry

    assert {answer.status for answer in answers} == {200}
    lost = {
        reason: registry.get_sample_value("clickserve_trace_spans_dropped_total", {"reason": reason})
        for reason in ("no_room", "export_failed")
    }
    assert sum(count or 0 for count in lost.values()) == 60
    assert (lost["no_room"] or 0) > 0 or manner == "refuses"
    assert registry.get_sample_value("clickserve_trace_spans_total") == 0


async def test_what_the_collector_took_is_counted(settings: Settings, shop: ServedProject, sink: Collector) -> None:
    """The sum of all three counters is what was recorded."""
    async with traced(settings) as worker:
        for _ in range(4):
            await worker.rank(shop.rank_body(2))
    registry = worker.runtime.telemetry.registry

    assert registry.get_sample_value("clickserve_trace_spans_total") == 12 == len(sink.spans)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
        {"OTEL_SERVICE_NAME": "ranking"},
    ],
)
def test_nothing_is_traced_where_nobody_asks_for_it(variables: dict[str, str]) -> None:
    """And nothing is said about it: most services run so."""
    assert start_tracing(variables) is None


def test_a_protocol_that_is_not_spoken_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Platforms set these variables for every container; a service must not stop over them."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}

    with caplog.at_level(logging.WARNING):
        assert start_tracing(variables) is None

    assert [record.getMessage() for record in caplog.records] == [
        "traces are not exported: their protocol is not spoken here"
    ]


def test_without_the_extra_one_line_says_what_to_install(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The serving image may come without."""
    monkeypatch.delitem(sys.modules, "service.tracing.export", raising=False)
    monkeypatch.delitem(sys.modules, "service.tracing.tracing", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with caplog.at_level(logging.WARNING):
        assert start_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}) is None

    assert "pip install 'clickserve[otel]'" in caplog.records[0].__dict__["way_out"]
