"""One worker as its parent sees it: started, told, watched, and its counters handed on when it dies.

A worker is a fresh interpreter and not a fork: ONNX Runtime and the Redis client own threads and sockets that do not
survive one. It inherits the listening sockets and its end of the channel, nothing else.

Metrics live in files named by process id. A replacement takes over the files of the worker it replaces, before it opens
them, and counts on from there: sums never fall, and a worker that dies again and again does not fill the disk.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

from service.settings import Settings
from service.worker_channel import BEAT, MISSED_BEATS, Order, Report, read_report, send_order

State = Literal["starting", "ready", "draining", "failed", "ended"]

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Workers share the cores between them; a numeric library that starts a thread per core would only make them wait."""

_NO_TELEMETRY = {"ORT_DISABLE_TELEMETRY": "1"}
"""From 1.31 on ONNX Runtime's Linux wheel uploads usage data by default (microsoft/onnxruntime pull request 27379)."""


class WorkerProcess:
    """A running worker."""

    def __init__(
        self,
        worker_id: int,
        process: asyncio.subprocess.Process,
        reports: asyncio.StreamReader,
        commands: asyncio.StreamWriter,
        on_change: Callable[[], None],
    ) -> None:
        self.worker_id = worker_id
        self.state: State = "starting"
        self.failure: Report | None = None
        self.was_ready = False
        self._n_unheard = 0
        self._process = process
        self._reports = reports
        self._commands = commands
        self._on_change = on_change

    @classmethod
    async def start(
        cls,
        worker_id: int,
        settings: Settings,
        listeners: Sequence[socket.socket],
        *,
        shares_file: Path,
        metrics_dir: Path,
        replaces_pid: int | None,
        has_served: bool,
        on_change: Callable[[], None],
    ) -> Self:
        """Start a worker and give it its order.

        Args:
            worker_id: 0 to workers - 1; a replacement has the number of the dead.
            listeners: the sockets it accepts from.
            shares_file: where workers tell each other how many connections they hold.
            metrics_dir: where the processes of this service keep their metrics.
            replaces_pid: the dead worker whose counters it carries on.
            has_served: whether a worker of this service has been ready before.
            on_change: called after each change of `state`.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = tuple(listener.fileno() for listener in listeners)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "service.worker", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *descriptors),
                start_new_session=True,  # Ctrl-C at a terminal reaches the parent alone
                env=_environment(),
            )
        if replaces_pid is not None:
            # Before the order, without which the worker opens no file.
            _hand_on_metrics(metrics_dir, replaces_pid, process.pid)
        with suppress(ConnectionError):  # it died already; `run` will tell
            send_order(ours, Order(worker_id, settings, descriptors, shares_file, has_served))
        reports, commands = await asyncio.open_connection(sock=ours)
        return cls(worker_id, process, reports, commands, on_change)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(self) -> int:
        """Follow the worker to its end; answers its exit status, minus the signal's number where one killed it."""
        while line := await self._next_line():
            self._n_unheard = 0
            if line == BEAT:
                continue
            report = read_report(line)
            self.state = report.state
            self.was_ready |= report.state == "ready"
            if report.state == "failed":
                self.failure = report
            self._on_change()
        status = await self._process.wait()
        self._commands.close()
        self.state = "ended"
        self._on_change()
        return status

    async def _next_line(self) -> bytes:
        """The next report; empty at the end, also where the worker was killed with a command unread."""
        try:
            return await self._reports.readline()
        except ConnectionError:
            return b""

    def hangs(self) -> bool:
        """Whether too many beats were missed, said once; ask in each interval of a beat.

        Counts questions and not time: a parent that stood still itself, as on a suspended machine, blames nobody. A
        worker that starts or drains may be busy for long; its start and its end have limits of their own.
        """
        self._n_unheard = self._n_unheard + 1 if self.state == "ready" else 0
        return self._n_unheard == MISSED_BEATS + 1

    def command(self, line: bytes) -> None:
        """Send a command; one to a worker that has ended is lost without harm."""
        if self.state != "ended":
            self._commands.write(line)

    def kill(self) -> None:
        """End it now."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)


def _environment() -> dict[str, str]:
    """The parent's environment, and the code that the parent runs first on the path."""
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return {**_ONE_THREAD, **_NO_TELEMETRY, **os.environ, "PYTHONPATH": path}


def _hand_on_metrics(directory: Path, from_pid: int, to_pid: int) -> None:
    for path in directory.glob(f"*_{from_pid}.db"):
        path.rename(path.with_name(path.name.replace(f"_{from_pid}.db", f"_{to_pid}.db")))
