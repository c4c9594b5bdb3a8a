"""One view of `features.toml`: its features and the source that makes their rows.

The source follows from the one key that is there: `step` makes trailing windows over the log, `sql` a query over it,
`from` reads a table, the log's own columns ("log"), or rows that others compute ("external").
"""

from __future__ import annotations

from typing import Final

from feature_store.errors import SchemaError
from feature_store.feature_definition import RESERVED_FEATURES, check_name, read_feature
from feature_store.project import LogNames, TableFile, TimeColumn, TimeUnit
from feature_store.schema import (
    EntityName,
    Feature,
    FeatureView,
    LogSource,
    Source,
    SqlSource,
    TableSource,
)
from feature_store.sql_text import normalised
from feature_store.toml_table import TomlTable
from feature_store.window_definition import read_windows

FROM_LOG: Final = "log"
FROM_ELSEWHERE: Final = "external"

_KEYS = ("entity", "ttl", "features", "from", "key", "event_time", "step", "lag", "by", "across", "width", "sql")
_RESERVED_VIEWS = frozenset({"context", "pair", "log"})
_TIME_UNITS: dict[str, TimeUnit] = {"s": "s", "ms": "ms", "us": "us", "timestamp": "timestamp"}
_ENTITIES: dict[str, EntityName] = {"user": "user", "ad": "ad"}


def read_view(name: str, table: TomlTable, log: LogNames, hash_seed: int) -> FeatureView:
    """The view described by `views.<name>`.

    Raises:
        SchemaError: with the path of the key that is wrong.
    """
    table.expect(_KEYS)
    check_name(name, table, _RESERVED_VIEWS)
    table.require("entity", '"ad"')
    table.require("ttl", '"30d"')
    table.require("features", '{ price = { dtype = "float32" } }')
    entity = _ENTITIES[table.choice("entity", tuple(_ENTITIES))]
    ttl_ms = table.duration_ms("ttl")
    if ttl_ms == 0:
        raise table.error("ttl", "is 0, so no row would ever be served")
    features_table = table.table("features")
    kinds = [key for key in ("step", "sql", "from") if key in table]
    if len(kinds) != 1:
        given = " and ".join(kinds) or "none of them"
        raise table.error("", f"says how its rows are made by exactly one of step (windows), sql and from; got {given}")
    features: tuple[Feature, ...]
    source: Source
    if kinds == ["step"]:
        _only_with("step", table, ("lag", "by", "across", "width"))
        features, source = read_windows(table, entity, ttl_ms)
    else:
        _only_with(kinds[0], table, ("key", "event_time") if kinds == ["from"] else ())
        features, columns = _plain_features(features_table, reads_columns=kinds == ["from"])
        source = _plain_source(table, columns, log)
    if not features:
        raise table.error("features", "names no feature")
    return FeatureView(name=name, entity=entity, features=features, source=source, hash_seed=hash_seed, ttl_ms=ttl_ms)


def _only_with(kind: str, table: TomlTable, allowed: tuple[str, ...]) -> None:
    """Refuse keys that mean something only for another kind of view."""
    for key in ("lag", "by", "across", "width", "key", "event_time"):
        if key in table and key not in allowed:
            raise table.error(key, f'means nothing in a view made by "{kind}"')


def _plain_features(table: TomlTable, *, reads_columns: bool) -> tuple[tuple[Feature, ...], tuple[str, ...]]:
    """Features that each read one column, and those columns; a query names its columns itself."""
    features, columns = [], []
    for name, described in table.tables():
        check_name(name, described, RESERVED_FEATURES)
        described.expect(("dtype", "ngrams", "default", *(["column"] if reads_columns else [])))
        features.append(read_feature(name, described))
        columns.append(described.text("column", name))
    return tuple(features), tuple(columns)


def _plain_source(table: TomlTable, columns: tuple[str, ...], log: LogNames) -> Source:
    if "sql" in table:
        try:
            return SqlSource(sql=normalised(table.text("sql"), what="query"))
        except SchemaError as error:
            raise table.error("sql", str(error)) from None
    if table.text("from") != FROM_LOG:
        return TableSource(columns=columns)
    for name, column in zip(table.table("features"), columns, strict=True):
        refuse_label(column, log, table.table("features").table(name))
    return LogSource(columns=columns)


def read_table_file(table: TomlTable, entity: EntityName) -> TableFile:
    """Where the rows of a table view lie, from the view's table."""
    path = table.text("from")
    return TableFile(
        path=None if path == FROM_ELSEWHERE else path,
        key=table.text("key", f"{entity}_id"),
        event_time=read_time_column(table, "event_time"),
    )


def read_stamp(table: TomlTable, log: LogNames) -> TimeColumn | None:
    """The column that says when features of the log were computed; None where the view has none."""
    stamp = read_time_column(table, "event_time")
    if stamp is not None:
        refuse_label(stamp.column, log, table.table("event_time") if table.is_table("event_time") else table)
        if log.time is None:
            raise table.error("event_time", "log.time does not say which column it is to be compared with")
    return stamp


def read_time_column(table: TomlTable, key: str) -> TimeColumn | None:
    """A time as `"ts"` or `{ column = "ts", unit = "s" }`; None where the key is absent."""
    if key not in table:
        return None
    if not table.is_table(key):
        return TimeColumn(table.text(key), path=table.path_of(key))
    described = table.table(key)
    described.expect(("column", "unit"))
    described.require("column", '"ts"')
    unit = _TIME_UNITS[described.choice("unit", tuple(_TIME_UNITS))] if "unit" in described else None
    return TimeColumn(described.text("column"), unit, described.path_of("column"))


def refuse_label(column: str, log: LogNames, table: TomlTable) -> None:
    """No feature may read what the label is made of, nor what serving cannot know."""
    if column in log.clicked.reads:
        raise table.error("column", f'reads "{column}", which says whether the impression was clicked: a leak')
    if log.click_time is not None and column == log.click_time.column:
        raise table.error("column", f'reads "{column}", the time of the click: a leak')
    if column == log.position:
        raise table.error("column", f'reads "{column}", the position, which is unknown until the ranking is done')
    if column == log.propensity:
        raise table.error("column", f'reads "{column}", the propensity, which tells of the policy and not of the ad')
