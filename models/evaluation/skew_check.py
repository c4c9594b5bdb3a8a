"""Served vectors against the offline store: asks what each served row should have held, and compares (`skew.py`).

As-of times are the log's, per view and row. A windowed row of as-of s was known to whoever asked at s + lag or later in
the same step; a dated row to whoever asked at its own time. A group is looked up as of the served row of the view that
names it, where that lies in the step: an ad that joined its group within the step was counted by materializing, too.
Distinct questions only: a thousand rows of one ad and one materialization are one question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from feature_store.errors import SchemaError
from feature_store.offline.offline_store import OfflineStore
from feature_store.project import Project
from feature_store.rows import Floats, Mask, Rows, Times
from feature_store.schema import FeatureView, TableSource, WindowSource
from models.encoder import Block, Side
from models.evaluation.served_vectors import ServedVectors
from models.evaluation.skew import EXACT, ColumnSkew, ViewAges, allowed_ulps, float_skew, id_skew


@dataclass(frozen=True, slots=True)
class SkewReport:
    """What was compared, and how it came out."""

    rows: int
    versions: tuple[str, ...]
    columns: tuple[ColumnSkew, ...]
    """In the model's order: numbers, then hashes."""
    views: tuple[ViewAges, ...]

    @property
    def skewed(self) -> tuple[str, ...]:
        """Names of the columns that differ."""
        return tuple(column.column for column in self.columns if not column.passes)


def check_skew(store: OfflineStore, project: Project, served: Sequence[ServedVectors]) -> SkewReport:
    """Compares all vectors with what the store says.

    Raises:
        SchemaError: a view is not, or no longer, the one that was served.
        LogError: a view's source cannot be read.
    """
    columns: dict[str, ColumnSkew] = {}
    views: dict[str, ViewAges] = {}
    for vectors in served:
        expected = _expected(store, project, vectors)
        for column in _columns(vectors, expected):
            columns[column.column] = columns[column.column].and_(column) if column.column in columns else column
        for view in expected.ages:
            views[view.view] = views[view.view].and_(view) if view.view in views else view
    return SkewReport(
        rows=sum(map(len, served)),
        versions=tuple(sorted({version for vectors in served for version in vectors.versions})),
        columns=tuple(columns.values()),
        views=tuple(views.values()),
    )


@dataclass(frozen=True, slots=True)
class _Expected:
    """What n vectors should have been.

    features: (n, d); ids: (n, k).
    allowed: (d,) steps of float32 that a number may be away.
    unknown: (n, V) rows of an as-of that the offline history does not have.
    view_of: of each number and then each hash, the number of its view; -1 for context and pairs.
    """

    features: Floats
    ids: npt.NDArray[np.int64]
    allowed: npt.NDArray[np.int64]
    unknown: Mask
    view_of: npt.NDArray[np.int64]
    ages: tuple[ViewAges, ...]


def _expected(store: OfflineStore, project: Project, served: ServedVectors) -> _Expected:
    layout, views = served.encoder.layout, served.encoder.inputs.views
    n, n_floats = len(served), layout.n_floats
    features = np.empty((n, n_floats), dtype=np.float32)
    ids = np.empty((n, layout.n_ids), dtype=np.int64)
    allowed = np.full(n_floats, EXACT, dtype=np.int64)
    view_of = np.full(n_floats + layout.n_ids, -1)
    unknown = np.zeros((n, len(views)), dtype=np.bool_)
    ages = []
    float_at = id_at = 0  # user views, then ad views: the model's order is that of its columns
    for number, view in enumerate(views):
        _check_same(view, project)
        rows, unknown[:, number], aged = _offline(store, project, served, number)
        ages.append(aged)
        floats, hashes = slice(float_at, float_at + view.n_float), slice(id_at, id_at + view.n_id)
        features[:, floats], ids[:, hashes], allowed[floats] = rows.floats, rows.ids, allowed_ulps(view)
        view_of[floats], view_of[n_floats + hashes.start : n_floats + hashes.stop] = number, number
        float_at, id_at = floats.stop, hashes.stop
    for side, block in ((Side.CONTEXT, _context(served)), (Side.PAIR, _pairs(served))):
        at = layout[side]
        features[:, at.first_float : at.first_float + at.n_floats] = block.floats
        ids[:, at.first_id : at.first_id + at.n_ids] = block.ids
    return _Expected(features, ids, allowed, unknown, view_of, tuple(ages))


