"""The dashboard: written by its program, filtered by its variables, and tied to the alerts and the runbook."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from deploy.grafana.dashboard import runbook_sections, written
from tests.conftest import REPOSITORY
from tests.dashboard import DASHBOARD, alert_names, panels, rules

DOCUMENT = json.loads(DASHBOARD.read_text())
BY_ID = {panel["id"]: panel for panel in DOCUMENT["panels"]}
UNITS = {"s", "percentunit", "reqps", "ops", "none"}
"""Seconds, shares from 0 to 1, requests and other things per second, plain counts and ratios."""


def test_the_file_is_what_its_program_writes() -> None:
    """`python -m deploy.grafana.dashboard` mends it; the runbook is part of it."""
    assert DASHBOARD.read_text() == written()


def test_no_two_panels_share_a_number_or_a_place() -> None:
    """Grafana shows one of two that overlap, and opens one of two with the same number."""
    taken: set[tuple[int, int]] = set()
    for panel in DOCUMENT["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells

    assert len(BY_ID) == len(DOCUMENT["panels"])


def test_every_query_is_filtered_by_the_chosen_job() -> None:
    """Two services in one Prometheus must not be added up. Recorded numbers are sums over the instances of a job."""
    unfiltered = [
        (panel["title"], selector)
        for panel in panels()
        for target in panel["targets"]
        for selector in re.findall(r"[a-z_:]*clickserve_[\w:]+(?:\{[^}]*\})?", target["expr"])
        if 'job=~"$job"' not in selector
        or (":" not in selector.partition("{")[0] and 'instance=~"$instance"' not in selector)
    ]

    assert unfiltered == []
    assert [variable["name"] for variable in DOCUMENT["templating"]["list"]] == ["job", "instance"]


def test_panels_speak_in_base_units() -> None:
    """Milliseconds beside seconds, or percent beside shares, is how people misread a graph at night."""
    told = {
        panel["title"]: panel["fieldConfig"]["defaults"].get("unit") or panel["options"]["yAxis"]["unit"]
        for panel in panels()
    }

    assert set(told.values()) <= UNITS
    wrong = [
        panel["title"]
        for panel in panels()
        if (told[panel["title"]] == "s")
        != any(re.search(r"_seconds|_age", t["expr"]) and "ttl_ratio" not in t["expr"] for t in panel["targets"])
    ]
    assert wrong == []


@pytest.mark.parametrize("alert", alert_names())
def test_every_alert_is_seen_on_a_panel_that_leads_to_its_section(alert: str) -> None:
    """From the graph to what to do is one click, in a Grafana without a way out."""
    links = [link for panel in panels() for link in panel.get("links", []) if link["title"] == f"Runbook: {alert}"]

    assert links
    for link in links:
        target = BY_ID[int(link["url"].rpartition("viewPanel=")[2])]
        assert (target["type"], target["title"]) == ("text", alert)


def test_lines_on_panels_are_the_thresholds_of_their_alerts() -> None:
    """A graph below its line while its alert fires would be believed, and the alert not."""
    expressions = {rule["alert"]: rule["expr"] for rule in rules() if "alert" in rule}
    for panel in panels():
        drawn = [step["value"] for step in panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])][1:]
        if panel["type"] != "timeseries" or not drawn:
            continue
        bounds = {
            float(number)
            for link in panel["links"]
            for number in re.findall(r"> ([\d.]+)", expressions[link["title"].removeprefix("Runbook: ")])
        }
        assert set(drawn) <= bounds, panel["title"]


def test_the_runbook_names_panels_that_exist() -> None:
    """`*Stage p99*` in the runbook is a promise that there is such a panel."""
    titles = {panel["title"] for panel in DOCUMENT["panels"]} | {
        variable["name"] for variable in DOCUMENT["templating"]["list"]
    }
    named = {name for text in runbook_sections().values() for name in re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", text)}

    assert named <= titles
    assert len(named) > 10


def test_grafana_finds_what_compose_mounts() -> None:
    """The provider reads one folder, and the home dashboard is a file in it."""
    provider = yaml.safe_load((REPOSITORY / "deploy/grafana/provisioning/dashboards/clickserve.yml").read_text())[
        "providers"
    ][0]
    grafana = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]["grafana"]

    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    assert (
        grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        == f"{provider['options']['path']}/{DASHBOARD.name}"
    )
