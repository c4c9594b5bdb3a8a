"""What an online store promises: the two protocols that Redis and memory both keep (`tests/contracts/`).

Reading, while a request waits: row i answers key i, a missing row is None and keeps its place, and no answer later than
the caller's deadline. Writing, by batch jobs, one writer per view at a time:
- an older row never replaces a newer one; of two rows with equal event time the later written wins;
- a row lives until event time + time-to-live, so one that has already expired is not written at all;
- writing is idempotent, and what was written before a kill stays valid.
Times are int64 milliseconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from feature_store.rows import Floats, Ids, Rows, Times
from feature_store.schema import FeatureView

StoreObserver = Callable[[str, int], None]
"""Told what happened and how often: `mget` (keys), `timeout`, `down`, `reconnect`, `breaker_open`, `breaker_closed`."""


def ignore_events(event: str, amount: int) -> None:
    """The observer of whoever does not want to know."""


class OnlineStore(Protocol):
    """Reads rows while a request waits."""

    async def get_many(self, keys: Sequence[bytes], *, timeout_ms: float) -> list[bytes | None]:
        """The stored value of each key, None where there is none.

        Raises:
            StoreTimeout: no answer within `timeout_ms`.
            StoreDown: no connection, or the server refused the command.
        """
        ...

    async def ping(self, *, timeout_ms: float) -> float:
        """Round trip in ms. Raises as `get_many` does."""
        ...

    async def aclose(self) -> None:
        """Gives connections back; later calls raise StoreDown."""
        ...


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What became of the rows of a batch."""

    written: int = 0
    older_skipped: int = 0
    """The store, or the same batch, holds a newer row of that entity."""
    expired_skipped: int = 0
    """Event time + time-to-live is not in the future."""

    def __add__(self, other: WriteReport) -> WriteReport:
        return WriteReport(
            self.written + other.written,
            self.older_skipped + other.older_skipped,
            self.expired_skipped + other.expired_skipped,
        )


@dataclass(frozen=True, slots=True)
class ViewState:
    """What the store knows about one view with one meaning."""

    view: str
    fingerprint: str
    definition: str
    """The view as JSON, so that a stored row can be explained without the project's files."""
    rows: int
    """Rows written by the last finished session."""
    watermark_ms: int
    """No row of the view has a later event time. Raised before rows are sent, so a killed writer leaves it too high
    (which costs the next one a read) and never too low (which would cost a newer row)."""
    started_ms: int
    finished_ms: int | None
    """When a session last ended well; None while the first has not: the view may not be served."""


class WriteSession(Protocol):
    """One writer's turn on one view, from lock to publication."""

    resume_point: str | None
    """What the previous session saved last, if it did not finish; None for a fresh start."""

    def write(self, entity_ids: Sequence[str], event_time_ms: Times, floats: Floats, ids: Ids) -> WriteReport:
        """Writes n rows: event_time_ms (n,), floats (n, n_float), ids (n, n_id). On return they can be read.

        Raises:
            EntityIdError: an id may not become part of a key. Nothing of the batch was written.
            CodecError: an array has another shape than the view asks for, or holds infinity.
            StoreDown, StoreTimeout: the server failed. Writing the batch again is safe.
            WriterLockLost: the session paused for longer than its lock lived and another may have begun.
        """
        ...

    def save_resume_point(self, text: str) -> None:
        """Remembers how far the session came; the next one finds it unless this one finishes."""
        ...

    def finish(self) -> ViewState:
        """Publishes: from now on the view may be served, and for an item view its catalogue holds what was written."""
        ...


class RowWriter(Protocol):
    """Writes rows of one project."""

    def session(self, view: FeatureView, *, distinct: bool = False) -> AbstractContextManager[WriteSession]:
        """Takes the view's lock. Leaving without `finish` keeps the rows and the resume point but publishes nothing.

        Args:
            distinct: the caller promises that no entity comes twice in this session, which spares reading rows back.
        Raises:
            WriterBusy: another writer has the lock, and kept it if this one waits; the message says who.
            SchemaError: the time-to-live is not positive.
        """
        ...

    def predict_bytes_per_entity(self, view: FeatureView, mean_id_bytes: float, n_entities: int) -> float | None:
        """Memory that a row of the view will take, with `n_entities` rows stored; None where the store cannot tell."""
        ...

    def used_bytes(self) -> int | None:
        """Memory that the store takes now, whoever wrote it; None where it cannot tell."""
        ...

    def close(self) -> None:
        """Gives connections back."""
        ...


@dataclass(frozen=True, slots=True)
class CataloguePosition:
    """How much of an item view a reader has seen: a catalogue version and the changes after it."""

    version: int
    sequence: int


@dataclass(frozen=True, slots=True)
class CatalogueRows:
    """All items of a view, or those that changed. Row i of `rows` belongs to `entity_ids[i]`; not found = deleted."""

    position: CataloguePosition
    entity_ids: list[str]
    rows: Rows


class CatalogueReader(Protocol):
    """Lists the items of a view, which keys cannot do. Blocking: call it from a worker thread while serving."""

    @property
    def origin(self) -> str:
        """Names the store and the project, without secrets: a view's rows of another origin are other rows."""
        ...

    def states(self) -> list[ViewState]:
        """Every view of the project that was ever written and not pruned since."""
        ...

    def load(self, view: FeatureView) -> CatalogueRows:
        """All items of a view.

        Raises:
            ViewNotMaterialized: the view has no catalogue under its fingerprint.
            StoreDown, StoreTimeout: the server failed.
        """
        ...

    def changes(self, view: FeatureView, since: CataloguePosition) -> CatalogueRows | None:
        """Items changed after a position, the newest row of each; None where only a new `load` can tell."""
        ...


class EntityEraser(Protocol):
    """Removes what is stored about one entity, for good and in every reader's copy."""

    def delete_entity(self, view: FeatureView, entity_id: str) -> bool:
        """Deletes one row; an item also leaves the catalogue. False where there was none.

        Raises:
            WriterBusy: a writer has the view; its rows could bring the entity back.
        """
        ...
