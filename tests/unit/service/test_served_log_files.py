"""Files of the served log: what any Parquet reader finds in them, and which of them are there."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation import served_vectors
from service.served_log import files, rows
from service.served_log.files import OpenFile, file_name, finished_files, keep_within
from service.served_log.parquet import Column, Numbers, ParquetFile, Texts
from service.settings import ServedLogSettings
from tests.conftest import REPOSITORY

COLUMNS = (
    Column("number", "int64"),
    Column("maybe", "int32", is_optional=True),
    Column("word", "text"),
    Column("maybe_word", "text", is_optional=True),
    Column("vector", "float32", is_list=True),
    Column("hashes", "int64", is_list=True),
    Column("real", "float64"),
)
HOUR_MS = 3_600_000


def group(random: np.random.Generator, n: int, width: int, n_words: int) -> dict[str, Any]:
    """A row group of random values, the odd ones among them."""
    words = [f"wörd {i}" * (i % 3) + str(i) for i in range(n_words)]
    vector = random.normal(size=(n, width)).astype(np.float32)
    vector[random.random(vector.shape) < 0.2] = np.nan
    return {
        "number": random.integers(-(2**62), 2**62, n),
        "maybe": Numbers(random.integers(-(2**31), 2**31, n), random.random(n) < random.choice([0, 0.5, 1])),
        "word": Texts(words, random.integers(n_words, size=n)),
        "maybe_word": Texts(words, random.integers(-1, n_words, n)),
        "vector": vector,
        "hashes": random.integers(0, 2**32, (n, width // 2)),
        "real": random.normal(size=n) * 10.0 ** random.integers(-300, 300, n),
    }


def as_rows(values: dict[str, Any]) -> list[tuple[Any, ...]]:
    """A row group as Python has it, NaN as text because it equals nothing."""
    columns: list[list[Any]] = []
    for column in COLUMNS:
        value = values[column.name]
        if isinstance(value, Numbers):
            columns.append([v if there else None for v, there in zip(*map(np.ndarray.tolist, value), strict=True)])
        elif isinstance(value, Texts):
            columns.append([None if code < 0 else value.values[code] for code in value.codes.tolist()])
        else:
            columns.append(value.tolist())
    return [tuple(map(plain, row)) for row in zip(*columns, strict=True)]


def plain(value: Any) -> Any:
    return [str(v) for v in value] if isinstance(value, list) else value


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shapes=st.lists(st.tuples(st.integers(1, 70), st.integers(0, 5), st.integers(1, 40)), min_size=1, max_size=3),
)
def test_pyarrow_and_duckdb_read_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, seed: int, shapes: list[tuple[int, int, int]]
) -> None:
    """Our own writer is right when two readers that know nothing of it agree, value by value and bit by bit."""
    random = np.random.default_rng(seed)
    groups = [group(random, *shape) for shape in shapes]
    path = tmp_path_factory.mktemp("parquet") / "some.parquet"
    with path.open("wb") as file:
        written = ParquetFile(file, COLUMNS, {"about": "ä test"})
        for values in groups:
            written.add(values)
        written.finish()

    by_arrow = [tuple(map(plain, row.values())) for row in pq.read_table(path).to_pylist()]
    by_duckdb = [tuple(map(plain, row)) for row in duckdb.sql(f"FROM read_parquet('{path}')").fetchall()]

    expected = [row for values in groups for row in as_rows(values)]
    assert by_arrow == expected
    assert by_duckdb == expected
    assert pq.read_schema(path).metadata == {b"about": "ä test".encode()}
    assert written.size_bytes == path.stat().st_size


def test_columns_of_different_lengths_are_refused(tmp_path: Path) -> None:
    """They would be read as rows that never were."""
    values = group(np.random.default_rng(0), 5, 2, 3)
    with (tmp_path / "some.parquet").open("wb") as file:
        written = ParquetFile(file, COLUMNS, {})

        with pytest.raises(ValueError, match="equally many rows"):
            written.add({**values, "real": values["real"][:4]})


def test_a_file_that_is_not_finished_is_not_listed(tmp_path: Path) -> None:
    """Whatever happens to its writer: a name that readers look for is a whole file."""
    values = group(np.random.default_rng(0), 5, 2, 3)
    begun = OpenFile(tmp_path, file_name(1_000, 1), COLUMNS, {})
    begun.add(values, 5)

    listed = finished_files(tmp_path)
    begun.finish()

    assert listed == []
    (path,) = finished_files(tmp_path)
    assert pq.read_table(path).num_rows == 5


def test_a_full_disk_ends_in_an_error() -> None:
    """`/dev/full` takes nothing: the writer must say so rather than believe its buffer."""
    with pytest.raises(OSError, match="No space left"):
        write_to(Path("/dev/full"))


def write_to(path: Path) -> None:
    """Writes a file of one row group."""
    with path.open("wb") as file:
        written = ParquetFile(file, COLUMNS, {})
        written.add(group(np.random.default_rng(0), 5_000, 8, 30))
        written.finish()


def test_the_oldest_files_go_when_there_are_too_many(tmp_path: Path) -> None:
    """A log that fills the disk would take the service with it."""
    names = [file_name(begun_ms, 1) for begun_ms in (5_000, 20_000, 1_000, 1_700_000_000_000)]
    for name in names:
        (tmp_path / name).write_bytes(b"x" * 1_000)
    (tmp_path / "served.txt").write_bytes(b"x" * 10_000)

    keep_within(tmp_path, 2_500, now_ms=0)

    assert [path.name for path in finished_files(tmp_path)] == [names[1], names[3]]
    assert (tmp_path / "served.txt").exists()


def test_what_a_dead_process_began_goes_after_an_hour(tmp_path: Path) -> None:
    """A younger one may be of a worker that is alive."""
    now_ms = 1_800_000_000_000
    for name, age_ms in (("old", 2 * HOUR_MS), ("young", HOUR_MS // 2)):
        path = tmp_path / f".served-{name}.parquet.new"
        path.touch()
        os.utime(path, (0, (now_ms - age_ms) / 1000))

    keep_within(tmp_path, 1_000, now_ms)

    assert [path.name for path in tmp_path.iterdir()] == [".served-young.parquet.new"]


def test_writer_and_reader_speak_of_the_same_files() -> None:
    """They live on different floors, which may not import each other."""
    assert (served_vectors.LAYOUT, served_vectors.FINISHED) == (rows.LAYOUT, files.FINISHED)


def test_the_page_lists_every_column_and_setting() -> None:
    """It is what readers of the files go by."""
    page = (REPOSITORY / "docs/served-log.md").read_text()
    listed = re.findall(r"^\| `([a-z0-9_]+)` \| (?:text|int|float|list)", page, re.MULTILINE)
    described = re.findall(r"^\| `([a-z_]+)` \| [0-9n]", page, re.MULTILINE)

    assert listed == [column.name for column in rows.COLUMNS]
    assert described == [setting.name for setting in fields(ServedLogSettings)]
