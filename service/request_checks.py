"""What types cannot say about a request, whatever form it came in: counts, ids that may become keys, bids, duplicates.

Each check looks at a whole list at once and names the first place that is wrong; the form says how its places are
called in an error (`PathOf`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from feature_store.errors import EntityIdError
from feature_store.ids import entity_id
from service.errors import InvalidRequest

PathOf = Callable[[int], str]
"""The path of the i-th value."""


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


def check_distinct(ids: list[str], path_of: PathOf) -> None:
    """Raises InvalidRequest for the first id that was there before."""
    if len(set(ids)) == len(ids):
        return
    first_at: dict[str, int] = {}
    for i, text in enumerate(ids):
        first = first_at.setdefault(text, i)
        if first != i:
            raise InvalidRequest(f"duplicate of {path_of(first)}, both are {text!r}; send each ad once", path_of(i))


def checked_bids(bids: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The bids of n candidates, (n,), all finite and 0 or more. Raises InvalidRequest for the first that is not."""
    if not (bids.min() >= 0 and bids.max() < np.inf):  # NaN is neither
        worst = int(np.flatnonzero(~((bids >= 0) & (bids < np.inf)))[0])
        path = f"candidates[{worst}].bid"
        if not np.isfinite(bids[worst]):
            raise InvalidRequest("expected a finite number of 0 or more, got a number that is not finite", path)
        raise InvalidRequest(f"expected a number of 0 or more, got {bids[worst]:g}", path)
    return bids + 0.0  # -0.0 becomes 0.0: nobody wants to read a score of minus nothing
