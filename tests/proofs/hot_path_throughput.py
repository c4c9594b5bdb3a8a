"""Closed loop: requests a second of this service beside echo, tuned and tutorial servers, in the same rounds.

Ratios are taken within a round; the median of the rounds counts. The logistic model is measured against the trees in
rounds of its own, and its answers are held against the tuned baseline's on the same workload.
"""

from __future__ import annotations

from pathlib import Path

from loadtest.intervals import Spread
from loadtest.suite.closed_rounds import measure_rounds, of_server, per_s, ratio
from loadtest.suite.results import ClosedRound
from tests.proofs.claim import Outcome
from tests.proofs.hot_path_arena import ECHO, OURS, W100_CANDIDATES, Arena, arena, baselines, built, service, w100
from tests.proofs.hot_path_pace import Pace

TUNED, TUTORIAL, LOGISTIC = "tuned", "tutorial", "logistic"
BOUNDS = ((OURS, ECHO, 0.13), (OURS, TUNED, 4.0), (OURS, TUTORIAL, 35.0), (TUNED, ECHO, 0.03))
"""(server, measured by, at least)"""
NOISE = 0.05
"""A ratio of two servers this far below 1 cannot be told from 1 on a shared machine."""


def throughput(pace: Pace, scratch: Path) -> Outcome:
    """Our requests a second by those of the others."""
    folder = w100()
    plans = [service(folder), *baselines(folder, ECHO, TUNED, TUTORIAL)]
    with arena(folder, plans, scratch, pace.warmup_s) as one:
        for name in (ECHO, TUNED, TUTORIAL):
            one.server(name)  # says why where it did not start
        rounds = _rounds(one, pace)
    found = {(server, to): (_ratio(rounds, server, to), bound) for server, to, bound in BOUNDS}
    errors = {measured.server: measured.errors for measured in rounds if measured.errors}
    rates = ", ".join(f"{name} {_rate(rounds, name):,.0f}" for name in (OURS, ECHO, TUNED, TUTORIAL))
    words = ", ".join(f"{server} {spread.median:.3g} × {to}" for (server, to), (spread, _) in found.items())
    return Outcome.judged(
        f"{words}; requests/s {rates}",
        {f"{server} ≥ {bound:g} × {to}": spread.median >= bound for (server, to), (spread, bound) in found.items()}
        | {f"no errors (got {errors})": not errors},
        {
            "ratios": {
                f"{server} / {to}": {"median": spread.median, "low": spread.low, "high": spread.high, "bound": bound}
                for (server, to), (spread, bound) in found.items()
            },
            "rounds": _figures(rounds),
        },
    )


def logistic_beside_trees(pace: Pace, scratch: Path) -> Outcome:
    """A logistic model on the same entities: at least as fast as the trees."""
    folder, other = w100(), built(LOGISTIC, "--model", LOGISTIC)
    own_plans = [service(other, LOGISTIC), *baselines(other, TUNED)]
    with (
        arena(folder, [service(folder)], scratch / "trees", pace.warmup_s) as trees,
        arena(other, own_plans, scratch / LOGISTIC, pace.warmup_s) as logistic,
    ):
        logistic.server(TUNED)  # its answers were compared; it is not timed
        servers = [trees.server(OURS), logistic.server(LOGISTIC)]
        # No reference: two models answer differently.
        rounds = measure_rounds(
            trees.generators, servers, W100_CANDIDATES, pace.rounds, pace.closed_s, {}, lambda _step: None
        )
    spread = _ratio(rounds, LOGISTIC, OURS)
    errors = {measured.server: measured.errors for measured in rounds if measured.errors}
    return Outcome.judged(
        f"{spread.median:.3f} × the trees' requests/s ({spread.low:.3f} to {spread.high:.3f}): "
        f"{_rate(rounds, LOGISTIC):,.0f} against {_rate(rounds, OURS):,.0f}",
        {f"≥ {1 - NOISE:g} × the trees": spread.median >= 1 - NOISE, f"no errors (got {errors})": not errors},
        {"rounds": _figures(rounds)},
    )


def _rounds(one: Arena, pace: Pace) -> list[ClosedRound]:
    return measure_rounds(
        one.generators, one.servers, W100_CANDIDATES, pace.rounds, pace.closed_s, one.reference, lambda _step: None
    )


def _ratio(rounds: list[ClosedRound], server: str, to: str) -> Spread:
    found = ratio(rounds, server, to)
    if found is None:
        raise RuntimeError(f"no round measured both {server} and {to} with answers: {_figures(rounds)}")
    return found


def _rate(rounds: list[ClosedRound], server: str) -> float:
    found = per_s(rounds, server)
    return found.median if found else 0.0


def _figures(rounds: list[ClosedRound]) -> dict[str, object]:
    """What a proof keeps: requests a second, CPU microseconds of the server and the client's share of its core."""
    return {
        name: {
            "per_s": [measured.per_s for measured in own],
            "server_cpu_us": [measured.cpu.server_us for measured in own],
            "redis_cpu_us": [measured.cpu.redis_us for measured in own],
            "client_cpu_share": [measured.client_cpu_share for measured in own],
            "checked_answers": sum(measured.n_checked for measured in own),
        }
        for name in dict.fromkeys(measured.server for measured in rounds)
        if (own := of_server(rounds, name))
    }
