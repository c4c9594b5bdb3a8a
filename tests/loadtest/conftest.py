"""Servers with chosen faults, an address where nobody listens, and a small workload."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loadtest.running_server import RunningServer, StartServer

SERVER = Path(__file__).with_name("answering_server.py")


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Start `answering_server.py` with the given options; it listens when this returns."""
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str) -> RunningServer:
        process = subprocess.Popen([sys.executable, str(SERVER), *options], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        return RunningServer(f"http://127.0.0.1:{port}", process.pid)

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def url_of_nobody() -> Iterator[str]:
    """A loopback URL that refuses connections: its port is bound, so nobody else gets it, but not listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def workload_file(tmp_path: Path) -> Path:
    """A workload with few ids and bodies, so that it is built at once."""
    path = tmp_path / "workload.json"
    content = {
        "users": {"prefix": "u", "count": 50},
        "ads": {"prefix": "a", "count": 40},
        "n_candidates": 20,
        "context": {"placement": ["p0", "p1"], "hour": {"low": 0, "high": 23, "integer": True}},
        "distinct_bodies": 30,
    }
    path.write_text(json.dumps(content))
    return path
