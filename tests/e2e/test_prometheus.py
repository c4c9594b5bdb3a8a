"""A real Prometheus counts what the clients count."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.artifacts import ServedProject
from tests.dashboard import RULES, filled_in, panel_queries, recorded_names
from tests.e2e.load import Load
from tests.e2e.service_process import get, service, until
from tests.prometheus_server import INSTALLED, faster, faster_rules, prometheus, without_data
from tests.snippets import blocks, page

pytestmark = pytest.mark.skipif(
    not INSTALLED,
    reason="no prometheus here (Debian: apt-get install prometheus); test_workers.py compares the same counter by hand",
)


class Alertmanager:
    """Takes what a Prometheus sends, by the protocol of one."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.received: list[dict[str, Any]] = []


@pytest.fixture
def alertmanager() -> Iterator[Alertmanager]:
    """One that listens, until the test is over."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/api/v2/alerts":
                listening.received.extend(json.loads(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        listening = Alertmanager(f"127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield listening
        server.shutdown()


async def test_every_panel_and_every_recorded_number_has_data(
    arguments: list[str], project: ServedProject, tmp_path: Path
) -> None:
    """An empty panel looks like a quiet one: each query is asked as Grafana asks it, of a service under load."""
    queries = {name: filled_in(query) for name, query in panel_queries().items()}
    queries |= {name: name for name in recorded_names()}
    with (
        service(*arguments, "--workers", "2", "--set", f"served_log.folder={tmp_path / 'served'}") as process,
        prometheus(tmp_path / "prometheus", [process.admin_url], scrape="200ms", evaluate="200ms") as server,
    ):
        process.wait_for("ready")
        async with Load(process.port, project.rank_request(), n_connections=2, pause_s=0.01):
            lacking = await asyncio.to_thread(without_data, server, queries, within_s=60)

    assert lacking == []
    assert len(queries) > 50


def test_a_runbook_that_is_told_of_makes_whole_links(tmp_path: Path, alertmanager: Alertmanager) -> None:
    """The block of docs/deploy.md, as it stands: the link in Prometheus and in what it sends, without the label."""
    told = yaml.safe_load(blocks(page("docs/deploy.md"))["runbook-links.yml"])
    base = told["global"]["external_labels"]["runbook_base"]
    told["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager.address]}]}]
    link = f"{base}docs/runbook.md#clickservetargetdown"

    with prometheus(tmp_path, ["http://127.0.0.1:1"], factor=60, added=told) as server:
        until(lambda: "ClickserveTargetDown" in server.firing(), "nobody answers at port 1")
        until(lambda: bool(alertmanager.received), "the alert is sent")

        assert server.runbook_links()["ClickserveTargetDown"] == link
    sent = alertmanager.received[0]
    assert sent["annotations"]["runbook_url"] == link
    assert "runbook_base" not in sent["labels"]


def test_faster_rules_differ_in_their_windows_only() -> None:
    """A proof on other thresholds would prove other rules."""
    for path in RULES.glob("*.yml"):
        text = path.read_text()
        rules = yaml.safe_dump(yaml.safe_load(text), width=10_000)

        fast = yaml.safe_dump(yaml.safe_load(faster_rules(text, 60)), width=10_000)

        window = re.compile(r"(?<=\[)\w+(?=\])|(?<=for: )\w+$", re.MULTILINE)
        assert window.sub("…", fast) == window.sub("…", rules)
        assert window.findall(fast) == [faster(duration, 60) for duration in window.findall(rules)]


async def test_the_counter_equals_the_answers_also_after_a_restart(
    arguments: list[str], project: ServedProject, tmp_path: Path
) -> None:
    """Two workers, one of them killed at rest and replaced: nothing is counted twice, nothing is forgotten."""
    query = 'sum(clickserve_requests_total{route="/v1/rank"})'
    with service(*arguments, "--workers", "2") as process:
        process.wait_for("ready")
        with prometheus(tmp_path / "prometheus", [process.admin_url], scrape="200ms") as server:
            load = Load(process.port, project.rank_request(), n_connections=4)
            async with load:
                await load.has_answered(300)
            await asyncio.to_thread(until, lambda: server.value(query) == load.answered, "the first count is scraped")
            os.kill(process.workers()[0]["pid"], signal.SIGKILL)
            process.wait_for("ready", count=2)
            async with load:
                await load.has_answered(300)

            await asyncio.to_thread(until, lambda: server.value(query) == load.answered, "the second count is scraped")

            assert server.value("clickserve_worker_restarts_total") == 1
            assert server.value(f"resets({query.removeprefix('sum(').removesuffix(')')}[5m])") == 0


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here (Debian: apt-get install prometheus)")
def test_promtool_finds_nothing_wrong_with_the_metrics(arguments: list[str], project: ServedProject) -> None:
    """Names, units, types and help texts as Prometheus wants them, with every kind of sample there is."""
    with service(*arguments, "--workers", "2") as process:
        process.wait_for("ready")
        asyncio.run(_answered(process.port, project.rank_request()))
        metrics = get(f"{process.admin_url}/metrics")

    checked = subprocess.run(["promtool", "check", "metrics"], input=metrics, capture_output=True, check=False)

    assert b"clickserve_request_duration_seconds_bucket" in metrics
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


async def _answered(port: int, request: bytes) -> None:
    async with Load(port, request, n_connections=2) as load:
        await load.has_answered(20)
