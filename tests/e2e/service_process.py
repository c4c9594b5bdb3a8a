"""`clickserve serve` as an operator starts it, and what a test may ask of it.

Its log is read line by line in a thread; `wait_for` is the ready signal for everything the log says.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY

DEADLINE_S = 30.0
PROGRAM = (sys.executable, "-m", "service")


class ServiceProcess:
    """A running service with its log."""

    def __init__(
        self,
        *arguments: str,
        environment: dict[str, str] | None = None,
        cwd: Path = REPOSITORY,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        """Starts `clickserve serve` on free ports; returns before it listens. `program` stands for `clickserve`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLICKSERVE_", "REDIS_"))}
        self._process = subprocess.Popen(
            [*program, "serve", "--port", "0", "--admin-port", "0", *arguments],
            cwd=cwd,
            env={**kept, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._grown = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lines(self) -> list[str]:
        """The log so far, as it was written."""
        with self._grown:
            return list(self._lines)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log so far; fails where a line is not JSON."""
        return [json.loads(line) for line in self.lines]

    def wait_for(self, message: str, *, count: int = 1) -> dict[str, Any]:
        """The `count`-th line with that message; fails where the service ends, or the deadline passes, before it."""

        def found() -> dict[str, Any] | None:
            matching = [line for line in map(json.loads, self._lines) if line["msg"] == message]
            return matching[count - 1] if len(matching) >= count else None

        with self._grown:
            self._grown.wait_for(lambda: found() is not None or self._ended, DEADLINE_S)
            line = found()
            assert line is not None, f"no {message!r} in the log:\n" + "".join(self._lines)
            return line

    @property
    def url(self) -> str:
        """Where requests go."""
        return str(self.wait_for("listening")["url"])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def admin_url(self) -> str:
        """Where metrics are."""
        return str(self.wait_for("listening")["admin_url"])

    def workers(self) -> list[dict[str, Any]]:
        """Number, process id and state of each worker."""
        answer = json.loads(get(f"{self.admin_url}/workers"))
        found: list[dict[str, Any]] = answer["workers"]
        return found

    def counter(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels, over all workers."""
        total = 0.0
        for line in get(f"{self.admin_url}/metrics").decode().splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(f'{key}="{text}"' in sample for key, text in labels.items()):
                total += float(value)
        return total

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the parent process only."""
        os.kill(self._process.pid, number)

    def wait(self) -> int:
        """The exit status, once it has ended and all of its log is read."""
        status = self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return status

    def stdout(self) -> str:
        """What it wrote to stdout; call it after `wait`."""
        assert self._process.stdout is not None
        return self._process.stdout.read()

    def close(self) -> None:
        """Ends it in whatever state it is; the second signal spares the test the drain."""
        if self._process.poll() is None:
            self._process.terminate()
            with self._grown:
                self._grown.wait_for(
                    lambda: self._ended or any('"draining"' in line for line in self._lines), DEADLINE_S
                )
            self._process.terminate()
            try:
                self._process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(DEADLINE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                with self._grown:
                    self._lines.append(line)
                    self._grown.notify_all()
        with self._grown:
            self._ended = True
            self._grown.notify_all()


@contextmanager
def service(
    *arguments: str,
    environment: dict[str, str] | None = None,
    cwd: Path = REPOSITORY,
    program: Sequence[str] = PROGRAM,
) -> Iterator[ServiceProcess]:
    """A service that is stopped on leaving."""
    process = ServiceProcess(*arguments, environment=environment, cwd=cwd, program=program)
    try:
        yield process
    finally:
        process.close()


def get(url: str) -> bytes:
    """Body of a 200 answer."""
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        body: bytes = answer.read()
        return body


def until(condition: Callable[[], bool], what: str, *, within_s: float = DEADLINE_S) -> float:
    """Ask again and again until it holds; answers after how many seconds, fails at the deadline."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.04)
    return time.monotonic() - began


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
