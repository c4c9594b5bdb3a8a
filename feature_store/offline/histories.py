"""The history of a view: every row it ever had, as SQL, from whatever source makes it.

A history is a temporary table (i, key, event_time_ms, f0, f1, …): row i says that from `event_time_ms` on, the
features of `key` were f0, f1, …; where two rows of a key have the same time, the one with the larger i was created
last and wins. Rows that hold since ever have the time `SINCE_EVER`. This is the only place that knows how sources
differ: training and materializing both ask the same table.

SQL views are put to the test before they are believed: see `_refuse_foresight`.
"""

from __future__ import annotations

from pathlib import Path

from feature_store.errors import LogError, NoRowLeft, SchemaError
from feature_store.offline.checks import FAILED, id_checks, judged, reject_failed, time_checks
from feature_store.offline.columns import Columns, column_key
from feature_store.offline.delimited import load_delimited
from feature_store.offline.engine import Engine, SqlEngine, quoted
from feature_store.offline.log import Log
from feature_store.offline.parquet import show_parquet
from feature_store.offline.rejects import Rejects, create_reject_table, take_rejects
from feature_store.offline.stamped import stamped_history
from feature_store.project import Project, TimeColumn
from feature_store.schema import FeatureView, LogSource, SqlSource, TableSource, WindowSource

SINCE_EVER = -(2**62)
"""Event time of rows without one: earlier than any question."""


def make_history(
    engine: SqlEngine, files: Engine, name: str, view: FeatureView, project: Project, log: Log | None, workdir: Path
) -> str:
    """Make the temporary table of a view that is not windowed; answers what its rejected rows are counted in.

    Args:
        engine: where the table is made, but for that of a file.
        files: opens and checks files, and keeps the table of one.
        name: of the table.
        view: made from a table, from the log's own columns or by SQL.
        project: knows the files behind table views.
        log: needed by views made from it; a table is also looked for beside it.
        workdir: for temporary copies.
    Raises:
        SchemaError: a column is missing or has an impossible type, or a query is none that the log could answer.
        LogError: a file is missing or cannot be read, an SQL view sees the future, or a logged feature is
            younger than its impression.
        NoRowLeft: a table has rows, and all were rejected.
    """
    if isinstance(view.source, TableSource):
        create_reject_table(files)
        return _from_table(files, name, view, view.source, project, log, workdir)
    create_reject_table(engine)
    if log is None:
        raise LogError(f"view {view.name!r} is made from the click log, and no log was given")
    if isinstance(view.source, LogSource):
        if (stamp := project.stamps.get(view.name)) is not None:
            create_reject_table(files)
            stamped_history(files, name, view, view.source, stamp, log, project.origin)
            return log.rejects.unit
        _from_log(engine, name, view, view.source, log)
        return "row"
    assert isinstance(view.source, SqlSource)
    _from_sql(engine, name, view, view.source, project, log)
    return "row"


def source_mark(view: FeatureView, project: Project, log: Log | None) -> str:
    """A text that changes when the data behind a view does: half-finished work is resumed only on the same data."""
    if isinstance(view.source, TableSource):
        path = _found(view, project, log)
        status = path.stat()
        return f"{path.name} {status.st_size} {status.st_mtime_ns}"
    mark = "no log" if log is None else f"{log.n} {log.clicks} {log.first_ms} {log.last_ms}"
    attributes = (view.source.by, view.source.across) if isinstance(view.source, WindowSource) else ()
    for attribute in attributes:
        if isinstance(attribute, str):
            attribute_view = project.schema.view(attribute.partition(".")[0])
            assert attribute_view is not None  # the definition was checked
            mark += f" {source_mark(attribute_view, project, log)}"
    for level in project.schema.levels_above(view):
        mark += f" {source_mark(level, project, log)}"
    return mark


