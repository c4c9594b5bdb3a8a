"""A master is lost under load: what callers saw of it, by the part of the data that it held."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from tests.artifacts import ServedProject
from tests.e2e.load import Load
from tests.e2e.service_process import ServiceProcess

WELL_S = 2.0
"""So long no answer is degraded, and reading counts as well again."""
PATIENCE_S = 40.0
"""A deadline that only a broken build reaches."""


@dataclass(frozen=True)
class Loss:
    """One run."""

    statuses: Counter[int]
    lost: int
    healthy_share: float
    """Of answers with a code, before the loss."""
    hurt_share: float
    """Between the loss and the last degraded answer, among those whose user's row was lost."""
    other_share: float
    """In the same time, among all others."""
    codes: tuple[str, ...]
    well_after_s: float
    """From the loss to the last degraded answer."""


async def lose(
    process: ServiceProcess,
    project: ServedProject,
    hurt_users: list[str],
    other_users: list[str],
    lose_it: Callable[[], None],
    *,
    healthy_s: float = 1.0,
    pause_s: float = 0.005,
) -> Loss:
    """One connection a user; `lose_it` is called while they ask, and they ask until nothing is degraded any more.

    Each rests for `pause_s` after an answer: so exact is the time that the loss lasted.
    """
    loads = {
        user: Load(process.port, project.rank_request(user_id=user), n_connections=1, pause_s=pause_s)
        for user in hurt_users + other_users
    }
    async with AsyncExitStack() as stack:
        for load in loads.values():
            await stack.enter_async_context(load)
        for load in loads.values():
            await load.has_answered(20)
        await asyncio.sleep(healthy_s)
        lost_s = time.monotonic()  # before: a killed server is felt sooner than its end is seen
        await asyncio.to_thread(lose_it)
        async with asyncio.timeout(PATIENCE_S):
            while time.monotonic() < max(_last_degraded(loads, lost_s), lost_s + 1) + WELL_S:
                await loads[(hurt_users + other_users)[0]].has_answered(20)
    last_s = _last_degraded(loads, lost_s)

    def share(users: list[str], first_s: float, until_s: float) -> float:
        codes = [bool(c) for user in users for at_s, c in loads[user].degraded if first_s <= at_s < until_s]
        return sum(codes) / max(1, len(codes))

    return Loss(
        sum((load.statuses for load in loads.values()), Counter()),
        sum(len(load.lost) for load in loads.values()),
        share(hurt_users + other_users, 0.0, lost_s),
        share(hurt_users, lost_s, last_s),
        share(other_users, lost_s, last_s),
        tuple(sorted({code for load in loads.values() for _, codes in load.degraded for code in codes})),
        last_s - lost_s,
    )


def _last_degraded(loads: Mapping[str, Load], lost_s: float) -> float:
    """When the last degraded answer came; the loss itself where there is none."""
    return max(
        (at_s for load in loads.values() for at_s, codes in load.degraded if codes and at_s > lost_s), default=lost_s
    )
