"""From ad id to row number: a hash table in three plain arrays, so that workers can share one that lies on disk.

The arrays are described in `_id_index.c`, which fills and reads them. Where that extension is not compiled, the Python
in this file fills them with the same bytes, and reads by a dictionary made from the texts; `COMPILED` says which one
runs. One test suite holds for both. The hash is XXH64 with seed 0: it finds ids, it does not resist somebody who picks
ids that collide; whoever writes the catalogue is trusted.
Cost: 16 to 32 bytes of slots an id besides its text. Reading goes in blocks whose waits for memory overlap; see
`python -m loadtest.micro.online_store` for the nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, repeat

import numpy as np
import numpy.typing as npt
import xxhash

try:
    from feature_store.online import _id_index
except ImportError:  # no compiler where it was installed
    COMPILED = False
else:
    COMPILED = True

Indices = npt.NDArray[np.int64]

ENCODE_IDS = 4_096
"""Ids that one C call handles while it holds the interpreter: about 0.3 ms."""
SELECT_IDS = 65_536
"""Ids that are copied together: their byte numbers take 8 times the room of the bytes."""
MAX_BLOB_BYTES = 2**32 - 1
"""Offsets are uint32."""


class DuplicateId(ValueError):
    """An id stands in the list twice."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(f"the id {text!r} comes twice")


@dataclass(frozen=True, slots=True)
class IdIndex:
    """n distinct ids, numbered in order."""

    slots: npt.NDArray[np.uint64]
    """(power of two, at least 2n) see `_id_index.c`."""
    offsets: npt.NDArray[np.uint32]
    """(n + 1,) where each id begins in the blob, and where the last one ends."""
    blob: npt.NDArray[np.uint8]
    """All ids, UTF-8, end to end."""
    compiled: bool = COMPILED
    """Whether the extension reads it, or the dictionary below."""
    _row_of: dict[str, int] = field(default_factory=dict, repr=False)
    """The ids and their rows; empty where the extension reads."""

    def __post_init__(self) -> None:
        if not self.compiled:
            self._row_of.update((text, row) for row, text in enumerate(self.texts()))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lookup_into(self, ids: Sequence[str], unknown: int, out: Indices) -> int:
        """Writes the row of each id into `out` (n,), `unknown` where there is none; returns how many are unknown.

        Raises:
            TypeError: something in `ids` is not text.
            ValueError: `out` has another length, or the arrays are damaged.
        """
        if self.compiled:
            return _id_index.lookup(ids, self.slots, self.offsets, self.blob, unknown, out)
        if len(out) != len(ids):
            raise ValueError(f"out must have one place for each of {len(ids)} ids; it has {len(out)}")
        out[:] = np.fromiter(map(self._row_of.get, ids, repeat(-1)), np.int64, len(ids))
        missed = np.flatnonzero(out == -1)
        for at in missed.tolist():
            if not isinstance(ids[at], str):
                raise TypeError(f"ids must be text, got {type(ids[at]).__name__}")
        out[missed] = unknown
        return len(missed)

    def lookup(self, ids: Sequence[str], unknown: int) -> Indices:
        """(n,) row of each id, `unknown` where there is none. For long lists: other threads get their turns."""
        rows = np.empty(len(ids), dtype=np.int64)
        for start in range(0, len(ids), ENCODE_IDS):
            part = slice(start, start + ENCODE_IDS)
            self.lookup_into(ids[part], unknown, rows[part])
        return rows

    def texts(self) -> Iterator[str]:
        """All ids, by row."""
        ends = self.offsets.tolist()
        blob = self.blob.tobytes()
        return (blob[start:end].decode() for start, end in pairwise(ends))

    def select(self, rows: Indices) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """The blob of these rows' ids and the size of each, for another index."""
        starts = self.offsets[rows].astype(np.int64)
        sizes = self.offsets[rows + 1] - starts
        blobs = [
            self._texts_of(starts[part : part + SELECT_IDS], sizes[part : part + SELECT_IDS])
            for part in range(0, len(rows), SELECT_IDS)
        ]
        return np.concatenate([np.empty(0, dtype=np.uint8), *blobs]), sizes

    def _texts_of(self, starts: Indices, sizes: Indices) -> npt.NDArray[np.uint8]:
        ends = np.cumsum(sizes)
        # Byte k of the new blob lies as far from its id's start as it does in the old one.
        picked: npt.NDArray[np.uint8] = self.blob[np.arange(ends[-1]) + np.repeat(starts - (ends - sizes), sizes)]
        return picked


def let_go(ids: list[str]) -> None:
    """Empties a long list in parts: freeing a million texts in one go holds the interpreter for 9 ms."""
    while ids:
        del ids[-ENCODE_IDS:]


def build_id_index(ids: Sequence[str], *, compiled: bool = COMPILED) -> IdIndex:
    """An index of distinct ids, row i for ids[i]. Raises as `index_of_blob` does."""
    blobs = [np.empty(0, dtype=np.uint8)]
    sizes = np.empty(len(ids), dtype=np.int64)
    for start in range(0, len(ids), ENCODE_IDS):
        part = [text.encode() for text in ids[start : start + ENCODE_IDS]]
        sizes[start : start + len(part)] = [len(text) for text in part]
        blobs.append(np.frombuffer(b"".join(part), dtype=np.uint8))
    return index_of_blob(np.concatenate(blobs), sizes, compiled=compiled)


def index_of_blob(blob: npt.NDArray[np.uint8], sizes: npt.NDArray[np.int64], *, compiled: bool = COMPILED) -> IdIndex:
    """An index of the ids that lie end to end in a blob, `sizes` (n,) bytes each.

    Raises:
        DuplicateId: an id comes twice.
        ValueError: the texts together are larger than 4 GiB.
    """
    if len(blob) > MAX_BLOB_BYTES:
        raise ValueError(f"ids of {len(blob)} bytes together; an index holds up to {MAX_BLOB_BYTES}")
    offsets = np.zeros(len(sizes) + 1, dtype=np.uint32)
    np.cumsum(sizes, out=offsets[1:], dtype=np.uint32)
    slots = np.zeros(1 << (max(2, 2 * len(sizes)) - 1).bit_length(), dtype=np.uint64)
    twice = _id_index.build(slots, offsets, blob) if compiled else _fill(slots, offsets, blob)
    if twice >= 0:
        raise DuplicateId(bytes(blob[offsets[twice] : offsets[twice + 1]]).decode())
    return IdIndex(slots, offsets, blob, compiled)


def _fill(slots: npt.NDArray[np.uint64], offsets: npt.NDArray[np.uint32], blob: npt.NDArray[np.uint8]) -> int:
    """What `_id_index.build` does, byte for byte."""
    ends, text = offsets.tolist(), blob.tobytes()
    mask = len(slots) - 1
    seen: set[bytes] = set()
    taken: dict[int, int] = {}
    for row, (start, end) in enumerate(pairwise(ends)):
        word = text[start:end]
        if word in seen:
            return row
        seen.add(word)
        code = xxhash.xxh64_intdigest(word)
        at = code & mask
        while at in taken:
            at = (at + 1) & mask
        taken[at] = code >> 32 << 32 | (row + 1)
    slots[list(taken)] = list(taken.values())
    return -1
