"""Alert rules: valid, tested both ways, explained to the person they wake."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY

PROMETHEUS = REPOSITORY / "deploy/prometheus"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))
BASE = "{{ $externalLabels.runbook_base }}"
"""Nothing, until a Prometheus is told where the repository is shown (docs/deploy.md)."""
TEST_FILES = sorted((PROMETHEUS / "tests").glob("*.yml"))


def alerts() -> list[dict[str, Any]]:
    groups = [group for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


ALERTS = [pytest.param(alert, id=alert["alert"]) for alert in alerts()]


def test_prometheus_accepts_the_rules(promtool: Callable[..., str]) -> None:
    """A rule file with one mistake in it is dropped whole."""
    assert promtool("check", "rules", *RULE_FILES).count("SUCCESS") == len(RULE_FILES)


def test_prometheus_accepts_the_scrape_configuration(promtool: Callable[..., str]) -> None:
    """Syntax only: the token file is inside the container."""
    promtool("check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")


def test_the_rules_do_what_their_cases_say(promtool: Callable[..., str]) -> None:
    """Thresholds, windows and wording, computed by Prometheus' own engine."""
    promtool("test", "rules", *TEST_FILES)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_shown_firing_and_silent(alert: dict[str, Any]) -> None:
    """An alert that cannot fire is a false comfort, one that cannot be silent is noise."""
    cases = [case for path in TEST_FILES for case in yaml.safe_load(path.read_text())["tests"]]
    shown = {
        bool(check["exp_alerts"])
        for case in cases
        for check in case.get("alert_rule_test", [])
        if check["alertname"] == alert["alert"]
    }

    assert shown == {True, False}


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_how_bad_what_and_where_to_read_on(alert: dict[str, Any]) -> None:
    """Whoever is woken knows nothing yet."""
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description", "runbook_url"} <= set(alert["annotations"])


def test_the_runbook_has_one_section_per_alert_and_no_other(repository: Path) -> None:
    """A link that leads nowhere is found out at three in the morning."""
    runbook = (repository / "docs/runbook.md").read_text()
    sections = re.findall(r"^## (.*)$", runbook, flags=re.MULTILINE)
    links = [alert["annotations"]["runbook_url"] for alert in alerts()]
    inner = set(re.findall(r"\]\(#([\w-]+)\)", runbook))

    assert sorted(sections) == sorted(alert["alert"] for alert in alerts())
    assert links == [f"{BASE}docs/runbook.md#{alert['alert'].lower()}" for alert in alerts()]
    assert inner <= {section.lower() for section in sections}


@pytest.mark.parametrize("alert", ALERTS)
def test_every_section_of_the_runbook_has_its_five_parts(alert: dict[str, Any], repository: Path) -> None:
    """What users feel, where to look, what it mostly is, what to do, how to silence it: in this order."""
    runbook = (repository / "docs/runbook.md").read_text()
    section = runbook.partition(f"## {alert['alert']}\n")[2].partition("\n## ")[0]

    parts = re.findall(r"^\*\*(.+?):\*\*", section, flags=re.MULTILINE)

    assert parts == ["Users feel", "Look", "Likely", "Do", "Silence"]
    silenced = set(re.findall(r"alertname=(\w+)", section))
    assert silenced <= {alert["alert"]}


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_names_a_number_or_the_thing_that_has_it(alert: dict[str, Any]) -> None:
    """Whoever reads the message on a telephone decides by it whether to get up."""
    said = alert["annotations"]["summary"] + alert["annotations"]["description"]

    assert "{{" in said
