"""What an answer admits: which rows were missing or stale, how old the rest was, and the codes that say so.

Codes on top of an answer speak of anything in it. A row's own codes speak of its own entities only: of the ad in a
ranking, of the user as well in a prediction, because nobody should bid on a default row unknowingly. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from service.entity_rows import EntityRows
from service.wire import DegradedCode

CODES: tuple[DegradedCode, ...] = get_args(DegradedCode)
"""Every code, in the order in which answers list them."""

_NONE: npt.NDArray[np.intp] = np.empty(0, dtype=np.intp)


@dataclass(frozen=True, slots=True)
class SideRows:
    """How many rows of one view were present and in time, missing, or stale, and the age of the oldest."""

    view: str
    present: int
    missing: int
    stale: int
    age_ms: int | None


@dataclass(frozen=True, slots=True)
class Knowledge:
    """All that an answer says about what it was made from."""

    codes: set[DegradedCode]
    own_codes: dict[int, list[DegradedCode]]
    """Codes of single rows; rows that are not in it have none."""
    views: list[SideRows]

    @property
    def missing(self) -> int:
        """Rows that were not there."""
        return sum(view.missing for view in self.views)

    @property
    def stale(self) -> int:
        """Rows past their time-to-live."""
        return sum(view.stale for view in self.views)

    @property
    def age_ms_max(self) -> int | None:
        """Age of the oldest row, None where there was none."""
        return max((view.age_ms for view in self.views if view.age_ms is not None), default=None)


def knowledge_of(
    users: EntityRows, ads: EntityRows, *, now_ms: int, user_is_shared: bool, store_code: DegradedCode | None
) -> Knowledge:
    """What is known about the entities of one request.

    Args:
        user_is_shared: all rows have one user, whose rows then are nobody's own.
        store_code: why the store answered nothing; such users are not unknown, we could not ask.
    """
    marked: list[tuple[DegradedCode, npt.NDArray[np.intp], bool]] = [
        (store_code or "user_missing", _incomplete(users), not user_is_shared),
        ("user_stale", _stale(users), not user_is_shared),
        ("ad_missing", _incomplete(ads), True),
        ("ad_stale", _stale(ads), True),
    ]
    codes: set[DegradedCode] = set()
    own_codes: dict[int, list[DegradedCode]] = {}
    for code, rows, is_own in marked:
        if len(rows):
            codes.add(code)
        if is_own:
            for row in rows.tolist():
                own_codes.setdefault(row, []).append(code)
    return Knowledge(codes, own_codes, [*_by_view(users, now_ms), *_by_view(ads, now_ms)])


def in_order(codes: Iterable[DegradedCode]) -> list[DegradedCode]:
    """The codes as answers list them: each once, always in the same order."""
    given = set(codes)
    return [code for code in CODES if code in given] if given else []


def _incomplete(rows: EntityRows) -> npt.NDArray[np.intp]:
    """Which entities lack a row of any view. Usually none do, and one look at all flags is enough."""
    return _NONE if rows.found.all() else np.flatnonzero(~rows.found.all(axis=1))


def _stale(rows: EntityRows) -> npt.NDArray[np.intp]:
    """Which entities have a stale row of any view."""
    return np.flatnonzero(rows.stale.any(axis=1)) if rows.stale.any() else _NONE


def _by_view(rows: EntityRows, now_ms: int) -> list[SideRows]:
    found = rows.found.sum(axis=0).tolist()
    stale = rows.stale.sum(axis=0).tolist()
    ages_ms = rows.age_ms(now_ms)
    return [
        SideRows(view.name, present=found[i] - stale[i], missing=len(rows.found) - found[i], stale=stale[i], age_ms=age)
        for i, (view, age) in enumerate(zip(rows.views, ages_ms, strict=True))
    ]
