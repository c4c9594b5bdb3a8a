"""CSV and TSV files: one line is one row, and a torn line costs nobody else's row.

A quote that is never closed swallows all that follows it, so a general CSV parser cannot tell how much was lost. A log
has one event a line: lines that are not UTF-8 or leave a quote open are set aside first, with their numbers, and only
then the rest is parsed (by DuckDB, which sets aside lines with too few or too many columns, and values of the wrong
type). Afterwards every line of the file is accounted for, or reading fails.
A line feed inside quotes is therefore not supported. Empty fields are missing values. gzip is recognised by its bytes.
Cost: one pass in Python, about 0.5 µs a line, and a copy of the file in `workdir` that is deleted after parsing.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from feature_store.errors import LogError
from feature_store.offline import arrow
from feature_store.offline.engine import Engine, text
from feature_store.offline.rejects import REJECTED, RejectedRow, create_reject_table

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DELIMITERS = ",\t;|"
_MAX_LINE_BYTES = 10_000_000
_WRONG_VALUE = re.compile(r'Could not convert string "(.*)" to ', re.DOTALL)
"""In DuckDB's message; where another version words it otherwise, the whole line is shown."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the fields of a line are written."""

    delimiter: str | None = None
    """None: the one of comma, tab, semicolon and bar that the first line holds most often."""
    header: tuple[str, ...] | None = None
    """Column names where the file has none of its own; None: its first line names them."""
    quoting: bool = True
    """Whether a field may stand in double quotes."""


def load_delimited(
    engine: Engine,
    path: Path,
    name: str,
    *,
    workdir: Path,
    types: Mapping[str, str],
    sniffed: Collection[str] = (),
    dialect: Dialect = Dialect(),
) -> None:
    """Make a temporary table of the file, with `_line`, and add its torn lines to the table of rejected rows.

    Args:
        engine: where the table is made.
        path: plain or gzip.
        name: of the new table.
        workdir: holds the copy of the good lines while they are parsed.
        types: SQL type of the columns whose type is known; a value that does not fit costs its line.
        sniffed: columns whose type is guessed from the file's start; all others are text.
        dialect: how fields are written.
    Raises:
        LogError: unreadable, damaged gzip, empty, or a header with a name twice.
    """
    create_reject_table(engine)
    workdir.mkdir(parents=True, exist_ok=True)
    copy = workdir / f".{name}.lines"
    try:
        kept, torn, first = _set_torn_lines_aside(path, copy, quoting=dialect.quoting)
        has_header = dialect.header is None
        if torn and (not kept or (has_header and torn[0].line < kept[0])):
            raise LogError(f"{path}: line {torn[0].line}: {torn[0].reason}, and nothing could be read before it")
        if not kept:
            raise LogError(f"{path} holds no line of text")
        delimiter = dialect.delimiter or max(_DELIMITERS, key=first.count)
        header = dialect.header or _header(first, delimiter, path)
        options = (
            f"auto_detect = false, delim = {text(delimiter)}, header = {str(has_header).lower()}, "
            f"quote = {text(dialect.quoting * chr(34))}, escape = {text(dialect.quoting * chr(34))}, "
            f"max_line_size = {_MAX_LINE_BYTES}"
        )
        guessed = _guessed_types(engine, copy, delimiter) if sniffed else {}
        columns = {
            column: types.get(column, guessed.get(column, "VARCHAR") if column in sniffed else "VARCHAR")
            for column in header
        }
        spelled = ", ".join(f"{text(column)}: {text(kind)}" for column, kind in columns.items())
        engine.run(
            f"CREATE OR REPLACE TEMP TABLE {name}_parsed AS SELECT row_number() OVER () AS _parsed, * "
            f"FROM read_csv({text(str(copy))}, columns = {{{spelled}}}, {options}, store_rejects = true, "
            "rejects_limit = 0)"
        )
    finally:
        copy.unlink(missing_ok=True)
    _number_lines(engine, name, kept, torn, columns, n_header_lines=int(has_header), path=path)


