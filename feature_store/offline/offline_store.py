"""Point-in-time join: what we knew about an entity at the moment somebody asked.

A question is (entity, time). Its answer is the newest row of the view that is not later than the time and not older
than the view's time-to-live. A later row would leak the click into its own features; an older one has already expired
from the online store, so the live service would not see it either, and training must not be luckier than serving.
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
from feature_store.offline.histories import SINCE_EVER, make_history
from feature_store.offline.levels import Answered, with_levels_above
from feature_store.offline.log import Log
from feature_store.offline.rejects import Rejects, take_rejects
from feature_store.offline.windows import seen_ms, window_rows
from feature_store.project import Project
from feature_store.rows import Floats, Ids, Rows, Times
from feature_store.schema import EntityName, FeatureView, TableSource, WindowSource


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
        self.rejects: dict[str, Rejects] = {}
        """By view: rows of its table that could not be used. Filled when the view is first asked."""
        self._project, self._log, self._workdir = project, log, workdir
        zone, spill = project.schema.time_zone, workdir / "spill"
        self._files = Engine(time_zone=zone, spill_folder=spill, memory_mb=memory_mb)
        self._engine: SqlEngine = _spark(self._files, zone, spill) if engine == "spark" else self._files
        self._made: set[str] = set()  # names of tables that stay valid while the store is open

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._engine.close()
        self._files.close()

    def at_impressions(self, view: FeatureView) -> Rows:
        """What was known about each impression's user or ad when it was shown; row i belongs to `_row` i of the log.

        Raises:
            LogError: the view's source cannot be read, or an answer is later than its question (a leak).
        """
        impressions = self._impressions(view)
        return self._gathered(view, impressions, self._log_of(view).n)

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
        impressions = self._impressions(view)
        answered = self._answered(view, impressions)
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
            f"{time_ms}::BIGINT AS time_ms FROM ({self._entities(view)}) WHERE entity > {text(after)}"
        )
        answered = self._answered(view, asked)
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
            f"SELECT count(*), coalesce(sum(strlen(entity)), 0) FROM ({self._entities(view)})"
        )
        return EntityCount(n, n_bytes / max(1, n))

    def distinct_values(self, view: FeatureView, feature: str) -> list[object]:
        """Every value that a feature of a table or of the log ever had, as Python objects, without the missing one.

        Raises:
            LogError: the view's source cannot be read.
        """
        column = f"f{[known.name for known in view.features].index(feature)}"
        rows = self._engine.rows(
            f"SELECT DISTINCT {column} FROM {self._history(view)} WHERE {column} IS NOT NULL ORDER BY 1"
        )
        return [value for (value,) in rows]

    def n_later(self, view: FeatureView, time_ms: int) -> int:
        """Rows of the view's history, or impressions under its windows, that were not yet there at a time."""
        if isinstance(view.source, WindowSource):
            later = f"{self._impressions(view)} WHERE time_ms > {time_ms}"
        else:
            later = f"{self._history(view)} WHERE event_time_ms > {time_ms}"
        return self._engine.wholes(f"SELECT count(*) FROM {later}")[0]

    def _gathered(self, view: FeatureView, questions: str, n: int) -> Rows:
        """The answers to n questions (q, entity, time_ms), in the order of q. Raises LogError where one is a leak."""
        answered = self._answered(view, questions)
        answers = self._engine.table(
            f"SELECT q, i, a.event_time_ms, a.event_time_ms > time_ms AS late "
            f"FROM {answered.answers} a JOIN {questions} USING (q)"
        )
        event_time_ms = arrow.int64s(answers, "event_time_ms")
        if (late := arrow.bools(answers, "late")).any():
            at = int(late.argmax())
            raise LogError(
                f"view {view.name!r} leaks: impression {arrow.int64s(answers, 'q')[at]} would be answered by a row of "
                f"{event_time_ms[at]}, which is later"
            )
        floats, ids = self._decoded_history(view, answered.history)
        q = arrow.int64s(answers, "q")
        picked = np.full(n, len(floats) - 1)  # the last row holds the defaults
        picked[q] = arrow.int64s(answers, "i")
        times = np.zeros(n, dtype=np.int64)
        times[q] = event_time_ms
        found = np.zeros(n, dtype=np.bool_)
        found[q] = True
        return Rows(floats=floats[picked], ids=ids[picked], event_time_ms=times, found=found)

    def _answered(self, view: FeatureView, questions: str) -> Answered:
        """Answer every question (q, entity, time_ms) of a table; questions without an answer are left out.

        The answers are a table (q, i, event_time_ms): row i of the history, and since when it holds.
        """
        answers = f"{view.name}_at_{questions}"
        if isinstance(view.source, WindowSource):
            history = f"{answers}_rows"
            if answers in self._made:
                return Answered(history, answers)
            keyed = self._asked(view, view.source, questions)
            events = self._events(view, view.source)
            rows = window_rows(view.source, width=view.features[0].width, events=events, asked=keyed)
            self._engine.run(
                f"CREATE OR REPLACE TEMP TABLE {history} AS SELECT row_number() OVER () - 1 AS i, * FROM ({rows})"
            )
            if self._project.schema.levels_above(view):
                keyed = f"(SELECT q, row_key AS key, time_ms, seen_ms FROM {keyed})"
        else:
            history = self._history(view)
            if answers in self._made:
                return Answered(history, answers)
            keyed = f"(SELECT q, entity AS key, time_ms, time_ms AS seen_ms FROM {questions})"
        self._engine.run(f"""
            CREATE OR REPLACE TEMP TABLE {answers} AS
            SELECT q, i, CASE WHEN event_time_ms = {SINCE_EVER} THEN time_ms ELSE event_time_ms END AS event_time_ms
            FROM {self._engine.latest(keyed, history)}
            WHERE event_time_ms = {SINCE_EVER} OR time_ms - event_time_ms <= {view.ttl_ms}
        """)
        if questions in (_IMPRESSIONS["user"], _IMPRESSIONS["ad"]):
            self._made.add(answers)
        return Answered(history, answers)

    def _keyed(self, view: FeatureView, source: WindowSource, questions: str) -> str:
        """Questions about a windowed view with the key it counts by: the entity, or its group at that time."""
        seen = f"{seen_ms('time_ms', source)} AS seen_ms"
        if source.by is None:
            return f"(SELECT *, entity AS key, {seen} FROM {questions})"
        attribute_view, column = self._group(source.by)
        groups = self._answered(attribute_view, questions)
        return (
            f"(SELECT asked.*, CAST(h.{column} AS VARCHAR) AS key, {seen} FROM {questions} asked "
            f"JOIN {groups.answers} USING (q) JOIN {groups.history} h USING (i))"
        )

    def _events(self, view: FeatureView, source: WindowSource) -> str:
        """The impressions that a windowed view counts, with key, and with part where it counts across an attribute."""
        keyed = self._keyed(view, source, self._impressions(view))
        if not isinstance(source.across, str):
            return keyed
        ad_view, column = self._group(source.across)
        ads = self._answered(ad_view, self._impressions(ad_view))
        default = ad_view.features[int(column[1:])].default
        index = f"h.{column}" if default is None else f"coalesce(h.{column}, {default})"
        return (
            f"(SELECT *, CAST(number AS BIGINT) AS part FROM (SELECT keyed.*, {index} AS number FROM {keyed} keyed "
            f"LEFT JOIN {ads.answers} a ON a.q = keyed.q LEFT JOIN {ads.history} h ON h.i = a.i) "
            f"WHERE number = floor(number) AND number BETWEEN 0 AND {view.features[0].width - 1})"
        )

    def _asked(self, view: FeatureView, source: WindowSource, questions: str) -> str:
        """Questions as `window_rows` wants them: with key, and with the rates of the levels above."""
        keyed, schema = self._keyed(view, source, questions), self._project.schema
        levels = {level.name: self._answered(level, questions) for level in schema.levels_above(view)}
        if not levels:
            return keyed
        table = f"{view.name}_levels_at_{questions}"
        self._engine.run(f"CREATE OR REPLACE TEMP TABLE {table} AS {with_levels_above(keyed, source, schema, levels)}")
        return table

    def _group(self, by: str) -> tuple[FeatureView, str]:
        """The view whose attribute groups entities, and the attribute's column in that view's history."""
        view_name, feature_name = by.split(".")
        view = self._project.schema.view(view_name)
        assert view is not None  # the definition was checked
        return view, f"f{[feature.name for feature in view.features].index(feature_name)}"

    def _entities(self, view: FeatureView) -> str:
        """SQL of all entities a view may have a row for."""
        if isinstance(view.source, WindowSource):
            if view.source.by is not None:
                return self._entities(self._group(view.source.by)[0])
            return f"SELECT DISTINCT entity FROM {self._impressions(view)} WHERE entity IS NOT NULL"
        return f"SELECT DISTINCT key AS entity FROM {self._history(view)}"

    def _history(self, view: FeatureView) -> str:
        """The table of a view's history, made when it is first wanted."""
        name = f"{view.name}_history"
        if name not in self._made:
            of_files = isinstance(view.source, TableSource) or view.name in self._project.stamps
            engine = self._files if of_files else self._engine
            with engine.about(f"view {view.name!r}"):
                unit = make_history(self._engine, self._files, name, view, self._project, self._log, self._workdir)
            self.rejects[view.name] = take_rejects(engine, unit, None)
            self._made.add(name)
        return name

    def _impressions(self, view: FeatureView) -> str:
        """The impressions of the log as questions (q, entity, time_ms, click_time_ms) about a view's entity."""
        log = self._log_of(view)
        name = _IMPRESSIONS[view.entity]
        if name not in self._made:
            self._engine.run(
                f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT _row AS q, _{view.entity}_id AS entity, "
                f"_time_ms AS time_ms, _click_time_ms AS click_time_ms FROM {log.sql}"
            )
            self._made.add(name)
        return name

    def _log_of(self, view: FeatureView) -> Log:
        if self._log is None:
            raise LogError(f"view {view.name!r} needs the click log, and no log was given")
        return self._log

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


_IMPRESSIONS: dict[EntityName, str] = {"user": "impressions_of_users", "ad": "impressions_of_ads"}


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
