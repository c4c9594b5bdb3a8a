"""The type of a started test server, for annotations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class RunningServer:
    """A started server: where it listens and which process it is."""

    url: str
    pid: int


StartServer = Callable[..., RunningServer]
"""Takes the options of `answering_server.py`."""
