"""Parquet files as a numbered relation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from feature_store.errors import LogError
from feature_store.offline import arrow
from feature_store.offline.engine import Engine, text


def show_parquet(engine: Engine, paths: Sequence[Path], name: str) -> None:
    """Make a temporary view of the files' rows, numbered through all of them by `_line` from 1.

    Raises:
        LogError: a file is no Parquet file, or names a column twice: a query would read one of the two, nobody knows
            which. Names that differ only in case are the same name in SQL.
    """
    for path in paths:
        for column, count in Counter(column.lower() for column in arrow.parquet_columns(path)).items():
            if count > 1:
                raise LogError(f'{path} names the column "{column}" {count} times; give each column a name of its own')
    _refuse_new_types(paths)
    listed = ", ".join(text(str(path)) for path in paths)
    engine.run(
        f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT row_number() OVER () AS _line, * FROM read_parquet([{listed}])"
    )


_FITS = ("numbers with a point", "whole numbers")


def _refuse_new_types(paths: Sequence[Path]) -> None:
    """Of several files the first decides the types, and 0.7 would become 1 where it holds whole numbers."""
    if len(paths) < 2:
        return
    first = arrow.parquet_types(paths[0])
    for path in paths[1:]:
        for column, kind in arrow.parquet_types(path).items():
            held = first.get(column, kind)
            if kind != held and kind != "nothing" and (held, kind) != _FITS:
                raise LogError(
                    f'column "{column}" of {path} holds {kind}, but {held} in {paths[0]}; write the files with one type'
                )
