"""The online store inside one process: for tests, tools and trying things out.

Keeps the same promises as Redis (`tests/contracts/`), down to bytes and expiry, but by the clock that is passed in, so
a test can let a row expire without waiting. One object is store, writer and catalogue at once. Not for several threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from feature_store.clock import Clock, system_clock
from feature_store.errors import StoreDown, ViewNotMaterialized, WriterBusy
from feature_store.online.batch import Batch, check_time_to_live, prepare_batch
from feature_store.online.codec import decode_rows, event_time_of
from feature_store.online.layout import ViewKeys
from feature_store.online.store import CataloguePosition, CatalogueRows, ViewState, WriteReport
from feature_store.online.view_meta import NO_WATERMARK_MS, definition_json
from feature_store.rows import Floats, Ids, Times
from feature_store.schema import FeatureView


@dataclass(slots=True)
class _StoredView:
    """Everything kept about one view besides its rows."""

    keys: ViewKeys
    state: ViewState
    resume_point: str | None = None
    is_locked: bool = False
    session_rows: int = 0
    pending: dict[str, None] = field(default_factory=dict)
    """Entities written since the last publication, in order."""
    published: dict[str, int] = field(default_factory=dict)
    """Sequence of each entity's last change."""
    sequence: int = 0


class MemoryStore:
    """`OnlineStore`, `RowWriter`, `CatalogueReader` and `EntityEraser` of one project."""

    def __init__(self, project: str, clock: Clock = system_clock) -> None:
        self._project = project
        self._clock = clock
        self._rows: dict[bytes, tuple[bytes, int]] = {}
        """Key to value and the time at which it is gone."""
        self._views: dict[str, _StoredView] = {}
        """By fingerprint."""
        self._closed = False

    @property
    def origin(self) -> str:
        """See `CatalogueReader.origin`."""
        return f"memory {self._project}"

    async def get_many(self, keys: Sequence[bytes], *, timeout_ms: float) -> list[bytes | None]:
        """See `OnlineStore.get_many`; never late."""
        self._check_open()
        return self._values(keys)

    async def ping(self, *, timeout_ms: float) -> float:
        """See `OnlineStore.ping`."""
        self._check_open()
        return 0.0

    async def aclose(self) -> None:
        """See `OnlineStore.aclose`."""
        self._closed = True

    @contextmanager
    def session(self, view: FeatureView, *, distinct: bool = False) -> Iterator[_MemorySession]:
        """See `RowWriter.session`."""
        check_time_to_live(view)
        stored = self._open_view(view)
        if stored.is_locked:
            raise WriterBusy(f"view {view.name!r} is being written by another session of this process")
        stored.is_locked = True
        try:
            yield _MemorySession(self._rows, stored, view, self._clock)
        finally:
            stored.is_locked = False

    def predict_bytes_per_entity(self, view: FeatureView, mean_id_bytes: float, n_entities: int) -> float | None:
        """Python's own overhead would only mislead."""
        return None

    def used_bytes(self) -> int | None:
        """As above."""
        return None

    def close(self) -> None:
        """Nothing to give back."""

    def states(self) -> list[ViewState]:
        """See `CatalogueReader.states`."""
        return [stored.state for stored in self._views.values()]

    def load(self, view: FeatureView) -> CatalogueRows:
        """See `CatalogueReader.load`."""
        stored = self._views.get(view.fingerprint)
        if stored is None or stored.state.finished_ms is None:
            raise ViewNotMaterialized(f"view {view.name!r} has no finished rows; run `clickserve materialize`")
        listed = self._listed(stored, view, after=0)
        present = [row for row, found in enumerate(listed.rows.found) if found]
        entity_ids = [listed.entity_ids[row] for row in present]
        return CatalogueRows(listed.position, entity_ids, decode_rows(view, self._values(stored.keys.rows(entity_ids))))

    def changes(self, view: FeatureView, since: CataloguePosition) -> CatalogueRows | None:
        """See `CatalogueReader.changes`."""
        stored = self._views.get(view.fingerprint)
        if stored is None or since.version != 1 or since.sequence > stored.sequence:
            return None
        return self._listed(stored, view, after=since.sequence)

    def delete_entity(self, view: FeatureView, entity_id: str) -> bool:
        """See `EntityEraser.delete_entity`."""
        stored = self._views.get(view.fingerprint)
        if stored is None:
            return False
        if stored.is_locked:
            raise WriterBusy(f"view {view.name!r} is being written by another session of this process")
        existed = self._rows.pop(stored.keys.row(entity_id), None) is not None
        if entity_id in stored.published:
            stored.sequence += 1
            stored.published[entity_id] = stored.sequence
        return existed

    def _listed(self, stored: _StoredView, view: FeatureView, after: int) -> CatalogueRows:
        entity_ids = [text for text, sequence in stored.published.items() if sequence > after]
        rows = decode_rows(view, self._values(stored.keys.rows(entity_ids)))
        return CatalogueRows(CataloguePosition(1, stored.sequence), entity_ids, rows)

    def _values(self, keys: Sequence[bytes]) -> list[bytes | None]:
        now_ms = self._clock()
        found = (self._rows.get(key) for key in keys)
        return [entry[0] if entry is not None and entry[1] > now_ms else None for entry in found]

    def _open_view(self, view: FeatureView) -> _StoredView:
        stored = self._views.get(view.fingerprint)
        if stored is None:
            state = ViewState(
                view.name, view.fingerprint, definition_json(view), 0, NO_WATERMARK_MS, self._clock(), None
            )
            stored = self._views[view.fingerprint] = _StoredView(ViewKeys(self._project, view), state)
        return stored

    def _check_open(self) -> None:
        if self._closed:
            raise StoreDown("this memory store has been closed")


