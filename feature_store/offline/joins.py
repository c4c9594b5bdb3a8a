"""The tables behind a point-in-time join: which SQL answers which questions about which view, each made once.

Questions are a table (q, entity, time_ms); a view answers them from its history, a table (i, key, event_time_ms, f0,
f1, ...). A table of attributes has its history in a file or in the log. A windowed view counts impressions, and its
history is made for the very questions that are asked, after those of the levels above it.

Everything here is SQL for either engine; values are read and decoded in `offline_store.py`.
"""

from __future__ import annotations

from pathlib import Path

from feature_store.errors import LogError
from feature_store.offline.engine import Engine, SqlEngine
from feature_store.offline.histories import SINCE_EVER, make_history
from feature_store.offline.levels import Answered, with_levels_above
from feature_store.offline.log import Log
from feature_store.offline.rejects import Rejects, take_rejects
from feature_store.offline.windows import seen_ms, window_rows
from feature_store.project import Project
from feature_store.schema import EntityName, FeatureView, TableSource, WindowSource

_IMPRESSIONS: dict[EntityName, str] = {"user": "impressions_of_users", "ad": "impressions_of_ads"}


class Joins:
    """Histories and answers of a project's views as tables of one engine; they last as long as the engine does."""

    def __init__(self, project: Project, log: Log | None, workdir: Path, engine: SqlEngine, files: Engine) -> None:
        """Nothing is read yet.

        Args:
            project: which views exist and where their values come from.
            log: the click log; views that are made from files alone can do without.
            workdir: for histories that are kept in files.
            engine: who joins.
            files: opens and checks files; the same, where DuckDB joins.
        """
        self.rejects: dict[str, Rejects] = {}
        """By view: rows of its table that could not be used."""
        self._project, self._log, self._workdir = project, log, workdir
        self._engine, self._files = engine, files
        self._made: set[str] = set()  # names of tables that stay valid

    def log_of(self, view: FeatureView) -> Log:
        """The log, for a view that needs it. Raises LogError where none was given."""
        if self._log is None:
            raise LogError(f"view {view.name!r} needs the click log, and no log was given")
        return self._log

    def impressions(self, view: FeatureView) -> str:
        """The impressions of the log as questions (q, entity, time_ms, click_time_ms) about a view's entity.

        Raises:
            LogError: no log was given.
        """
        log = self.log_of(view)
        name = _IMPRESSIONS[view.entity]
        if name not in self._made:
            self._engine.run(
                f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT _row AS q, _{view.entity}_id AS entity, "
                f"_time_ms AS time_ms, _click_time_ms AS click_time_ms FROM {log.sql}"
            )
            self._made.add(name)
        return name

    def entities(self, view: FeatureView) -> str:
        """SQL of all entities a view may have a row for."""
        if isinstance(view.source, WindowSource):
            if view.source.by is not None:
                return self.entities(self._group(view.source.by)[0])
            return f"SELECT DISTINCT entity FROM {self.impressions(view)} WHERE entity IS NOT NULL"
        return f"SELECT DISTINCT key AS entity FROM {self.history(view)}"

    def history(self, view: FeatureView) -> str:
        """The table of a view's history, made when it is first wanted.

        Raises:
            LogError: the view's source cannot be read.
        """
        name = f"{view.name}_history"
        if name not in self._made:
            of_files = isinstance(view.source, TableSource) or view.name in self._project.stamps
            engine = self._files if of_files else self._engine
            with engine.about(f"view {view.name!r}"):
                unit = make_history(self._engine, self._files, name, view, self._project, self._log, self._workdir)
            self.rejects[view.name] = take_rejects(engine, unit, None)
            self._made.add(name)
        return name

    def answered(self, view: FeatureView, questions: str) -> Answered:
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
            history = self.history(view)
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
        groups = self.answered(attribute_view, questions)
        return (
            f"(SELECT asked.*, CAST(h.{column} AS VARCHAR) AS key, {seen} FROM {questions} asked "
            f"JOIN {groups.answers} USING (q) JOIN {groups.history} h USING (i))"
        )

    def _events(self, view: FeatureView, source: WindowSource) -> str:
        """The impressions that a windowed view counts, with key, and with part where it counts across an attribute."""
        keyed = self._keyed(view, source, self.impressions(view))
        if not isinstance(source.across, str):
            return keyed
        ad_view, column = self._group(source.across)
        ads = self.answered(ad_view, self.impressions(ad_view))
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
        levels = {level.name: self.answered(level, questions) for level in schema.levels_above(view)}
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
