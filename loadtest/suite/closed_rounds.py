"""Closed rounds: how many requests a second each server can do, all servers in turn, round after round.

A round measures every server once; the next one goes the other way round, so that a drift of the machine does not
always fall on the same server. Ratios are taken within a round.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from loadtest.intervals import Spread
from loadtest.suite.agreement import Ranking, Readings, compare, read_answers
from loadtest.suite.generators import Generators
from loadtest.suite.results import ClosedRound
from loadtest.suite.servers import Server

KEEP_EVERY = 53
"""One answer in so many is kept and, where its request was asked beforehand as well, compared."""


def measure_rounds(
    generators: Generators,
    servers: Sequence[Server],
    n_candidates: int,
    n_rounds: int,
    duration_s: float,
    reference: Mapping[int, Ranking],
    on_step: Callable[[str], None],
) -> list[ClosedRound]:
    """Measure all servers in rounds of alternating order.

    Raises:
        DisagreementError: an answer under load is not the one given before, or most answers of a server over all its
            rounds are degraded.
    """
    rounds = []
    seen: defaultdict[str, Readings] = defaultdict(Readings)
    for round_ in range(n_rounds):
        for server in servers if round_ % 2 == 0 else list(reversed(servers)):
            on_step(f"closed loop: {server.name}, round {round_ + 1} of {n_rounds}")
            result, cpu = generators.closed(server, n_candidates, duration_s, KEEP_EVERY if server.plan.ranks else 0)
            read = generators.questions.own(server.plan).read
            readings = read_answers(
                ((answer.number, answer.body) for answer in result.kept if answer.number in reference), read
            )
            checked = compare(server.name, reference, readings.whole)
            seen[server.name] += readings
            rounds.append(
                ClosedRound(
                    server=server.name,
                    round=round_,
                    n_candidates=n_candidates,
                    per_s=result.per_s,
                    per_s_low=result.per_s_low,
                    per_s_high=result.per_s_high,
                    p50_ms=result.latency.p50_ms,
                    p99_ms=result.latency.p99_ms,
                    errors=result.errors,
                    client_cpu_share=result.client_cpu_share,
                    cpu=cpu,
                    n_checked=checked.n_requests,
                    n_degraded=readings.n_degraded,
                )
            )
    for name, readings in seen.items():
        readings.check_that_most_are_whole(name)
    return rounds


def of_server(rounds: Sequence[ClosedRound], server: str) -> list[ClosedRound]:
    """The rounds of one server, in order."""
    return [measured for measured in rounds if measured.server == server]


def per_s(rounds: Sequence[ClosedRound], server: str) -> Spread | None:
    """Requests a second over the rounds; None for a server that was not measured."""
    own = of_server(rounds, server)
    return Spread.of([measured.per_s for measured in own]) if own else None


def ratio(rounds: Sequence[ClosedRound], server: str, to: str) -> Spread | None:
    """Requests a second of one server divided by those of another in the same round."""
    others = {measured.round: measured.per_s for measured in of_server(rounds, to)}
    ratios = [
        measured.per_s / others[measured.round] for measured in of_server(rounds, server) if others.get(measured.round)
    ]
    return Spread.of(ratios) if ratios else None
