"""Redis killed under half of the measured capacity, and started again with its data: what callers saw.

    python -m tests.proofs.store_loss FOLDER

The capacity is what one worker answers to a closed loop of eight connections; then each connection rests between
requests so that half of it remains. Settings are the defaults.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from tests.artifacts import make_served_project
from tests.e2e.load import Load
from tests.e2e.service_process import ServiceProcess, service
from tests.stores import HurtableServer

CONNECTIONS = 8
MEASURED_S = 4.0
RECOVERED_WITHIN_S = 2.0


async def measure(process: ServiceProcess, store: HurtableServer, request: bytes) -> dict[str, object]:
    """Healthy, killed, back: statuses, and the degraded share of each phase."""
    closed = Load(process.port, request, CONNECTIONS)
    async with closed:
        await asyncio.sleep(MEASURED_S)
    capacity = closed.answered / MEASURED_S
    load = Load(process.port, request, CONNECTIONS, pause_s=CONNECTIONS / capacity)
    async with load:
        await asyncio.sleep(MEASURED_S)
        healthy_until = time.monotonic()
        await asyncio.to_thread(store.kill)
        killed = time.monotonic()
        await asyncio.sleep(MEASURED_S)
        away_until = time.monotonic()
        await asyncio.to_thread(store.start_again)
        back = time.monotonic()
        await asyncio.sleep(RECOVERED_WITHIN_S + MEASURED_S)

    def share(start: float, end: float) -> float:
        codes = [bool(codes) for at, codes in load.degraded if start <= at < end]
        return sum(codes) / len(codes)

    degraded_after = [at - back for at, codes in load.degraded if codes and at >= back]
    return {
        "capacity_per_s": capacity,
        "offered_per_s": load.answered / (time.monotonic() - healthy_until + MEASURED_S),
        "statuses": {str(status): count for status, count in load.statuses.items()},
        "lost": len(load.lost),
        "degraded_share_healthy": share(0, healthy_until),
        "degraded_share_away": share(killed, away_until),
        "degraded_share_recovered": share(back + RECOVERED_WITHIN_S, time.monotonic()),
        "last_degraded_after_pong_s": max(degraded_after, default=0.0),
    }


def main(folder: Path) -> None:
    """Prints the measurement as one JSON object."""
    project = make_served_project(folder)
    store = HurtableServer(folder / "valkey")
    project.materialize(store.url)
    try:
        with service(
            *("--registry", str(project.registry_dir), "--set", f"redis.url={store.url}"),
            *("--set", f"items.snapshot_dir={folder / 'items'}"),
        ) as process:
            process.wait_for("ready")
            print(json.dumps(asyncio.run(measure(process, store, project.rank_request(100)))))
    finally:
        store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
