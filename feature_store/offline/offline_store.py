"""Point-in-time join: what we knew about an entity at the moment somebody asked.

A question is (entity, time). Its answer is the newest row of the view that is not later than the time and not older
than the view's time-to-live. A later row would leak the click into its own features; an older one has already expired
from the online store, so the live service would not see it either (an ad's may outlive it in the item table, and is
said to be stale), and training must not be luckier than serving.
Of two rows with equal event time the one created last wins. A windowed view is asked as of the last whole step.

Training asks about every impression, materializing asks about every entity at one time, the check of served vectors
asks about the rows that were served. All ask through the same SQL, so a served row cannot differ from the row that a
model was trained on.

Cost: one sort of the history, then one merge with the questions (`ASOF JOIN`). Values are decoded once per history row
and gathered per question, so a table of 2 000 ads costs 2 000 rows, whatever the number of impressions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from msgspec import UNSET

from feature_store.errors import LogError
from feature_store.ids import MISSING_ID, hash_id
from feature_store.offline import arrow
from feature_store.offline.engine import Engine, EngineName, SqlEngine, text
from feature_store.offline.joins import Joins
from feature_store.offline.log import Log
from feature_store.offline.rejects import Rejects
from feature_store.project import Project
from feature_store.rows import Floats, Ids, Rows, Times
from feature_store.schema import FeatureView, WindowSource


class RowBatch(NamedTuple):
    """Some rows of a view as they are to be served."""

    entity_ids: list[str]
    event_time_ms: Times
    floats: Floats
    ids: Ids


class EntityCount(NamedTuple):
    """Number of entities and mean length of their ids in bytes."""

    n: int
    mean_id_bytes: float


class OfflineStore:
    """The full history of a project's views. Use it as a context manager; belongs to one thread."""

    def __init__(
        self,
        project: Project,
        log: Log | None,
        workdir: Path,
        engine: EngineName = "duckdb",
        *,
        memory_mb: int | None = None,
    ) -> None:
        """Open the store.

        Args:
            project: which views exist and where their values come from.
            log: the click log; views that are made from files alone can do without.
            workdir: for temporary files.
            engine: who joins; files are opened and checked by DuckDB in any case.
            memory_mb: what joins and sorts may take before they spill into `workdir`; see `Engine`.
        """
        zone, spill = project.schema.time_zone, workdir / "spill"
        self._files = Engine(time_zone=zone, spill_folder=spill, memory_mb=memory_mb)
        self._engine: SqlEngine = _spark(self._files, zone, spill) if engine == "spark" else self._files
        self._joins = Joins(project, log, workdir, self._engine, self._files)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._engine.close()
        self._files.close()

    @property
    def rejects(self) -> dict[str, Rejects]:
        """By view: rows of its table that could not be used. Filled when the view is first asked."""
        return self._joins.rejects

    def at_impressions(self, view: FeatureView) -> Rows:
        """What was known about each impression's user or ad when it was shown; row i belongs to `_row` i of the log.

        Raises:
            LogError: the view's source cannot be read, or an answer is later than its question (a leak).
        """
        impressions = self._joins.impressions(view)
        return self._gathered(view, impressions, self._joins.log_of(view).n)

    def at(self, view: FeatureView, entity_ids: Sequence[str | None], time_ms: Times) -> Rows:
        """What was known about each entity at its time; row i answers the i-th question.

        Args:
            view: of the project.
            entity_ids: n; None is nobody.
            time_ms: (n,).
        Raises:
            LogError: as `at_impressions`.
        """
        asked = f"{view.name}_asked_at"
        table = arrow.table_of({"q": np.arange(len(time_ms)), "entity": list(entity_ids), "time_ms": time_ms})
        self._engine.keep(asked, table)
        return self._gathered(view, asked, len(time_ms))

    def batches_at_impressions(self, view: FeatureView) -> Iterator[Rows]:
        """The same rows in the same order, some at a time: for logs whose rows do not fit into memory.

        Dearer, because the database joins values to impressions and sorts them, where memory would gather.

        Raises:
            LogError: as `at_impressions`.
        """
        impressions = self._joins.impressions(view)
        answered = self._joins.answered(view, impressions)
        features = "".join(f", h.f{i}" for i in range(len(view.features)))
        rows = (
            f"SELECT q, a.i IS NOT NULL AS found, coalesce(a.event_time_ms, 0) AS event_time_ms, "
            f"coalesce(a.event_time_ms > time_ms, false) AS late{features} FROM {impressions} "
            f"LEFT JOIN {answered.answers} a USING (q) LEFT JOIN {answered.history} h ON h.i = a.i ORDER BY q"
        )
        for batch in self._engine.batches(rows):
            _refuse_leak(view, batch)
            floats, ids = _decoded(batch, view)
            yield Rows(floats, ids, arrow.int64s(batch, "event_time_ms"), arrow.bools(batch, "found"))

    def as_of(self, view: FeatureView, time_ms: int, after: str = "") -> Iterator[RowBatch]:
        """The rows of all entities as they are known at a time, in batches; entities without a row are left out.

        Args:
            view: of the project.
            time_ms: the moment.
            after: leave out entities up to this id. Batches come in order of id, so that work can be resumed.
        Raises:
            LogError: the view's source cannot be read.
        """
        asked = f"{view.name}_asked"
        self._engine.run(
            f"CREATE OR REPLACE TEMP TABLE {asked} AS SELECT row_number() OVER (ORDER BY entity) - 1 AS q, entity, "
            f"{time_ms}::BIGINT AS time_ms FROM ({self._joins.entities(view)}) WHERE entity > {text(after)}"
        )
        answered = self._joins.answered(view, asked)
        features = ", ".join(f"h.f{i}" for i in range(len(view.features)))
        rows = (
            f"SELECT entity, a.event_time_ms, {features} FROM {answered.answers} a "
            f"JOIN {asked} USING (q) JOIN {answered.history} h USING (i) ORDER BY q"
        )
        for batch in self._engine.batches(rows):
            floats, ids = _decoded(batch, view)
            yield RowBatch(arrow.texts(batch, "entity"), arrow.int64s(batch, "event_time_ms"), floats, ids)

    def entities(self, view: FeatureView) -> EntityCount:
        """How many entities the view ever heard of, and how long their ids are: `as_of` answers at most so many."""
        n, n_bytes = self._engine.wholes(
            f"SELECT count(*), coalesce(sum(strlen(entity)), 0) FROM ({self._joins.entities(view)})"
        )
        return EntityCount(n, n_bytes / max(1, n))

    def distinct_values(self, view: FeatureView, feature: str) -> list[object]:
        """Every value that a feature of a table or of the log ever had, as Python objects, without the missing one.

        Raises:
            LogError: the view's source cannot be read.
        """
        column = f"f{[known.name for known in view.features].index(feature)}"
        rows = self._engine.rows(
            f"SELECT DISTINCT {column} FROM {self._joins.history(view)} WHERE {column} IS NOT NULL ORDER BY 1"
        )
        return [value for (value,) in rows]

    def n_later(self, view: FeatureView, time_ms: int) -> int:
        """Rows of the view's history, or impressions under its windows, that were not yet there at a time."""
        if isinstance(view.source, WindowSource):
            later = f"{self._joins.impressions(view)} WHERE time_ms > {time_ms}"
        else:
            later = f"{self._joins.history(view)} WHERE event_time_ms > {time_ms}"
        return self._engine.wholes(f"SELECT count(*) FROM {later}")[0]

    def _gathered(self, view: FeatureView, questions: str, n: int) -> Rows:
        """The answers to n questions (q, entity, time_ms), in the order of q. Raises LogError where one is a leak."""
        answered = self._joins.answered(view, questions)
        answers = self._engine.table(
            f"SELECT q, i, a.event_time_ms, a.event_time_ms > time_ms AS late "
            f"FROM {answered.answers} a JOIN {questions} USING (q)"
        )
        _refuse_leak(view, answers)
        floats, ids = self._decoded_history(view, answered.history)
        q = arrow.int64s(answers, "q")
        picked = np.full(n, len(floats) - 1)  # the last row holds the defaults
        picked[q] = arrow.int64s(answers, "i")
        times = np.zeros(n, dtype=np.int64)
        times[q] = arrow.int64s(answers, "event_time_ms")
        found = np.zeros(n, dtype=np.bool_)
        found[q] = True
        return Rows(floats=floats[picked], ids=ids[picked], event_time_ms=times, found=found)

    def _decoded_history(self, view: FeatureView, history: str) -> tuple[Floats, Ids]:
        """All rows of a history in order of `i`, and one more with the view's defaults."""
        (n,) = self._engine.wholes(f"SELECT count(*) FROM {history}")
        floats = np.empty((n + 1, view.n_float), dtype=np.float32)
        ids = np.empty((n + 1, view.n_id), dtype=np.uint32)
        floats[n], ids[n] = view.default_floats, view.default_ids
        for batch in self._engine.batches(f"FROM {history}"):
            at = arrow.int64s(batch, "i")
            floats[at], ids[at] = _decoded(batch, view)
        return floats, ids


