"""`features.toml`: which features exist, and how the log and the tables that make them name things.

One file describes a project: its schema (what a stored row means, `schema.py`) and where the values come from in the
owner's own files. A user with their own log changes this file and writes no code.

Everything is checked while reading, so that a mistake is told with its path before any data is touched:
`features.toml: views.ad_clicks.features.ctr_7d.ctr: 90m is not a multiple of the view's step of 1h`.
Pure but for reading the one file. `docs/features-toml.md` shows every key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, NoReturn
from zoneinfo import ZoneInfo

import msgspec

from feature_store.errors import SchemaError
from feature_store.ids import canonical_text
from feature_store.schema import (
    ContextFeature,
    EntityName,
    Feature,
    FeatureView,
    LogSource,
    Measure,
    PairFeature,
    PairOperator,
    Schema,
    Source,
    SqlSource,
    TableSource,
    WindowMeasure,
    WindowSource,
)
from feature_store.sql_text import columns_read, normalised
from feature_store.toml_table import TomlTable

TimeUnit = Literal["s", "ms", "us", "timestamp"]

FROM_LOG: Final = "log"
FROM_ELSEWHERE: Final = "external"
MAX_WIDTH: Final = 4096
"""Of an embedding; a row must stay small enough for one Redis answer."""

_PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_DTYPE = re.compile(r"float32(?:\[(\d{1,6})\])?|id")
_RESERVED_VIEWS = frozenset({"context", "pair", "log"})
_RESERVED_FEATURES = frozenset({"entity_id", "event_time_ms"})
_TIME_UNITS: dict[str, TimeUnit] = {"s": "s", "ms": "ms", "us": "us", "timestamp": "timestamp"}
_ENTITIES: dict[str, EntityName] = {"user": "user", "ad": "ad"}
_OPERATORS: dict[str, PairOperator] = {
    "equal": "equal",
    "product": "product",
    "difference": "difference",
    "lookup": "lookup",
    "cross_hash": "cross_hash",
}
_HASH_OPERATORS = frozenset({"equal", "cross_hash"})
_MEASURES: dict[str, Measure] = {"impressions": "impressions", "clicks": "clicks", "ctr": "ctr"}

_TOP_KEYS = ("project", "log", "label", "views", "context", "pairs")
_VIEW_KEYS = ("entity", "ttl", "features", "from", "key", "event_time", "step", "lag", "by", "sql")


class TimeColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column that holds a time."""

    column: str
    unit: TimeUnit | None = None
    """None: milliseconds where the column holds integers, a timestamp where it holds dates or times."""


class Clicked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the log says that an impression was clicked: a column of 0/1 or booleans, or an SQL condition."""

    column: str | None = None
    sql: str | None = None
    reads: tuple[str, ...] = ()
    """Columns the answer is made of. They are the label in disguise, so no feature may read them."""


class LogNames(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a click log names things. None: the log has no such column."""

    user_id: str | None = None
    ad_id: str | None = None
    time: TimeColumn | None = None
    """Without it the order of the file is the time."""
    clicked: Clicked = Clicked(column="clicked", reads=("clicked",))
    click_time: TimeColumn | None = None
    """Arrival of the click. Without it a click arrives 1 ms after its impression."""
    position: str | None = None


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model predicts."""

    name: str = "click"
    window_ms: int | None = None
    """A click that arrives later than this after its impression does not count; None counts every click."""


class TableFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file behind a table view."""

    path: str | None
    """Relative to `features.toml` or to the folder of the log; None: handed over on the command line."""
    key: str
    """Column of the entity's id."""
    event_time: TimeColumn | None = None
    """Since when a row holds. Without it, since ever."""


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of one `features.toml`."""

    schema: Schema
    log: LogNames
    label: Label
    tables: dict[str, TableFile]
    """By view, for the views whose source is a table."""
    origin: str
    """Where the definition was read, for messages."""
    folder: Path | None = None
    """Where the paths of tables start; None for a built-in definition, whose tables lie beside the log."""

    def with_table(self, view: str, path: Path) -> Project:
        """The same project, reading that view from another file.

        Raises:
            SchemaError: there is no such view, or it is not made from a table.
        """
        if view not in self.tables:
            known = ", ".join(sorted(self.tables)) or "none"
            raise SchemaError(f"{self.origin}: view {view!r} does not read a table; views that do: {known}")
        table = msgspec.structs.replace(self.tables[view], path=str(path.absolute()))
        return msgspec.structs.replace(self, tables={**self.tables, view: table})


def load_project(path: Path) -> Project:
    """Read a `features.toml`.

    Raises:
        SchemaError: the file cannot be read or says something that cannot be; the message carries file and key path.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SchemaError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SchemaError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    return parse_project(text, origin=path.name, folder=path.absolute().parent)