def _from_table(
    engine: Engine, name: str, view: FeatureView, source: TableSource, project: Project, log: Log | None, workdir: Path
) -> str:
    file = project.tables[view.name]
    path = _found(view, project, log)
    at = f"{project.origin}: views.{view.name}"
    relation, unit = f"{name}_file", "row"
    if path.suffix == ".parquet":
        show_parquet(engine, [path], relation)
    else:
        unit = "line"
        types = {
            column: _text_type(feature.read_as) for feature, column in zip(view.features, source.columns, strict=True)
        }
        types[file.key] = "VARCHAR"
        if file.event_time is not None:
            types.setdefault(file.event_time.column, "VARCHAR")
        load_delimited(engine, path, relation, workdir=workdir, types=types)
    columns = Columns(path.name, engine.columns(relation))
    entity = columns.id_text(file.key, f"{at}.key")
    checks = id_checks("_key", file.key)
    time = str(SINCE_EVER)
    if file.event_time is not None:
        time = columns.time_ms(file.event_time, f"{project.origin}: {file.event_time.path}")
        checks += time_checks("_since_ms", quoted(file.event_time.column), file.event_time.column)
    values = []
    for i, (feature, column) in enumerate(zip(view.features, source.columns, strict=True)):
        named_by = f"{project.origin}: {column_key(f'views.{view.name}.features', feature.name, column)}"
        checks += columns.feature_checks(column, feature.read_as, feature.width, named_by)
        values.append(f"{columns.feature_value(column, feature.read_as, feature.width)} AS f{i}")
    rows = judged(f"(SELECT {entity} AS _key, {time} AS _since_ms, * FROM {relation})", checks)
    reject_failed(engine, rows, checks)
    engine.run(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT row_number() OVER ({_in_file_order(unit)}) - 1 AS i, "
        f"_key AS key, _since_ms AS event_time_ms, {', '.join(values)} FROM {rows} WHERE {FAILED} IS NULL"
    )
    (usable,) = engine.wholes(f"SELECT count(*) FROM {name}")
    if not usable:
        _refuse_rejected(view, take_rejects(engine, unit, None), path, at)
    return unit


def _refuse_rejected(view: FeatureView, rejects: Rejects, path: Path, at: str) -> None:
    """A table whose every row was rejected would make a view of nothing but defaults, and nobody would notice.

    Raises:
        NoRowLeft: it has rows, and none can be used.
    """
    if rejects.n:
        reasons = "; ".join(list(rejects.counts)[:3])
        raise NoRowLeft(f"{at}: none of the {rejects.n} rows of {path} can be used: {reasons}", {view.name: rejects})


def _in_file_order(unit: str) -> str:
    """A Parquet file is scanned in its order, and numbering it costs nothing; parsed lines have to be sorted."""
    return "" if unit == "row" else "ORDER BY _line"


def _found(view: FeatureView, project: Project, log: Log | None) -> Path:
    path = project.tables[view.name].path
    if path is None:
        raise SchemaError(
            f'{project.origin}: views.{view.name}.from: "external" does not say where its rows lie; write '
            f'from = "{view.name}.parquet" to train and materialize from that file, or bring them to the store alone: '
            f"clickserve materialize --view {view.name} --from FILE.parquet"
        )
    folders = [folder for folder in (project.folder, log.folder if log else None) if folder is not None]
    for folder in folders:
        if (folder / path).is_file():
            return folder / path
    if Path(path).is_file() and Path(path).is_absolute():
        return Path(path)
    places = " nor in ".join(dict.fromkeys(str(folder) for folder in folders))
    raise LogError(f'{project.origin}: views.{view.name}.from: there is no "{path}" in {places or "any known folder"}')


def _text_type(dtype: str) -> str:
    return "VARCHAR" if dtype == "id" else "DOUBLE"


def _from_log(engine: SqlEngine, name: str, view: FeatureView, source: LogSource, log: Log) -> None:
    columns = Columns(log.name, engine.columns(log.sql))
    values = ", ".join(
        f"{columns.feature_value(column, feature.read_as, feature.width)} AS f{i}"
        for i, (feature, column) in enumerate(zip(view.features, source.columns, strict=True))
    )
    engine.run(
        f"CREATE OR REPLACE TEMP TABLE {name} AS "
        f"SELECT _row AS i, _{view.entity}_id AS key, _time_ms AS event_time_ms, {values} FROM {log.sql}"
    )


