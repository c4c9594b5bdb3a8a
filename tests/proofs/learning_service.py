"""A live service for the learning proofs: `clickserve serve` with the served log on, its store, and a caller.

What a proof asks must not be decided by time: deadlines are long, so a degraded answer means something else.
"""

from __future__ import annotations

import http.client
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.service_process import ServiceProcess, service

UNHURRIED = {
    "deadline.total_ms": 20_000,
    "deadline.features_ms": 10_000,
    "admission.queue_ms": 10_000,
    "items.refresh_ms": 50,
    "server.drain_ms": 200,
    "served_log.buffer_rows": 1_000_000,
}


@contextmanager
def logging_service(registry: Path, redis_url: str, folder: Path, served: Path) -> Iterator[ServiceProcess]:
    """One worker that has begun to answer; when the block ends, all that it served lies in `served`."""
    own = {"redis.url": redis_url, "items.snapshot_dir": folder / f"items-{served.name}", "served_log.folder": served}
    settings = [word for name, value in (UNHURRIED | own).items() for word in ("--set", f"{name}={value}")]
    with service("--registry", str(registry), *settings) as process:
        process.wait_for("ready")
        yield process
        process.signal(signal.SIGTERM)  # once: what waits to be logged is written before the end
        if status := process.wait():
            raise RuntimeError(f"the service ended with {status}: " + "".join(process.lines[-5:]))


class Caller:
    """One connection to a service."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def post(self, path: str, body: dict[str, Any], request_id: str) -> dict[str, Any]:
        """The answer to a request of that id.

        Raises:
            RuntimeError: it is not a 200.
        """
        headers = {"Content-Type": "application/json", "X-Request-ID": request_id}
        self._connection.request("POST", path, json.dumps(body), headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {content[:500]!r}")
        document: dict[str, Any] = json.loads(content)
        return document
