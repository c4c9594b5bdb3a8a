"""The request's side of the served log: a bounded list of references, and counts of what it could not take.

A request appends what it holds anyway (blocks, row numbers of an item table, scores): nothing is copied, because none
of it changes later (`ItemTable`: a row never changes once written, and who keeps the table keeps its rows). Where the
thread that writes is behind, requests are dropped from the log and counted, never delayed. Both sides count upwards in
a number of their own, so neither needs a lock.
Cost: about 1 µs a request, most of it making one object; nothing where the log is off.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from feature_store.online.store import CataloguePosition
from service.model_slots import ServedModel
from service.scoring import Scored

Route = Literal["rank", "predict"]


class ServedRequest(Struct, frozen=True):
    """One answered request: n candidates or instances, the first m of them scored."""

    route: Route
    request_id: str
    model: ServedModel
    positions: tuple[CataloguePosition, ...]
    """What the item table had seen of each view's catalogue; empty where there is no table."""
    user_ids: Sequence[str | None]
    """(n,), or the one user of a ranking."""
    ad_ids: Sequence[str | None]
    """(n,)"""
    contexts: Sequence[Mapping[str, object]]
    """(n,), or the one context of a ranking."""
    scored: Scored
    order: npt.NDArray[np.intp] | None
    """(k,) places of the answered candidates, best first; None for predictions, which are answered as they came."""


class ServedBuffer:
    """What was served and is not written yet."""

    def __init__(self, max_rows: int, sample: float) -> None:
        """Keeps at most `max_rows` candidates, of a share `sample` of the requests."""
        self._max_rows = max_rows
        self._takes_all = sample >= 1
        self._sample_below = int(sample * 2**32)
        self._waiting: deque[ServedRequest] = deque()
        self._rows_in = 0  # written by requests only
        self._rows_out = 0  # written by the writer only
        self.dropped_rows = 0
        """Candidates for which there was no room."""

    @property
    def n_rows(self) -> int:
        """Candidates that wait."""
        return self._rows_in - self._rows_out

    def wants(self, request_id: str) -> bool:
        """Whether this request belongs to the sample; the same id does in every process, and in every run."""
        return self._takes_all or zlib.crc32(request_id.encode()) < self._sample_below

    def add(self, served: ServedRequest) -> None:
        """Takes a request, or counts it as dropped."""
        n_rows = len(served.scored.scores.p_click)
        if self.n_rows + n_rows > self._max_rows:
            self.dropped_rows += n_rows
            return
        self._rows_in += n_rows
        self._waiting.append(served)

    def take(self, max_rows: int) -> list[ServedRequest]:
        """Requests in the order in which they came, until they have so many rows together, or none is left."""
        taken: list[ServedRequest] = []
        n_rows = 0
        while self._waiting and n_rows < max_rows:
            served = self._waiting.popleft()
            n_rows += len(served.scored.scores.p_click)
            taken.append(served)
        self._rows_out += n_rows
        return taken