def _spark(files: Engine, time_zone: str, folder: Path) -> SqlEngine:
    from feature_store.offline.spark import SparkEngine  # translating SQL takes a library that DuckDB does without

    return SparkEngine(files, time_zone=time_zone, folder=folder)


def _refuse_leak(view: FeatureView, answers: arrow.Table) -> None:
    """Raises LogError where one of the answers (q, event_time_ms, late) is later than its question."""
    if (late := arrow.bools(answers, "late")).any():
        at = int(late.argmax())
        raise LogError(
            f"view {view.name!r} leaks: impression {arrow.int64s(answers, 'q')[at]} would be answered by a row of "
            f"{arrow.int64s(answers, 'event_time_ms')[at]}, which is later"
        )


def _decoded(batch: arrow.Table, view: FeatureView) -> tuple[Floats, Ids]:
    """Columns f0, f1, … of a batch as (m, n_float) and (m, n_id); missing values become the feature's default."""
    floats = [np.empty((len(batch), 0), dtype=np.float32)]
    ids = [np.empty((len(batch), 0), dtype=np.uint32)]
    for i, feature in enumerate(view.features):
        if feature.dtype == "id":
            hashed = arrow.hashes(batch, f"f{i}", view.hash_seed)
            if feature.default is not None:
                hashed[hashed == MISSING_ID] = hash_id(feature.default, view.hash_seed)
            ids.append(hashed.reshape(-1, 1))
        else:
            if feature.ngrams is UNSET:
                numbers = arrow.numbers(batch, f"f{i}", feature.width)
            else:
                numbers = arrow.text_vectors(batch, f"f{i}", feature.ngrams, feature.width, view.hash_seed)
            if feature.default is not None:
                numbers = np.where(np.isnan(numbers), np.float32(feature.default), numbers)
            floats.append(numbers)
    return np.concatenate(floats, axis=1), np.concatenate(ids, axis=1)
