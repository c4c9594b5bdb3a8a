"""A worker process: `python -m service.worker DESCRIPTOR`, started by the supervisor only.

It loads what it serves, says that it is ready, and serves until its parent commands the end or is gone. A worker that
cannot begin reports why and ends. It ignores SIGTERM and SIGINT: process managers send them to every process of a
service, but the order of the end (readiness fails, the listener stays, then everything else) is the parent's to give.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress

from feature_store.errors import FeatureStoreError
from models.errors import ModelsError
from service import structured_log
from service.asgi import AsgiApp
from service.bootstrap import Runtime
from service.connection_shares import ConnectionShares
from service.errors import ServiceError
from service.exit_codes import exit_code
from service.server import HttpServer, run
from service.settings import ServerSettings
from service.tracing.switch import start_tracing
from service.worker_channel import BEAT, GONE, QUIT, STOP_RESERVE_MS, Order, Report, beat_interval_s, receive_order

logger = logging.getLogger(__name__)


def main() -> int:
    """Serves; answers the exit status."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=int(sys.argv[1]))
    try:
        order = receive_order(channel)
    except EOFError:
        return 0
    structured_log.configure(order.settings.log.level, worker=order.worker_id)
    return run(_work(order, channel))


async def _work(order: Order, channel: socket.socket) -> int:
    from_parent, to_parent = await asyncio.open_connection(sock=channel)
    command = asyncio.create_task(from_parent.readline())
    starting = asyncio.create_task(
        Runtime.start(order.settings, start_tracing(os.environ), has_served=order.has_served)
    )
    await asyncio.wait({command, starting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        return 0
    try:
        runtime = starting.result()
    except (ServiceError, ModelsError, FeatureStoreError) as error:
        failure = Report("failed", str(error), exit_code(error))
        await _tell(to_parent, failure)
        return failure.exit_code
    app: AsgiApp = runtime.app
    if order.settings.log.access_sample > 0:
        app = structured_log.AccessLog(app, order.settings.log.access_sample)
    server = HttpServer(
        app,
        [socket.socket(fileno=descriptor) for descriptor in order.listener_fds],
        ConnectionShares.of_worker(order.shares_file, order.worker_id),
        keep_alive_ms=order.settings.server.keep_alive_ms,
        on_refused=runtime.telemetry.refused,
    )
    await _tell(to_parent, Report("ready"))
    beating = asyncio.create_task(_beat(to_parent, beat_interval_s(order.settings.server.hang_ms)))
    if (last_word := await command) != QUIT:
        runtime.begin_drain()
        await _tell(to_parent, Report("draining"))
        await _drain(server, order.settings.server, from_parent, parent_gone=last_word == GONE)
    server.stop()
    beating.cancel()
    await runtime.stop()
    return 0


async def _drain(
    server: HttpServer, settings: ServerSettings, from_parent: asyncio.StreamReader, *, parent_gone: bool
) -> None:
    """Until no connection is left, or the parent has no patience left."""
    draining = asyncio.create_task(
        server.drain(
            # Without a parent nobody replaces dead workers; a new service may wait for the port.
            drain_ms=0.0 if parent_gone else settings.drain_ms,
            grace_ms=settings.grace_ms - STOP_RESERVE_MS,
        )
    )
    impatience = asyncio.create_task(_quit_commanded(from_parent))
    await asyncio.wait({draining, impatience}, return_when=asyncio.FIRST_COMPLETED)
    impatience.cancel()
    server.stop()
    await draining


async def _quit_commanded(from_parent: asyncio.StreamReader) -> None:
    """Returns when the parent says `quit`; never when it is gone, because then nobody will."""
    while await from_parent.readline() != QUIT:
        if from_parent.at_eof():
            await asyncio.get_running_loop().create_future()


async def _beat(to_parent: asyncio.StreamWriter, interval_s: float) -> None:
    """Say again and again that the event loop turns, until nobody listens."""
    while not to_parent.is_closing():
        to_parent.write(BEAT)
        await asyncio.sleep(interval_s)


async def _tell(to_parent: asyncio.StreamWriter, report: Report) -> None:
    """Report a state; without a parent there is nobody to tell, and the end of the stream says the rest."""
    with suppress(ConnectionError):
        to_parent.write(report.line())
        await to_parent.drain()


if __name__ == "__main__":
    sys.exit(main())
