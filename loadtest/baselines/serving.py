"""How every baseline is started: the same command line, the same uvicorn, one line when it listens.

uvicorn runs with uvloop and httptools, one process, without access log, its garbage frozen after start-up: what an
expert would do for each of them. SIGTERM stops it.
"""

from __future__ import annotations

import argparse
import gc
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from loadtest.baselines.facts import Baseline, read_baseline
from loadtest.errors import WorkloadError

USAGE, DEPENDENCY_DOWN = 2, 69
BACKLOG = 2048


class CannotServe(Exception):
    """Something that the baseline stands on is missing; the message says what."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line said."""

    folder: Path
    baseline: Baseline
    port: int


def run(name: str, description: str, serve: Callable[[Given], None]) -> None:
    """Reads the command line and serves until a signal; exits 2 without a workload, 69 where something is missing."""
    parser = argparse.ArgumentParser(prog=f"python -m loadtest.baselines.{name}", description=description)
    parser.add_argument("--workload", type=Path, required=True, help="folder of clickserve bench serve-workload")
    parser.add_argument("--port", type=int, required=True, help="0 picks a free one")
    arguments = parser.parse_args()
    # ONNX Runtime uploads usage data unless this is set before its first import, which `serve` does.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        serve(Given(arguments.workload, read_baseline(arguments.workload), arguments.port))
    except WorkloadError as error:
        sys.exit(_complain(name, error, USAGE))
    except CannotServe as error:
        sys.exit(_complain(name, error, DEPENDENCY_DOWN))


def serve_asgi(name: str, app: Callable[..., Any], port: int) -> None:
    """Serves an ASGI application on 127.0.0.1 until a signal."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        raise CannotServe(f"port {port} cannot be had: {error.strerror}") from error
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
    )
    _Announcing(config, name).run(sockets=[listener])


def announce(name: str, url: str) -> None:
    """The ready line, alone on stdout."""
    sys.stdout.write(msgspec.json.encode({"ready": name, "url": url}).decode() + "\n")
    sys.stdout.flush()


class _Announcing(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, name: str) -> None:
        super().__init__(config)
        self._name = name

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started or sockets is None:
            return
        gc.collect()
        gc.freeze()
        announce(self._name, f"http://127.0.0.1:{sockets[0].getsockname()[1]}")


def _complain(name: str, error: Exception, status: int) -> int:
    sys.stderr.write(f"{name}: {error}\n")
    return status
