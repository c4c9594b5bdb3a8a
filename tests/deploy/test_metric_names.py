"""Rules and dashboard ask for what the service tells: every metric, label, bucket and recorded name exists."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from prometheus_client import CollectorRegistry

from service.knowledge import ViewRows
from service.telemetry import P_CLICK_BUCKETS, SupervisorTelemetry, Telemetry
from tests.conftest import REPOSITORY
from tests.dashboard import DASHBOARD, filled_in, panel_queries, panels, recorded_names, rules

ADDED_BY_SCRAPING = {"job", "instance"}
SELECTOR = re.compile(r"(?<![:\w])(clickserve_\w+)(?![:\w])(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
RECORDED = re.compile(r"\b[a-z_]+:\w+:\w+\b")


ANNOTATIONS = [annotation["expr"] for annotation in json.loads(DASHBOARD.read_text())["annotations"]["list"]]
DASHBOARD_QUERIES = [*panel_queries().values(), *ANNOTATIONS]
QUERIES = [rule["expr"] for rule in rules()] + DASHBOARD_QUERIES


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, set[str]]]:
    """Values of each label of each series that one busy service tells."""
    registry = CollectorRegistry()
    telemetry, supervisor = Telemetry(registry), SupervisorTelemetry(registry)
    telemetry.answered("/v1/rank", 200, 0.001)
    telemetry.stages((0.001,) * 6)
    telemetry.scored("default", np.array([0.01]))
    telemetry.shed("queue_full")
    telemetry.degraded(["store_timeout"])
    telemetry.views([ViewRows("user_profile", present=1, missing=0, stale=0, age_ms=1_000)])
    telemetry.store_error("get")
    telemetry.event_loop_lag(0.001)
    telemetry.model_serves(
        name="default", version="1", variant="champion", core_sha256="0" * 64, plan="trees", serves=True
    )
    telemetry.model_figures(
        "default",
        {"calibration_ratio": 1.0, "normalized_entropy": 0.8, "click_rate": 0.01},
        [1.0] * len(P_CLICK_BUCKETS),
    )
    telemetry.promotion_failing("default", False)
    telemetry.view_served("user_profile", 86_400.0)
    telemetry.served_log(1, 0, 0)
    telemetry.trace_spans(1, 0, 0)
    telemetry.flush()
    supervisor.workers(2)
    found: dict[str, dict[str, set[str]]] = {}
    for family in registry.collect():
        for sample in family.samples:
            labels = found.setdefault(sample.name, defaultdict(set))
            for label, value in sample.labels.items():
                labels[label].add(value)
    return found


def selectors() -> Iterator[tuple[str, str]]:
    for query in QUERIES:
        yield from SELECTOR.findall(query)


def test_every_metric_asked_for_is_told(told: dict[str, dict[str, set[str]]]) -> None:
    """A misspelt name gives no error, only an empty panel and an alert that never fires."""
    assert {name for name, _ in selectors()} - set(told) == set()


def test_every_label_asked_for_is_told(told: dict[str, dict[str, set[str]]]) -> None:
    """A matcher on a label that does not exist selects nothing, or everything."""
    wrong = {
        (name, label)
        for name, matchers in selectors()
        for label, _ in MATCHER.findall(matchers)
        if label not in told[name] and label not in ADDED_BY_SCRAPING
    }

    assert wrong == set()


def test_the_bound_of_the_promise_is_a_bucket(told: dict[str, dict[str, set[str]]]) -> None:
    """A histogram knows the share below 10 ms only where 10 ms ends a bucket."""
    asked = {value for name, matchers in selectors() for label, value in MATCHER.findall(matchers) if label == "le"}

    assert asked == {"0.01"}
    assert asked <= told["clickserve_request_duration_seconds_bucket"]["le"]


def test_every_metric_told_is_asked_for(told: dict[str, dict[str, set[str]]]) -> None:
    """What no rule and no panel shows is a cost without a reader."""
    asked = {re.sub(r"_(bucket|sum|count)$", "", name) for name, _ in selectors()}
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in told}

    assert {family for family in families if f"{family}_total" not in told} - asked == set()


def test_every_recorded_name_in_use_is_recorded() -> None:
    """A recording rule that was renamed leaves its readers empty."""
    assert {name for query in QUERIES for name in RECORDED.findall(query)} <= set(recorded_names())


def test_every_recorded_number_is_read() -> None:
    """A rule that nobody reads costs every Prometheus, every quarter of a minute."""
    assert set(recorded_names()) <= {name for query in QUERIES for name in RECORDED.findall(query)}


def test_every_panel_says_what_it_shows_and_reads_the_provisioned_source() -> None:
    """A panel on another machine's data source is empty everywhere else."""
    provisioned = yaml.safe_load((REPOSITORY / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())

    assert {panel["datasource"]["uid"] for panel in panels()} == {provisioned["datasources"][0]["uid"]}
    assert [panel["title"] for panel in panels() if not panel.get("description")] == []


def test_prometheus_can_read_every_query_of_the_dashboard(promtool: Callable[..., str], tmp_path: Path) -> None:
    """Grafana shows a query that does not parse as a red corner that nobody hovers over."""
    queries = map(filled_in, DASHBOARD_QUERIES)
    probes = [{"record": f"panel:query:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "dashboard.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": probes}]}))

    promtool("check", "rules", path)
