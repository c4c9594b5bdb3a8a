"""One piece of an item catalogue: up to 1 024 entity ids and their rows, packed.

    offset  size  field
         0     2  magic, ASCII "CK"
         2     1  layout, 1
         3     1  flags, 0
         4     4  n_rows
         8     4  row_bytes, size of each row
        12     4  ids_bytes, size of all ids together
        16        uint32 x n_rows, where each id ends, counted from the first id's start
                  ids, UTF-8, end to end
                  rows as in `codec.py`, end to end

Little-endian. Reading a million items is then a thousand values and a few copies. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from feature_store.errors import CodecError
from feature_store.online.codec import decode_packed, row_bytes
from feature_store.rows import Rows
from feature_store.schema import FeatureView

CHUNK_ROWS = 1024
MAGIC = b"CK"
LAYOUT = 1
_HEADER = struct.Struct("<2sBBIII")


def encode_chunk(view: FeatureView, entity_ids: Sequence[str], values: Sequence[bytes]) -> bytes:
    """The stored value of a chunk; values[i] is the encoded row of entity_ids[i]."""
    texts = [text.encode() for text in entity_ids]
    ends = np.cumsum([len(text) for text in texts], dtype="<u4")
    header = _HEADER.pack(MAGIC, LAYOUT, 0, len(texts), row_bytes(view), sum(map(len, texts)))
    return b"".join([header, ends.tobytes(), *texts, *values])


def decode_chunk(view: FeatureView, chunk: bytes) -> tuple[list[str], Rows]:
    """Entity ids and rows, in stored order.

    Raises:
        CodecError: the bytes are not a layout-1 chunk of this view.
    """
    if len(chunk) < _HEADER.size:
        raise _wrong_chunk(view, f"{len(chunk)} bytes, a chunk has at least {_HEADER.size}")
    magic, layout, flags, n_rows, size, ids_bytes = _HEADER.unpack_from(chunk)
    if (magic, layout, flags) != (MAGIC, LAYOUT, 0):
        raise _wrong_chunk(view, f"magic {magic!r}, layout {layout}, flags {flags}; expected {MAGIC!r}, {LAYOUT}, 0")
    if size != row_bytes(view):
        raise _wrong_chunk(view, f"rows of {size} bytes, the view has {row_bytes(view)}")
    ids_at = _HEADER.size + 4 * n_rows
    rows_at = ids_at + ids_bytes
    if len(chunk) != rows_at + n_rows * size:
        raise _wrong_chunk(view, f"{len(chunk)} bytes, its header says {rows_at + n_rows * size}")
    ends = np.frombuffer(chunk, "<u4", n_rows, _HEADER.size).tolist()
    if ends != sorted(ends) or (ends[-1] if ends else 0) != ids_bytes:
        raise _wrong_chunk(view, f"ids that do not end where they should, at {ids_bytes}")
    try:
        entity_ids = [chunk[ids_at + a : ids_at + b].decode() for a, b in zip([0, *ends], ends, strict=False)]
    except UnicodeDecodeError as error:
        raise _wrong_chunk(view, f"an id that is not UTF-8: {error}") from None
    return entity_ids, decode_packed(view, memoryview(chunk)[rows_at:])


def _wrong_chunk(view: FeatureView, found: str) -> CodecError:
    return CodecError(f"view {view.name!r}: a catalogue chunk has {found}; materialize the view again")
