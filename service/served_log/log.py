"""The served log of one worker: what requests hand over, turned into files beside them.

`write` runs in a thread that gives way, again and again: it takes what waits, lays it out model by model, and finishes
files that are large or old enough. A file holds the rows of one version of one model, so that it can say how its lists
are to be read. Where the disk takes nothing, what was in the file is lost and counted, and the next round begins
another; no request learns of it. `close` may come while a thread is in the middle of `write`: it waits for its turn.

What becomes of a row: handed over = in a finished file + dropped (no room, or the disk failed) + not finished yet.
A worker that is killed takes with it what is not finished, at most `roll_ms` of it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from feature_store.clock import Clock
from service.model_slots import ServedModel
from service.served_log.buffer import ServedBuffer, ServedRequest
from service.served_log.files import OpenFile, file_name, keep_within
from service.served_log.rows import COLUMNS, about, rows_of
from service.settings import ServedLogSettings

WRITE_MS = 250.0
"""How often the writer looks at what waits."""
GROUP_ROWS = 16_384
"""Rows that are laid out and encoded together: some tens of milliseconds of a thread that gives way."""
GROUP_MS = 2_000
"""What waits is written after this, however little it is: until then it keeps an item table that may be replaced."""

logger = logging.getLogger(__name__)


class Counts(NamedTuple):
    """Rows since the start."""

    written: int
    """In finished files."""
    no_room: int
    """Dropped, because the buffer was full."""
    failed: int
    """Lost with a file that could not be written."""


class _Begun(NamedTuple):
    file: OpenFile
    begun_ms: int


class ServedLog:
    """See the module."""

    def __init__(self, folder: Path, settings: ServedLogSettings, clock: Clock) -> None:
        """Nothing is written, and the folder not made, before the first row."""
        self._folder = folder
        self._settings = settings
        self._clock = clock
        self._turn = threading.Lock()
        self._buffer = ServedBuffer(settings.buffer_rows, settings.sample)
        self._files: dict[tuple[str, str], _Begun] = {}
        """By name and version of the model."""
        self._n_files = 0
        self._group_ms = clock()
        """When the last group was taken."""
        self._written = self._failed = 0
        self._disk_fails = False
        self.wants = self._buffer.wants
        self.add = self._buffer.add

    @property
    def counts(self) -> Counts:
        """What became of the rows so far."""
        return Counts(self._written, self._buffer.dropped_rows, self._failed)

    def write(self) -> None:
        """Writes what is due. What goes wrong with the disk is logged and counted."""
        with self._turn:
            while self._writes_one(self._clock()):
                pass

    def close(self) -> None:
        """Writes all that waits and finishes all files."""
        with self._turn:
            while self._buffer.n_rows:
                self._write_group(self._clock())
            for key in tuple(self._files):
                self._finish(key)

    def _writes_one(self, now_ms: int) -> bool:
        """Finishes files that are old enough, and writes one group; False where there is none to write yet."""
        for key, begun in tuple(self._files.items()):
            if now_ms - begun.begun_ms >= self._settings.roll_ms:
                self._finish(key)
        n_rows = self._buffer.n_rows
        is_due = n_rows >= GROUP_ROWS or (n_rows > 0 and now_ms - self._group_ms >= GROUP_MS)
        if is_due:
            self._write_group(now_ms)
        return is_due

    def _write_group(self, now_ms: int) -> None:
        self._group_ms = now_ms
        by_model: dict[tuple[str, str], list[ServedRequest]] = {}
        for served in self._buffer.take(GROUP_ROWS):
            by_model.setdefault((served.model.name, served.model.version), []).append(served)
        for key, requests in by_model.items():
            self._add(key, requests[0].model, requests, now_ms)

    def _add(self, key: tuple[str, str], model: ServedModel, requests: Sequence[ServedRequest], now_ms: int) -> None:
        n_rows = sum(len(served.scored.scores.p_click) for served in requests)
        try:
            begun = self._files.get(key)
            if begun is None:
                begun = self._files[key] = self._begin(model, now_ms)
            begun.file.add(rows_of(model, requests), n_rows)
        except OSError as error:
            self._lose(key, n_rows)
            self._complain(error)
            return
        except Exception:  # a defect costs rows of the log, and must not end the thread that every later row needs
            logger.exception("rows cannot be laid out for the served log, on a defect", extra={"model": model.name})
            self._lose(key, n_rows)
            return
        if begun.file.n_rows >= self._settings.max_rows_per_file:
            self._finish(key)

    def _begin(self, model: ServedModel, now_ms: int) -> _Begun:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._n_files += 1
        return _Begun(OpenFile(self._folder, file_name(now_ms, self._n_files), COLUMNS, about(model)), now_ms)

    def _finish(self, key: tuple[str, str]) -> None:
        file = self._files[key].file
        try:
            file.finish()
        except OSError as error:
            self._lose(key, 0)
            self._complain(error)
            return
        del self._files[key]
        self._written += file.n_rows
        try:
            keep_within(self._folder, int(self._settings.max_total_mb * 2**20), self._clock())
        except OSError as error:
            self._complain(error)
            return
        if self._disk_fails:
            logger.info("the served log is written again", extra={"folder": str(self._folder)})
        self._disk_fails = False

    def _lose(self, key: tuple[str, str], n_rows: int) -> None:
        """Counts the rows of a file that cannot be written, and those that were to come into it."""
        begun = self._files.pop(key, None)
        if begun is not None:
            begun.file.abandon()
            n_rows += begun.file.n_rows
        self._failed += n_rows

    def _complain(self, error: OSError) -> None:
        """Tells of trouble with the disk, once until it is over."""
        if not self._disk_fails:
            logger.warning(
                "the served log cannot be written; rows are counted as dropped until it can",
                extra={"folder": str(self._folder), "error": str(error)},
            )
        self._disk_fails = True
