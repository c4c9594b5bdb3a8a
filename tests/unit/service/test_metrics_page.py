"""The page about metrics is true: it lists what the code declares, and what a scrape tells."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from service.metrics_page import declared, page, unit
from service.telemetry import SupervisorTelemetry, Telemetry, exposition
from tests.conftest import REPOSITORY


def test_the_page_is_the_one_that_the_code_writes() -> None:
    """`python -m service.metrics_page docs/metrics.md` mends it."""
    assert (REPOSITORY / "docs/metrics.md").read_text() == page()


def test_the_page_lists_what_a_scrape_tells() -> None:
    """Every family with its type and help text, and none besides."""
    told = {
        (family.name + ("_total" if family.type == "counter" else ""), family.type, family.documentation)
        for telemetry in (Telemetry(), SupervisorTelemetry())
        for family in text_string_to_metric_families(exposition(telemetry.registry).decode())
    }

    assert {(metric.name, metric.kind, metric.meaning) for metric in declared()} == {
        family for family in told if not family[0].endswith("_created")
    }


def test_names_follow_the_conventions() -> None:
    """Base units, `_total` on counters and on nothing else, one prefix."""
    for metric in declared():
        assert re.fullmatch(r"clickserve_[a-z0-9_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert not re.search(r"_(ms|milliseconds|percent|kb|mb)(_|$)", metric.name)
        assert metric.meaning.endswith(".")
        assert unit(metric.name)
