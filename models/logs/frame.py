"""A click log as a model sees it: every impression with what was known about its user, its ad and its context.

The three blocks are the ones serving makes, for n impressions instead of one request: `Encoder.encode(frame.user,
frame.ads, frame.context)` gives the model's matrices. User and ad columns come from the point-in-time join
(`feature_store/offline/`), context columns from the log itself, encoded value by value by the functions that encode
a request; a value is encoded once, however often it occurs.

Memory: 4 bytes per column and impression; a million impressions of 40 columns take 160 MB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from feature_store.clock import shown_moment
from feature_store.errors import LogError
from feature_store.ids import MISSING_ID, hash_id, hash_ids
from feature_store.offline import arrow
from feature_store.offline.engine import EngineName
from feature_store.offline.log import Factorised, Log
from feature_store.offline.offline_store import OfflineStore
from feature_store.offline.progress import Progress, silent
from feature_store.offline.rejects import Rejects
from feature_store.project import Project
from feature_store.schema import ContextFeature, FeatureView
from feature_store.toml_table import shown_duration
from models.encoder import Block, Encoded, Encoder, ModelInputs, context_number

MANY_SIMULTANEOUS = 0.5
"""Rows that were known before an impression seldom carry its own time; rows that were made from it all do."""

COARSE_MS = 60_000
"""Where all impressions fall on whole minutes, times are rounded, and equal ones mean nothing."""


@dataclass(frozen=True, slots=True)
class TrainingFrame:
    """n impressions in order of time; those whose label is still pending (`Log.pending`) are not among them.

    time_ms: (n,) int64, non-decreasing; the order of the file where the log has no time.
    clicked: (n,) bool, within the label's window.
    position: (n,) int16, -1 where unknown. Not a feature: serving does not know it.
    propensity: (n,) float64 in (0, 1], NaN where unknown: with which probability the logging policy showed this ad at
        this place. Never a feature: it tells of the policy that chose.
    line: (n,) int64, line or row of the input, to answer in the order of the input.
    first_row: row of the log (`_row`) that the first impression is; the others follow it.
    users, ads: who and what, factorised; code -1 everywhere where the log has none.
    earlier_of_user, earlier_of_ad: (n,) int32, impressions of the same user or ad that come earlier in the whole log,
        whatever part of it this frame is; -1 where the user or ad is unknown.
    user, ad, context: blocks of n rows.
    """

    log: Log
    inputs: ModelInputs
    time_ms: npt.NDArray[np.int64]
    clicked: npt.NDArray[np.bool_]
    position: npt.NDArray[np.int16]
    propensity: npt.NDArray[np.float64]
    line: npt.NDArray[np.int64]
    first_row: int
    users: Factorised
    ads: Factorised
    earlier_of_user: npt.NDArray[np.int32]
    earlier_of_ad: npt.NDArray[np.int32]
    user: Block
    ad: Block
    context: Block
    table_rejects: dict[str, Rejects]
    """By view: rows of its table that could not be used."""
    found: dict[str, int]
    """By view: impressions of the whole log that found a row."""
    simultaneous: dict[str, float]
    """By view with dated rows of somebody's making: share of the joined rows that carry their impression's own time."""

    def __len__(self) -> int:
        return len(self.clicked)

    def warnings(self) -> tuple[str, ...]:
        """What may be wrong with the joined rows, in words; see `MANY_SIMULTANEOUS`."""
        return leak_warnings(self.simultaneous, self.time_ms)

    @property
    def has_positions(self) -> bool:
        """Whether any impression says where it was shown."""
        return bool(np.any(self.position >= 0))

    def users_at(self, rows: slice) -> npt.NDArray[np.integer[Any]]:
        """(m,) codes of some impressions' users, -1 where unknown."""
        return self.users.codes[rows]

    def part(self, start: float, end: float) -> TrainingFrame:
        """The impressions between two fractions of the log, in order of time: `part(0.8, 1)` is the last fifth.

        Their features keep the whole log as history, each impression its own past.
        """
        return self.rows(slice(round(start * len(self)), round(end * len(self))))

    def rows(self, rows: slice) -> TrainingFrame:
        """Neighbouring impressions."""
        return replace(
            self,
            time_ms=self.time_ms[rows],
            clicked=self.clicked[rows],
            position=self.position[rows],
            propensity=self.propensity[rows],
            line=self.line[rows],
            first_row=self.first_row + rows.start,
            earlier_of_user=self.earlier_of_user[rows],
            earlier_of_ad=self.earlier_of_ad[rows],
            users=Factorised(self.users.codes[rows], self.users.values),
            ads=Factorised(self.ads.codes[rows], self.ads.values),
            user=Block(self.user.floats[rows], self.user.ids[rows]),
            ad=Block(self.ad.floats[rows], self.ad.ids[rows]),
            context=Block(self.context.floats[rows], self.context.ids[rows]),
        )

    def log_column(self, name: str) -> Factorised:
        """A column of the log for these impressions, whether or not it is a feature.

        Raises:
            SchemaError: the log has no such column.
        """
        codes, values = self.log.columns([name])[name]
        return Factorised(codes[self.first_row : self.first_row + len(self)], values)

    def encode(self, encoder: Encoder, rows: slice = slice(None)) -> Encoded:
        """The model's matrices for some of the impressions."""
        user, ad, context = (Block(block.floats[rows], block.ids[rows]) for block in (self.user, self.ad, self.context))
        return encoder.encode(user, ad, context)


