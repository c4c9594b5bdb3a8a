"""What the service's own metrics say of a run: the difference of two looks at the page that Prometheus reads."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from loadtest.errors import TargetError, UrlError
from loadtest.report import time_spent
from loadtest.server_metrics import parse_samples, read_samples, server_side
from service.telemetry import STAGES, Telemetry
from tests.loadtest.report_samples import run_of, server_side_of

PATH = "/v1/rank"


def page(registry: CollectorRegistry, telemetry: Telemetry) -> str:
    """What `/metrics` shows now."""
    telemetry.flush()
    return generate_latest(registry).decode()


def test_a_run_is_the_difference_of_two_looks() -> None:
    """What was counted before the run is not the run's, and other routes are not ranking."""
    registry = CollectorRegistry()
    telemetry = Telemetry(registry)
    rng = np.random.default_rng(1)

    def answer(n: int) -> list[tuple[float, ...]]:
        stages = [tuple(rng.uniform(10e-6, 200e-6, len(STAGES)).tolist()) for _ in range(n)]
        for seconds in stages:
            telemetry.stages(seconds)  # type: ignore[arg-type]
            telemetry.answered(PATH, 200, sum(seconds) + 50e-6)
        return stages

    answer(300)
    telemetry.shed("queue_full")
    before = parse_samples(page(registry, telemetry))
    stages = answer(500)
    telemetry.answered("/livez", 200, 1.0)
    telemetry.shed("queue_time")
    telemetry.degraded(["user_missing"])

    found = server_side(before, parse_samples(page(registry, telemetry)), PATH)

    means_us = np.mean(stages, axis=0) * 1e6
    assert found.n_requests == 500
    assert found.mean_us == pytest.approx(means_us.sum() + 50)
    assert [stage.stage for stage in found.stages] == list(STAGES)
    assert [stage.mean_us for stage in found.stages] == pytest.approx(means_us.tolist())
    assert found.shed == {"queue_time": 1}
    assert found.degraded == {"user_missing": 1}


def test_percentiles_are_good_to_their_bucket() -> None:
    """They are interpolated: the true one lies in the same bucket."""
    registry = CollectorRegistry()
    telemetry = Telemetry(registry)
    seconds = np.random.default_rng(1).lognormal(np.log(3e-4), 1.0, 5_000)
    before = parse_samples(page(registry, telemetry))
    for value in seconds:
        telemetry.stages((float(value),) * 6)
        telemetry.answered(PATH, 200, float(value))

    stage = server_side(before, parse_samples(page(registry, telemetry)), PATH).stages[0]

    bounds = [
        float(dict(labels)["le"]) * 1e6
        for (name, labels) in parse_samples(page(registry, telemetry))
        if name == "clickserve_stage_duration_seconds_bucket" and dict(labels)["stage"] == stage.stage
    ]
    for value, q in ((stage.p50_us, 0.5), (stage.p99_us, 0.99)):
        assert value is not None
        true_us = float(np.quantile(seconds, q)) * 1e6
        assert np.searchsorted(sorted(bounds), value) == np.searchsorted(sorted(bounds), true_us)


def test_the_parts_of_a_mean_request_add_up_to_what_its_caller_saw() -> None:
    """Otherwise a share would be of something else."""
    result = run_of(np.random.default_rng(1))
    assert result.latency.mean_ms is not None

    parts = time_spent(server_side_of(), result)

    assert sum(part.mean_us for part in parts) == pytest.approx(result.latency.mean_ms * 1000)
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert [part.name for part in parts][-2:] == ["rest of the service", "outside the service"]


@pytest.fixture
def url_of_other_metrics() -> Iterator[str]:
    """A page of metrics that are somebody else's."""

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"other_requests_total 5\n")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()


def test_a_wrong_address_is_named(url_of_other_metrics: str, url_of_nobody: str) -> None:
    """Somebody else's metrics would show nothing and look like a service without stages."""
    with pytest.raises(TargetError, match="no metric there begins with clickserve_"):
        read_samples(url_of_other_metrics)
    with pytest.raises(TargetError, match="refused; name the address of /metrics"):
        read_samples(f"{url_of_nobody}/metrics")


@pytest.mark.parametrize("url", ["foo", "file:///etc/hostname", "http://", "http://h:port/metrics", "http://["])
def test_an_address_of_no_page_is_refused(url: str) -> None:
    """It is a slip of the fingers, and no service that is down."""
    with pytest.raises(UrlError, match="metrics "):
        read_samples(url)
