"""Faults that are planted in a running stack, each with the alerts that must tell it, and its mending.

What is planted is the thing itself: a process is killed or kept from running, rows are deleted or written wrongly,
files are damaged. Nothing pretends to be a metric.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import redis

from feature_store.online.redis_writer import RedisRowWriter
from tests.artifacts import DAY_MS, ServedProject
from tests.e2e.load import Load
from tests.proofs.alert_stack import Stack, with_ads

SLICES_S = ((0.1, 0.3), (0.05, 0.1))
"""How long a worker is stopped and runs, drawn anew each time: a fixed beat falls into step with the timer that the
event loop is measured by, and then shows the same small lag for ever."""
SLOW_STORE_S = (0.06, 0.01)
"""Stopped and running: most reads wait longer than the 10 ms that an answer may take, and none until it is given up."""
BEYOND_CAPACITY = 64
"""Connections without a pause; two workers have room for 16 requests."""
ALMOST_EXPIRED_MS = 25 * DAY_MS
"""Of thirty days."""

Step = Callable[[], Awaitable[None]]


@dataclass
class Fault:
    """One thing that goes wrong."""

    name: str
    alerts: dict[str, dict[str, str]]
    """What must be told, each with labels that it must carry."""
    plant: Step
    mend: Step


def cpu_taken_away(served: Stack) -> Fault:
    """As by a CPU limit, or a neighbour: both workers stand still most of the time, in slices of a few hundred ms."""
    random = np.random.default_rng(3)
    pids: list[int] = []

    def slices() -> tuple[float, float]:
        if not pids:
            pids.extend(worker["pid"] for worker in served.process.workers())
        stopped, running = (float(random.uniform(*bounds)) for bounds in SLICES_S)
        return stopped, running

    return _in_slices(
        "the CPU taken away from the workers",
        {"ClickserveEventLoopLag": {"instance": served.instance}},
        stop=lambda: _signal(pids, signal.SIGSTOP),
        go_on=lambda: _signal(pids, signal.SIGCONT),
        slices=slices,
    )


def store_slow(served: Stack) -> Fault:
    """Redis answers every read, tens of milliseconds later than usual."""
    return _in_slices(
        "Redis slow (SIGSTOP and SIGCONT in turn)",
        {"ClickserveLatencyBurnFast": {}, "ClickserveLatencyBurnSlow": {}, "ClickserveHighP99": {}},
        stop=served.store.freeze,
        go_on=served.store.thaw,
        slices=lambda: SLOW_STORE_S,
    )


def overload(served: Stack) -> Fault:
    """Callers that wait for nothing, more of them than the door has room for."""
    load = Load(served.process.port, served.project.rank_request(20), n_connections=BEYOND_CAPACITY)

    async def plant() -> None:
        await load.__aenter__()

    async def mend() -> None:
        await load.__aexit__(None, None, None)

    alerts = {
        "ClickserveShedding": {"reason": "queue_full"},
        "ClickserveAvailabilityBurnFast": {},
        "ClickserveAvailabilityBurnSlow": {},
    }
    return Fault("more callers than room", alerts, plant, mend)


def store_frozen(served: Stack) -> Fault:
    """Redis takes what is sent and answers nothing."""
    alerts = {"ClickserveStoreErrors": {"instance": served.instance}, "ClickserveDegradedAnswers": {}}
    return Fault("Redis stopped (SIGSTOP)", alerts, _in_thread(served.store.freeze), _in_thread(served.store.thaw))


def store_killed(served: Stack) -> Fault:
    """Redis is gone, and comes back with its data."""
    alerts = {
        "ClickserveStoreErrors": {"instance": served.instance, "op": "items"},
        "ClickserveDegradedAnswers": {"code": "store_down"},
    }
    return Fault("Redis killed", alerts, _in_thread(served.store.kill), _in_thread(served.store.start_again))


def rows_deleted(served: Stack) -> Fault:
    """As after a materialization under another fingerprint: the rows of all users are not there."""
    return Fault(
        "user rows deleted",
        {"ClickserveFeatureRowsAbsent": {"view": "user_profile"}},
        _in_thread(lambda: _delete_users(served)),
        _in_thread(lambda: served.project.materialize(served.store.url)),
    )


def rows_old(served: Stack) -> Fault:
    """A materialize job whose source stands still since 25 days; rows live for 30."""

    def plant() -> None:
        _delete_users(served)  # an older row never replaces a newer one
        _write_users(served.project, served.store.url, time.time_ns() // 1_000_000 - ALMOST_EXPIRED_MS)

    return Fault(
        "user rows of 25 days ago",
        {"ClickserveFeaturesOld": {"view": "user_profile"}},
        _in_thread(plant),
        _in_thread(lambda: served.project.materialize(served.store.url)),
    )


def unit_changed(served: Stack) -> Fault:
    """The feature job writes the click rate of ads in another unit: every ad looks irresistible."""
    return Fault(
        "an ad feature in another unit",
        {"ClickserveScoresShifted": {"model": "default"}},
        _in_thread(lambda: with_ads(served.project, 5.0).materialize_ads(served.store.url)),
        _in_thread(lambda: served.project.materialize_ads(served.store.url)),
    )


def served_log_blocked(served: Stack) -> Fault:
    """A file stands where the folder was; no permission stops a service that runs as root, this does."""
    folder = served.folder / "served"

    def plant() -> None:
        folder.rename(served.folder / "served-before")
        folder.write_text("no folder")

    return Fault(
        "the served log's folder is no folder",
        {"ClickserveServedLogDrops": {"instance": served.instance, "reason": "write_failed"}},
        _in_thread(plant),
        _in_thread(folder.unlink),
    )


def broken_model_promoted(served: Stack) -> Fault:
    """A second version is promoted whose graph was cut on the way."""
    models = served.project.registry_dir / "default"
    champion, version = models / "champion", served.project.version
    broken = "v000002-" + version.partition("-")[2]

    def plant() -> None:
        shutil.copytree(models / version, models / broken)
        graph = models / broken / "model.onnx"
        graph.write_bytes(graph.read_bytes()[:-1])
        champion.write_text(broken)

    alerts = {"ClickserveModelPromotionFailing": {"instance": served.instance, "model": "default"}}
    return Fault("a broken model promoted", alerts, _in_thread(plant), _in_thread(lambda: _write(champion, version)))


def worker_killed(served: Stack) -> Fault:
    """One worker of two; it is replaced by itself."""

    def plant() -> None:
        _signal([served.process.workers()[0]["pid"]], signal.SIGKILL)

    alerts = {"ClickserveWorkerRestarts": {"instance": served.instance}}
    return Fault("a worker killed", alerts, _in_thread(plant), _in_thread(lambda: None))


def no_worker_begins(served: Stack) -> Fault:
    """The model is damaged on disk, then all workers die: none of their successors can begin."""
    graph = served.project.registry_dir / "default" / served.project.version / "model.onnx"
    whole = graph.read_bytes()

    def plant() -> None:
        graph.write_bytes(whole[:-1])
        _signal([worker["pid"] for worker in served.process.workers()], signal.SIGKILL)

    alerts = {"ClickserveNoWorker": {"instance": served.instance}}
    return Fault("model damaged, workers killed", alerts, _in_thread(plant), _in_thread(lambda: _write(graph, whole)))


def store_killed_for_minutes(served: Stack) -> Fault:
    """Of an instance beside, so that its table has five real minutes to grow old."""
    alerts = {"ClickserveItemTableStale": {"instance": served.instance}}
    return Fault("Redis away for minutes", alerts, _in_thread(served.store.kill), _in_thread(served.store.start_again))


def instance_stopped(served: Stack) -> Fault:
    """The parent process takes connections and answers nothing."""
    alerts = {"ClickserveTargetDown": {"instance": served.instance}}
    return Fault(
        "the instance stopped (SIGSTOP)",
        alerts,
        _in_thread(lambda: served.process.signal(signal.SIGSTOP)),
        _in_thread(lambda: served.process.signal(signal.SIGCONT)),
    )


def _in_slices(
    name: str,
    alerts: dict[str, dict[str, str]],
    *,
    stop: Callable[[], None],
    go_on: Callable[[], None],
    slices: Callable[[], tuple[float, float]],
) -> Fault:
    """Something that stands still and runs in turn, until it is mended."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            stopped_s, running_s = slices()
            stop()
            time.sleep(stopped_s)
            go_on()
            over.wait(running_s)

    thread = threading.Thread(target=run, daemon=True)

    def mend() -> None:
        over.set()
        thread.join()

    return Fault(name, alerts, _in_thread(thread.start), _in_thread(mend))


def _in_thread(step: Callable[[], object]) -> Step:
    async def run() -> None:
        await asyncio.to_thread(step)

    return run


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _write(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _delete_users(served: Stack) -> None:
    """By the keys of their view; the server is one that the proof started."""
    with redis.Redis.from_url(served.store.url) as client:
        for key in _user_keys(client, served.project):
            client.delete(key)


def _user_keys(client: redis.Redis, project: ServedProject) -> Iterator[bytes]:
    yield from client.scan_iter(f"cs:{project.schema.project}:{project.users.view.name}:*{{*}}", count=1_000)


def _write_users(project: ServedProject, url: str, time_ms: int) -> None:
    writer, users = RedisRowWriter(url, project.schema.project), project.users
    with writer.session(users.view) as session:
        times = np.full(len(users.entity_ids), time_ms, dtype=np.int64)
        session.write(users.entity_ids, times, users.floats, users.ids)
        session.finish()
    writer.close()