class Frame(Protocol):
    """Impressions in order of time, wherever their features lie: in memory or on disk."""

    @property
    def log(self) -> Log: ...
    @property
    def inputs(self) -> ModelInputs: ...
    @property
    def time_ms(self) -> npt.NDArray[np.int64]: ...
    @property
    def clicked(self) -> npt.NDArray[np.bool_]: ...
    def __len__(self) -> int: ...
    def encode(self, encoder: Encoder, rows: slice) -> Encoded: ...
    def users_at(self, rows: slice) -> npt.NDArray[np.integer[Any]]: ...


def leak_warnings(simultaneous: dict[str, float], time_ms: npt.NDArray[np.int64]) -> tuple[str, ...]:
    """What may be wrong with joined rows, in words: by view, the share of them that carry their impression's time."""
    suspected = {view: share for view, share in simultaneous.items() if share > MANY_SIMULTANEOUS}
    if not suspected or not np.any(time_ms % COARSE_MS):
        return ()
    return tuple(
        f"view {view!r}: {100 * share:.0f} % of the joined rows carry the very time of their impression; rows "
        "written when the outcome was known leak it, so date a row by when its values were known"
        for view, share in suspected.items()
    )


def build_frame(
    log: Log, project: Project | None = None, *, engine: EngineName = "duckdb", on_progress: Progress = silent
) -> TrainingFrame:
    """Join and encode every impression of a log whose label is known; the others still are history to them.

    Args:
        log: in canonical form.
        project: which features; the log's own project where None. It must name the log's columns alike.
        engine: who joins.
        on_progress: told the stage and its share done.
    Raises:
        EngineError: the engine is not to be had here.
        LogError: a table or column is missing, all labels are equal or pending, or an answer would leak.
    """
    project = log.project if project is None else project
    inputs = ModelInputs.of(project.schema)
    Encoder(inputs)  # refuses impossible pairs before minutes are spent on joins
    with log.engine() as reading:
        own = reading.table(
            f"SELECT _time_ms, _clicked, coalesce(_position, -1) AS _position, "
            f"coalesce(_propensity, 'nan'::DOUBLE) AS _propensity, _line, _user_id, _ad_id FROM {log.sql} ORDER BY _row"
        )
    time_ms, clicked = arrow.int64s(own, "_time_ms"), arrow.bools(own, "_clicked")
    check_labels(log, clicked[: log.n - log.pending])
    with OfflineStore(project, log, log.path.parent, engine) as store:
        user = _joined(store, inputs.user_views, time_ms, on_progress)
        ad = _joined(store, inputs.ad_views, time_ms, on_progress)
        table_rejects = dict(store.rejects)
    users, ads = (Factorised(*arrow.factorised(own, name)) for name in ("_user_id", "_ad_id"))
    dated = {view for view, table in project.tables.items() if table.event_time is not None}
    simultaneous = user.simultaneous | ad.simultaneous
    on_progress("encoding the context", 0.0)
    context = _context_block(log, inputs)
    on_progress("encoding the context", 1.0)
    frame = TrainingFrame(
        log=log,
        inputs=inputs,
        time_ms=time_ms,
        clicked=clicked,
        position=arrow.int64s(own, "_position").astype(np.int16),
        propensity=arrow.float64s(own, "_propensity"),
        line=arrow.int64s(own, "_line"),
        first_row=0,
        users=users,
        ads=ads,
        earlier_of_user=_earlier(users.codes),
        earlier_of_ad=_earlier(ads.codes),
        user=user.block,
        ad=ad.block,
        context=context,
        table_rejects=table_rejects,
        found=user.found | ad.found,
        simultaneous={view: simultaneous[view] for view in sorted(dated & simultaneous.keys())},
    )
    return frame.rows(slice(0, log.n - log.pending)) if log.pending else frame


