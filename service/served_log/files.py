"""Files of the served log: begun under a hidden name, renamed when whole, the oldest deleted when there are too many.

A reader lists `served-*.parquet` and finds finished files only, whatever happened to their writer. A file that was
begun by a process that is gone is deleted when it is an hour old. Names begin with the time at which they were begun,
so that their order is the order of what they hold; process and number keep workers apart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from feature_store.online.array_files import flush
from service.served_log.parquet import Column, ParquetFile, Values

FINISHED = "served-*.parquet"
BEGUN = ".served-*.parquet.new"
ABANDONED_MS = 3_600_000
"""After this a file that somebody began is nobody's any more."""


class OpenFile:
    """A file that is being written; exactly one of `finish` and `abandon` ends it."""

    def __init__(self, folder: Path, name: str, columns: tuple[Column, ...], about: Mapping[str, str]) -> None:
        """Begins the file. Raises OSError where the folder takes none."""
        self._path = folder / name
        self._aside = folder / f".{name}.new"
        self._file = self._aside.open("xb")
        self.n_rows = 0
        try:
            self._parquet = ParquetFile(self._file, columns, about)
        except OSError:
            self.abandon()
            raise

    def add(self, rows: Mapping[str, Values], n_rows: int) -> None:
        """Writes a row group. Raises OSError where the disk does not take it; only `abandon` may follow."""
        self._parquet.add(rows)
        self.n_rows += n_rows

    def finish(self) -> None:
        """Makes the file one that readers find, all of it on disk. Raises OSError; only `abandon` may follow."""
        self._parquet.finish()
        self._file.close()
        flush(self._aside)
        self._aside.replace(self._path)
        flush(self._path.parent)

    def abandon(self) -> None:
        """Forgets the file."""
        with suppress(OSError):  # closing writes what is left to write
            self._file.close()
        with suppress(OSError):
            self._aside.unlink()


def file_name(begun_ms: int, number: int) -> str:
    """Of the `number`-th file of this process."""
    return f"served-{begun_ms:013d}-{os.getpid()}-{number}.parquet"


def finished_files(folder: Path) -> list[Path]:
    """All whole files, oldest first."""
    return sorted(folder.glob(FINISHED))


def keep_within(folder: Path, max_bytes: int, now_ms: int) -> None:
    """Deletes the oldest files until the rest takes no more than that, and what dead processes left.

    Another worker may be doing the same: a file that is gone already is no error.
    """
    sized = []
    for path in finished_files(folder):
        with suppress(FileNotFoundError):
            sized.append((path, path.stat().st_size))
    total = sum(size for _, size in sized)
    for path, size in sized:
        if total <= max_bytes:
            break
        path.unlink(missing_ok=True)
        total -= size
    for path in folder.glob(BEGUN):
        with suppress(FileNotFoundError):
            if now_ms - path.stat().st_mtime * 1000 > ABANDONED_MS:
                path.unlink()
