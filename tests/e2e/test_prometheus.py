"""A real Prometheus counts what the clients count."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.artifacts import ServedProject
from tests.dashboard import RULES, filled_in, panel_queries, recorded_names
from tests.e2e.load import Load
from tests.e2e.service_process import get, service, until
from tests.prometheus_server import INSTALLED, faster, faster_rules, prometheus, without_data

pytestmark = pytest.mark.skipif(
    not INSTALLED,
    reason="no prometheus here (Debian: apt-get install prometheus); test_workers.py compares the same counter by hand",
)


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
