"""The parent process: it owns what must outlive a worker, and keeps the workers alive.

It opens the listening sockets, starts the embedded Valkey server where no Redis is named (and starts it again if it
dies), serves the admin port, and starts the workers. It answers no request itself, so it can always answer for itself.

- A worker that cannot begin, before any has served, ends the service with that worker's message and exit status:
  trying again would not repair a damaged model. Later a dead worker is replaced at once; one that keeps dying, after
  pauses that double up to `MAX_PAUSE_S`. The others go on serving.
- A worker whose event loop has stood still for `hang_ms` is killed, and so replaced: it holds connections that nobody
  else can answer.
- SIGTERM, SIGINT or SIGHUP (unless ignored from the start: `nohup`): all workers drain (see `server.py`), and the
  service ends with 0 (130 after SIGINT, 129 after SIGHUP) within `grace_ms`. A second signal ends it now. What has not
  ended by itself then is killed, and the exit status is 1.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from service.admin import AdminApp, read_token
from service.connection_shares import ABSENT, ConnectionShares, make_file
from service.embedded_store import EmbeddedStore
from service.ended_by_signal import is_ignored
from service.errors import StartError
from service.exit_codes import FAILURE, HUNG_UP, INTERRUPTED
from service.listening import open_listeners
from service.server import HttpServer, within
from service.settings import Settings
from service.telemetry import CONTENT_TYPE, SupervisorTelemetry, exposition, forget_process
from service.worker_channel import DRAIN, QUIT, STOP_RESERVE_MS, beat_interval_s
from service.worker_process import WorkerProcess

FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 10.0
"""Longest pause before a worker that keeps dying is replaced."""

STEADY_S = 60.0
"""A worker that lived this long is not one that keeps dying."""

QUIT_S = 2.0
"""How long workers may take to end after a second signal; the grace ends as it would have."""

ENDED_WITH = {signal.SIGTERM: 0, signal.SIGINT: INTERRUPTED, signal.SIGHUP: HUNG_UP}
"""Exit status of a service that a signal has ended in order."""

logger = logging.getLogger(__name__)


class WorkerFailed(StartError):
    """A worker could not begin to serve, or ended although nobody wanted it to."""

    def __init__(self, message: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(message)


async def supervise(settings: Settings, metrics_dir: Path) -> int:
    """Serve until a signal says otherwise; answers the exit status.

    Args:
        settings: of the whole service.
        metrics_dir: an empty folder, named to `prometheus_client` before its import, where all processes count.
    Raises:
        StartError: an address is taken, or a worker cannot begin.
        EmbeddedServerError: the embedded server does not start.
        SettingsError: the admin token cannot be read.
    """
    async with AsyncExitStack() as stack:
        server, admin = settings.server, settings.admin
        token = read_token(admin.token_file)
        listeners = open_listeners(server.host, server.port, backlog=server.backlog, setting="server")
        _close_at_end(stack, listeners)
        admin_listeners = open_listeners(admin.host, admin.port, backlog=server.backlog, setting="admin")
        _close_at_end(stack, admin_listeners)
        if not settings.redis.url:
            store = await stack.enter_async_context(EmbeddedStore(settings.redis.embedded_dir))
            settings = replace(settings, redis=replace(settings.redis, url=store.url))
        supervisor = Supervisor(settings, listeners, metrics_dir)
        admin_app = AdminApp(
            metrics=supervisor.metrics, metrics_content_type=CONTENT_TYPE, workers=supervisor.workers, token=token
        )
        stack.callback(
            HttpServer(admin_app, admin_listeners, ConnectionShares.alone(), keep_alive_ms=server.keep_alive_ms).stop
        )
        logger.info("listening", extra={"url": _url(listeners), "admin_url": _url(admin_listeners)})
        return await supervisor.run()


class Supervisor:
    """Keeps the workers of one service alive, and ends them in order."""

    def __init__(self, settings: Settings, listeners: Sequence[socket.socket], metrics_dir: Path) -> None:
        self._settings = settings
        self._listeners = listeners
        self._metrics_dir = metrics_dir
        self._shares_file = metrics_dir / "connections"
        self._shares = make_file(self._shares_file, settings.server.workers)
        self._telemetry = SupervisorTelemetry()
        self._workers: dict[int, WorkerProcess] = {}
        self._was_ready = False
        self._unclean_ends = 0
        self._ending = asyncio.Event()
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()

    def metrics(self) -> bytes:
        """The metrics of all processes, added up."""
        return exposition(self._telemetry.registry)

    def workers(self) -> list[dict[str, object]]:
        """Number, process id and state of each worker."""
        return [
            {"worker": worker.worker_id, "pid": worker.pid, "state": worker.state} for worker in self._workers.values()
        ]

    async def run(self) -> int:
        """Until a signal ends the service; answers the exit status.

        Raises:
            WorkerFailed: a worker could not begin, and none has served before.
        """
        loop = asyncio.get_running_loop()
        for number in ENDED_WITH:
            # An ignored SIGINT is nobody's wish: shells give it to what they start in the background.
            if number is not signal.SIGHUP or not is_ignored(number):
                loop.add_signal_handler(number, self._signals.put_nowait, number)
        signalled = asyncio.create_task(self._signals.get())
        watching = asyncio.create_task(self._kill_hanging_workers())
        keepers = [asyncio.create_task(self._keep(number)) for number in range(self._settings.server.workers)]
        try:
            await asyncio.wait({signalled, watching, *keepers}, return_when=asyncio.FIRST_COMPLETED)
            for endless in (watching, *keepers):
                if endless.done():
                    endless.result()
            return await self._end(signalled.result(), keepers)
        finally:
            for worker in self._workers.values():
                worker.kill()
            for task in (signalled, watching, *keepers):
                task.cancel()
            await asyncio.gather(watching, *keepers, return_exceptions=True)

    async def _keep(self, worker_id: int) -> None:
        """Run one worker after the other under this number, until the service ends."""
        loop = asyncio.get_running_loop()
        n_early_deaths = 0
        last_pid: int | None = None
        while not self._ending.is_set():
            began = loop.time()
            try:
                worker = await self._start(worker_id, replaces_pid=last_pid)
            except OSError as error:  # no process, memory or descriptor to be had now; there may be later
                death = WorkerFailed(f"worker {worker_id} cannot be started: {error.strerror or error}", FAILURE)
            else:
                last_pid = worker.pid
                death = await self._follow(worker)
            if self._ending.is_set():
                return
            if not self._was_ready:
                raise death
            n_early_deaths = 0 if loop.time() - began > STEADY_S else n_early_deaths + 1
            pause_s = _pause_s(n_early_deaths)
            logger.error(
                "a worker ended and is replaced",
                extra={"worker": worker_id, "ended_pid": last_pid, "error": str(death), "pause_s": pause_s},
            )
            self._telemetry.worker_restarted()
            await within(pause_s, self._ending)

    async def _kill_hanging_workers(self) -> None:
        """Until the service ends; whoever keeps a worker replaces it as it replaces any that died."""
        hang_ms = self._settings.server.hang_ms
        while not self._ending.is_set():
            await within(beat_interval_s(hang_ms), self._ending)
            for worker in self._workers.values():
                if worker.hangs():
                    logger.error(
                        "a worker hangs and is killed",
                        extra={"worker": worker.worker_id, "hanging_pid": worker.pid, "silent_ms": hang_ms},
                    )
                    self._telemetry.worker_hung()
                    worker.kill()

    async def _start(self, worker_id: int, *, replaces_pid: int | None) -> WorkerProcess:
        worker = await WorkerProcess.start(
            worker_id,
            self._settings,
            self._listeners,
            shares_file=self._shares_file,
            metrics_dir=self._metrics_dir,
            replaces_pid=replaces_pid,
            has_served=self._was_ready,
            on_change=self._changed,
        )
        self._workers[worker_id] = worker
        if self._ending.is_set():
            worker.command(QUIT)
        return worker

    async def _follow(self, worker: WorkerProcess) -> WorkerFailed:
        """Until the worker has ended; answers why, for the case that nobody wanted it to."""
        status = await worker.run()
        self._shares[worker.worker_id] = ABSENT
        forget_process(worker.pid)
        if self._ending.is_set():
            self._unclean_ends += status != 0
        if worker.failure is not None:
            return WorkerFailed(worker.failure.message, worker.failure.exit_code)
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        when = "" if worker.was_ready else " before it was ready"
        return WorkerFailed(f"worker {worker.worker_id} (pid {worker.pid}) {how}{when}", FAILURE)

    async def _end(self, number: signal.Signals, keepers: Sequence[asyncio.Task[None]]) -> int:
        """Drain all workers, with ever less patience; answers the exit status."""
        logger.info("draining", extra={"signal": number.name})
        self._ending.set()
        for listener in self._listeners:
            listener.close()  # the workers' copies stay open; what they close last refuses connections
        impatience = asyncio.create_task(self._signals.get())
        ended = asyncio.create_task(asyncio.wait(keepers))
        self._command(DRAIN)
        server, loop = self._settings.server, asyncio.get_running_loop()
        patience_s = max(server.drain_ms, server.grace_ms - STOP_RESERVE_MS) / 1000
        end_s = loop.time() + patience_s + STOP_RESERVE_MS / 1000
        await asyncio.wait((ended, impatience), timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        impatience.cancel()
        if not ended.done():
            self._command(QUIT)
            await asyncio.wait({ended}, timeout=min(QUIT_S, end_s - loop.time()))
        if not ended.done():
            pids = [worker.pid for worker in self._workers.values() if worker.state != "ended"]
            logger.error("workers did not end and are killed", extra={"ended_pids": pids})
            ended.cancel()
            return FAILURE
        logger.info("ended", extra={"unclean_workers": self._unclean_ends})
        if self._unclean_ends:
            return FAILURE
        return ENDED_WITH[number]

    def _command(self, line: bytes) -> None:
        for worker in self._workers.values():
            worker.command(line)

    def _changed(self) -> None:
        """A worker changed its state."""
        n_ready = sum(worker.state == "ready" for worker in self._workers.values())
        self._telemetry.workers(n_ready)
        self._was_ready |= n_ready > 0
        if n_ready == self._settings.server.workers:
            logger.info("ready", extra={"workers": n_ready})


def _pause_s(n_early_deaths: int) -> float:
    """Rest before the next worker: none after the first early death, then doubling up to the longest."""
    if n_early_deaths <= 1:
        return 0.0
    return min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(n_early_deaths - 2, 16))


def _close_at_end(stack: AsyncExitStack, listeners: Sequence[socket.socket]) -> None:
    for listener in listeners:
        stack.callback(listener.close)


def _url(listeners: Sequence[socket.socket]) -> str:
    """Where the first socket listens, as a client would write it."""
    host, port = listeners[0].getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
