"""Servers of the suite: a command line each, started on a free port, ready when it answers a real request.

All servers of a run stay up until its end, so that they can be measured in turn. They stay apart because only one is
sent requests at a time; what the others spend meanwhile is measured as well (`generators.py`).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from loadtest.child_process import child_process
from loadtest.errors import LoadTestError, ServerError, TargetError
from loadtest.machine import REPOSITORY
from loadtest.pinning import pin_to_cpu
from loadtest.server_cpu import process_tree
from loadtest.target import Target, probe

READY_WITHIN_S = 120.0
"""A server may load LightGBM, ONNX Runtime and 100 000 rows on a busy machine; beyond this it will not come."""
_STOP_WITHIN_S = 20.0
_POLL_S = 0.05
_LAST_WORDS_CHARACTERS = 1_500

Role = Literal["subject", "echo", "baseline", "variant"]


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """How to start one server."""

    name: str
    says: str
    """What it is, in one line for the report."""
    command: tuple[str, ...]
    """Program and arguments; an argument `{port}` becomes the port to listen on."""
    role: Role
    environment: Mapping[str, str | None] = field(default_factory=dict)
    """Beside that of this process; None takes a name away."""

    @property
    def ranks(self) -> bool:
        """Whether its answers hold probabilities; an echo server's do not."""
        return self.role != "echo"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers."""

    plan: ServerPlan
    target: Target
    process_id: int
    ready_after_s: float
    """From its start to its first good answer."""
    software: str | None
    """The Server header of that answer."""

    @property
    def name(self) -> str:
        """As in its plan."""
        return self.plan.name

    def process_ids(self) -> tuple[int, ...]:
        """All its processes as they are now."""
        return process_tree(self.process_id)


@contextmanager
def running(
    plan: ServerPlan,
    path: str,
    first_body: bytes,
    log_dir: Path,
    core: int | None,
    ready_within_s: float = READY_WITHIN_S,
) -> Iterator[Server]:
    """Start a server and stop it, with all its processes, in the end.

    Args:
        path, first_body: the request that it must answer with a 2xx status to be ready.
        log_dir: gets `<name>.log`, all it says.
        core: where it may run, with its children; None for anywhere.
    Raises:
        ServerError: it ended, or did not answer in time; carries its last words.
    """
    port = _free_port()
    log = log_dir / f"{plan.name}.log"
    started = time.monotonic()
    command = [str(port) if part == "{port}" else part for part in plan.command]
    with (
        log.open("wb") as said,
        child_process(
            command,
            _stop,
            stdout=said,
            stderr=said,
            env=_environment(plan),
            start_new_session=True,  # so that its whole group can be ended
        ) as process,
    ):
        if core is not None:
            _pin(process, core)
        target = Target("127.0.0.1", port)
        software = _wait_ready(process, lambda: probe(target, path, first_body).server, plan, log, ready_within_s)
        yield Server(plan, target, process.pid, time.monotonic() - started, software)


def _environment(plan: ServerPlan) -> dict[str, str]:
    """This process's environment as the plan changes it; the repository is found whatever the current directory is."""
    search_path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    changed = {**os.environ, "PYTHONPATH": search_path, **plan.environment}
    return {name: value for name, value in changed.items() if value is not None}


def _pin(process: subprocess.Popen[bytes], core: int) -> None:
    try:
        pin_to_cpu(process.pid, core)
    except ProcessLookupError:  # it ended at once; waiting for it tells why
        return


def _wait_ready(
    process: subprocess.Popen[bytes], ask: Callable[[], str | None], plan: ServerPlan, log: Path, within_s: float
) -> str | None:
    deadline = time.monotonic() + within_s
    refusal: LoadTestError | None = None
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(
                f"{plan.name} ended with status {process.returncode} before it answered: {_last_words(log)}"
            )
        try:
            return ask()
        except TargetError as error:
            refusal = error
            time.sleep(_POLL_S)
    raise ServerError(f"{plan.name} was not ready within {within_s:g} s ({refusal}); it said: {_last_words(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port: int = probe_socket.getsockname()[1]
        return port


def _last_words(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace").strip()[-_LAST_WORDS_CHARACTERS:] or "nothing"
