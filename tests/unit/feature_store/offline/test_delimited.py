"""Text files: one line is one row, and every line is accounted for."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from feature_store.errors import LogError
from feature_store.offline.delimited import Dialect, load_delimited
from feature_store.offline.engine import Engine
from feature_store.offline.rejects import Rejects, take_rejects

PLAIN = Dialect()


def load(content: bytes, folder: Path, dialect: Dialect = PLAIN) -> tuple[list[tuple[object, ...]], Rejects]:
    path = folder / "log.csv"
    path.write_bytes(content)
    with Engine() as engine:
        load_delimited(engine, path, "raw", workdir=folder / "work", types={"n": "DOUBLE"}, dialect=dialect)
        return engine.rows("FROM raw ORDER BY _line"), take_rejects(engine, "line", folder / "rejected.csv")


def test_torn_lines_are_told_with_their_number_and_cost_nobody_else(tmp_path: Path) -> None:
    """A quote that is never closed must not swallow the rows after it."""
    rows, rejects = load(
        b'name,n\na,1\n"torn,2\n\ntoo,many,fields\nfew\nb\xff,3\nc,x\nzero\0,4\n"d, e",5\r\nlast,6',
        tmp_path,
    )

    assert rows == [("a", 1.0, 2), ("d, e", 5.0, 10), ("last", 6.0, 11)]
    assert [row.line for row in rejects.first] == [3, 5, 6, 7, 8, 9]
    assert [row.reason.split(". ")[0] for row in rejects.first] == [
        "torn line: a quote is opened and not closed",
        "torn line: Expected Number of Columns: 2 Found: 3",
        "torn line: Expected Number of Columns: 2 Found: 1",
        "not UTF-8",
        "n is not a number",
        "torn line: holds a zero byte",
    ]
    assert rejects.first[4].shown == "x"
    assert rejects.report is not None
    assert len(rejects.report.read_text(encoding="utf-8").splitlines()) == 7


def test_line_numbers_hold_in_a_long_file(tmp_path: Path) -> None:
    """DuckDB parses large files in parallel; the number of a torn line must not depend on who met it."""
    lines = [f"row{i},{i}" for i in range(300_000)]
    torn = [17, 150_000, 299_998]
    for i in torn:
        lines[i] = "torn"

    rows, rejects = load("\n".join(["name,n", *lines]).encode(), tmp_path)

    assert [row.line for row in rejects.first] == [i + 2 for i in torn]
    assert len(rows) == 300_000 - 3
    assert all(row == (f"row{row[2] - 2}", row[2] - 2, row[2]) for row in rows)  # type: ignore[operator]


def test_only_ten_are_shown_and_all_are_listed(tmp_path: Path) -> None:
    """A screen full of torn lines helps nobody; a file does."""
    rows, rejects = load(b"name,n\n" + b"torn\n" * 25 + b"a,1\n", tmp_path)

    assert len(rows) == 1
    assert rejects.n == 25
    assert len(rejects.first) == 10
    assert rejects.described().splitlines()[0] == "25 lines rejected:"
    assert str(tmp_path / "rejected.csv") in rejects.described()


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_the_delimiter_is_the_one_the_header_holds(tmp_path: Path, delimiter: str) -> None:
    """Nobody should have to say what the first line already says."""
    rows, _ = load(f"name{delimiter}n\na{delimiter}1\n".encode(), tmp_path)

    assert rows == [("a", 1.0, 2)]


def test_a_file_without_header_or_quotes_is_read_as_told(tmp_path: Path) -> None:
    """In the Criteo format a quote is a character like any other."""
    dialect = Dialect(delimiter="\t", header=("name", "n"), quoting=False)

    rows, rejects = load(b'"a\t1\n\t\n', tmp_path, dialect)

    assert rows == [('"a', 1.0, 1), (None, None, 2)]
    assert rejects.n == 0


def test_gzip_and_a_byte_order_mark_are_recognised(tmp_path: Path) -> None:
    """By their bytes, whatever the file is called."""
    rows, _ = load(gzip.compress(b"\xef\xbb\xbfname,n\na,1\n"), tmp_path)

    assert rows == [("a", 1.0, 2)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "holds no line of text"),
        (b"\n\n", "holds no line of text"),
        ("name,n".encode("utf-16"), "line 1: not UTF-8, and nothing could be read before it"),
        (b'"name,n\na,1\n', "line 1: torn line: a quote is opened and not closed, and nothing"),
        (b"name,\0n\na,1\n", "line 1: torn line: holds a zero byte, and nothing could be read before it"),
        (b"name,n\ra,1\rb,2\r", r"its first line is no header \(new-line character seen in unquoted field"),
        (b"name," + b"n" * 200_000 + b"\na,1\n", r"its first line is no header \(field larger than field limit"),
        (b"a,A\n1,2\n", 'the header names "a" 2 times'),
        (gzip.compress(b"name,n\n" * 1000, mtime=0)[:40], "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    """With the reason, and never as an empty log."""
    with pytest.raises(LogError, match=expected):
        load(content, tmp_path)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """The copy of the good lines is as large as the log itself."""
    load(b"name,n\na,1\n", tmp_path)

    assert list((tmp_path / "work").iterdir()) == []
