"""Baselines that are programs of others: this process becomes the program, a small one beside it says when it listens.

So the process that was started is the server itself: its signals, its exit status and its CPU time are the server's.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from typing import NoReturn

from loadtest.baselines.serving import CannotServe, announce
from loadtest.machine import REPOSITORY

READY_WITHIN_S = 60.0
TRY_AGAIN_S = 0.05


def require(package: str) -> None:
    """Raises CannotServe where a package is not installed."""
    if importlib.util.find_spec(package) is None:
        raise CannotServe(f"{package} is not installed; in an environment of its own: pip install {package}")


def free_port(port: int) -> int:
    """The port, or a free one for 0, which these programs cannot choose themselves and tell."""
    if port:
        return port
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        found: int = bound.getsockname()[1]
        return found


def become(name: str, command: Sequence[str], environment: Mapping[str, str], port: int, ready_path: str) -> NoReturn:
    """Replaces this process by the command; the ready line comes when `ready_path` answers 200."""
    whole = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    call = f"from loadtest.baselines.becoming import watch; watch({name!r}, {port}, {ready_path!r}, {os.getpid()})"
    subprocess.Popen([sys.executable, "-c", call], stdin=subprocess.DEVNULL, env=whole)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # stdout is for the ready line alone
    os.execvpe(command[0], list(command), whole)


def watch(name: str, port: int, ready_path: str, server_pid: int) -> None:
    """The small program: asks until its parent, the server, is ready or has ended, or the deadline passes."""
    give_up = time.monotonic() + READY_WITHIN_S
    while os.getppid() == server_pid and time.monotonic() < give_up:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_WITHIN_S)
        with suppress(OSError, http.client.HTTPException), closing(connection):
            connection.request("GET", ready_path)
            if connection.getresponse().status == http.client.OK:
                announce(name, f"http://127.0.0.1:{port}")
                return
        time.sleep(TRY_AGAIN_S)
