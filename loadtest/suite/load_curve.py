"""Load curve: latency and goodput at shares of a server's own capacity, up to and past saturation.

Past saturation a server can answer everything too late or part of it in time; goodput, the answers within 10 ms of
their due time, tells which. Throughput alone would call both the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from loadtest.suite.generators import Generators
from loadtest.suite.open_rates import open_run
from loadtest.suite.results import OpenRun
from loadtest.suite.servers import Server


def measure_curves(
    generators: Generators,
    servers: Sequence[Server],
    n_candidates: int,
    shares: Sequence[float],
    capacity_per_s: Mapping[str, float],
    duration_s: float,
    on_step: Callable[[str], None],
) -> list[OpenRun]:
    """One run per server and share of its closed-loop capacity, by rising load."""
    runs = []
    for server in servers:
        for share in shares:
            rate_per_s = float(round(share * capacity_per_s[server.name]))
            if rate_per_s < 1:
                continue
            on_step(f"load curve: {server.name} at {share:.0%} of its capacity")
            result, cpu = generators.open(server, n_candidates, rate_per_s, duration_s, seed=0)
            runs.append(open_run(server.name, 0, n_candidates, result, cpu))
    return runs
