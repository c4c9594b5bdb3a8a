"""Who runs the SQL of features, and DuckDB in this process: the one module that touches it.

SQL is written once, in DuckDB's words; `spark.py` is the other engine, and translates. The DuckDB engine runs SQL over
files and temporary tables and hands results out as Arrow tables, whole or in batches. It never installs extensions and
writes nothing but what it is told to write (and spills to `spill_folder` when a sort does not fit into memory). One
engine belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import duckdb

from feature_store.errors import LogError
from feature_store.offline import arrow

ROWS_PER_BATCH = 65_536
"""Rows handed out at a time: with 20 columns about 10 MB, and enough for NumPy to forget its cost per call."""


EngineName = Literal["duckdb", "spark"]
"""As the command line calls them."""


class SqlEngine(Protocol):
    """Runs DuckDB's SQL over files and temporary tables; `Engine` says what each method does."""

    def about(self, what: str) -> AbstractContextManager[None]: ...
    def close(self) -> None: ...
    def run(self, sql: str) -> None: ...
    def table(self, sql: str) -> arrow.Table: ...
    def batches(self, sql: str) -> Iterator[arrow.Table]: ...
    def rows(self, sql: str) -> list[tuple[object, ...]]: ...
    def wholes(self, sql: str) -> tuple[int, ...]: ...
    def columns(self, relation: str) -> dict[str, str]: ...
    def latest(self, asked: str, history: str) -> str: ...
    def keep(self, name: str, table: arrow.Table) -> None: ...


class Engine:
    """An in-memory database. Use it as a context manager; leaving it frees everything."""

    def __init__(
        self,
        *,
        time_zone: str = "UTC",
        threads: int | None = None,
        spill_folder: Path | None = None,
        memory_mb: int | None = None,
    ) -> None:
        """Open the database.

        Args:
            time_zone: how times without an offset are read.
            threads: at most so many; all cores where None.
            spill_folder: where sorts that exceed the memory go; the current folder's `.tmp` where None.
            memory_mb: memory that tables and sorts may take before they spill; 80 % of the machine's where None.
        """
        self._about = ""
        self._database = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})
        self.run(f"SET TimeZone = {text(time_zone)}")
        self.run("SET enable_progress_bar = false")
        if threads is not None:
            self.run(f"SET threads = {threads}")
        if memory_mb is not None:
            self.run(f"SET memory_limit = '{memory_mb}MiB'")
        if spill_folder is not None:
            self.run(f"SET temp_directory = {text(str(spill_folder))}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def about(self, what: str) -> Iterator[None]:
        """Inside, DuckDB's complaints begin with `what`: the file or view that the statements are about."""
        before, self._about = self._about, f"{what}: "
        try:
            yield
        finally:
            self._about = before

    def close(self) -> None:
        """Free everything."""
        self._database.close()

    def run(self, sql: str) -> None:
        """Run a statement whose result nobody wants.

        Raises:
            LogError: DuckDB refused it or could not read a file; the message is DuckDB's first paragraph.
        """
        with self._complaints():
            self._database.execute(sql)

    def table(self, sql: str) -> arrow.Table:
        """The whole result of a query. Raises LogError as `run`."""
        with self._complaints():
            return self._database.sql(sql).to_arrow_table()

    def batches(self, sql: str) -> Iterator[arrow.Table]:
        """The result of a query, some rows at a time, without holding all of it. Raises LogError as `run`."""
        with self._complaints():
            reader = self._database.sql(sql).to_arrow_reader(ROWS_PER_BATCH)
            yield from reader

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """The result of a small query as Python values. Raises LogError as `run`."""
        with self._complaints():
            return self._database.execute(sql).fetchall()

    def wholes(self, sql: str) -> tuple[int, ...]:
        """The one row of whole numbers that a query answers. Raises LogError as `run`."""
        (row,) = self.rows(sql)
        return tuple(int(str(value)) for value in row)

    def columns(self, relation: str) -> dict[str, str]:
        """Name and SQL type of each column of a table or of a query in brackets. Raises LogError as `run`."""
        return {str(name): str(kind) for name, kind, *_ in self.rows(f"DESCRIBE FROM {relation}")}

    def latest(self, asked: str, history: str) -> str:
        """SQL relation (q, time_ms, event_time_ms, i): each question with the newest row of its key so far.

        Args:
            asked: relation (q, key, time_ms, seen_ms) of questions; those without an earlier row are left out.
            history: relation (key, event_time_ms, i); of two rows with equal time the larger i wins.
        """
        return (
            f"(SELECT k.q, k.time_ms, h.event_time_ms, h.i FROM {asked} k "
            f"ASOF JOIN (SELECT key, event_time_ms, max(i) AS i FROM {history} GROUP BY key, event_time_ms) h "
            "ON k.key = h.key AND k.seen_ms >= h.event_time_ms)"
        )

    def keep(self, name: str, table: arrow.Table) -> None:
        """Make a temporary table of an Arrow table."""
        with self._complaints():
            self._database.register("handed_over", table)
            self._database.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM handed_over")
            self._database.unregister("handed_over")

    @contextmanager
    def _complaints(self) -> Iterator[None]:
        """DuckDB's errors as ours, without its drawings of the statement."""
        try:
            yield
        except duckdb.Error as error:
            raise LogError(self._about + str(error).split("\n\n")[0].strip()) from error


def quoted(name: str) -> str:
    """A column's name inside SQL."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text inside SQL."""
    return "'" + value.replace("'", "''") + "'"
