"""Work beside the requests goes on, whatever happens in one round of it."""

from __future__ import annotations

import asyncio

import pytest

from service.background import Background

DEADLINE_S = 10.0


async def test_a_defect_in_one_round_does_not_end_the_work(caplog: pytest.LogCaptureFixture) -> None:
    """A table that silently stopped refreshing would look healthy for hours."""
    rounds = 0
    enough = asyncio.Event()

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            enough.set()
        raise ZeroDivisionError(f"round {rounds}")

    background = Background()
    background.every(0.0, work, "divide")
    async with asyncio.timeout(DEADLINE_S):
        await enough.wait()
    await background.stop()

    failures = [record for record in caplog.records if record.task == "divide"]  # type: ignore[attr-defined]
    assert len(failures) == rounds == 3


async def test_stopping_ends_work_that_waits() -> None:
    """The end of a process must not wait for the next round."""
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    background = Background()
    background.every(0.0, work, "wait")
    async with asyncio.timeout(DEADLINE_S):
        await begun.wait()
        await background.stop()
