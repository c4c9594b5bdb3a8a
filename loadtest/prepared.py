"""Prepared requests: a path and bodies in a file, for servers that are asked in other words than a workload's.

The suite prepares every server's requests once instead of at the start of each run; a model server that wants
ready-made matrices gets them the same way. The file is MessagePack: bodies are bytes and stay bytes.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from loadtest.errors import WorkloadError
from loadtest.whole_files import write_whole
from loadtest.workload import rank_bodies, read_workload


class PreparedRequests(msgspec.Struct, frozen=True):
    """POST requests to one path; generators send the bodies in turn."""

    path: str
    bodies: list[bytes]


def write_prepared(requests: PreparedRequests, path: Path) -> None:
    """Write a file that `read_prepared` reads."""
    write_whole({path: msgspec.msgpack.encode(requests)})


def read_prepared(path: Path) -> PreparedRequests:
    """Read prepared requests.

    Raises:
        WorkloadError: not there, or not such a file, or without a body.
    """
    try:
        requests = msgspec.msgpack.decode(path.read_bytes(), type=PreparedRequests)
    except (OSError, msgspec.DecodeError) as error:
        raise WorkloadError(f"prepared requests {path}: {error}") from error
    if not requests.bodies:
        raise WorkloadError(f"prepared requests {path}: expected at least one body, got none")
    return requests


def requests_of(workload: Path | None, prepared: Path | None) -> PreparedRequests:
    """The requests a generator's command line names: those of a workload file, or prepared ones.

    Raises:
        WorkloadError: the file is wrong.
    """
    if prepared is not None:
        return read_prepared(prepared)
    assert workload is not None  # the command line demands one of the two
    described = read_workload(workload)
    return PreparedRequests(described.path, rank_bodies(described))