class _MemorySession:
    """`WriteSession` on a dictionary."""

    def __init__(
        self, rows: dict[bytes, tuple[bytes, int]], stored: _StoredView, view: FeatureView, clock: Clock
    ) -> None:
        self._rows = rows
        self._stored = stored
        self._view = view
        self._clock = clock
        self.resume_point = stored.resume_point
        if self.resume_point is None:
            stored.session_rows = 0

    def write(self, entity_ids: Sequence[str], event_time_ms: Times, floats: Floats, ids: Ids) -> WriteReport:
        """See `WriteSession.write`."""
        stored, now_ms = self._stored, self._clock()
        batch = prepare_batch(self._view, entity_ids, event_time_ms, floats, ids, now_ms)
        batch = batch.keep([self._is_newer(text, time_ms, now_ms) for text, time_ms in _pairs(batch)])
        for (entity_id, time_ms), value in zip(_pairs(batch), batch.values, strict=True):
            self._rows[stored.keys.row(entity_id)] = (value, time_ms + self._view.ttl_ms)
            stored.pending[entity_id] = None
        watermark_ms = max([stored.state.watermark_ms, *batch.event_time_ms.tolist()])
        stored.state = replace(stored.state, watermark_ms=watermark_ms)
        stored.session_rows += len(batch)
        return batch.report()

    def save_resume_point(self, text: str) -> None:
        """See `WriteSession.save_resume_point`."""
        self._stored.resume_point = text

    def finish(self) -> ViewState:
        """See `WriteSession.finish`."""
        stored = self._stored
        stored.resume_point = None
        if stored.pending:
            stored.sequence += 1
            stored.published.update(dict.fromkeys(stored.pending, stored.sequence))
            stored.pending.clear()
        stored.state = replace(stored.state, rows=stored.session_rows, finished_ms=self._clock())
        return stored.state

    def _is_newer(self, entity_id: str, time_ms: int, now_ms: int) -> bool:
        value, expires_ms = self._rows.get(self._stored.keys.row(entity_id), (b"", 0))
        return expires_ms <= now_ms or event_time_of(value) <= time_ms


def _pairs(batch: Batch) -> Iterator[tuple[str, int]]:
    return zip(batch.entity_ids, batch.event_time_ms.tolist(), strict=True)
