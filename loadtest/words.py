"""What a report says in plain sentences: the promise, the room above it, what was lost, what it costs.

For a reader who has never heard of a percentile. Every sentence is made of figures of the report; one that is not known
is not said. Nothing here judges: the verdict does (`verdict.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loadtest.results import EngineResult
from loadtest.statuses import failures_in_words
from loadtest.sweep import Sweep

if TYPE_CHECKING:
    from loadtest.report import Report


def plain_words(report: Report) -> list[str]:
    """The report in a few sentences, in the order of interest."""
    judged = report.measured[0]
    sentences = [_promise(report), *_room(report), _losses(judged.result)]
    cpu_us = judged.server_cpu_us_per_request
    if cpu_us:
        sentences.append(
            f"A request cost the service {cpu_us / 1000:.2f} ms of one core, "
            f"so one core does at most about {_round(1e6 / cpu_us)} a second."
        )
    return sentences


def _promise(report: Report) -> str:
    result, budget = report.measured[0].result, report.budgets.rank
    asked = f"At {result.rate_per_s:,.0f} requests a second"
    if report.verdict.outcome == "not_judged":
        return (
            f"{asked} nothing can be said about the service, because the load generator itself could not keep its "
            "schedule on this machine."
        )
    tail_ms = result.latency.p99_ms
    if tail_ms is None:
        return f"{asked} too few answers came to tell how long callers wait."
    seen = f"{asked}, 99 of 100 answers came within {tail_ms:.2f} ms"
    if budget.p99_ms is None:
        return f"{seen}."
    kept = "the promise was kept" if tail_ms <= budget.p99_ms else "the promise was broken"
    return f"{seen}; promised are {budget.p99_ms:g} ms, so {kept}."


def _room(report: Report) -> Iterator[str]:
    sweep = report.sweep
    if sweep is None:
        return
    bound = report.budgets.rank.p99_ms
    promise = f"99 of 100 within {bound:g} ms" if bound else "its promise"
    kept, missed = sweep.highest_kept, sweep.lowest_missed_above
    if kept is None:
        yield _never_kept(sweep, promise)
    else:
        times = kept.rate_per_s / report.measured[0].result.rate_per_s
        above = (
            f"; at {missed.rate_per_s:,.0f} it did not"
            if missed
            else "; whether it does above that is not known, because the load generator was late there"
            if sweep.ended_by == "generator"
            else "; no higher rate was tried"
        )
        load = f" ({times:.1f} times the judged load)" if times >= 1.05 else ""
        yield f"It kept {promise} up to {kept.rate_per_s:,.0f} requests a second{load}{above}."
        if any(point.rate_per_s < kept.rate_per_s and not point.kept for point in sweep.points):
            yield "A lower rate missed it once: the machine was not quiet."
    yield from _beyond(sweep)


def _never_kept(sweep: Sweep, promise: str) -> str:
    """A service must not be blamed for rates at which its generator was late."""
    punctual, late = sweep.punctual, [point for point in sweep.points if point.late]
    if not punctual:
        return (
            f"Of the sweep nothing can be said about the service: already at {late[0].rate_per_s:,.0f} requests a "
            "second, its lowest rate, the load generator itself was late."
        )
    if not late:
        return f"At no rate of the sweep did the service keep {promise}."
    return (
        f"At no rate at which the load generator was punctual, the highest {punctual[-1].rate_per_s:,.0f} requests a "
        f"second, did the service keep {promise}; of the others nothing is known."
    )


def sweep_in_short(sweep: Sweep) -> str:
    """The promise and the rate, for a line on a screen."""
    if sweep.highest_kept is not None:
        return f"promise kept up to {sweep.highest_kept.rate_per_s:,.0f}/s"
    if not sweep.punctual:
        return f"nothing can be said: the generator was late from {sweep.points[0].rate_per_s:,.0f}/s on"
    if sweep.ended_by == "generator":
        return f"promise kept at no rate up to {sweep.punctual[-1].rate_per_s:,.0f}/s; above, the generator was late"
    return "promise kept at no rate"


def _beyond(sweep: Sweep) -> Iterator[str]:
    """What happens to callers past saturation."""
    last = sweep.points[-1]
    if sweep.ended_by == "goodput":
        yield (
            f"Overloaded with {last.rate_per_s:,.0f} requests a second it answered {last.goodput_per_s:,.0f} of them "
            f"in time and refused {last.shed_share:.0%} at once; the most it answered in time was "
            f"{sweep.best.goodput_per_s:,.0f} a second."
        )


def _losses(result: EngineResult) -> str:
    lost = result.n_requests - result.n_ok
    answered = (
        f"All {result.n_requests:,} requests were answered"
        if not lost
        else f"{lost:,} of {result.n_requests:,} requests got no proper answer: {failures_in_words([result])}"
    )
    share = result.degraded.share
    if share is None:
        return f"{answered}."
    if not share:
        return f"{answered}, none of the answers looked at with less than full knowledge."
    return f"{answered}; {share:.1%} of the answers looked at were made with less than full knowledge."


def why_engines_differ(results: list[EngineResult]) -> list[str]:
    """Both engines' tails and the reasons for a gap; empty where only one ran."""
    by_engine = {result.engine: result.latency for result in results}
    open_ms = by_engine["open-loop"].p99_ms if "open-loop" in by_engine else None
    locust_ms = by_engine["locust"].p99_ms if "locust" in by_engine else None
    if len(results) < 2:
        return []
    seen = (
        [f"Here the open loop saw a p99 of {open_ms:.2f} ms and Locust one of {locust_ms:.2f} ms."]
        if open_ms is not None and locust_ms is not None
        else []
    )
    return [
        *seen,
        "Locust can read too low: its user calls at an even pace and waits for its answer before it calls again, so "
        "during a stall longer than that pace the requests that would have suffered are never sent (coordinated "
        "omission). The open loop sends on a random schedule fixed beforehand and counts from it.",
        "Locust can read too high: all its users share one Python process, and an answer that waits there for its "
        "turn counts as slow; and even arrivals queue less than the random ones of real callers.",
        "Where they disagree, believe the open loop, as long as its lateness is within its bound.",
    ]


def _round(value: float) -> str:
    """Two leading digits: it is an estimate."""
    return f"{float(f'{value:.2g}'):,.0f}"
