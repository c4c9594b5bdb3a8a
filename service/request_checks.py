"""What types cannot say about a request, whatever form it came in: counts, ids that may become keys, bids, duplicates.

Each check looks at a whole list at once and names the first place that is wrong; the form says how its places are
called in an error (`PathOf`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_store.errors import EntityIdError
from feature_store.ids import are_plain_and_distinct, entity_id
from service.errors import InvalidRequest

PathOf = Callable[[int], str]
"""The path of the i-th value."""

_INFINITY_AS_INTEGER = int(np.array(np.inf).view(np.uint64))
"""The bits of all finite numbers from 0 are less; those of infinity, NaN and whatever has a minus are not."""


def check_count(key: str, count: int, limit: int) -> None:
    """Raises InvalidRequest for no candidates or instances, or more than `server.max_candidates`."""
    if count == 0:
        raise InvalidRequest("expected at least one, got none", key)
    if count > limit:
        raise InvalidRequest(f"expected at most {limit} (server.max_candidates), got {count}", key)


def checked_ids(values: Sequence[str | int], path_of: PathOf) -> list[str]:
    """The values as entity ids. Raises InvalidRequest for the first that is none."""
    checked = []
    for i, value in enumerate(values):
        try:
            checked.append(entity_id(value))
        except EntityIdError as error:
            raise InvalidRequest(str(error), path_of(i)) from None
    return checked


def distinct_ids(values: list[Any], path_of: PathOf) -> list[str]:
    """The values as entity ids, no two of them equal. Raises InvalidRequest for the first that is not so."""
    if are_plain_and_distinct(values):
        return values
    ids = checked_ids(values, path_of)
    if len(set(ids)) < len(ids):
        _refuse_duplicate(ids, path_of)
    return ids


def checked_bids(bids: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The bids of n candidates, (n,), all finite and 0 or more. Raises InvalidRequest for the first that is not."""
    if bids.view(np.uint64).max() < _INFINITY_AS_INTEGER:
        return bids
    wrong = np.flatnonzero(~((bids >= 0) & (bids < np.inf)))  # NaN is neither
    if len(wrong) == 0:
        return bids + 0.0  # -0.0 becomes 0.0: nobody wants to read a score of minus nothing
    path, worst = f"candidates[{wrong[0]}].bid", bids[wrong[0]]
    if np.isfinite(worst):
        raise InvalidRequest(f"expected a number of 0 or more, got {worst:g}", path)
    raise InvalidRequest("expected a finite number of 0 or more, got a number that is not finite", path)


def _refuse_duplicate(ids: list[str], path_of: PathOf) -> None:
    first_at: dict[str, int] = {}
    for i, text in enumerate(ids):
        first = first_at.setdefault(text, i)
        if first != i:
            raise InvalidRequest(f"duplicate of {path_of(first)}, both are {text!r}; send each ad once", path_of(i))
