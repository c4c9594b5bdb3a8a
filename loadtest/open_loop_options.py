"""Options of an open-loop run: one rate for so many seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OpenLoopOptions:
    """One run at one rate."""

    rate_per_s: float
    duration_s: float
    """Length of the measured part."""
    warmup_s: float = 2.0
    """Sent before it at the same rate and left out of all figures except those on connections."""
    seed: int = 7
    timeout_s: float = 5.0
    """Counted from the due time. Ends the request and its connection; also bounds the run's end."""
    max_connections: int = 256
    """Beyond it requests wait in line, and their latency grows."""
    sample_every: int = 10
    """One answer in this many is read for degraded codes."""
    lateness_bound_ms: float = 1.0
    """p99 of the generator's own lateness above which it is not to be believed."""
    good_within_ms: float = 10.0
    """A 2xx answer later than this after its due time does not count as goodput."""
    second_s: float = 1.0
    """Length of what the timeline calls a second; of two services in turns it is a turn's."""
    server_pids: tuple[int, ...] = ()
    """Processes whose CPU time is noted at the turn of each measured second."""
