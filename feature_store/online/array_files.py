"""NumPy arrays as files that are whole or not there, checked when they are opened, and mapped rather than read.

Checksums are XXH3-128: they find damage, not malice. A file is written under another name, forced to disk and renamed.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

CHECKSUM_BLOCK_BYTES = 1 << 20
RELEASE_BYTES = 4 << 20


def mapped(path: Path) -> npt.NDArray[Any]:
    """The array of a `.npy` file, read-only, sharing its memory with every process that maps it."""
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return np.asarray(array)  # a plain view: indexing an np.memmap costs 2 to 5 times as much


def release(array: npt.NDArray[Any]) -> None:
    """Gives the memory of a mapped array back in small steps; whoever still reads it reads the file again.

    To unmap 500 MB at once takes 19 ms, and Python holds the interpreter meanwhile.
    """
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap):
        for start in range(0, len(owner), RELEASE_BYTES):
            owner.madvise(mmap.MADV_DONTNEED, start, min(RELEASE_BYTES, len(owner) - start))


def checksum(path: Path) -> str:
    """XXH3-128 of a file, in hex."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(CHECKSUM_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Writes a small file so that it holds all of it or does not change."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    aside.write_bytes(content)
    flush(aside)
    aside.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Forces a file's content, or a folder's names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
