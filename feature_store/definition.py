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
from typing import NoReturn
from zoneinfo import ZoneInfo

from feature_store.errors import SchemaError
from feature_store.feature_definition import check_name, read_feature
from feature_store.graph_columns import read_graph_columns
from feature_store.hierarchy import with_levels
from feature_store.project import Clicked, Label, LogNames, Project, TableFile, TimeColumn
from feature_store.schema import (
    ContextFeature,
    Feature,
    FeatureView,
    PairFeature,
    PairOperator,
    Schema,
    TableSource,
    WindowSource,
)
from feature_store.sql_text import columns_read, normalised
from feature_store.toml_table import TomlTable
from feature_store.view_definition import (
    read_stamp,
    read_table_file,
    read_time_column,
    read_view,
    refuse_label,
)

__all__ = ["Project", "load_project", "parse_project"]

_TOP_KEYS = ("project", "log", "label", "views", "context", "pairs", "model")
_PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_OPERATORS: dict[str, PairOperator] = {
    "equal": "equal",
    "product": "product",
    "difference": "difference",
    "lookup": "lookup",
    "cross_hash": "cross_hash",
}
_HASH_OPERATORS = frozenset({"equal", "cross_hash"})


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
    stamps: dict[str, TimeColumn] = {}
    for view_name, table in top.table("views").tables():
        view = read_view(view_name, table, log, hash_seed)
        views.append(view)
        if isinstance(view.source, TableSource):
            tables[view_name] = read_table_file(table, view.entity)
        elif (stamp := read_stamp(table, log)) is not None:
            stamps[view_name] = stamp
    schema = Schema(
        project=name,
        views=with_levels(tuple(views), top.table("views")),
        context=tuple(_context(key, table, log) for key, table in top.table("context").tables()),
        pairs=tuple(_pair(key, table) for key, table in top.table("pairs").tables()),
        hash_seed=hash_seed,
        time_zone=time_zone,
    )
    for view in schema.views:
        _check_attributes(view, schema, top.table("views").table(view.name))
    for pair in schema.pairs:
        _check_pair(pair, schema, top.table("pairs").table(pair.name))
    _check_needs_of_the_log(schema, tables, log, top)
    return Project(
        schema=schema,
        log=log,
        label=_label(top.table("label"), time_zone),
        tables=tables,
        stamps=stamps,
        origin=origin,
        folder=folder,
        graph_columns=read_graph_columns(top.table("model")),
    )


def _time_zone(head: TomlTable) -> str:
    name = head.text("time_zone", "UTC")
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise head.error("time_zone", f'unknown time zone "{name}"; use a name such as "Europe/Berlin"') from None
    return name


def _log_names(table: TomlTable) -> LogNames:
    table.expect(("user_id", "ad_id", "time", "clicked", "click_time", "position", "impression_id", "propensity"))
    names = LogNames(
        user_id=table.optional_text("user_id"),
        ad_id=table.optional_text("ad_id"),
        time=read_time_column(table, "time"),
        clicked=_clicked(table),
        click_time=read_time_column(table, "click_time"),
        position=table.optional_text("position"),
        impression_id=table.optional_text("impression_id"),
        propensity=table.optional_text("propensity"),
    )
    _refuse_shared_columns(names, table)
    return names


def _refuse_shared_columns(names: LogNames, table: TomlTable) -> None:
    """An id or a time that is made of the label gives it away; one column cannot mean two things."""
    taken = dict.fromkeys(names.clicked.reads, "clicked")
    columns = {
        "user_id": names.user_id,
        "ad_id": names.ad_id,
        "time": names.time.column if names.time else None,
        "click_time": names.click_time.column if names.click_time else None,
        "position": names.position,
        "impression_id": names.impression_id,
        "propensity": names.propensity,
    }
    for key, column in columns.items():
        if column is None or (key == "click_time" and names.clicked.sql is not None):
            continue  # a condition may well ask whether there is a click time
        if column in taken:
            raise table.error(key, f'"{column}" is log.{taken[column]} already; each must be a column of its own')
        taken[column] = key


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


def _label(table: TomlTable, time_zone: str) -> Label:
    table.expect(("name", "window", "observed_until"))
    window_ms = table.duration_ms("window") if "window" in table else None
    if window_ms == 0:
        raise table.error("window", "is 0, so no click would count; leave it out to count every click")
    if window_ms is None and "observed_until" in table:
        raise table.error("observed_until", "means nothing without a window: any later click would count")
    observed_until_ms = table.moment_ms("observed_until", time_zone)
    return Label(name=table.text("name", "click"), window_ms=window_ms, observed_until_ms=observed_until_ms)


def _context(name: str, table: TomlTable, log: LogNames) -> ContextFeature:
    check_name(name, table, frozenset())
    table.expect(("dtype", "default", "column"))
    feature = read_feature(name, table)
    if feature.width != 1:
        raise table.error("dtype", "a context value is one number or one category, not an embedding")
    column = table.text("column", name)
    refuse_label(column, log, table)
    return ContextFeature(name=name, dtype=feature.dtype, default=feature.default, column=column)


def _pair(name: str, table: TomlTable) -> PairFeature:
    check_name(name, table, frozenset())
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


def _check_attributes(view: FeatureView, schema: Schema, table: TomlTable) -> None:
    """A group is a category that a table gives to the same entity; what counts are split across, a number of ads."""
    if not isinstance(view.source, WindowSource):
        return
    for key, name, entity, dtype in (
        ("by", view.source.by, view.entity, "id"),
        ("across", view.source.across, "ad", "float32"),
    ):
        known = {
            f"{other.name}.{feature.name}": feature
            for other in schema.views
            if other.entity == entity and isinstance(other.source, TableSource)
            for feature in other.features
            if feature.dtype == dtype and feature.width == 1
        }
        if isinstance(name, str) and name not in known:
            _refuse_unknown_column(name, known, table, key)


def _refuse_unknown_column(name: str, known: Mapping[str, Feature], table: TomlTable, key: str) -> NoReturn:
    raise table.error(key, f'there is no "{name}" to read; known are {", ".join(sorted(known)) or "none"}')


def _check_needs_of_the_log(schema: Schema, tables: dict[str, TableFile], log: LogNames, top: TomlTable) -> None:
    """A view of an entity needs the entity's id in the log; windows and dated rows need a time.

    Dated rows that are only brought to the store (`from = "external"`) need none: no impression is joined to them.
    """
    id_columns = {"user": log.user_id, "ad": log.ad_id}
    for view in schema.views:
        at = top.table("views").table(view.name)
        if id_columns[view.entity] is None:
            raise at.error("entity", f"log.{view.entity}_id does not say which column holds the {view.entity}'s id")
        table = tables.get(view.name)
        dated = table is None or (table.path is not None and table.event_time is not None)
        if dated and log.time is None:
            raise at.error("", "its rows have times, but log.time does not say which column holds the impression's")
