"""The door lets in what can be served in time, in order, and refuses the rest at once."""

from __future__ import annotations

import asyncio

import pytest

from service.admission import OVERLOAD_S, Admission
from service.errors import Overloaded
from service.settings import AdmissionSettings


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def door(clock: Clock, max_inflight: int = 1, max_queued: int = 2) -> Admission:
    """A door with few places."""
    return Admission(AdmissionSettings(max_inflight, max_queued, queue_ms=10.0), clock)


async def entering(admission: Admission) -> asyncio.Task[None]:
    """A request at the door, which has come as far as it can."""
    task = asyncio.create_task(admission.enter())
    await asyncio.sleep(0)
    return task


async def test_waiters_go_in_by_order_of_arrival() -> None:
    """Otherwise somebody waits for ever."""
    admission = door(Clock())
    await admission.enter()
    first, second = await entering(admission), await entering(admission)

    admission.leave()
    await first

    assert not second.done()
    assert admission.inflight == 1
    admission.leave()
    await second


async def test_a_full_queue_refuses_at_once() -> None:
    """With a time to come back."""
    admission = door(Clock())
    await admission.enter()
    waiting = [await entering(admission) for _ in range(2)]

    with pytest.raises(Overloaded) as caught:
        await admission.enter()

    assert (caught.value.reason, caught.value.retry_after_s) == ("queue_full", 1)
    for task in waiting:
        admission.leave()
        await task


async def test_who_waited_too_long_is_refused_and_the_next_goes_in() -> None:
    """Its answer would be late, and would make the next one late as well."""
    clock = Clock()
    admission = door(clock)
    await admission.enter()
    late = await entering(admission)
    clock.now_s += 0.011
    in_time = await entering(admission)

    admission.leave()

    with pytest.raises(Overloaded, match="queue_time"):
        await late
    await in_time
    assert admission.inflight == 1


async def test_more_than_can_be_served_is_served_from_the_newest() -> None:
    """In order of arrival everyone would wait just under the limit, and be late together."""
    clock = Clock()
    admission = door(clock, max_queued=3)
    await admission.enter()
    waiting = [await entering(admission)]
    overloaded_s = clock.now_s + OVERLOAD_S
    while clock.now_s + 0.009 < overloaded_s:  # one comes, one goes: the queue is never empty
        clock.now_s += 0.009
        waiting.append(await entering(admission))
        admission.leave()
        await waiting.pop(0)
    clock.now_s = overloaded_s + 0.001
    newest = await entering(admission)

    admission.leave()
    await newest

    assert not waiting[0].done()
    clock.now_s += 0.011
    admission.leave()
    with pytest.raises(Overloaded, match="queue_time"):
        await waiting[0]


async def test_a_burst_is_served_in_order_of_arrival() -> None:
    """The machine stood still for a moment: everyone can still be in time, if nobody is overtaken."""
    clock = Clock()
    admission = door(clock, max_queued=3)
    for _ in range(20):  # bursts, and each is over before the next: together no overload
        await admission.enter()
        first, second = await entering(admission), await entering(admission)
        clock.now_s += 0.009
        admission.leave()
        await first
        assert not second.done()
        admission.leave()
        await second
        admission.leave()


async def test_a_place_is_never_lost() -> None:
    """Requests that are called off while they wait, or at the moment of their turn, give it back."""
    admission = door(Clock())
    await admission.enter()
    called_off, at_its_turn = await entering(admission), await entering(admission)

    called_off.cancel()
    await asyncio.wait({called_off})
    admission.leave()
    at_its_turn.cancel()
    await asyncio.wait({at_its_turn})

    assert admission.inflight == 0
    assert admission.has_room


async def test_after_everybody_left_nobody_is_inside() -> None:
    """The count is a gauge that operators trust."""
    admission = door(Clock(), max_inflight=3, max_queued=20)
    waiting = [await entering(admission) for _ in range(20)]

    for task in waiting:
        await task
        admission.leave()

    assert admission.inflight == 0
