"""A project as data: its schema, and how the owner's log and tables name what the schema needs.

`definition.py` reads it from `features.toml`. Pure data: knows no TOML, no file format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from feature_store.errors import SchemaError
from feature_store.schema import Schema

TimeUnit = Literal["s", "ms", "us", "timestamp"]


class TimeColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column that holds a time."""

    column: str
    unit: TimeUnit | None = None
    """None: milliseconds where the column holds integers, a timestamp where it holds dates or times."""
    path: str = ""
    """Of the key in `features.toml` that names the column, for messages."""


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
    impression_id: str | None = None
    """By which an impression that the log holds twice is known."""
    propensity: str | None = None
    """Probability with which the logging policy showed this ad at this place."""


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model predicts."""

    name: str = "click"
    window_ms: int | None = None
    """A click that arrives later than this after its impression does not count; None counts every click."""
    observed_until_ms: int | None = None
    """Until when clicks were collected; None: until the last impression or click that the log holds."""


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
    stamps: dict[str, TimeColumn]
    """By view made from the log's own columns: the column that says when they were computed, where there is one."""
    origin: str
    """Where the definition was read, for messages."""
    folder: Path | None = None
    """Where the paths of tables start; None for a built-in definition, whose tables lie beside the log."""
    graph_columns: dict[str, tuple[str, ...]] = {}
    """Of somebody else's model, the features in its own order by the input that reads them (`graph_columns.py`)."""

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