def _number_lines(
    engine: Engine,
    name: str,
    kept: array[int],
    torn: list[RejectedRow],
    types: Mapping[str, str],
    *,
    n_header_lines: int,
    path: Path,
) -> None:
    """Give every parsed row the number of its line, and list the lines that were not parsed."""
    # DuckDB reports a line once per column; a wrong number of columns explains the wrong types that follow from it.
    complaints = engine.rows(
        "SELECT line, error_type = 'CAST', column_name, error_message, csv_line FROM reject_errors "
        "QUALIFY row_number() OVER (PARTITION BY line ORDER BY error_type = 'CAST', column_idx) = 1"
    )
    at = np.array([int(str(line)) - 1 for line, *_ in complaints], dtype=np.int64)  # index into `kept`
    for line, is_wrong_type, column, message, whole in complaints:
        number, why, shown = kept[int(str(line)) - 1], str(message).splitlines()[0], str(whole)
        if is_wrong_type:
            value = _WRONG_VALUE.search(str(message))
            why, shown = f"{column} is not {_called(types[str(column)])}", value[1] if value else shown
        else:
            why = f"torn line: {why}"
        torn.append(RejectedRow(number, why, shown))
    engine.run("DROP TABLE reject_errors; DROP TABLE reject_scans")
    lines = np.delete(np.asarray(kept, dtype=np.int64), np.concatenate([np.arange(n_header_lines), at]))
    (n_parsed,) = engine.wholes(f"SELECT count(*) FROM {name}_parsed")
    if n_parsed != len(lines):
        raise LogError(
            f"{path}: {len(lines)} lines look whole, but {n_parsed} rows came out of them; "
            "write it with one line per row and fields in double quotes where they hold the delimiter"
        )
    engine.keep(f"{name}_lines", arrow.table_of({"_parsed": np.arange(1, n_parsed + 1), "_line": lines}))
    engine.run(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * EXCLUDE (_parsed) FROM {name}_parsed "
        f"JOIN {name}_lines USING (_parsed); DROP TABLE {name}_parsed; DROP TABLE {name}_lines"
    )
    if torn:
        engine.keep(
            "torn_lines",
            arrow.table_of(
                {
                    "line": [row.line for row in torn],
                    "reason": [row.reason for row in torn],
                    "shown": [row.shown for row in torn],
                }
            ),
        )
        engine.run(f"INSERT INTO {REJECTED} FROM torn_lines; DROP TABLE torn_lines")


def _called(kind: str) -> str:
    """A type of DuckDB in words."""
    return "a number" if kind in ("DOUBLE", "BIGINT") else "true or false" if kind == "BOOLEAN" else f"a {kind}"


def _set_torn_lines_aside(path: Path, copy: Path, *, quoting: bool) -> tuple[array[int], list[RejectedRow], str]:
    """Copy the good lines; answers their numbers, the torn ones, and the first good line."""
    kept = array("q")
    torn: list[RejectedRow] = []
    first = ""
    try:
        with _opened(path) as source, copy.open("wb") as target:
            for number, line in enumerate(source, 1):
                body = line.rstrip(b"\r\n")
                if number == 1:
                    body = body.removeprefix(_BYTE_ORDER_MARK)
                if not body:
                    continue
                if complaint := _complaint(body, quoting):
                    torn.append(RejectedRow(number, complaint, body[:200].decode(errors="replace")))
                    continue
                if not kept:
                    first = body.decode()
                kept.append(number)
                target.write(body)
                target.write(b"\n")
    except (OSError, EOFError, zlib.error) as error:
        raise LogError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return kept, torn, first


def _complaint(line: bytes, quoting: bool) -> str:
    """Why a line cannot be parsed on its own; empty where it can."""
    if not line.isascii():
        try:
            line.decode()
        except UnicodeDecodeError:
            return "not UTF-8"
    if b"\0" in line:
        return "torn line: holds a zero byte"
    if quoting and line.count(b'"') % 2:
        return "torn line: a quote is opened and not closed"
    return ""


def _opened(path: Path) -> BinaryIO | gzip.GzipFile:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP_MAGIC
    return gzip.open(path, "rb") if packed else path.open("rb")


def _header(line: str, delimiter: str, path: Path) -> tuple[str, ...]:
    try:
        names = tuple(name.strip() for name in next(csv.reader([line], delimiter=delimiter)))
    except csv.Error as error:
        raise LogError(f"{path}: its first line is no header ({error}); end lines with \\n or \\r\\n") from None
    for name, count in Counter(name.lower() for name in names).items():
        if count > 1 or not name:
            raise LogError(f'{path}: the header names "{name}" {count} times; give each column a name of its own')
    return names


def _guessed_types(engine: Engine, copy: Path, delimiter: str) -> dict[str, str]:
    sniffed = f"read_csv({text(str(copy))}, delim = {text(delimiter)}, header = true, ignore_errors = true)"
    return engine.columns(f"(SELECT * FROM {sniffed})")
