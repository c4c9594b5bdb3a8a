"""From somebody's rows to the canonical click log (`log.py`): names translated, every row checked, sorted by time.

A row with an unusable id, time, label or number is rejected, never mended: guessing a label or a time would make a log
that lies. Rejected rows are counted and listed (`rejects.py`).
Cost: the file is read twice, once to find the bad rows and once to write the good ones, and sorted once; DuckDB spills
to disk when the sort does not fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from feature_store.clock import Clock, shown_moment
from feature_store.errors import LogError, SchemaError
from feature_store.offline.checks import (
    CLOCK_TOLERANCE_MS,
    FAILED,
    Check,
    future_check,
    id_checks,
    judged,
    reject_failed,
    time_checks,
)
from feature_store.offline.columns import Columns, column_key
from feature_store.offline.engine import Engine, quoted, text
from feature_store.offline.log import OWN_COLUMNS, ClickDelays, Log
from feature_store.offline.progress import Progress, silent
from feature_store.offline.rejects import create_reject_table, take_rejects
from feature_store.project import Clicked, Project
from feature_store.schema import Feature, LogSource

_INTERNAL = ("_labelled", "_occurrence", "_arrival_ms", FAILED)
_ORDER_COLUMN = "_line"

LEAST_PROPENSITY = 1e-12
"""An ad that is shown once in a million million times is not in anybody's log; its round would outweigh all others."""