def parse_project(text: str, *, origin: str, folder: Path | None = None) -> Project:
    """Read a definition from text; `origin` names it in messages, `folder` is where paths of tables start.

    Raises:
        SchemaError: as `load_project`.
    """
    top = TomlTable.parse(text, origin)
    top.expect(_TOP_KEYS)
    top.require("project", '{ name = "shop" }')
    head = top.table("project")
    head.expect(("name", "time_zone", "hash_seed"))
    head.require("name", '"shop"')
    name = head.text("name")
    if not _PROJECT_NAME.fullmatch(name):
        raise head.error("name", f'expected 1 to 32 of a-z, 0-9 and "-", got "{name}"')
    time_zone = _time_zone(head)
    hash_seed = head.whole("hash_seed", 0)
    log = _log_names(top.table("log"))
    views: list[FeatureView] = []
    tables: dict[str, TableFile] = {}
    for view_name, table in top.table("views").tables():
        view = _view(view_name, table, log, hash_seed)
        views.append(view)
        if isinstance(view.source, TableSource):
            tables[view_name] = _table_file(table, view.entity)
    schema = Schema(
        project=name,
        views=tuple(views),
        context=tuple(_context(key, table, log) for key, table in top.table("context").tables()),
        pairs=tuple(_pair(key, table) for key, table in top.table("pairs").tables()),
        hash_seed=hash_seed,
        time_zone=time_zone,
    )
    for view in schema.views:
        _check_group(view, schema, top.table("views").table(view.name))
    for pair in schema.pairs:
        _check_pair(pair, schema, top.table("pairs").table(pair.name))
    _check_needs_of_the_log(schema, tables, log, top)
    return Project(
        schema=schema, log=log, label=_label(top.table("label")), tables=tables, origin=origin, folder=folder
    )


def _time_zone(head: TomlTable) -> str:
    name = head.text("time_zone", "UTC")
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise head.error("time_zone", f'unknown time zone "{name}"; use a name such as "Europe/Berlin"') from None
    return name


def _log_names(table: TomlTable) -> LogNames:
    table.expect(("user_id", "ad_id", "time", "clicked", "click_time", "position"))
    return LogNames(
        user_id=table.optional_text("user_id"),
        ad_id=table.optional_text("ad_id"),
        time=_time_column(table, "time"),
        clicked=_clicked(table),
        click_time=_time_column(table, "click_time"),
        position=table.optional_text("position"),
    )


def _clicked(table: TomlTable) -> Clicked:
    if not table.is_table("clicked"):
        column = table.text("clicked", "clicked")
        return Clicked(column=column, reads=(column,))
    condition = table.table("clicked")
    condition.expect(("sql",))
    condition.require("sql", '"rating = 5"')
    try:
        sql = normalised(condition.text("sql"), what="condition")
        return Clicked(sql=sql, reads=columns_read(sql))
    except SchemaError as error:
        raise condition.error("sql", str(error)) from None


def _time_column(table: TomlTable, key: str) -> TimeColumn | None:
    if key not in table:
        return None
    if not table.is_table(key):
        return TimeColumn(table.text(key))
    described = table.table(key)
    described.expect(("column", "unit"))
    described.require("column", '"ts"')
    unit = _TIME_UNITS[described.choice("unit", tuple(_TIME_UNITS))] if "unit" in described else None
    return TimeColumn(described.text("column"), unit)


def _label(table: TomlTable) -> Label:
    table.expect(("name", "window"))
    window_ms = table.duration_ms("window") if "window" in table else None
    if window_ms == 0:
        raise table.error("window", "is 0, so no click would count; leave it out to count every click")
    return Label(name=table.text("name", "click"), window_ms=window_ms)


