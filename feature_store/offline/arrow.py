"""Arrow columns become NumPy arrays: the one module that touches pyarrow, which ships no type information.

Categorical columns are factorised first, so that a value is hashed once per batch and not once per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.errors import LogError
from feature_store.ids import MISSING_ID, hash_ids
from feature_store.ngrams import ngram_vectors

Table = Any
"""A `pyarrow.Table` or `pyarrow.RecordBatch`."""


def int64s(table: Table, name: str) -> npt.NDArray[np.int64]:
    """(n,) whole numbers; the column holds no nulls."""
    return np.asarray(_column(table, name), dtype=np.int64)


def float64s(table: Table, name: str) -> npt.NDArray[np.float64]:
    """(n,) numbers in full precision; the column holds no nulls."""
    return np.asarray(_column(table, name), dtype=np.float64)


def bools(table: Table, name: str) -> npt.NDArray[np.bool_]:
    """(n,) truth values; the column holds no nulls."""
    return np.asarray(_column(table, name), dtype=np.bool_)


def texts(table: Table, name: str) -> list[Any]:
    """n texts, None where the column holds null."""
    values: list[Any] = _column(table, name).to_pylist()
    return values


def numbers(table: Table, name: str, width: int) -> npt.NDArray[np.float32]:
    """(n, width) float32 of a number column, or of a list column whose lists all have `width` numbers; null is NaN."""
    column = _column(table, name)
    if not (pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)):
        return np.asarray(column.cast(pa.float32()).to_numpy(zero_copy_only=False)).reshape(-1, 1)
    present = np.asarray(column.is_valid())
    matrix = np.full((len(column), width), np.nan, dtype=np.float32)
    matrix[present] = column.flatten().cast(pa.float32()).to_numpy(zero_copy_only=False).reshape(-1, width)
    return matrix


def int64_lists(table: Table, name: str, width: int) -> npt.NDArray[np.int64]:
    """(n, width) whole numbers of a list column whose lists all have `width`; no nulls."""
    column = _column(table, name)
    return np.asarray(column.flatten().cast(pa.int64())).reshape(len(column), width)


def hashes(table: Table, name: str, seed: int) -> npt.NDArray[np.uint32]:
    """(n,) uint32 hashes of a categorical column; null is 0."""
    codes, values = factorised(table, name)
    return np.append(hash_ids(values, seed), np.uint32(MISSING_ID))[codes]  # code -1 picks the last


def text_vectors(table: Table, name: str, sizes: Sequence[int], width: int, seed: int) -> npt.NDArray[np.float32]:
    """(n, width) float32: the hashed n-grams of a text column; null is NaN."""
    codes, values = factorised(table, name)
    return ngram_vectors([*values, None], sizes, width, seed)[codes]  # code -1 picks the last


def factorised(table: Table, name: str) -> tuple[npt.NDArray[np.int32], list[Any]]:
    """(n,) codes and the distinct values they index; code -1 where the column holds null."""
    encoded = pc.dictionary_encode(_column(table, name))
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return codes, encoded.dictionary.to_pylist()


def parquet_columns(path: Path) -> list[str]:
    """Names of a Parquet file's columns, as they stand in it.

    Raises:
        LogError: it is no Parquet file, or a damaged one.
    """
    try:
        names: list[str] = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise LogError(f"{path} cannot be read as Parquet: {error}") from None
    return names


def parquet_types(path: Path) -> dict[str, str]:
    """What kind of values each column of a Parquet file holds, in words; widths do not matter.

    Raises:
        LogError: as `parquet_columns`.
    """
    try:
        return {field.name: _kind(field.type) for field in pq.read_schema(path)}
    except (pa.ArrowException, OSError) as error:
        raise LogError(f"{path} cannot be read as Parquet: {error}") from None


def _kind(dtype: Any) -> str:
    if pa.types.is_dictionary(dtype):
        return _kind(dtype.value_type)
    for of_kind, kind in _KINDS:
        if of_kind(dtype):
            return kind
    return str(dtype)


_KINDS = (
    (pa.types.is_null, "nothing"),
    (pa.types.is_integer, "whole numbers"),
    (pa.types.is_floating, "numbers with a point"),
    (pa.types.is_string, "text"),
    (pa.types.is_large_string, "text"),
    (pa.types.is_timestamp, "timestamps"),
)


def parquet_about(path: Path) -> dict[str, str]:
    """What a Parquet file says of itself: its key-value metadata.

    Raises:
        LogError: it is no Parquet file, or a damaged one.
    """
    try:
        about: dict[bytes, bytes] | None = pq.read_schema(path).metadata
    except (pa.ArrowException, OSError) as error:
        raise LogError(f"{path} cannot be read as Parquet: {error}") from None
    return {key.decode(): value.decode() for key, value in (about or {}).items()}


def table_of(columns: dict[str, npt.NDArray[Any] | list[Any]]) -> Table:
    """A table from arrays of equal length."""
    return pa.table(columns)


def _column(table: Table, name: str) -> Any:
    column = table.column(name)
    if isinstance(column, pa.ChunkedArray):
        return column.combine_chunks()
    return column
