"""Alerts and dashboard in a running stack: faults that are planted are told, quiet is quiet, and no panel is empty."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.dashboard import alert_names, filled_in, panel_queries, recorded_names
from tests.e2e.load import Load
from tests.prometheus_server import Prometheus, prometheus, without_data
from tests.proofs import planted_faults as faults
from tests.proofs.alert_stack import Stack, stack, traffic
from tests.proofs.claim import Claim, Outcome
from tests.proofs.planted_faults import Fault

FACTOR = 60.0
"""By which windows and patience are divided while faults are planted: an hour becomes a minute."""
SCRAPE, EVALUATE = "500ms", "500ms"
SETTLING_S = 20.0
TOLD_WITHIN_S = 90.0
"""Of the planting, and again of the mending. The longest window that must run empty is 30 s (30 min), the longest
patience 15 s (15 min)."""
STALE_WITHIN_S = 330.0
"""Of the store's end: the table of ads may be 300 s old, a threshold and no window, so nothing divides it."""
PATIENT = (
    *("--set", "deadline.total_ms=2000", "--set", "deadline.features_ms=200", "--set", "admission.queue_ms=1000"),
)
"""Deadlines that a machine shared with others does not miss by itself."""
HURTABLE = (
    *PATIENT,
    *("--set", "admission.max_inflight=4", "--set", "admission.max_queued=4", "--set", "served_log.roll_ms=1000"),
)
"""And a door that few callers fill."""

QUIET_S = 600.0
LOOK_S = 15.0
DATA_S = 120.0


@dataclass
class Told:
    """What became of one alert."""

    fault: str
    fired_after_s: float | None
    ended_after_s: float | None = None


@dataclass
class Plantings:
    """Plants faults, a few at a time, and keeps what was told of them."""

    server: Prometheus
    told: dict[str, list[Told]] = field(default_factory=dict)
    bystanders: dict[str, list[str]] = field(default_factory=dict)
    """Other alerts that fired, by what was planted."""
    planted_at: dict[str, float] = field(default_factory=dict)
    fired_already: list[str] = field(default_factory=list)
    """Alerts that were still told of an earlier fault when their own was planted."""

    async def together(self, *planted: Fault, within_s: float = TOLD_WITHIN_S) -> None:
        """Plants, waits until all is told, mends, waits until all has ended."""
        await self.begin(*planted)
        await self.finish(*planted, within_s=within_s)

    async def begin(self, *planted: Fault) -> None:
        """Plants, once the alerts of these faults are silent."""
        wanted = _wanted(planted)
        silent = await self._until(wanted, False, TOLD_WITHIN_S)
        self.fired_already += wanted.keys() - silent.keys()
        for fault in planted:
            self.planted_at[fault.name] = time.monotonic()
            await fault.plant()

    async def finish(self, *planted: Fault, within_s: float = TOLD_WITHIN_S) -> None:
        """All that comes after the planting."""
        wanted = _wanted(planted)
        fired = await self._until(wanted, True, within_s)
        of_others = set(await asyncio.to_thread(self.server.firing)) - set(wanted)
        self.bystanders[", ".join(fault.name for fault in planted)] = sorted(of_others)
        for fault in planted:
            await fault.mend()
        mended_at = time.monotonic()
        ended = await self._until({name: wanted[name] for name in fired}, False, TOLD_WITHIN_S)
        for fault in planted:
            for name in fault.alerts:
                fired_after_s = None if name not in fired else round(fired[name] - self.planted_at[fault.name], 1)
                ended_after_s = None if name not in ended else round(ended[name] - mended_at, 1)
                self.told.setdefault(name, []).append(Told(fault.name, fired_after_s, ended_after_s))

    async def _until(self, wanted: dict[str, dict[str, str]], fires: bool, within_s: float) -> dict[str, float]:
        """When each alert was seen to fire, or to do so no more; those are left out that were not in time."""
        began, reached = time.monotonic(), dict[str, float]()
        while wanted.keys() - reached.keys() and time.monotonic() < began + within_s:
            firing = await asyncio.to_thread(self.server.firing)
            for name, labels in wanted.items():
                matching = any(labels.items() <= alert.items() for alert in firing.get(name, []))
                if name not in reached and matching == fires:
                    reached[name] = time.monotonic()
            await asyncio.sleep(0.25)
        return reached


def _wanted(planted: Sequence[Fault]) -> dict[str, dict[str, str]]:
    return {name: labels for fault in planted for name, labels in fault.alerts.items()}


def fires(scratch: Path) -> Outcome:
    """Every alert, on its fault; an instance beside loses its store for as long as a table may be old."""
    return asyncio.run(_fires(scratch))