def write_log(
    engine: Engine,
    relation: str,
    project: Project,
    path: Path,
    *,
    report: Path,
    what: str,
    folder: Path,
    clock: Clock,
    unit: str = "row",
    on_progress: Progress = silent,
) -> Log:
    """Check the rows of `relation` and write the good ones as a canonical log.

    Args:
        engine: where `relation` is known.
        relation: table or view with the log's own columns and `_line`, its line or row in the file, from 1.
        project: how the log names things.
        path: the file to write; it appears when it is complete. Nobody else may write it meanwhile.
        report: the CSV of the rejected rows; it stays when the log is gone.
        what: the log's name in messages.
        folder: where the tables beside the log lie.
        clock: the present; a row that lies more than a day after it is rejected.
        unit: what `_line` counts: `line` or `row`.
        on_progress: told the stage and its share done.
    Raises:
        SchemaError: a column is missing or has an impossible type.
        LogError: no row is left.
    """
    columns = Columns(what, engine.columns(relation))
    if clash := sorted({*OWN_COLUMNS, *_INTERNAL} & set(columns.names)):
        raise LogError(f'{what} has a column "{clash[0]}", a name the canonical log uses itself; rename it')
    create_reject_table(engine)
    on_progress("checking the log", 0.0)
    own, checks = _own_columns(columns, project, engine, relation, now_ms=clock())
    rows = judged(f"(SELECT {own}, * FROM {relation})", checks)
    reject_failed(engine, rows, checks)
    on_progress("checking the log", 1.0)
    on_progress("sorting the log", 0.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    written = ", ".join(name for name in OWN_COLUMNS if name != "_row")
    theirs = ", ".join(quoted(name) for name in columns.names)
    # Numbering the sorted rows as they stream by is half the work of numbering and sorting.
    engine.run(
        f"COPY (SELECT row_number() OVER () - 1 AS _row, * FROM "
        f"(SELECT {written}, {theirs} FROM {rows} WHERE {FAILED} IS NULL ORDER BY _time_ms, _line)) "
        f"TO {text(str(unfinished))} (FORMAT parquet, COMPRESSION zstd)"
    )
    rejects = take_rejects(engine, unit, report)
    n, clicks, first_ms, last_ms = engine.wholes(
        "SELECT count(*), count(*) FILTER (_clicked), coalesce(min(_time_ms), 0), coalesce(max(_time_ms), 0) "
        f"FROM read_parquet({text(str(unfinished))})"
    )
    if n == 0:
        unfinished.unlink()
        raise LogError(f"{what} holds no usable row; {rejects.described() or 'it is empty'}")
    delays = None if project.log.click_time is None else _delays(engine, unfinished)
    observed_until_ms, pending = _pending(engine, unfinished, project, what, now_ms=clock())
    unfinished.replace(path)
    on_progress("sorting the log", 1.0)
    return Log(path, folder, project, n, clicks, first_ms, last_ms, rejects, delays, observed_until_ms, pending, what)


def _pending(engine: Engine, path: Path, project: Project, what: str, *, now_ms: int) -> tuple[int, int]:
    """Until when clicks were collected, and how many impressions had not had their whole window by then."""
    relation = f"read_parquet({text(str(path))})"
    last_click_ms, told_ms = engine.wholes(
        "SELECT coalesce(max(_time_ms + _delay_ms), 0), "
        f"coalesce(greatest(max(_time_ms), max(_time_ms + _delay_ms)), 0) FROM {relation}"
    )
    label, at = project.label, f"{project.origin}: label.observed_until"
    until_ms = told_ms if label.observed_until_ms is None else label.observed_until_ms
    if until_ms < last_click_ms:
        raise LogError(
            f"{at}: is {shown_moment(until_ms)}, but {what} holds a click that arrived at "
            f"{shown_moment(last_click_ms)}; clicks were collected for longer, so name a later time or leave it out"
        )
    if label.observed_until_ms is not None and until_ms > now_ms + CLOCK_TOLERANCE_MS:
        raise SchemaError(
            f"{at}: {shown_moment(until_ms)} has not come yet, so no click can have been collected until then"
        )
    if label.window_ms is None or project.log.time is None:
        return until_ms, 0
    (pending,) = engine.wholes(f"SELECT count(*) FROM {relation} WHERE _time_ms > {until_ms - label.window_ms}")
    return until_ms, pending


def _delays(engine: Engine, path: Path) -> ClickDelays | None:
    ((n, late, quantiles),) = engine.rows(
        "SELECT count(_delay_ms), count(*) FILTER (_delay_ms IS NOT NULL AND NOT _clicked), "
        f"quantile_disc(_delay_ms, [0.5, 0.9, 0.99]) FROM read_parquet({text(str(path))})"
    )
    if not n:
        return None
    assert isinstance(quantiles, list)
    return ClickDelays(int(str(n)), int(str(late)), *(int(delay) for delay in quantiles))


def _own_columns(
    columns: Columns, project: Project, engine: Engine, relation: str, *, now_ms: int
) -> tuple[str, list[Check]]:
    """SQL of the canonical columns, and what makes a row unusable."""
    log, origin = project.log, project.origin
    select: list[str] = []
    checks: list[Check] = []
    for name, column in (("user_id", log.user_id), ("ad_id", log.ad_id)):
        if column is None:
            select.append(f"CAST(NULL AS VARCHAR) AS _{name}")
        else:
            select.append(f"{columns.id_text(column, f'{origin}: log.{name}')} AS _{name}")
            checks += id_checks(f"_{name}", column)
    if log.impression_id is not None:
        columns.kind(log.impression_id, f"{origin}: log.impression_id")
        impression = quoted(log.impression_id)
        select.append(f"row_number() OVER (PARTITION BY {impression} ORDER BY {_ORDER_COLUMN}) AS _occurrence")
        checks.append(
            Check(
                f"{impression} IS NOT NULL AND _occurrence > 1",
                f"{log.impression_id} repeats an earlier row",
                f"CAST({impression} AS VARCHAR)",
            )
        )
    time = _ORDER_COLUMN if log.time is None else columns.time_ms(log.time, f"{origin}: {log.time.path}")
    select.append(f"{time} AS _time_ms")
    if log.time is not None:
        raw = quoted(log.time.column)
        checks += time_checks("_time_ms", raw, log.time.column)
        checks.append(future_check("_time_ms", raw, log.time.column, now_ms))
    label = _label(columns, log.clicked, origin, engine, relation)
    click_time = (
        "_time_ms + 1"
        if log.click_time is None
        else columns.time_ms(log.click_time, f"{origin}: {log.click_time.path}")
    )
    select += [f"{label} AS _labelled", f"CASE WHEN _labelled THEN {click_time} END AS _arrival_ms"]
    in_time = "" if project.label.window_ms is None else f" AND _arrival_ms - _time_ms <= {project.label.window_ms}"
    select += [f"(_labelled{in_time}) AS _clicked", "CASE WHEN _clicked THEN _arrival_ms END AS _click_time_ms"]
    select.append("_arrival_ms - _time_ms AS _delay_ms")
    clicked_by = log.clicked.column or str(log.clicked.sql)
    checks.append(Check("_labelled IS NULL", f"{clicked_by} is neither 0/1 nor true/false", _shown_label(log.clicked)))
    if log.click_time is not None:
        raw = quoted(log.click_time.column)
        shown = f"CAST({raw} AS VARCHAR)"
        checks += [
            Check("_labelled AND _arrival_ms IS NULL", f"clicked, but {log.click_time.column} is no time", shown),
            future_check("_arrival_ms", raw, log.click_time.column, now_ms),
            Check(
                "_arrival_ms < _time_ms",
                f"{log.click_time.column} is earlier than the impression",
                "CAST(_arrival_ms - _time_ms AS VARCHAR) || ' ms'",
            ),
        ]
    if log.position is None:
        select.append("CAST(NULL AS SMALLINT) AS _position")
    else:
        columns.kind(log.position, f"{origin}: log.position")
        position = quoted(log.position)
        select.append(f"TRY_CAST({position} AS SMALLINT) AS _position")
        shown = f"CAST({position} AS VARCHAR)"
        checks.append(
            Check(f"{position} IS NOT NULL AND coalesce(_position, -1) < 0", f"{log.position} is no position", shown)
        )
    if log.propensity is None:
        select.append("CAST(NULL AS DOUBLE) AS _propensity")
    else:
        columns.kind(log.propensity, f"{origin}: log.propensity")
        propensity = quoted(log.propensity)
        select.append(f"TRY_CAST({propensity} AS DOUBLE) AS _propensity")
        # NaN stands above every number, and is refused with them.
        usable = f"coalesce(_propensity >= {LEAST_PROPENSITY} AND _propensity <= 1, false)"
        reason = f"{log.propensity} is no probability from {LEAST_PROPENSITY:g} to 1"
        checks.append(Check(f"{propensity} IS NOT NULL AND NOT {usable}", reason, f"CAST({propensity} AS VARCHAR)"))
    for path, column, feature in _features_read(project):
        checks += columns.feature_checks(column, feature.read_as, feature.width, f"{origin}: {path}")
    return ", ".join(select), checks


def _features_read(project: Project) -> Iterable[tuple[str, str, Feature]]:
    """Path, column and feature of everything that reads the log's own columns."""
    for context in project.schema.context:
        column = context.column or context.name
        yield column_key("context", context.name, column), column, Feature(name=context.name, dtype=context.dtype)
    for view in project.schema.views:
        if isinstance(view.source, LogSource):
            for feature, column in zip(view.features, view.source.columns, strict=True):
                yield column_key(f"views.{view.name}.features", feature.name, column), column, feature


def _label(columns: Columns, clicked: Clicked, origin: str, engine: Engine, relation: str) -> str:
    """SQL of the label: true, false, or null where it is neither."""
    for name in clicked.reads:
        columns.kind(name, f"{origin}: log.clicked")
    if clicked.sql is None:
        assert clicked.column is not None
        return columns.truth(clicked.column, f"{origin}: log.clicked")
    try:
        (kind,) = engine.columns(f"(SELECT {clicked.sql} FROM {relation})").values()
    except LogError as error:
        raise SchemaError(f"{origin}: log.clicked.sql: {error}") from None
    if kind != "BOOLEAN":
        raise SchemaError(f"{origin}: log.clicked.sql: {clicked.sql} is {kind}; a label is true or false")
    return f"({clicked.sql})"


def _shown_label(clicked: Clicked) -> str:
    return "''" if clicked.column is None else f"CAST({quoted(clicked.column)} AS VARCHAR)"
