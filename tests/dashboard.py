"""What the dashboard and the rules ask Prometheus for, as the tests and the proofs ask it themselves."""

from __future__ import annotations

import json
from typing import Any

import yaml

from tests.conftest import REPOSITORY

RULES = REPOSITORY / "deploy/prometheus/rules"
DASHBOARD = REPOSITORY / "deploy/grafana/dashboards/clickserve.json"
WITHOUT_QUERY = {"row", "text"}


def panels() -> list[dict[str, Any]]:
    """Those that show numbers."""
    found = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] not in WITHOUT_QUERY]


def filled_in(query: str, rate_interval: str = "1m") -> str:
    """A query with what Grafana puts for its variables where nobody has chosen."""
    return query.replace("$__rate_interval", rate_interval).replace("$instance", ".*").replace("$job", ".*")


def panel_queries() -> dict[str, str]:
    """Every query of every panel, by `panel / letter`."""
    return {
        f"{panel['title']} / {target['refId']}": target["expr"] for panel in panels() for target in panel["targets"]
    }


def rules() -> list[dict[str, Any]]:
    """Recording and alerting rules of all files."""
    groups = [group for path in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def recorded_names() -> list[str]:
    """What recording rules make."""
    return [rule["record"] for rule in rules() if "record" in rule]


def alert_names() -> list[str]:
    """What alerting rules are called."""
    return [rule["alert"] for rule in rules() if "alert" in rule]
