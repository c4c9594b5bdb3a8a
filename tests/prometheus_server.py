"""A real Prometheus with our scrape configuration and rules, for tests and proofs.

Windows of the rules are minutes to hours. `faster` divides them, and the rhythm of scraping and evaluating, by one
factor, so that an alert that fires after an hour does so within a minute. What is not a window stays: thresholds, also
those that are seconds of something measured (`item_table_age_seconds > 300`).
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import REPOSITORY
from tests.dashboard import RULES
from tests.e2e.service_process import get, until

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
DURATION = re.compile(r"\b(\d+)([smh])\b")
INSTALLED = shutil.which("prometheus") is not None
JOB = "clickserve"


def faster(duration: str, factor: float) -> str:
    """`1h` divided by the factor, in whole milliseconds, which is what Prometheus counts in."""
    found = DURATION.fullmatch(duration)
    assert found is not None, f"{duration!r} is not one number and one unit of s, m or h"
    return f"{round(int(found[1]) * SECONDS[found[2]] * 1000 / factor)}ms"


def faster_rules(text: str, factor: float) -> str:
    """A rule file whose windows (`[5m]`) and patience (`for:`) are divided by the factor; nothing else changes."""
    document = yaml.safe_load(text)
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["expr"] = re.sub(r"\[(\w+)\]", lambda window: f"[{faster(window[1], factor)}]", rule["expr"])
            if "for" in rule:
                rule["for"] = faster(rule["for"], factor)
    return str(yaml.safe_dump(document, sort_keys=False))


class Prometheus:
    """A running server, and what it may be asked."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Series of an instant query whose value is a number."""
        document = self._ask("query", query=expression)
        return [series for series in document["result"] if series["value"][1] != "NaN"]

    def value(self, expression: str) -> float:
        """The newest value of a query with one result; 0 where there is none yet."""
        result = self.query(expression)
        return float(result[0]["value"][1]) if result else 0.0

    def firing(self) -> dict[str, list[dict[str, str]]]:
        """Labels of the alerts that fire now, by name."""
        return self._alerts("firing")

    def pending(self) -> dict[str, list[dict[str, str]]]:
        """The same of alerts whose patience has not run out."""
        return self._alerts("pending")

    def ever(self, state: str, over: str) -> dict[str, float]:
        """How many evaluations found each alert in that state, summed over its series."""
        counted = self.query(f'sum by (alertname) (count_over_time(ALERTS{{alertstate="{state}"}}[{over}]))')
        return {series["metric"]["alertname"]: float(series["value"][1]) for series in counted}

    def runbook_links(self) -> dict[str, str]:
        """`runbook_url` of the alerts that fire or are pending, by name."""
        return {
            alert["labels"]["alertname"]: alert["annotations"]["runbook_url"] for alert in self._ask("alerts")["alerts"]
        }

    def _alerts(self, state: str) -> dict[str, list[dict[str, str]]]:
        found: dict[str, list[dict[str, str]]] = {}
        for alert in self._ask("alerts")["alerts"]:
            if alert["state"] == state:
                found.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
        return found

    def _ask(self, what: str, **parameters: str) -> dict[str, Any]:
        answer = json.loads(get(f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"))
        data: dict[str, Any] = answer["data"]
        return data


@contextmanager
def prometheus(
    folder: Path,
    admin_urls: Sequence[str],
    *,
    factor: float = 1.0,
    scrape: str | None = None,
    evaluate: str | None = None,
    added: Mapping[str, Any] | None = None,
) -> Iterator[Prometheus]:
    """Scrapes services by our configuration and evaluates our rules; yields once it is ready.

    Args:
        admin_urls: of the services.
        factor: by which windows and rhythms are divided.
        scrape, evaluate: rhythms of this server instead of ours divided by the factor.
        added: sections of a configuration, put into ours.
    """
    ours = yaml.safe_load((REPOSITORY / "deploy/prometheus/prometheus.yml").read_text())
    times: Mapping[str, str] = ours["global"]
    rules = folder / "rules"
    rules.mkdir(parents=True)
    for path in RULES.glob("*.yml"):
        (rules / path.name).write_text(faster_rules(path.read_text(), factor))
    job = next(job for job in ours["scrape_configs"] if job["job_name"] == JOB)
    del job["authorization"]  # a loopback port asks for no token
    job["static_configs"] = [{"targets": [url.removeprefix("http://") for url in admin_urls]}]
    interval = scrape or faster(times["scrape_interval"], factor)
    ours["global"] = {
        "scrape_interval": interval,
        "scrape_timeout": interval,
        "evaluation_interval": evaluate or faster(times["evaluation_interval"], factor),
    }
    ours["rule_files"], ours["scrape_configs"] = ["rules/*.yml"], [job]
    for section, settings in (added or {}).items():
        ours[section] = ours.get(section, {}) | settings
    (folder / "prometheus.yml").write_text(yaml.safe_dump(ours))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = [f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address={address}"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder / 'prometheus.yml'}", *arguments], stdout=log, stderr=log
        )
    try:
        until(lambda: answers(f"http://{address}/-/ready"), "Prometheus is ready")
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    """Whether it answers 200."""
    try:
        get(url)
    except OSError:
        return False
    return True


def without_data(server: Prometheus, queries: Mapping[str, str], *, within_s: float) -> list[str]:
    """Names of the queries that had no series with a number, all through the time given."""
    lacking = dict(queries)
    deadline = time.monotonic() + within_s
    while lacking:
        lacking = {name: query for name, query in lacking.items() if not server.query(query)}
        if time.monotonic() >= deadline:
            break
        time.sleep(0.2)
    return sorted(lacking)
