"""Rows of one entity as Redis answers them, into a matrix: one join, one `frombuffer`, no loop over rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loadtest.baselines.facts import Entity

LATEST_MS = np.iinfo(np.int64).max


class Read(NamedTuple):
    """What was found. missing, stale: places of rows; oldest_ms: event time of the oldest one there, or LATEST_MS."""

    missing: list[int]
    stale: list[int]
    oldest_ms: int


class Rows:
    """Decodes the rows of users, or of ads."""

    def __init__(self, entity: Entity) -> None:
        self._head, self._tail = entity.key_head, entity.key_tail
        self._ttl_ms = entity.ttl_ms
        self._dtype = np.dtype(
            {
                "names": ["event_time_ms", "floats"],
                "formats": ["<i8", ("<f4", (entity.n_float,))],
                "offsets": [8, entity.header_bytes],
                "itemsize": entity.header_bytes + 4 * entity.n_float,
            }
        )
        unknown = np.zeros(1, self._dtype)
        unknown["event_time_ms"] = LATEST_MS  # never stale, never the oldest
        unknown["floats"] = np.nan
        self._unknown = unknown.tobytes()

    def keys(self, ids: list[str]) -> list[bytes]:
        """Their keys, in order: all at once, as no id has a line break."""
        return (self._head + (self._tail + "\n" + self._head).join(ids) + self._tail).encode().split(b"\n")

    def into(self, matrix: npt.NDArray[np.float32], values: list[bytes | None], now_ms: int) -> Read:
        """Writes the numbers of n values into the (n, n_float) matrix; NaN where there is no row."""
        missing: list[int] = []
        if None in values:
            missing = [i for i, value in enumerate(values) if value is None]
            values = [self._unknown if value is None else value for value in values]
        rows = np.frombuffer(b"".join(values), self._dtype)  # type: ignore[arg-type]  # no None is left
        matrix[:] = rows["floats"]
        oldest_ms = int(rows["event_time_ms"].min())
        stale: list[int] = []
        if oldest_ms <= now_ms - self._ttl_ms:
            stale = np.flatnonzero(rows["event_time_ms"] <= now_ms - self._ttl_ms).tolist()
        return Read(missing, stale, oldest_ms)