def _from_sql(engine: SqlEngine, name: str, view: FeatureView, source: SqlSource, project: Project, log: Log) -> None:
    at = f"{project.origin}: views.{view.name}.sql"
    _show_log(engine, log, until_ms=None)
    answered = f"({source.sql})"
    try:
        types = engine.columns(answered)
    except LogError as error:
        raise SchemaError(f"{at}: {error}") from None
    columns = Columns(f"the query of view {view.name!r}", types)
    entity = columns.id_text("entity_id", at)
    time = columns.time_ms(TimeColumn("event_time_ms", "ms"), at)
    checks = id_checks("_key", "entity_id") + time_checks("_since_ms", "event_time_ms", "event_time_ms")
    values = []
    for i, feature in enumerate(view.features):
        checks += columns.feature_checks(feature.name, feature.read_as, feature.width, at)
        values.append(f"{columns.feature_value(feature.name, feature.read_as, feature.width)} AS f{i}")
    numbered = (
        f"(SELECT *, row_number() OVER (ORDER BY _since_ms, _key) AS _line "
        f"FROM (SELECT DISTINCT {entity} AS _key, {time} AS _since_ms, * FROM {answered}))"
    )
    engine.run(f"CREATE OR REPLACE TEMP TABLE {name}_answered AS FROM {judged(numbered, checks)}")
    reject_failed(engine, f"{name}_answered", checks)
    engine.run(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT row_number() OVER (ORDER BY _line) - 1 AS i, "
        f"_key AS key, _since_ms AS event_time_ms, {', '.join(values)} FROM {name}_answered WHERE {FAILED} IS NULL; "
        f"DROP TABLE {name}_answered"
    )
    twice = engine.rows(f"SELECT key, event_time_ms FROM {name} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1")
    if twice:
        raise LogError(f"{at}: answers two different rows for {twice[0][0]!r} at {twice[0][1]}; make it one")
    _refuse_foresight(engine, name, view, source, log, at)


def _refuse_foresight(engine: SqlEngine, name: str, view: FeatureView, source: SqlSource, log: Log, at: str) -> None:
    """Run the query again on the log as it was at an earlier time, and demand the same rows up to that time.

    A row that changes when later lines are added knew something that was not yet known at its event time. The time is
    the arrival of the middle click: its impression is in the earlier log, the click is not, so a query that counts a
    click from its impression on is caught, too.
    """
    if not log.clicks:
        return
    (until_ms,) = engine.wholes(
        f"SELECT _click_time_ms FROM {log.sql} WHERE _click_time_ms IS NOT NULL "
        f"ORDER BY _click_time_ms LIMIT 1 OFFSET {(log.clicks - 1) // 2}"
    )
    _show_log(engine, log, until_ms=until_ms)
    names = ", ".join(["entity_id", "event_time_ms", *(quoted(feature.name) for feature in view.features)])
    engine.run(f"CREATE OR REPLACE TEMP TABLE {name}_then AS SELECT DISTINCT {names} FROM ({source.sql})")
    _show_log(engine, log, until_ms=None)
    now, then = (
        f"SELECT {names} FROM {relation} WHERE event_time_ms < {until_ms}"
        for relation in (f"({source.sql})", f"{name}_then")
    )
    changed = engine.rows(
        f"SELECT entity_id, event_time_ms FROM ((SELECT DISTINCT * FROM ({now}) EXCEPT FROM ({then})) "
        f"UNION ALL (FROM ({then}) EXCEPT FROM ({now}))) ORDER BY event_time_ms, entity_id LIMIT 1"
    )
    engine.run(f"DROP TABLE {name}_then")
    if changed:
        entity, time_ms = changed[0]
        raise LogError(
            f"{at}: sees the future: the row of {entity!r} at {time_ms} changes when the log ends at {until_ms}; "
            "answer rows that use earlier lines only, for example count(*) OVER (PARTITION BY user_id ORDER BY "
            "time_ms RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), and count a click from click_time_ms on"
        )


def _show_log(engine: SqlEngine, log: Log, until_ms: int | None) -> None:
    """The table `log` that SQL views read: as it was at a time, or all of it.

    The log's own columns keep their names, but the label's raw columns are left out: the canonical ones know when a
    click arrived. The propensity is left out, too.
    """
    names = log.project.log
    own = {"user_id", "ad_id", "time_ms", "clicked", "click_time_ms", "position"}
    hidden = own | {name.lower() for name in names.clicked.reads}
    if names.click_time is not None:
        hidden.add(names.click_time.column.lower())
    if names.propensity is not None:
        hidden.add(names.propensity.lower())  # it tells of the policy that chose, which serving is about to be
    raw = [quoted(name) for name in engine.columns(log.sql) if not name.startswith("_") and name.lower() not in hidden]
    known = "_clicked" if until_ms is None else f"(_clicked AND _click_time_ms < {until_ms})"
    select = [
        "_user_id AS user_id",
        "_ad_id AS ad_id",
        "_time_ms AS time_ms",
        f"{known} AS clicked",
        f"CASE WHEN {known} THEN _click_time_ms END AS click_time_ms",
        "_position AS position",
        *raw,
    ]
    where = "" if until_ms is None else f"WHERE _time_ms < {until_ms}"
    engine.run(f"CREATE OR REPLACE TEMP VIEW log AS SELECT {', '.join(select)} FROM {log.sql} {where}")
