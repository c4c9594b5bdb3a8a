"""A service, its store and a Prometheus with our rules, under the traffic of all its users."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.artifacts import ServedProject, make_served_project
from tests.e2e.load import Load
from tests.e2e.service_process import ServiceProcess, service
from tests.stores import HurtableServer

N_CANDIDATES = 100
USERS = 20
PAUSE_S = 0.2


@dataclass
class Stack:
    """One instance and what belongs to it."""

    folder: Path
    project: ServedProject
    store: HurtableServer
    process: ServiceProcess

    @property
    def instance(self) -> str:
        """As Prometheus names it."""
        return self.process.admin_url.removeprefix("http://")


@contextmanager
def stack(folder: Path, *arguments: str) -> Iterator[Stack]:
    """A ready service of two workers, with a registry, a store and a served log of its own."""
    folder.mkdir(parents=True)
    project = make_served_project(folder)
    store = HurtableServer(folder / "valkey")
    try:
        project.materialize(store.url)
        with service(
            *("--registry", str(project.registry_dir), "--set", f"redis.url={store.url}", "--workers", "2"),
            *("--set", f"items.snapshot_dir={folder / 'items'}"),
            *("--set", f"served_log.folder={folder / 'served'}", "--set", "server.drain_ms=200"),
            *arguments,
        ) as process:
            process.wait_for("ready")
            yield Stack(folder, project, store, process)
    finally:
        store.close()


@asynccontextmanager
async def traffic(served: Stack) -> AsyncIterator[list[Load]]:
    """About a hundred requests per second: each user asks for a ranking, rests, and asks again."""
    async with AsyncExitStack() as clients:
        loads = [
            Load(served.process.port, request, n_connections=1, pause_s=PAUSE_S)
            for request in (
                served.project.rank_request(N_CANDIDATES, user_id)
                for user_id in served.project.users.entity_ids[:USERS]
            )
        ]
        for load in loads:
            await clients.enter_async_context(load)
        yield loads


def with_ads(project: ServedProject, added_to_ctr: float) -> ServedProject:
    """The same project, whose feature job writes the ads' click rate in another unit."""
    floats = project.ads.floats.copy()
    floats[:, 1] += added_to_ctr
    return replace(project, ads=replace(project.ads, floats=floats))
