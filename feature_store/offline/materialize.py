"""Materialize: the rows of all entities as they are known at one time, from the offline store to the online store.

Rows stream in order of entity id, so a killed run is resumed where it stopped: after each batch the session remembers
the as-of time, the state of the source and the last id. A run that asks for the same on the same source goes on from
there; any other starts again, which is harmless, because writing a row twice changes nothing.
A row that holds since ever (a table without event times) gets the as-of time as its event time.
All sources are read and checked before the first row is written: a wrong column of the last view must not leave the
store with half of a project made anew.
Cost: one sort by entity, then decoding and writing batch by batch; DuckDB holds the histories of all views (and spills
to disk), Python one batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from feature_store.clock import Clock, shown_moment
from feature_store.errors import MaterializeError, NoRowLeft
from feature_store.offline.engine import EngineName
from feature_store.offline.histories import source_mark
from feature_store.offline.log import Log
from feature_store.offline.offline_store import EntityCount, OfflineStore
from feature_store.offline.progress import Progress, silent
from feature_store.offline.rejects import Rejects
from feature_store.online.store import RowWriter, WriteReport, WriteSession
from feature_store.project import Project
from feature_store.run_folder import RunFolder
from feature_store.schema import FeatureView
from feature_store.toml_table import shown_duration

MIN_ROWS_TO_WEIGH = 1_000
"""The server's own buffers, some tens of kilobytes, would be most of what fewer rows seem to take."""


@dataclass(frozen=True, slots=True)
class MaterializedView:
    """What became of one view."""

    view: str
    fingerprint: str
    as_of_ms: int
    resumed_after_rows: int | None
    """Where this run went on, after a killed one; None where it began. The other counts are of this run alone."""
    entities: int
    """Entities the view ever heard of; those without a valid row at the as-of time are not written."""
    rows: WriteReport
    later_than_as_of: int
    """Rows of the source (impressions, for windows) that lie after the as-of time: not yet known, so left out."""
    rejected: Rejects
    """Rows of the source table that could not be used."""
    seconds: float
    predicted_bytes_per_entity: float | None
    """Memory of one row by `sizing.py`; None where the store cannot tell."""
    memory_growth_bytes: int | None
    """How much the store grew before publication; close to 0 where rows replaced earlier rows of the same entities."""

    @property
    def real_bytes_per_entity(self) -> float | None:
        """Growth per written row: comparable with the prediction when the rows were new; None where they are few."""
        if self.memory_growth_bytes is None or self.rows.written < MIN_ROWS_TO_WEIGH:
            return None
        return self.memory_growth_bytes / self.rows.written

    @property
    def warning(self) -> str:
        """That nothing was written though there were rows, and why; empty where something was."""
        older, expired = self.rows.older_skipped, self.rows.expired_skipped
        if self.rows.written or self.resumed_after_rows or not older + expired:
            return ""
        reasons = [f"{older:,} because the store holds newer ones"] if older else []
        reasons += [f"{expired:,} because they have outlived their time-to-live"] if expired else []
        return (
            f"view {self.view!r}: nothing was written: all {older + expired:,} rows as of "
            f"{shown_moment(self.as_of_ms)} were skipped, {' and '.join(reasons)}"
        )


@dataclass(frozen=True, slots=True)
class MaterializeReport:
    """What became of each view, in the order they were written."""

    views: tuple[MaterializedView, ...]

    @property
    def written(self) -> int:
        """Rows written altogether."""
        return sum(view.rows.written for view in self.views)


class _ResumePoint(msgspec.Struct, frozen=True):
    """How far a session came."""

    as_of_ms: int
    asked_as_of: bool
    """Whether the as-of time was asked for, rather than taken from the clock."""
    source: str
    n_rows: int
    """Rows dealt with so far."""
    after: str
    """The last entity id that was written."""


def materialize(
    project: Project,
    views: Sequence[FeatureView],
    log: Log | None,
    writer: RowWriter,
    *,
    workdir: Path,
    clock: Clock,
    as_of_ms: int | None = None,
    engine: EngineName = "duckdb",
    on_progress: Progress = silent,
) -> MaterializeReport:
    """Write the rows of `views` as they are known at `as_of_ms`.

    Args:
        project: where the values come from; `Project.with_table` reads a view from another file.
        views: of the project.
        log: the click log, for views that are made from it; also where tables beside it lie.
        writer: of the project's rows.
        workdir: for temporary files.
        clock: the present, which is the as-of time where none is given, and measures the seconds.
        as_of_ms: milliseconds since 1970 UTC.
        engine: who joins.
        on_progress: told the view and its share done.
    Raises:
        EngineError: the engine is not to be had here.
        LogError: a source cannot be read.
        MaterializeError: the time is in the future.
        NoRowLeft: all rows of a view were rejected, are later than the time, or have expired.
        StoreError: the online store failed; run it again to resume.
    """
    if as_of_ms is not None and as_of_ms > clock():
        raise MaterializeError(
            f"the as-of time {shown_moment(as_of_ms)} is in the future: rows of that time would hide every newer one "
            "until then; where it is the log's end, an impression in the log has a wrong time"
        )
    with RunFolder(workdir) as folder, OfflineStore(project, log, folder.path, engine) as store:
        sources = [_read_source(store, project, view, log, clock, on_progress) for view in views]
        return MaterializeReport(
            tuple(
                _materialize_view(store, source, writer, clock=clock, as_of_ms=as_of_ms, report=on_progress)
                for source in sources
            )
        )


