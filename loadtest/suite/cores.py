"""Cores: the server gets one, the load generator and Redis share another.

Where the machine has more, the second one is chosen so that it is not the first one's hyper-thread: two threads of one
core are not two cores. The remaining cores stay idle, and the report names all of this.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from loadtest.errors import LoadTestError


class Cores(msgspec.Struct, frozen=True):
    """Who runs where; None leaves it to the kernel."""

    server: int | None
    client: int | None
    """For the load generator and Redis."""
    n_allowed: int

    def describe(self) -> str:
        """One line for the report."""
        if self.server is None:
            return f"not pinned: server, client and Redis share {self.n_allowed} cores as the kernel likes"
        return f"server on core {self.server}, client and Redis on core {self.client}, of {self.n_allowed} allowed"


def hyper_threads(core: int) -> frozenset[int]:
    """The logical cores that share a physical one with `core`, itself included; only itself where not known."""
    try:
        listed = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text(encoding="ascii")
    except OSError:
        return frozenset({core})
    found: set[int] = set()
    for part in listed.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found | {core})


def choose_cores(
    allowed: Collection[int] | None = None, siblings_of: Callable[[int], frozenset[int]] = hyper_threads
) -> Cores:
    """The first allowed core for the server, the first one that is not its hyper-thread for the rest.

    Raises:
        LoadTestError: fewer than two cores are allowed.
    """
    offered = sorted(os.sched_getaffinity(0) if allowed is None else allowed)
    if len(offered) < 2:
        raise LoadTestError(
            f"the suite needs two cores and may use {offered}; without pinning it needs none (--no-pin)"
        )
    server, *others = offered
    apart = [core for core in others if core not in siblings_of(server)]
    return Cores(server, (apart or others)[0], len(offered))


def no_cores() -> Cores:
    """Nobody is pinned."""
    return Cores(None, None, len(os.sched_getaffinity(0)))
