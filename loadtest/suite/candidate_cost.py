"""Candidate cost: what a request costs by its number of candidates, closed loop with all connections busy.

With the server's core busy all the time, one request costs 1 / (requests per second) of it. The marginal cost is the
slope between two sizes: it leaves out what a request costs whatever it asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loadtest.intervals import Spread
from loadtest.suite.generators import Generators
from loadtest.suite.results import CandidateCost
from loadtest.suite.servers import Server

MARGIN_FROM, MARGIN_TO = 100, 1_000
"""Sizes between which the marginal cost is stated, where both were measured."""

KEEP_EVERY = 10
"""One answer in so many is kept for its length."""


def measure_costs(
    generators: Generators,
    servers: Sequence[Server],
    counts: Sequence[int],
    n_rounds: int,
    duration_s: float,
    on_step: Callable[[str], None],
) -> list[CandidateCost]:
    """Measure each server at each number of candidates, in rounds."""
    seen: dict[tuple[str, int], list[tuple[float, float | None, float | None]]] = {}
    for round_ in range(n_rounds):
        for count in counts if round_ % 2 == 0 else list(reversed(counts)):
            for server in servers:
                if not generators.can_ask(server, count):
                    continue
                on_step(f"cost per candidate: {server.name}, {count} candidates")
                result, cpu = generators.closed(server, count, duration_s, KEEP_EVERY)
                sizes = [len(answer.body) for answer in result.kept]
                mean_bytes = sum(sizes) / len(sizes) if sizes else None
                if result.per_s:
                    cost = (1e6 / result.per_s, cpu.server_us, mean_bytes)
                    seen.setdefault((server.name, count), []).append(cost)
    return [
        CandidateCost(
            server=server,
            n_candidates=count,
            us_per_request=Spread.of([us for us, _, _ in costs]),
            server_cpu_us=_spread_of_known([cpu_us for _, cpu_us, _ in costs]),
            answer_bytes=costs[-1][2],
        )
        for (server, count), costs in sorted(seen.items())
    ]


def marginal_us(costs: Sequence[CandidateCost], server: str) -> float | None:
    """Microseconds per further candidate between 100 and 1 000, or the largest two sizes measured from 100 on."""
    own = {cost.n_candidates: cost for cost in costs if cost.server == server and cost.n_candidates >= MARGIN_FROM}
    if len(own) < 2:
        return None
    low, high = min(own), max(own)
    return (own[high].us_per_request.median - own[low].us_per_request.median) / (high - low)


def _spread_of_known(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread.of(known) if known else None