async def _fires(scratch: Path) -> Outcome:
    began = time.monotonic()
    with stack(scratch / "a", *HURTABLE) as served, stack(scratch / "b", *HURTABLE, "--workers", "1") as beside:
        urls = [served.process.admin_url, beside.process.admin_url]
        with prometheus(scratch / "prometheus", urls, factor=FACTOR, scrape=SCRAPE, evaluate=EVALUATE) as server:
            async with traffic(served):
                await asyncio.sleep(SETTLING_S)
                before = await asyncio.to_thread(server.firing)
                plantings = Plantings(server)
                await _plant_all(plantings, served, beside)
    return _verdict(plantings, before, time.monotonic() - began)


async def _plant_all(plantings: Plantings, served: Stack, beside: Stack) -> None:
    lasting = faults.store_killed_for_minutes(beside)
    await plantings.begin(lasting)
    away_since = time.monotonic()
    await plantings.together(faults.store_slow(served))
    await plantings.together(faults.cpu_taken_away(served))
    await plantings.together(faults.overload(served))
    await plantings.together(faults.store_frozen(served))
    await plantings.together(faults.store_killed(served))
    await plantings.together(
        faults.rows_deleted(served), faults.served_log_blocked(served), faults.broken_model_promoted(served)
    )
    await plantings.together(faults.rows_old(served), faults.unit_changed(served), faults.worker_killed(served))
    await plantings.together(faults.no_worker_begins(served))
    await plantings.finish(lasting, within_s=max(1.0, away_since + STALE_WITHIN_S - time.monotonic()))
    await plantings.together(faults.instance_stopped(beside))


def _verdict(plantings: Plantings, before: dict[str, Any], seconds: float) -> Outcome:
    told = plantings.told
    silent = [f"{name} on {one.fault}" for name, all_ in told.items() for one in all_ if one.fired_after_s is None]
    endless = [
        f"{name} on {one.fault}"
        for name, all_ in told.items()
        for one in all_
        if one.fired_after_s is not None and one.ended_after_s is None
    ]
    checks = {
        "every alert has its fault": set(told) == set(alert_names()),
        "nothing fires before": not before and not plantings.fired_already,
        f"every alert fires{_named(silent)}": not silent,
        f"every alert ends{_named(endless)}": not endless,
    }
    n_faults = len({one.fault for all_ in told.values() for one in all_})
    after_s = {name: max(one.fired_after_s or 0.0 for one in all_) for name, all_ in told.items()}
    stale_s = after_s.pop("ClickserveItemTableStale", 0.0)
    within_s = max(after_s.values(), default=0.0)
    value = (
        f"{len(told)} alerts on {n_faults} planted faults: {len(silent)} did not fire, {len(endless)} did not end; the "
        f"slowest fired {within_s:.0f} s after its fault, that of an old table of ads after {stale_s:.0f} s; "
        f"{seconds:.0f} s in all"
    )
    details = {
        "factor": FACTOR,
        "firing_before": before,
        "fired_already": plantings.fired_already,
        "alerts": {
            name: [{"fault": o.fault, "fired_after_s": o.fired_after_s, "ended_after_s": o.ended_after_s} for o in all_]
            for name, all_ in sorted(told.items())
        },
        "bystanders": plantings.bystanders,
    }
    return Outcome.judged(value, checks, details)


def _named(which: list[str]) -> str:
    return f" ({', '.join(which)})" if which else ""


def quiet(scratch: Path) -> Outcome:
    """Ten minutes of healthy traffic, our rules as they are deployed."""
    return asyncio.run(_quiet(scratch))


async def _quiet(scratch: Path) -> Outcome:
    waited: Counter[str] = Counter()
    fired: dict[str, list[dict[str, str]]] = {}
    with (
        stack(scratch / "a", *PATIENT) as served,
        prometheus(scratch / "prometheus", [served.process.admin_url]) as server,
    ):
        async with traffic(served) as loads:
            began = time.monotonic()
            while time.monotonic() < began + QUIET_S:
                await asyncio.sleep(LOOK_S)
                waited.update(list(await asyncio.to_thread(server.pending)))
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
    value = (
        f"{len(alert_names())} alerts, {sum(answers.values()):,} requests in {seconds:.0f} s, {len(fired)} fired; "
        f"waiting to fire, in looks of {QUIET_S / LOOK_S:.0f}: {dict(waited) or 'none'}"
    )
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
        "alerts-fire",
        "make prove PART=stack, or: python -m tests.proofs stack --only alerts-fire",
        f"each of our {len(alert_names())} alerts fires on a fault planted in a running stack (service under load, "
        f"Valkey, Prometheus) within {TOLD_WITHIN_S:.0f} s (a table of ads is old after 300) and ends within "
        f"{TOLD_WITHIN_S:.0f} s of its mending, and is silent before; windows and patience of the rules are divided by "
        f"{FACTOR:.0f}, thresholds are as deployed",
        fires,
    ),
    Claim(
        "alerts-quiet",
        "make prove PART=stack, or: python -m tests.proofs stack --only alerts-quiet",
        "ten minutes of healthy traffic (20 users, 100 candidates, two workers; deadlines of seconds, because "
        "the machine is shared), our scrape configuration and rules as deployed: no alert fires",
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
