"""A real Prometheus counts what the clients count."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.artifacts import ServedProject
from tests.e2e.load import Load
from tests.e2e.service_process import get, service, until

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="no prometheus here (Debian: apt-get install prometheus); test_workers.py compares the same counter by hand",
)


@contextmanager
def prometheus(folder: Path, admin_url: str) -> Iterator[str]:
    """A Prometheus that scrapes the service five times a second; its URL, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "prometheus.yml"
    target = admin_url.removeprefix("http://")
    config.write_text(
        "global: {scrape_interval: 200ms}\n"
        f"scrape_configs: [{{job_name: clickserve, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: _answers(f"{url}/-/ready"), "Prometheus is ready")
        yield url
    finally:
        process.terminate()
        process.wait()


def scraped(url: str, query: str) -> float:
    """The newest value of an instant query with one result; 0 where there is none yet."""
    answer = json.loads(get(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))
    result = answer["data"]["result"]
    return float(result[0]["value"][1]) if result else 0.0


async def test_the_counter_equals_the_answers_also_after_a_restart(
    arguments: list[str], project: ServedProject, tmp_path: Path
) -> None:
    """Two workers, one of them killed at rest and replaced: nothing is counted twice, nothing is forgotten."""
    query = 'sum(clickserve_requests_total{route="/v1/rank"})'
    with service(*arguments, "--workers", "2") as process:
        process.wait_for("ready")
        with prometheus(tmp_path, process.admin_url) as url:
            load = Load(process.port, project.rank_request(), n_connections=4)
            async with load:
                await load.has_answered(300)
            await asyncio.to_thread(until, lambda: scraped(url, query) == load.answered, "the first count is scraped")
            os.kill(process.workers()[0]["pid"], signal.SIGKILL)
            process.wait_for("ready", count=2)
            async with load:
                await load.has_answered(300)

            await asyncio.to_thread(until, lambda: scraped(url, query) == load.answered, "the second count is scraped")

            assert scraped(url, "clickserve_worker_restarts_total") == 1
            assert scraped(url, f"resets({query.removeprefix('sum(').removesuffix(')')}[5m])") == 0


def _answers(url: str) -> bool:
    try:
        get(url)
    except OSError:
        return False
    return True


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
