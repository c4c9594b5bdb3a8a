"""Parquet, as much of it as the served log needs: written with NumPy and zlib, read by every Parquet reader.

The serving image holds neither pyarrow (170 MB) nor DuckDB (69 MB), and importing either would take the
memory of every worker and the interpreter for tenths of a second. What the log writes is flat and known beforehand, and
that part of the format is small: one page per column and row group, plain numbers, texts through a dictionary, lists of
one width, gzip (zlib lets go of the interpreter meanwhile). Tests read it with pyarrow and DuckDB.

A file is the magic, the pages in the order they come, a description of all of them (Thrift, compact protocol), its
length, the magic. Source: apache/parquet-format, `parquet.thrift` and `Encodings.md`.
Cost: 16 384 rows of 40 numbers 40 to 90 ms, most of it deflating; 75 bytes a row.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

MAGIC = b"PAR1"
_LEVEL = 1
"""Of zlib: the same user in a hundred rows is found at any level, and 6 takes three times as long."""
_GZIP_WINDOW = 31
"""zlib's number for the gzip form."""

Kind = Literal["int32", "int64", "float32", "float64", "text"]
Integers = npt.NDArray[np.integer[Any]]
_PHYSICAL: dict[Kind, int] = {"int32": 1, "int64": 2, "float32": 4, "float64": 5, "text": 6}
_UTF8, _LIST = 0, 3
_REQUIRED, _OPTIONAL, _REPEATED = 0, 1, 2
_PLAIN, _RLE, _RLE_DICTIONARY = 0, 3, 8
_GZIP = 2
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2


class Column(NamedTuple):
    """One column: a value of every row, or (`is_list`) equally many values of every row of a row group."""

    name: str
    kind: Kind
    is_list: bool = False
    is_optional: bool = False
    """Whether rows may lack the value; a list never does."""


class Texts(NamedTuple):
    """A text column: its distinct values, and which of them each row has."""

    values: Sequence[str]
    codes: Integers
    """(n,) places in `values`; -1 where a row has none."""


class Numbers(NamedTuple):
    """A number column of which rows may lack the value."""

    values: npt.NDArray[Any]
    """(n,)"""
    present: npt.NDArray[np.bool_]
    """(n,)"""


Values = npt.NDArray[Any] | Texts | Numbers
"""(n,) numbers, (n, w) numbers of a list column, or one of the others."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Where one column of one row group lies."""

    column: Column
    n_values: int
    dictionary_at: int | None
    data_at: int
    size: int
    plain_size: int


class ParquetFile:
    """A file that is written row group by row group; it can be read once `finish` has returned."""

    def __init__(self, file: BinaryIO, columns: Sequence[Column], about: Mapping[str, str]) -> None:
        """Begins the file. `about` are texts on the whole of it, Parquet's key-value metadata."""
        self._file = file
        self._columns = tuple(columns)
        self._about = dict(about)
        self._groups: list[tuple[int, list[_Chunk]]] = []
        self._at = 0
        self._write(MAGIC)

    @property
    def size_bytes(self) -> int:
        """Written so far."""
        return self._at

    def add(self, values: Mapping[str, Values]) -> None:
        """Writes one row group, of one row or more.

        Raises:
            ValueError: a column is missing, or columns have different numbers of rows.
            OSError: the disk does not take it.
        """
        n_rows = {name: _n_rows(column) for name, column in values.items()}
        if n_rows.keys() != {column.name for column in self._columns} or len(set(n_rows.values())) != 1:
            raise ValueError(f"a row group needs equally many rows of each column, got {n_rows}")
        chunks = [self._chunk(column, values[column.name]) for column in self._columns]
        self._groups.append((n_rows[self._columns[0].name], chunks))

    def finish(self) -> None:
        """Writes the description of all that was added. Raises OSError where the disk does not take it."""
        described = self._description()
        self._write(described + struct.pack("<I", len(described)) + MAGIC)

    def _chunk(self, column: Column, values: Values) -> _Chunk:
        """Writes the pages of one column."""
        start, plain_size, dictionary_at = self._at, 0, None
        if isinstance(values, Texts):
            dictionary_at = self._at
            encoded = [text.encode() for text in values.values]
            words = b"".join([part for word in encoded for part in (struct.pack("<I", len(word)), word)])
            head = _fields((1, _I32, len(encoded)), (2, _I32, _PLAIN))
            plain_size += self._page(_DICTIONARY_PAGE, 7, head, words)
            present = values.codes >= 0
            content = (_levels(present) if column.is_optional else b"") + _codes(values.codes[present], len(encoded))
            n_values, encoding = len(values.codes), _RLE_DICTIONARY
        else:
            n_values, encoding = _n_rows(values), _PLAIN
            if isinstance(values, Numbers):
                content = _levels(values.present) + _plain(column, values.values[values.present])
            elif column.is_list:
                width = max(1, values.shape[1])  # an empty list is one place without a value
                n_values = len(values) * width
                begins = np.arange(n_values) % width == 0
                content = _levels(~begins) + _levels(np.full(n_values, values.shape[1] > 0)) + _plain(column, values)
            else:
                content = _plain(column, values)
        data_at = self._at
        head = _fields((1, _I32, n_values), (2, _I32, encoding), (3, _I32, _RLE), (4, _I32, _RLE))
        plain_size += self._page(_DATA_PAGE, 5, head, content)
        return _Chunk(column, n_values, dictionary_at, data_at, self._at - start, plain_size)

    def _page(self, kind: int, head_field: int, head: bytes, content: bytes) -> int:
        """Writes one page; answers its size before deflating."""
        deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
        packed = deflate.compress(content) + deflate.flush()
        header = _fields((1, _I32, kind), (2, _I32, len(content)), (3, _I32, len(packed)), (head_field, _STRUCT, head))
        self._write(header)
        self._write(packed)
        return len(header) + len(content)

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._at += len(content)

    def _description(self) -> bytes:
        schema = [_fields((4, _TEXT, "served"), (5, _I32, len(self._columns)))]
        for column in self._columns:
            schema += _schema_of(column)
        about = [_fields((1, _TEXT, key), (2, _TEXT, value)) for key, value in self._about.items()]
        groups = [
            _fields(
                (1, _STRUCTS, [_chunk_of(chunk) for chunk in chunks]),
                (2, _I64, sum(chunk.plain_size for chunk in chunks)),
                (3, _I64, n_rows),
            )
            for n_rows, chunks in self._groups
        ]
        n_rows = sum(n for n, _ in self._groups)
        return _fields(
            (1, _I32, 1), (2, _STRUCTS, schema), (3, _I64, n_rows), (4, _STRUCTS, groups), (5, _STRUCTS, about)
        )