class _Source(NamedTuple):
    """A view whose rows are read and checked, and not yet written."""

    view: FeatureView
    entities: EntityCount
    mark: str
    """Changes with the data."""
    read_ms: int
    """How long reading took."""


def _read_source(
    store: OfflineStore, project: Project, view: FeatureView, log: Log | None, clock: Clock, report: Progress
) -> _Source:
    started_ms = clock()
    stage = f"reading {view.name}"
    report(stage, 0.0)
    entities = store.entities(view)
    mark = hashlib.sha256(source_mark(view, project, log).encode()).hexdigest()[:16]
    report(stage, 1.0)
    return _Source(view, entities, mark, clock() - started_ms)


def _materialize_view(
    store: OfflineStore,
    source: _Source,
    writer: RowWriter,
    *,
    clock: Clock,
    as_of_ms: int | None,
    report: Progress,
) -> MaterializedView:
    view, entities, mark, read_ms = source
    started_ms = clock()
    stage = f"materializing {view.name}"
    report(stage, 0.0)
    predicted = writer.predict_bytes_per_entity(view, entities.mean_id_bytes, entities.n)
    used_before = writer.used_bytes()
    with writer.session(view, distinct=True) as session:
        point = _resume_point(session, mark, as_of_ms)
        time_ms = point.as_of_ms if point else started_ms if as_of_ms is None else as_of_ms
        n_later = store.n_later(view, time_ms)
        rows = WriteReport()
        n_seen = point.n_rows if point else 0
        if point:
            stage += f", resumed after {n_seen:,} rows"
            report(stage, min(1.0, n_seen / max(1, entities.n)))
        for batch in store.as_of(view, time_ms, after=point.after if point else ""):
            rows += session.write(batch.entity_ids, batch.event_time_ms, batch.floats, batch.ids)
            n_seen += len(batch.entity_ids)
            reached = _ResumePoint(time_ms, as_of_ms is not None, mark, n_seen, batch.entity_ids[-1])
            session.save_resume_point(msgspec.json.encode(reached).decode())
            report(stage, min(1.0, n_seen / max(1, entities.n)))
        if not point and (why := _nothing_left(view, rows, n_seen, entities.n, n_later, time_ms)):
            raise NoRowLeft(why, store.rejects)
        used_after = writer.used_bytes()
        session.finish()
    report(stage, 1.0)
    return MaterializedView(
        view=view.name,
        fingerprint=view.fingerprint,
        as_of_ms=time_ms,
        resumed_after_rows=point.n_rows if point else None,
        entities=entities.n,
        rows=rows,
        later_than_as_of=n_later,
        rejected=store.rejects.get(view.name, Rejects({}, ())),
        seconds=(read_ms + clock() - started_ms) / 1000,
        predicted_bytes_per_entity=predicted,
        memory_growth_bytes=None if used_before is None or used_after is None else used_after - used_before,
    )


def _resume_point(session: WriteSession, mark: str, as_of_ms: int | None) -> _ResumePoint | None:
    """Where the last run stopped, if it wanted the same from the same source."""
    if session.resume_point is None:
        return None
    try:
        point = msgspec.json.decode(session.resume_point, type=_ResumePoint)
    except msgspec.DecodeError:
        return None  # written by another version: starting again is always right
    asked_alike = point.as_of_ms == as_of_ms if point.asked_as_of else as_of_ms is None
    return point if asked_alike and point.source == mark else None


def _nothing_left(
    view: FeatureView, rows: WriteReport, n_rows: int, n_entities: int, n_later: int, time_ms: int
) -> str:
    """Why an empty view would be published, served as nothing but defaults: a caller's mistake. Empty where it is not.

    Args:
        view: that was written.
        rows: what became of its rows.
        n_rows: known at the as-of time.
        n_entities: the view ever heard of.
        n_later: rows after the as-of time.
        time_ms: the as-of time.
    """
    if not n_rows:
        return (
            f"view {view.name!r} has no row as of {shown_moment(time_ms)}: of its {n_entities:,} entities none has one "
            f"that is not later and not older than its time-to-live of {shown_duration(view.ttl_ms)} ({n_later:,} "
            "rows are later); name another as-of time"
        )
    if rows.expired_skipped == n_rows:
        return (
            f"view {view.name!r}: all {n_rows:,} rows as of {shown_moment(time_ms)} have outlived their "
            f"time-to-live of {shown_duration(view.ttl_ms)} by now; raise the ttl or materialize a later as-of time"
        )
    return ""
