"""One worker of the service with one variant of its route, in the foreground: started by `loadtest.micro.routes`.

    python -m loadtest.micro.route_server --config clickserve.toml --port 8080 --variant typed-route

Metrics go to files as they do under a parent process. Before it listens it says, as a line of JSON, how long a full
garbage collection stops it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from service.connection_shares import ConnectionShares
from service.listening import open_listeners
from service.metrics_folder import metrics_folder
from service.server import HttpServer, run
from service.settings import Settings
from service.settings_origins import load_settings
from service.store_address import store_url

N_COLLECTIONS = 5


def main() -> int:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--variant", required=True)
    given = parser.parse_args()
    settings = load_settings(given.config, os.environ, {})
    with metrics_folder(), store_url(settings) as url:
        run(_serve(replace(settings, redis=replace(settings.redis, url=url)), given.port, given.variant))
    return 0


async def _serve(settings: Settings, port: int, variant: str) -> None:
    # Loads prometheus_client, which looks for the folder once.
    from loadtest.micro.route_variants import VARIANTS
    from service.bootstrap import Runtime

    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    runtime = await Runtime.start(settings)
    app = VARIANTS[variant].application(runtime, settings)
    sys.stdout.write(json.dumps({"collection_ms": _collection_ms()}) + "\n")
    sys.stdout.flush()
    server = HttpServer(
        app,
        open_listeners("127.0.0.1", port, backlog=128, setting="server"),
        ConnectionShares.alone(),
        keep_alive_ms=settings.server.keep_alive_ms,
    )
    await over.wait()
    server.stop()
    await runtime.stop()


def _collection_ms() -> float:
    """Median time of a full garbage collection."""
    took = []
    for _ in range(N_COLLECTIONS):
        started = time.perf_counter()
        gc.collect()
        took.append(1_000 * (time.perf_counter() - started))
    return round(statistics.median(took), 3)


if __name__ == "__main__":
    sys.exit(main())