def _n_rows(values: Values) -> int:
    if isinstance(values, Texts):
        return len(values.codes)
    return len(values.values) if isinstance(values, Numbers) else len(values)


def _plain(column: Column, values: npt.NDArray[Any]) -> bytes:
    """Numbers one after the other, little-endian, in the column's type."""
    return np.ascontiguousarray(values, dtype=np.dtype(column.kind).newbyteorder("<")).tobytes()


def _levels(is_one: npt.NDArray[np.bool_]) -> bytes:
    """Levels 0 and 1 with their length before them."""
    runs = _runs(is_one.astype(np.uint8), 1)
    return struct.pack("<I", len(runs)) + runs


def _codes(codes: Integers, n_words: int) -> bytes:
    """Places in a dictionary."""
    width = max(1, (n_words - 1).bit_length())
    return bytes([width]) + _runs(codes, width)


def _runs(values: Integers, width: int) -> bytes:
    """Small numbers of `width` bits as one run: repeated where all are alike, else packed, in eights."""
    if not len(values):
        return b""
    if (values == values[0]).all():
        return _varint(len(values) << 1) + int(values[0]).to_bytes((width + 7) // 8, "little")
    n_eights = (len(values) + 7) // 8
    padded = np.zeros(n_eights * 8, dtype=np.int64)
    padded[: len(values)] = values
    bits = (padded[:, None] >> np.arange(width)) & 1
    return _varint(n_eights << 1 | 1) + np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def _schema_of(column: Column) -> list[bytes]:
    """A column's elements of the schema; a list is three deep, as the format wants it."""
    converted = ((6, _I32, _UTF8),) if column.kind == "text" else ()
    kind = (1, _I32, _PHYSICAL[column.kind])
    if not column.is_list:
        repetition = _OPTIONAL if column.is_optional else _REQUIRED
        return [_fields(kind, (3, _I32, repetition), (4, _TEXT, column.name), *converted)]
    return [
        _fields((3, _I32, _REQUIRED), (4, _TEXT, column.name), (5, _I32, 1), (6, _I32, _LIST)),
        _fields((3, _I32, _REPEATED), (4, _TEXT, "list"), (5, _I32, 1)),
        _fields(kind, (3, _I32, _REQUIRED), (4, _TEXT, "element"), *converted),
    ]


def _chunk_of(chunk: _Chunk) -> bytes:
    """The description of a column chunk."""
    column = chunk.column
    path = [column.name, "list", "element"] if column.is_list else [column.name]
    encodings = [_PLAIN, _RLE] if chunk.dictionary_at is None else [_PLAIN, _RLE, _RLE_DICTIONARY]
    fields: list[_Field] = [
        (1, _I32, _PHYSICAL[column.kind]),
        (2, _I32S, encodings),
        (3, _TEXTS, path),
        (4, _I32, _GZIP),
        (5, _I64, chunk.n_values),
        (6, _I64, chunk.plain_size),
        (7, _I64, chunk.size),
        (9, _I64, chunk.data_at),
    ]
    if chunk.dictionary_at is not None:
        fields.append((11, _I64, chunk.dictionary_at))
    start = chunk.data_at if chunk.dictionary_at is None else chunk.dictionary_at
    return _fields((2, _I64, start), (3, _STRUCT, _fields(*fields)))


# Thrift's compact protocol: a field is its distance from the last one and its type in one byte, then the value.

_I32, _I64, _TEXT, _STRUCT, _I32S, _TEXTS, _STRUCTS = range(7)
_WIRE_TYPES = {_I32: 5, _I64: 6, _TEXT: 8, _STRUCT: 12, _I32S: 9, _TEXTS: 9, _STRUCTS: 9}
_LISTED = {_I32S: _I32, _TEXTS: _TEXT, _STRUCTS: _STRUCT}

_Field = tuple[int, int, Any]
"""Number, one of the kinds above, value."""


def _fields(*fields: _Field) -> bytes:
    """A struct; its fields in ascending order, less than 16 apart."""
    written, last = bytearray(), 0
    for number, kind, value in fields:
        written.append((number - last) << 4 | _WIRE_TYPES[kind])
        last = number
        if kind in _LISTED:
            item = _LISTED[kind]
            n = len(value)
            written += bytes([n << 4 | _WIRE_TYPES[item]]) if n < 15 else bytes([0xF0 | _WIRE_TYPES[item]]) + _varint(n)
            for one in value:
                written += _value(item, one)
        else:
            written += _value(kind, value)
    written.append(0)
    return bytes(written)


def _value(kind: int, value: Any) -> bytes:
    if kind == _STRUCT:
        struct_bytes: bytes = value
        return struct_bytes
    if kind == _TEXT:
        encoded = str(value).encode()
        return _varint(len(encoded)) + encoded
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
