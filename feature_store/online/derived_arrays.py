"""What a score plan computes from every ad ahead of time: made once for a base, then mapped by every worker.

A derived array lies beside the base that it was made from, so the two can never be of different versions; its key names
the computation. It is written aside in chunks and renamed, and then described by a small file with its checksum.
Where the disk takes nothing, or somebody else is too long about it, the array is this process's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from feature_store.online.array_files import checksum, flush, mapped, write_whole
from feature_store.online.item_base import ItemBase
from feature_store.online.item_table import Compute
from feature_store.online.process_lock import process_lock

CHUNK_ROWS = 1_024
WAIT_S = 30.0
"""How long another process may take for the array before this one makes its own."""
_KEY = re.compile(r"[A-Za-z0-9._-]{1,128}")


class _Described(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a derived file must be."""

    shape: tuple[int, int]
    dtype: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Derivation:
    """A computation over every row."""

    key: str
    """Names it, and what it depends on: other code or another model must have another key."""
    width: int
    dtype: np.dtype[Any]
    compute: Compute

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ValueError(f"a key becomes a file's name: 1 to 128 of A-Z a-z 0-9 . _ -; got {self.key!r}")

    def size_bytes(self, base: ItemBase) -> int:
        """Of the array for a base."""
        return (len(base) + 1) * self.width * self.dtype.itemsize

    def values(self, rows: slice, base: ItemBase) -> npt.NDArray[Any]:
        """Computed for some rows, and checked."""
        computed = self.compute(base.rows.floats[rows], base.rows.ids[rows])
        wanted = (len(base.rows.found[rows]), self.width)
        if computed.shape != wanted or computed.dtype != self.dtype:
            raise ValueError(
                f"derivation {self.key!r} computed {computed.dtype} {computed.shape}, not {self.dtype} {wanted}"
            )
        return computed


def derived_array(base: ItemBase, derivation: Derivation) -> npt.NDArray[Any]:
    """(n + 1, width) `compute` of every row of a base: mapped where the base is, else in memory."""
    if base.folder is None:
        return _in_memory(base, derivation)
    try:
        with process_lock(base.folder / "derived.lock", wait_s=WAIT_S) as held:
            found = _stored(base, derivation)
            if found is not None:
                return found
            if held:
                return _made(base, base.folder, derivation)
    except OSError:  # a full disk, or the folder was removed because a newer base took its place
        pass
    return _in_memory(base, derivation)


def _stored(base: ItemBase, derivation: Derivation) -> npt.NDArray[Any] | None:
    """The array on disk, None where there is none or it is not what it should be."""
    assert base.folder is not None
    path = _path(base.folder, derivation.key)
    wanted = (len(base) + 1, derivation.width)
    try:
        described = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=_Described)
        array = mapped(path)
    except (OSError, ValueError, msgspec.DecodeError):
        return None
    is_whole = described.shape == array.shape == wanted and described.checksum == checksum(path)
    return array if is_whole and array.dtype == derivation.dtype else None


def _made(base: ItemBase, folder: Path, derivation: Derivation) -> npt.NDArray[Any]:
    path = _path(folder, derivation.key)
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    shape = (len(base) + 1, derivation.width)
    header = {"descr": derivation.dtype.str, "fortran_order": False, "shape": shape}
    with aside.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in _chunks(base):
            file.write(np.ascontiguousarray(derivation.values(part, base)).data)
    flush(aside)
    described = _Described(shape=shape, dtype=derivation.dtype.str, checksum=checksum(aside))
    aside.replace(path)
    write_whole(path.with_suffix(".json"), msgspec.json.encode(described))
    return mapped(path)


def _in_memory(base: ItemBase, derivation: Derivation) -> npt.NDArray[Any]:
    array = np.empty((len(base) + 1, derivation.width), derivation.dtype)
    for part in _chunks(base):
        array[part] = derivation.values(part, base)
    return array


def _chunks(base: ItemBase) -> Iterator[slice]:
    return (slice(start, start + CHUNK_ROWS) for start in range(0, len(base) + 1, CHUNK_ROWS))


def _path(folder: Path, key: str) -> Path:
    return folder / f"derived-{key}.npy"