def _view(name: str, table: TomlTable, log: LogNames, hash_seed: int) -> FeatureView:
    table.expect(_VIEW_KEYS)
    _check_name(name, table, _RESERVED_VIEWS)
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
        _only_with("step", table, ("lag", "by"))
        features, source = _windows(table, features_table, ttl_ms)
    else:
        _only_with(kinds[0], table, ("key", "event_time") if kinds == ["from"] else ())
        features, columns = _plain_features(features_table)
        source = _plain_source(table, columns, log)
    if not features:
        raise table.error("features", "names no feature")
    return FeatureView(name=name, entity=entity, features=features, source=source, hash_seed=hash_seed, ttl_ms=ttl_ms)


def _only_with(kind: str, table: TomlTable, allowed: tuple[str, ...]) -> None:
    """Refuse keys that mean something only for another kind of view."""
    for key in ("lag", "by", "key", "event_time"):
        if key in table and key not in allowed:
            raise table.error(key, f'means nothing in a view made by "{kind}"')


def _plain_features(table: TomlTable) -> tuple[tuple[Feature, ...], tuple[str, ...]]:
    """Features that each read one column, and those columns."""
    features, columns = [], []
    for name, described in table.tables():
        _check_name(name, described, _RESERVED_FEATURES)
        described.expect(("dtype", "default", "column"))
        features.append(_feature(name, described))
        columns.append(described.text("column", name))
    return tuple(features), tuple(columns)


def _feature(name: str, table: TomlTable) -> Feature:
    dtype = table.text("dtype", "float32")
    match = _DTYPE.fullmatch(dtype)
    if match is None:
        raise table.error("dtype", f'expected "float32", "float32[64]" (an embedding) or "id", got "{dtype}"')
    width = int(match[1] or 1)
    if not 1 <= width <= MAX_WIDTH:
        raise table.error("dtype", f"an embedding has 1 to {MAX_WIDTH} numbers, got {width}")
    kind: Literal["id", "float32"] = "id" if dtype == "id" else "float32"
    return Feature(name=name, dtype=kind, width=width, default=_default(table, kind))


def _default(table: TomlTable, dtype: Literal["id", "float32"]) -> float | str | None:
    if "default" not in table:
        return None
    return canonical_text(table.plain("default")) if dtype == "id" else table.number("default", 0.0)


def _plain_source(table: TomlTable, columns: tuple[str, ...], log: LogNames) -> Source:
    if "sql" in table:
        try:
            return SqlSource(sql=normalised(table.text("sql"), what="query"))
        except SchemaError as error:
            raise table.error("sql", str(error)) from None
    if table.text("from") != FROM_LOG:
        return TableSource(columns=columns)
    for name, column in zip(table.table("features"), columns, strict=True):
        _refuse_label(column, log, table.table("features").table(name))
    return LogSource(columns=columns)


def _windows(table: TomlTable, features: TomlTable, ttl_ms: int) -> tuple[tuple[Feature, ...], WindowSource]:
    step_ms, lag_ms = table.duration_ms("step"), table.duration_ms("lag")
    if step_ms == 0:
        raise table.error("step", "is 0; use 1s or more")
    if ttl_ms < step_ms + lag_ms:
        raise table.error("ttl", "is shorter than step + lag, so a row would expire before the next one is made")
    measures = []
    names = []
    for name, described in features.tables():
        _check_name(name, described, _RESERVED_FEATURES)
        described.expect((*_MEASURES, "prior_impressions", "default"))
        asked = [key for key in described if key in _MEASURES]
        if len(asked) != 1:
            raise described.error("", 'counts exactly one thing, for example { clicks = "7d" } or { ctr = "all" }')
        measure = _MEASURES[asked[0]]
        if measure != "ctr" and "prior_impressions" in described:
            raise described.error("prior_impressions", f"smooths a ctr; {measure} are counted as they are")
        prior_impressions = described.number("prior_impressions", 0.0)
        if prior_impressions < 0:
            raise described.error("prior_impressions", f"must be 0 or more, got {prior_impressions}")
        window_ms = None if described.text(measure) == "all" else described.duration_ms(measure)
        if window_ms is not None and (window_ms == 0 or window_ms % step_ms):
            raise described.error(
                measure, f"{described.text(measure)} is not a multiple of the view's step of {table.text('step')}"
            )
        default = _default(described, "float32")
        names.append(Feature(name=name, default=default))
        measures.append(WindowMeasure(measure=measure, window_ms=window_ms, prior_impressions=prior_impressions))
    source = WindowSource(step_ms=step_ms, lag_ms=lag_ms, measures=tuple(measures), by=table.optional_text("by"))
    return tuple(names), source