def _columns(served: ServedVectors, expected: _Expected) -> list[ColumnSkew]:
    """Every column compared; the first row that differs stands as its example."""
    encoder, found = served.encoder, []
    nothing = np.zeros(len(served), dtype=np.bool_)
    for at, name in enumerate((*encoder.float_names, *encoder.id_names)):
        number = int(expected.view_of[at])
        unknown = nothing if number < 0 else expected.unknown[:, number]
        i = at - len(encoder.float_names)
        values: npt.NDArray[Any]
        should: npt.NDArray[Any]
        if i < 0:
            values, should = served.features[:, at], expected.features[:, at]
            skew, differs = float_skew(name, int(expected.allowed[at]), values, should, unknown)
        else:
            values, should = served.ids[:, i], expected.ids[:, i]
            skew, differs = id_skew(name, values, should, unknown)
        if skew.differing:
            row = int(differs.argmax())
            example = {
                "request_id": served.request_ids[row],
                "time_ms": int(served.time_ms[row]),
                "user_id": served.entity_ids["user"][row],
                "ad_id": served.entity_ids["ad"][row],
                "served": values[row].item(),
                "offline": None if unknown[row] else should[row].item(),
                "as_of_ms": None if number < 0 else int(served.as_of_ms[row, number]),
            }
            skew = replace(skew, example=example)
        found.append(skew)
    return found


def _check_same(view: FeatureView, project: Project) -> None:
    own = project.schema.view(view.name)
    if own is None or own.fingerprint != view.fingerprint:
        now = "has no such view" if own is None else f"gives it {own.fingerprint[:8]}"
        raise SchemaError(
            f"{project.origin}: the log was served with view {view.name!r} of fingerprint {view.fingerprint[:8]}, and "
            f"this definition {now}; name the features.toml that the served model was trained with"
        )


def _offline(store: OfflineStore, project: Project, served: ServedVectors, number: int) -> tuple[Rows, Mask, ViewAges]:
    """The rows that should have been served, which served ones nobody knows, and how they stand in time."""
    view = served.encoder.inputs.views[number]
    as_of_ms = served.as_of_ms[:, number]
    there = as_of_ms != 0
    entity_ids = served.entity_ids[view.entity]
    then = _ask(store, view, entity_ids, _question_times(project, served, number))
    now = _ask(store, view, entity_ids, served.time_ms)
    unknown = there & (then.event_time_ms != as_of_ms)
    is_dated = not isinstance(view.source, TableSource) or project.tables[view.name].event_time is not None
    behind = there & now.found & (now.event_time_ms > as_of_ms) & is_dated
    ages = ViewAges(
        view=view.name,
        rows=len(served),
        missing=int(np.count_nonzero(~there)),
        missing_but_known=int(np.count_nonzero(~there & now.found)),
        stale=int(np.count_nonzero(there & (as_of_ms <= served.time_ms - view.ttl_ms))),
        behind=int(behind.sum()),
        behind_ms_max=int((now.event_time_ms - as_of_ms)[behind].max(initial=0)),
        unknown=int(unknown.sum()),
        as_of_times=frozenset(np.unique(as_of_ms[there]).tolist()),
    )
    defaults = Rows.missing(view, len(there))
    rows = Rows(
        floats=np.where(there[:, None], then.floats, defaults.floats),
        ids=np.where(there[:, None], then.ids, defaults.ids),
        event_time_ms=then.event_time_ms,
        found=then.found & there,
    )
    return rows, unknown, ages


def _question_times(project: Project, served: ServedVectors, number: int) -> Times:
    """(n,) a time at which whoever asked was answered by the row that was served."""
    views = served.encoder.inputs.views
    view, as_of_ms = views[number], served.as_of_ms[:, number]
    if not isinstance(view.source, WindowSource):
        return as_of_ms
    first_ms = as_of_ms + view.source.lag_ms
    names = [other.name for other in views]
    groups = {
        at.source.by.partition(".")[0]
        for at in (view, *project.schema.levels_above(view))
        if isinstance(at.source, WindowSource) and at.source.by is not None
    }
    grouped_ms = [served.as_of_ms[:, names.index(group)] for group in groups if group in names]
    if not grouped_ms:
        return first_ms
    newest_ms: Times = np.max(grouped_ms, axis=0)
    return np.clip(newest_ms, first_ms, first_ms + view.source.step_ms - 1)


def _ask(store: OfflineStore, view: FeatureView, entity_ids: Sequence[str], time_ms: Times) -> Rows:
    """Asks each distinct (entity, time) once; row i answers the i-th."""
    place: dict[tuple[str, int], int] = {}
    at = np.array(
        [place.setdefault(question, len(place)) for question in zip(entity_ids, time_ms.tolist(), strict=True)],
        dtype=np.int64,
    )
    times = np.array([time for _, time in place], dtype=np.int64)
    return store.at(view, [entity for entity, _ in place], times).take(at)


def _context(served: ServedVectors) -> Block:
    """The context columns, encoded again from the context that was asked with."""
    blocks = [served.encoder.encode_context(msgspec.json.decode(text)).block for text in served.contexts]
    at = served.context_codes
    return Block(
        np.concatenate([block.floats for block in blocks])[at], np.concatenate([block.ids for block in blocks])[at]
    )


def _pairs(served: ServedVectors) -> Block:
    """The pair columns, made again from the columns that were served."""
    encoder = served.encoder

    def side(which: Side) -> Block:
        at = encoder.layout[which]
        return Block(
            served.features[:, at.first_float : at.first_float + at.n_floats],
            served.ids[:, at.first_id : at.first_id + at.n_ids].astype(np.uint32),
        )

    return encoder.encode_pairs(side(Side.USER), side(Side.AD), side(Side.CONTEXT))
