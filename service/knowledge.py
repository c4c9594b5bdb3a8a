"""What an answer admits: which rows were missing or stale, how old the rest was, and the codes that say so.

Codes on top of an answer speak of anything in it. A row's own codes speak of its own entities only: of the ad in a
ranking, of the user as well in a prediction, because nobody should bid on a default row unknowingly.

Told in every answer, so the usual case (one user, ads that the table holds) makes no NumPy call; which rows lack what
is looked for only where something is lacking. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np
from msgspec import Struct

from feature_store.rows import Mask, Times
from feature_store.schema import FeatureView
from service.wire import DegradedCode

CODES: tuple[DegradedCode, ...] = get_args(DegradedCode)
"""Every code, in the order in which answers list them."""

_NEVER_MS = np.iinfo(np.int64).max
"""Later than any row: the event time of what is not there, when the oldest is looked for."""


class ViewRows(Struct, frozen=True):
    """How many rows of one view were present and in time, missing, or stale, and the age of the oldest."""

    view: str
    present: int
    missing: int
    stale: int
    age_ms: int | None


class Known(Struct, frozen=True):
    """What is known of the entities of one side.

    incomplete: places of the entities that lack a row of some view; stale: of those with a row past its time-to-live.
    """

    views: Sequence[ViewRows]
    incomplete: tuple[int, ...] = ()
    stale: tuple[int, ...] = ()


class Knowledge(Struct, frozen=True):
    """All that an answer says about what it was made from."""

    codes: set[DegradedCode]
    own_codes: dict[int, list[DegradedCode]]
    """Codes of single rows; rows that are not in it have none."""
    views: list[ViewRows]
    missing: int
    """Rows that were not there."""
    stale: int
    """Rows past their time-to-live."""
    age_ms_max: int | None
    """Age of the oldest row, None where there was none."""


def known_rows(views: Sequence[FeatureView], found: Mask, stale: Mask, event_time_ms: Times, now_ms: int) -> Known:
    """What (m, V) flags and times say."""
    n_found, n_stale = found.sum(axis=0).tolist(), stale.sum(axis=0).tolist()
    oldest_ms = np.where(found, event_time_ms, _NEVER_MS).min(axis=0, initial=_NEVER_MS).tolist()
    return Known(
        [
            ViewRows(
                view.name,
                present=n_found[i] - n_stale[i],
                missing=len(found) - n_found[i],
                stale=n_stale[i],
                age_ms=None if oldest_ms[i] == _NEVER_MS else now_ms - oldest_ms[i],
            )
            for i, view in enumerate(views)
        ],
        incomplete=tuple(np.flatnonzero(~found.all(axis=1)).tolist()),
        stale=tuple(np.flatnonzero(stale.any(axis=1)).tolist()),
    )


def knowledge_of(users: Known, ads: Known, *, user_is_shared: bool, store_code: DegradedCode | None) -> Knowledge:
    """What is known about the entities of one request.

    Args:
        user_is_shared: all rows have one user, whose rows then are nobody's own.
        store_code: why the store answered nothing; such users are not unknown, we could not ask.
    """
    marked: tuple[tuple[DegradedCode, tuple[int, ...], bool], ...] = (
        (store_code or "user_missing", users.incomplete, not user_is_shared),
        ("user_stale", users.stale, not user_is_shared),
        ("ad_missing", ads.incomplete, True),
        ("ad_stale", ads.stale, True),
    )
    codes: set[DegradedCode] = set()
    own_codes: dict[int, list[DegradedCode]] = {}
    for code, places, is_own in marked:
        if places:
            codes.add(code)
            if is_own:
                for place in places:
                    own_codes.setdefault(place, []).append(code)
    if store_code is not None:
        codes.add(store_code)
    views = [*users.views, *ads.views]
    missing = stale = 0
    age_ms_max = None
    for view in views:
        missing += view.missing
        stale += view.stale
        if view.age_ms is not None and (age_ms_max is None or view.age_ms > age_ms_max):
            age_ms_max = view.age_ms
    return Knowledge(codes, own_codes, views, missing, stale, age_ms_max)


def in_order(codes: Iterable[DegradedCode]) -> list[DegradedCode]:
    """The codes as answers list them: each once, always in the same order."""
    given = set(codes)
    return [code for code in CODES if code in given] if given else []