def check_labels(log: Log, clicked: npt.NDArray[np.bool_]) -> None:
    """Refuse a log without both kinds of label among those that are known, and say which rows were left out of it."""
    label, clicks = log.project.label, int(np.count_nonzero(clicked))
    if not len(clicked):
        assert label.window_ms is not None  # without one nothing is pending
        raise LogError(
            f"all {log.n} impressions are pending: the first is of {shown_moment(log.first_ms)}, clicks count for "
            f"{shown_duration(label.window_ms)}, and they were collected until {shown_moment(log.observed_until_ms)}; "
            f"give a longer log, shorten label.window in {log.project.origin}, or say label.observed_until there"
            f"{_left_out(log)}"
        )
    if clicks in (0, len(clicked)):
        every, pending = "every" if clicks else "no", f" ({log.pending} more are pending)" if log.pending else ""
        raise LogError(
            f"{every} impression of the {len(clicked)} in the log was clicked{pending}, so there is nothing to learn; "
            f"check log.clicked and label.window in {log.project.origin}{_left_out(log)}"
        )


def _left_out(log: Log) -> str:
    """What was rejected may be what is missing: all clicks, where their times are read in the wrong zone."""
    return f"; {log.rejects.described()}" if log.rejects.n else ""


def _earlier(codes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """(n,) how often each code came before; -1 where the code is."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(codes) else np.empty(0, dtype=np.int64)
    size = np.diff(np.r_[first, len(codes)])
    earlier = np.empty(len(codes), dtype=np.int32)
    earlier[order] = np.arange(len(codes)) - np.repeat(first, size)
    return np.where(codes < 0, np.int32(-1), earlier)


class _Joined(NamedTuple):
    """Columns of n impressions; by view how many found a row, and the share of those with the impression's own time."""

    block: Block
    found: dict[str, int]
    simultaneous: dict[str, float]


def _joined(
    store: OfflineStore, views: Sequence[FeatureView], time_ms: npt.NDArray[np.int64], on_progress: Progress
) -> _Joined:
    """The views' columns side by side, one row an impression."""
    n = len(time_ms)
    found, simultaneous = {}, {}
    block = Block(
        np.empty((n, sum(view.n_float for view in views)), dtype=np.float32),
        np.empty((n, sum(view.n_id for view in views)), dtype=np.uint32),
    )
    float_at = id_at = 0
    for view in views:
        on_progress(f"joining {view.name}", 0.0)
        rows = store.at_impressions(view)
        block.floats[:, float_at : float_at + view.n_float] = rows.floats
        block.ids[:, id_at : id_at + view.n_id] = rows.ids
        float_at, id_at = float_at + view.n_float, id_at + view.n_id
        found[view.name] = int(rows.found.sum())
        own_time = rows.found & (rows.event_time_ms == time_ms)
        simultaneous[view.name] = int(own_time.sum()) / max(1, found[view.name])
        on_progress(f"joining {view.name}", 1.0)
    return _Joined(block, found, simultaneous)


def _context_block(log: Log, inputs: ModelInputs) -> Block:
    """The log's context columns, encoded as `Encoder.encode_context` encodes a request's."""
    floats = [feature for feature in inputs.context if feature.dtype == "float32"]
    ids = [feature for feature in inputs.context if feature.dtype == "id"]
    block = Block(np.empty((log.n, len(floats)), dtype=np.float32), np.empty((log.n, len(ids)), dtype=np.uint32))
    for i, feature in enumerate(floats):
        block.floats[:, i] = context_numbers(_column(log, feature), feature)
    for i, feature in enumerate(ids):
        block.ids[:, i] = context_hashes(_column(log, feature), feature, inputs.hash_seed)
    return block


def _column(log: Log, feature: ContextFeature) -> Factorised:
    name = feature.column or feature.name
    return log.columns([name])[name]


def context_numbers(column: Factorised, feature: ContextFeature) -> npt.NDArray[np.float32]:
    """(n,) numbers of a context feature, as `Encoder.encode_context` reads them."""
    default = math.nan if feature.default is None else float(feature.default)
    numbers = [default if (number := context_number(value)) is None else number for value in column.values]
    return np.array([*numbers, default], dtype=np.float32)[column.codes]  # code -1 picks the last


def context_hashes(column: Factorised, feature: ContextFeature, seed: int) -> npt.NDArray[np.uint32]:
    """(n,) hashes of a context feature, as `Encoder.encode_context` makes them."""
    default = hash_id(feature.default, seed)
    hashes = np.append(hash_ids(column.values, seed), np.uint32(MISSING_ID))
    hashes[hashes == MISSING_ID] = default
    return hashes[column.codes]
