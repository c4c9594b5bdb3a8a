"""A service of one's own for the length of a command: what `demo` and `bench` measure when no URL is named.

It is `clickserve serve` itself in a process of its own, on free ports, so what is measured is what is deployed. Its
JSON log goes to a file; the lines that name the address and say "ready" are what we wait for, with a deadline.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Any

from loadtest.child_process import child_process, terminate
from service.errors import StartError

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 20.0

_Line = dict[str, Any] | OSError | None


@dataclass(frozen=True, slots=True)
class OwnService:
    """A running service."""

    url: str
    pids: tuple[int, ...]
    """The parent and its workers, whose CPU time is the service's."""
    metrics_url: str | None = None
    """Where it shows its metrics."""


@contextmanager
def own_service(
    config_file: Path, log_file: Path, arguments: Sequence[str] = (), *, checkout: Path | None = None
) -> Iterator[OwnService]:
    """Starts `clickserve serve` with that configuration on free ports; stops it with SIGTERM at the end.

    A log that can no longer be written once the service is ready is cut there, and the service runs on.

    Args:
        checkout: whose code is started, under this interpreter and its libraries; None for the code that runs here.
    Raises:
        StartError: it ended or stayed silent instead of becoming ready; carries its last words.
        OSError: its log cannot be written; names the file.
    """
    command = [
        *(sys.executable, "-m", "service", "serve", "--config", str(config_file)),
        *("--port", "0", "--admin-port", "0", *arguments),
    ]
    lines: Queue[_Line] = Queue()
    reader: threading.Thread | None = None
    try:
        with child_process(
            command,
            lambda process: terminate(process, STOP_WITHIN_S),
            stdout=None,
            stderr=subprocess.PIPE,
            env=_environment(checkout),
        ) as process:
            assert process.stderr is not None
            stream = io.TextIOWrapper(process.stderr, encoding="utf-8", errors="replace")
            reader = threading.Thread(target=_follow, args=(stream, log_file, lines), daemon=True)
            reader.start()
            url, admin_url = _wait_ready(lines, log_file)
            yield OwnService(url, (process.pid, *_children(process.pid)), f"{admin_url}/metrics")
    finally:
        if reader is not None:  # the log's last lines are written when the service has ended
            reader.join(STOP_WITHIN_S)


def _environment(checkout: Path | None) -> dict[str, str] | None:
    """Puts a checkout's packages first; the working directory, which may be another checkout, must not come before."""
    if checkout is None:
        return None
    search_path = os.pathsep.join(filter(None, [str(checkout.resolve()), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": search_path, "PYTHONSAFEPATH": "1"}


def _follow(stream: IO[str], log_file: Path, lines: Queue[_Line]) -> None:
    """Copies the service's log into a file and hands its lines on; None when it ended, or why it cannot be copied."""
    with stream:
        try:
            with log_file.open("w", encoding="utf-8") as copy:
                for line in stream:
                    copy.write(line)
                    copy.flush()
                    try:
                        lines.put(json.loads(line))
                    except ValueError:
                        lines.put({"msg": line.rstrip()})
        except OSError as error:
            lines.put(OSError(error.errno, error.strerror, str(log_file)))
            for _ in stream:  # unread, the service would stand still as soon as the pipe is full
                continue
    lines.put(None)


def _wait_ready(lines: Queue[_Line], log_file: Path) -> tuple[str, str]:
    """The URLs of requests and of what only its operators see."""
    url, admin_url, last = "", "", "it said nothing"
    while True:
        try:
            line = lines.get(timeout=READY_WITHIN_S)
        except Empty:
            raise StartError(
                f"the service was not ready within {READY_WITHIN_S:g} s ({last}); see {log_file}"
            ) from None
        if line is None:
            raise StartError(f"the service ended before it was ready: {last}; see {log_file}")
        if isinstance(line, OSError):
            raise line
        last = str(line.get("msg"))
        if last == "listening":
            url, admin_url = str(line["url"]), str(line["admin_url"])
        elif last == "ready":
            return url, admin_url


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []
