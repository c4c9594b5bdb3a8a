"""How well the ads of a request are known: for each view the rows missing and stale, and the age of the oldest.

Asked for every answer, so it is compiled where a compiler was there (`_item_survey.c`), and NumPy elsewhere.
Cost for 100 ads and one view: 0.4 µs compiled, 12 µs in NumPy.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from feature_store.online.id_index import Indices
from feature_store.online.item_table import ItemTable

try:
    from feature_store.online import _item_survey
except ImportError:  # no compiler where it was installed
    COMPILED = False
else:
    COMPILED = True

LATEST = np.iinfo(np.int64).max
"""Event time of the oldest row where there is none."""

Survey = npt.NDArray[np.int64]
"""(V, 3) for each view: rows missing, rows stale, event time of the oldest row in ms."""


def survey(table: ItemTable, rows: Indices, now_ms: int, *, compiled: bool = COMPILED) -> Survey:
    """Surveys (n,) rows of a table."""
    found = np.empty((len(table.views), 3), dtype=np.int64)
    arguments = (
        rows,
        table.split,
        table.base.event_time_ms,
        table.base.found,
        table.delta.event_time_ms,
        table.delta.found,
        table.ttl_ms,
        now_ms,
        found,
    )
    (_item_survey.survey if compiled else _survey)(*arguments)
    return found


def _survey(
    rows: Indices,
    split: int,
    base_time_ms: npt.NDArray[np.int64],
    base_found: npt.NDArray[np.bool_],
    delta_time_ms: npt.NDArray[np.int64],
    delta_found: npt.NDArray[np.bool_],
    ttl_ms: npt.NDArray[np.int64],
    now_ms: int,
    out: Survey,
) -> None:
    """What `_item_survey.survey` does."""
    in_base = rows < split
    time_ms = np.concatenate([base_time_ms[rows[in_base]], delta_time_ms[rows[~in_base] - split]])
    found = np.concatenate([base_found[rows[in_base]], delta_found[rows[~in_base] - split]])
    out[:, 0] = (~found).sum(axis=0)
    out[:, 1] = (found & (time_ms <= now_ms - ttl_ms)).sum(axis=0)
    out[:, 2] = np.where(found, time_ms, LATEST).min(axis=0, initial=LATEST)