def _table_file(table: TomlTable, entity: EntityName) -> TableFile:
    path = table.text("from")
    return TableFile(
        path=None if path == FROM_ELSEWHERE else path,
        key=table.text("key", f"{entity}_id"),
        event_time=_time_column(table, "event_time"),
    )


def _context(name: str, table: TomlTable, log: LogNames) -> ContextFeature:
    _check_name(name, table, frozenset())
    table.expect(("dtype", "default", "column"))
    feature = _feature(name, table)
    if feature.width != 1:
        raise table.error("dtype", "a context value is one number or one category, not an embedding")
    column = table.text("column", name)
    _refuse_label(column, log, table)
    return ContextFeature(name=name, dtype=feature.dtype, default=feature.default, column=column)


def _refuse_label(column: str, log: LogNames, table: TomlTable) -> None:
    """No feature may read what the label is made of, nor what serving cannot know."""
    if column in log.clicked.reads:
        raise table.error("column", f'reads "{column}", which says whether the impression was clicked: a leak')
    if log.click_time is not None and column == log.click_time.column:
        raise table.error("column", f'reads "{column}", the time of the click: a leak')
    if column == log.position:
        raise table.error("column", f'reads "{column}", the position, which is unknown until the ranking is done')


def _pair(name: str, table: TomlTable) -> PairFeature:
    _check_name(name, table, frozenset())
    table.expect(("op", "left", "right"))
    table.require("op", '"cross_hash"')
    table.require("left", '"user_profile.segment"')
    table.require("right", '"ad_profile.category"')
    op = _OPERATORS[table.choice("op", tuple(_OPERATORS))]
    return PairFeature(name=name, op=op, left=table.text("left"), right=table.text("right"))


def _check_pair(pair: PairFeature, schema: Schema, table: TomlTable) -> None:
    """Both sides exist, are of the dtype the operator works on, and as wide as it can take."""
    dtype = "id" if pair.op in _HASH_OPERATORS else "float32"
    known = {f"{view.name}.{feature.name}": feature for view in schema.views for feature in view.features}
    known |= {f"context.{f.name}": Feature(name=f.name, dtype=f.dtype) for f in schema.context}
    for key, side in (("left", pair.left), ("right", pair.right)):
        feature = known.get(side)
        if feature is None:
            _refuse_unknown_column(side, known, table, key)
        if feature.dtype != dtype:
            raise table.error(key, f'{pair.op} works on {dtype} features; "{side}" is {feature.dtype}')
        if feature.width > 1 and not (pair.op == "lookup" and key == "left"):
            raise table.error(key, f'"{side}" has {feature.width} numbers; only the left side of lookup is a vector')


def _check_group(view: FeatureView, schema: Schema, table: TomlTable) -> None:
    """A group is a categorical attribute that a table gives to the same entity."""
    if not isinstance(view.source, WindowSource) or view.source.by is None:
        return
    known = {
        f"{other.name}.{feature.name}": feature
        for other in schema.views_of(view.entity)
        if isinstance(other.source, TableSource)
        for feature in other.features
        if feature.dtype == "id"
    }
    if view.source.by not in known:
        _refuse_unknown_column(view.source.by, known, table, "by")


def _refuse_unknown_column(name: str, known: Mapping[str, Feature], table: TomlTable, key: str) -> NoReturn:
    raise table.error(key, f'there is no "{name}" to read; known are {", ".join(sorted(known)) or "none"}')


def _check_needs_of_the_log(schema: Schema, tables: dict[str, TableFile], log: LogNames, top: TomlTable) -> None:
    """A view of an entity needs the entity's id in the log; windows and dated rows need a time."""
    id_columns = {"user": log.user_id, "ad": log.ad_id}
    for view in schema.views:
        at = top.table("views").table(view.name)
        if id_columns[view.entity] is None:
            raise at.error("entity", f"log.{view.entity}_id does not say which column holds the {view.entity}'s id")
        dated = tables[view.name].event_time is not None if view.name in tables else True
        if dated and log.time is None:
            raise at.error("", "its rows have times, but log.time does not say which column holds the impression's")


def _check_name(name: str, table: TomlTable, reserved: frozenset[str]) -> None:
    if not _NAME.fullmatch(name):
        raise table.error("", "a name has up to 64 letters, digits and underscores, and starts with a letter")
    if name in reserved:
        raise table.error("", f'the name "{name}" is reserved')
