"""The click log in the one form that everything offline reads: a Parquet file sorted by time, with known column names.

    _row           int64   0 to n-1
    _line          int64   line or row of the file it came from, so that answers can be given in the file's order
    _time_ms       int64   milliseconds since 1970 UTC; the file's order where the log has no time
    _user_id       text    null where the log has no users
    _ad_id         text    null where the log has no ads
    _clicked       bool    within the label's window
    _click_time_ms int64   arrival of the click; null where there is none
    _delay_ms      int64   from the impression to its click, also where the click came too late to count; null without
    _position      int16   null where unknown
    _propensity    float64 in (0, 1], with which the logging policy showed the ad there; null where unknown
    …              then the log's own columns, unchanged

`log_writer.py` makes it. Reading it costs no check: whatever is in here has passed them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from feature_store.clock import shown_moment
from feature_store.offline import arrow
from feature_store.offline.columns import Columns
from feature_store.offline.engine import Engine, quoted, text
from feature_store.offline.rejects import Rejects
from feature_store.project import Project
from feature_store.run_folder import RunFolder
from feature_store.toml_table import shown_duration

OWN_COLUMNS = (
    "_row",
    "_line",
    "_time_ms",
    "_user_id",
    "_ad_id",
    "_clicked",
    "_click_time_ms",
    "_delay_ms",
    "_position",
    "_propensity",
)


class ClickDelays(NamedTuple):
    """How long clicks took to arrive, measured on all of a log's clicks, also those that came too late to count.

    Clicks that had not arrived when the log was taken are not among them, so the true delays are longer rather than
    shorter.
    """

    clicks: int
    """In time and late ones."""
    late: int
    """Arrived after the label's window; their impressions count as not clicked."""
    median_ms: int
    p90_ms: int
    p99_ms: int


class Factorised(NamedTuple):
    """A column as its distinct values and where they occur."""

    codes: npt.NDArray[np.int32]
    """(n,) index into `values`; -1 where the value is missing."""
    values: list[Any]
    """Distinct values as Python objects, in no particular order."""


@dataclass(frozen=True, slots=True)
class Log:
    """A click log on disk."""

    path: Path
    folder: Path
    """Where the tables beside the log lie."""
    project: Project
    n: int
    clicks: int
    first_ms: int
    last_ms: int
    rejects: Rejects
    delays: ClickDelays | None = None
    """None where the log has no click times, or no clicks."""
    observed_until_ms: int = 0
    """Until when clicks were collected: what the definition says, or the last thing that the log tells of."""
    pending: int = 0
    """The newest so many impressions have not had the label's whole window to be clicked in; clicked ones among them.

    Nobody knows their label yet. Those clicked already must not count either: the others would follow later, and the
    click rate of the newest impressions would come out too high.
    """
    name: str = ""
    """What people call it: `KIND:PATH` as they gave it."""
    held: RunFolder | None = field(default=None, repr=False, compare=False)
    """Where the file lies, if it goes with this object; None where somebody else looks after it."""

    @property
    def has_time(self) -> bool:
        """False where the order of the file stands for the time."""
        return self.project.log.time is not None

    @property
    def sql(self) -> str:
        """The log as a relation inside SQL."""
        return f"read_parquet({text(str(self.path))})"

    def engine(self, memory_mb: int | None = None) -> Engine:
        """A database to read it with, in the project's time zone, spilling beside the log; see `Engine`."""
        zone, spill_folder = self.project.schema.time_zone, self.path.parent / "spill"
        return Engine(time_zone=zone, spill_folder=spill_folder, memory_mb=memory_mb)

    def pending_words(self) -> str:
        """How many impressions nobody learns from, because their label is not known yet; empty where none."""
        window_ms = self.project.label.window_ms
        if not self.pending or window_ms is None:
            return ""
        return (
            f"{self.pending:,} newest of {self.n:,} impressions are left out, clicked or not: clicks count for "
            f"{shown_duration(window_ms)} and were collected until {shown_moment(self.observed_until_ms)}"
        )

    def own_names(self) -> tuple[str, ...]:
        """Columns of the log as its owner named them, in order. Raises LogError where the file is gone."""
        with self.engine() as engine:
            return tuple(name for name in engine.columns(self.sql) if name not in OWN_COLUMNS)

    def plain_columns(self, names: Sequence[str]) -> list[str]:
        """SQL of columns of the log as values that Python has.

        Raises:
            LogError: the file is gone or has no such column.
        """
        with self.engine() as engine:
            columns = Columns(f"the log {self.name}", engine.columns(self.sql))
        for name in names:
            columns.kind(name, "reading columns")
        return [columns.plain_value(name) for name in names]

    def columns(self, names: Sequence[str]) -> dict[str, Factorised]:
        """Columns of the log in order of `_row`, each factorised: hash or convert the few values, then index.

        Raises:
            LogError: the file is gone or has no such column.
        """
        if not names:
            return {}
        distinct = list(dict.fromkeys(names))
        values = zip(self.plain_columns(distinct), distinct, strict=True)
        with self.engine() as engine:
            wanted = ", ".join(f"{value} AS {quoted(name)}" for value, name in values)
            table = engine.table(f"SELECT {wanted} FROM {self.sql}")
        return {name: Factorised(*arrow.factorised(table, name)) for name in names}
