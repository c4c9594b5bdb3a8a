"""After what pause an absent store is asked again. The recorded pauses take no time."""

from __future__ import annotations

import asyncio

import pytest

from feature_store.errors import StoreDown
from feature_store.online import breaker
from feature_store.online.breaker import CircuitBreaker
from feature_store.online.store import ignore_events

INTERVAL_MS = 60_000.0
"""Longer than a test: what closes at once has not waited for it, and what opens again does so soon after."""


class Store:
    """Refuses the next `refusals` probes."""

    def __init__(self) -> None:
        self.refusals = 0

    async def probe(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StoreDown("refused")


@pytest.fixture
def pauses_ms(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, in milliseconds."""
    made: list[float] = []
    sleep = asyncio.sleep

    async def pass_at_once(pause_s: float) -> None:
        made.append(pause_s * 1000)
        await sleep(0)

    monkeypatch.setattr(breaker.asyncio, "sleep", pass_at_once)  # type: ignore[attr-defined]
    return made


def breaker_of(store: Store, interval_ms: float = INTERVAL_MS) -> CircuitBreaker:
    """A closed breaker before that store."""
    return CircuitBreaker(store.probe, ignore_events, probe_interval_ms=interval_ms, timeouts_to_open=1)


async def opened_and_closed(tested: CircuitBreaker) -> None:
    """Opens, and returns when the probes have closed it."""
    tested.trip("away")
    with pytest.raises(StoreDown, match="away"):
        tested.check()
    assert tested._task is not None
    await tested._task
    tested.check()


async def test_a_moments_stall_does_not_cost_an_interval(pauses_ms: list[float]) -> None:
    """A store that answers the first probe serves again after it."""
    await opened_and_closed(breaker_of(Store()))

    assert pauses_ms == [10.0]


async def test_a_store_that_stays_away_is_asked_ever_more_seldom(pauses_ms: list[float]) -> None:
    """Down to once an interval."""
    store = Store()
    store.refusals = 5

    await opened_and_closed(breaker_of(store, interval_ms=100.0))

    assert pauses_ms == [10.0, 20.0, 40.0, 80.0, 100.0, 100.0]


async def test_a_store_that_answers_probes_and_no_reads_stays_out_for_longer_each_time(pauses_ms: list[float]) -> None:
    """Else requests would keep waiting for it, five at a time."""
    tested = breaker_of(Store())

    for _ in range(4):
        await opened_and_closed(tested)

    assert pauses_ms == [10.0, 20.0, 40.0, 80.0]


async def test_a_store_that_was_well_for_an_interval_starts_anew(pauses_ms: list[float]) -> None:
    """Its last trouble is forgotten."""
    tested = breaker_of(Store(), interval_ms=100.0)

    await opened_and_closed(tested)
    tested._closed_s -= 1
    await opened_and_closed(tested)

    assert pauses_ms == [10.0, 10.0]
