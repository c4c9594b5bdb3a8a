"""Alerts and dashboard in a running stack: faults that are planted are told, quiet is quiet, and no panel is empty."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

from tests.dashboard import alert_names, filled_in, panel_queries, recorded_names, rules
from tests.e2e.load import Load
from tests.prometheus_server import Prometheus, prometheus, without_data
from tests.proofs.alert_stack import stack, traffic
from tests.proofs.claim import Claim, Outcome

QUIET_S = 600.0
LOOK_S = 15.0
DATA_S = 120.0


def quiet(scratch: Path) -> Outcome:
    """Ten minutes of healthy traffic, our rules as they are deployed."""
    return asyncio.run(_quiet(scratch))


async def _quiet(scratch: Path) -> Outcome:
    waited: Counter[str] = Counter()
    fired: dict[str, list[dict[str, str]]] = {}
    with stack(scratch / "a") as served, prometheus(scratch / "prometheus", [served.process.admin_url]) as server:
        async with traffic(served) as loads:
            began = time.monotonic()
            while time.monotonic() < began + QUIET_S:
                await asyncio.sleep(LOOK_S)
                waited.update(await asyncio.to_thread(server.pending))
                fired |= await asyncio.to_thread(server.firing)
            fired |= {name: [] for name in await asyncio.to_thread(server.ever, "firing", "20m")}
            up = server.value('count_over_time(up{job="clickserve"}[20m])')
            seconds = time.monotonic() - began
    answers = _answers(loads)
    checks = {
        "none fires": not fired,
        "all answers are 200": set(answers) == {"200"},
        "at least 50 requests per second": sum(answers.values()) >= 50 * QUIET_S,
        "scraped all the time": up >= 0.9 * QUIET_S / 10,
    }
    value = f"{len(alert_names())} alerts, {sum(answers.values()):,} requests in {seconds:.0f} s, {len(fired)} fired"
    details = {"fired": fired, "looks_that_found_it_pending": dict(waited), "statuses": answers, "scrapes": up}
    return Outcome.judged(value, checks, details)


def data(scratch: Path) -> Outcome:
    """Each query of the dashboard, and each recorded number, asked of a Prometheus with our configuration."""
    return asyncio.run(_data(scratch))


async def _data(scratch: Path) -> Outcome:
    queries = {name: filled_in(query) for name, query in panel_queries().items()}
    queries |= {name: name for name in recorded_names()}
    with stack(scratch / "a") as served, prometheus(scratch / "prometheus", [served.process.admin_url]) as server:
        async with traffic(served):
            began = time.monotonic()
            empty = await asyncio.to_thread(without_data, server, queries, within_s=DATA_S)
            seconds = time.monotonic() - began
    value = f"{len(queries) - len(empty)} of {len(queries)} queries have data after {seconds:.0f} s"
    return Outcome.judged(value, {"no query without data": not empty}, {"without_data": empty})


def _answers(loads: list[Load]) -> dict[str, int]:
    total: Counter[int] = Counter()
    for load in loads:
        total.update(load.statuses)
    return {str(status): count for status, count in total.items()}


CLAIMS = [
    Claim(
        "alerts-quiet",
        "make prove PART=stack, or: python -m tests.proofs stack --only alerts-quiet",
        "ten minutes of healthy traffic (20 users, 100 candidates, two workers, default settings), our scrape "
        "configuration and rules as deployed: no alert fires",
        quiet,
    ),
    Claim(
        "dashboard-data",
        "make prove PART=stack, or: python -m tests.proofs stack --only dashboard-data",
        "every query of every panel and every recorded number has data within two minutes of traffic, asked as Grafana "
        "asks, in a Prometheus with our scrape configuration and rules as deployed",
        data,
    ),
]
