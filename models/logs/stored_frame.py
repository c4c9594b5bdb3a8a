"""A click log with its joined features on disk: for logs whose features do not fit into memory.

What `frame.py` holds in arrays lies here in files of plain little-endian numbers, one row an impression, one file for
the numbers and one for the hashes of each view and of the context. They are written view by view as the database
streams the join, and read back some rows at a time, in any order. What stays in memory is one byte an impression: its
label.

Disk: 4 bytes per column and impression, as `frame.py` takes of memory, beside the log itself and what the joins spill.
The files belong to one frame and are removed when it is closed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from feature_store.errors import LogError
from feature_store.offline import arrow
from feature_store.offline.engine import EngineName
from feature_store.offline.log import Factorised, Log
from feature_store.offline.offline_store import OfflineStore
from feature_store.offline.progress import Progress, silent
from feature_store.offline.rejects import Rejects
from feature_store.schema import ContextFeature, FeatureView
from models.encoder import Block, Encoded, Encoder, ModelInputs
from models.logs.frame import check_labels, context_hashes, context_numbers, leak_warnings

DATABASE_MB = 384
"""Memory of the database: below 256 MiB its sorts of 10 M rows spent most of their time on the disk."""


class _Stored(NamedTuple):
    """The rows of one block on disk: two files, and how wide a row is in each."""

    floats: Path
    ids: Path
    n_float: int
    n_id: int

    def read(self, start: int, stop: int) -> Block:
        """Some rows in a row."""
        return Block(
            _read(self.floats, np.dtype("<f4"), self.n_float, start, stop),
            _read(self.ids, np.dtype("<u4"), self.n_id, start, stop),
        )


@dataclass(frozen=True)
class StoredFrame:
    """n impressions in order of time, their features on disk. Close it, or use it as a context manager.

    clicked: (n,) bool, within the label's window.
    has_positions: whether any impression of the log says where it was shown.
    table_rejects, simultaneous, found: as those of `TrainingFrame`.
    """

    log: Log
    inputs: ModelInputs
    clicked: npt.NDArray[np.bool_]
    has_positions: bool
    table_rejects: dict[str, Rejects]
    simultaneous: dict[str, float]
    found: dict[str, int]
    folder: Path
    user: tuple[_Stored, ...]
    ad: tuple[_Stored, ...]
    context: tuple[_Stored, ...]
    first: int = 0
    """Row of the log that is the frame's first."""

    def __len__(self) -> int:
        return len(self.clicked)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def time_ms(self) -> npt.NDArray[np.int64]:
        """(n,) int64, non-decreasing; a window on the file."""
        return self._column("time_ms")

    def users_at(self, rows: slice) -> npt.NDArray[np.integer[Any]]:
        """(m,) codes of some impressions' users, -1 where unknown."""
        return np.array(self._column("users")[rows])

    def warnings(self) -> tuple[str, ...]:
        """See `TrainingFrame.warnings`."""
        return leak_warnings(self.simultaneous, self.time_ms)

    def part(self, start: float, end: float) -> StoredFrame:
        """The impressions between two fractions of the log; the files stay those of the whole, which is closed once."""
        return self.rows(slice(round(start * len(self)), round(end * len(self))))

    def rows(self, rows: slice) -> StoredFrame:
        """Neighbouring impressions; `rows.start` is a place."""
        return replace(self, clicked=self.clicked[rows], first=self.first + rows.start)

    def encode(self, encoder: Encoder, rows: slice) -> Encoded:
        """The model's matrices for some neighbouring impressions."""
        start, stop = self.first + rows.start, self.first + min(rows.stop, len(self))
        user, ad, context = (_side_by_side(side, start, stop) for side in (self.user, self.ad, self.context))
        return encoder.encode(user, ad, context)

    def _column(self, name: str) -> npt.NDArray[np.int64]:
        if not len(self):
            return np.empty(0, dtype=np.int64)
        whole = np.memmap(self.folder / name, dtype="<i8", mode="r")
        return whole[self.first : self.first + len(self)]


def store_frame(
    log: Log, *, engine: EngineName = "duckdb", memory_mb: int = DATABASE_MB, on_progress: Progress = silent
) -> StoredFrame:
    """Join and encode every impression of a log whose label is known, onto the disk beside it.

    Args:
        log: in canonical form.
        engine: who joins.
        memory_mb: of the database; the rest of the work holds a few batches of rows.
        on_progress: told the stage and its share done.
    Raises:
        LogError: a table or column is missing, all labels are equal, an answer would leak, or the disk is full.
    """
    inputs = ModelInputs.of(log.project.schema)
    Encoder(inputs)  # refuses impossible pairs before minutes are spent on joins
    folder = Path(tempfile.mkdtemp(prefix="joined-", dir=log.path.parent))
    try:
        return _stored(log, inputs, folder, engine, memory_mb, on_progress)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise LogError(f"the joined features cannot be kept in {folder}: {error.strerror or error}") from error
    except BaseException:  # an interrupt as well: nobody else knows of these files
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _stored(
    log: Log, inputs: ModelInputs, folder: Path, engine: EngineName, memory_mb: int, on_progress: Progress
) -> StoredFrame:
    clicked = np.empty(log.n, dtype=np.bool_)
    at = 0
    with (
        log.engine(memory_mb) as reading,
        (folder / "time_ms").open("wb") as times,
        (folder / "users").open("wb") as users,
    ):
        (n_positions,) = reading.wholes(f"SELECT count(_position) FROM {log.sql}")
        # Hashes are codes that need no list of users; hash(NULL) would be one, too.
        code = "CASE WHEN _user_id IS NULL THEN -1 ELSE (hash(_user_id) >> 1)::BIGINT END AS user_code"
        for batch in reading.batches(f"SELECT _time_ms, _clicked, {code} FROM {log.sql} ORDER BY _row"):
            part = arrow.bools(batch, "_clicked")
            clicked[at : at + len(part)] = part
            arrow.int64s(batch, "_time_ms").tofile(times)
            arrow.int64s(batch, "user_code").tofile(users)
            at += len(part)
        context = _stored_context(reading.batches(_context_sql(log, inputs)), inputs, folder)
    n_known = log.n - log.pending
    check_labels(log, clicked[:n_known])
    simultaneous: dict[str, float] = {}
    found: dict[str, int] = {}
    time_ms = np.memmap(folder / "time_ms", dtype="<i8", mode="r")
    with OfflineStore(log.project, log, log.path.parent, engine, memory_mb=memory_mb) as store:
        sides = [
            tuple(_stored_view(store, view, time_ms, folder, simultaneous, found, on_progress) for view in views)
            for views in (inputs.user_views, inputs.ad_views)
        ]
        table_rejects = dict(store.rejects)
    dated = {view for view, table in log.project.tables.items() if table.event_time is not None}
    return StoredFrame(
        log=log,
        inputs=inputs,
        clicked=clicked[:n_known],
        has_positions=n_positions > 0,
        table_rejects=table_rejects,
        simultaneous={view: simultaneous[view] for view in sorted(dated & simultaneous.keys())},
        found=found,
        folder=folder,
        user=sides[0],
        ad=sides[1],
        context=(context,),
    )


def _stored_view(
    store: OfflineStore,
    view: FeatureView,
    time_ms: npt.NDArray[np.int64],
    folder: Path,
    simultaneous: dict[str, float],
    found: dict[str, int],
    on_progress: Progress,
) -> _Stored:
    """Writes a view's rows at all impressions, and notes how many there are and carry their impression's own time."""
    at = own_time = found[view.name] = 0
    with _written(folder, view.name, view.n_float, view.n_id) as writer:
        on_progress(f"joining {view.name}", 0.0)
        for rows in store.batches_at_impressions(view):
            writer.write(rows.floats, rows.ids)
            own_time += int(np.count_nonzero(rows.found & (rows.event_time_ms == time_ms[at : at + len(rows)])))
            found[view.name] += int(np.count_nonzero(rows.found))
            at += len(rows)
            on_progress(f"joining {view.name}", at / len(time_ms))
    simultaneous[view.name] = own_time / max(1, found[view.name])
    return writer.stored


def _stored_context(batches: Iterator[arrow.Table], inputs: ModelInputs, folder: Path) -> _Stored:
    floats, ids = _by_dtype(inputs.context)
    with _written(folder, "context", len(floats), len(ids)) as writer:
        for batch in batches:
            columns = [Factorised(*arrow.factorised(batch, f"c{i}")) for i in range(len(inputs.context))]
            n = len(batch)
            numbers, hashes = np.empty((n, len(floats)), np.float32), np.empty((n, len(ids)), np.uint32)
            for at, i in enumerate(floats):
                numbers[:, at] = context_numbers(columns[i], inputs.context[i])
            for at, i in enumerate(ids):
                hashes[:, at] = context_hashes(columns[i], inputs.context[i], inputs.hash_seed)
            writer.write(numbers, hashes)
    return writer.stored


def _context_sql(log: Log, inputs: ModelInputs) -> str:
    """A query of the context's columns c0, c1, … in order of the log."""
    names = [feature.column or feature.name for feature in inputs.context]
    selected = [f"{value} AS c{i}" for i, value in enumerate(log.plain_columns(names))]
    return f"SELECT {', '.join(['_row', *selected])} FROM {log.sql} ORDER BY _row"


def _by_dtype(features: Sequence[ContextFeature]) -> tuple[list[int], list[int]]:
    """Places of the features that are numbers, and of those that are hashes."""
    floats = [i for i, feature in enumerate(features) if feature.dtype == "float32"]
    return floats, [i for i, feature in enumerate(features) if feature.dtype == "id"]


class _written:
    """Two open files that take rows."""

    def __init__(self, folder: Path, name: str, n_float: int, n_id: int) -> None:
        self.stored = _Stored(folder / f"{name}.floats", folder / f"{name}.ids", n_float, n_id)
        self._files = (self.stored.floats.open("wb"), self.stored.ids.open("wb"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            file.close()

    def write(self, floats: npt.NDArray[np.float32], ids: npt.NDArray[np.uint32]) -> None:
        floats.astype("<f4", copy=False).tofile(self._files[0])
        ids.astype("<u4", copy=False).tofile(self._files[1])


def _read(path: Path, dtype: np.dtype[Any], width: int, start: int, stop: int) -> npt.NDArray[Any]:
    """Rows of a file of numbers, read and not mapped: what was read is forgotten with the array."""
    if not width:
        return np.empty((stop - start, 0), dtype=dtype)
    size = dtype.itemsize * width
    return np.fromfile(path, dtype=dtype, count=(stop - start) * width, offset=start * size).reshape(-1, width)


def _side_by_side(blocks: tuple[_Stored, ...], start: int, stop: int) -> Block:
    parts = [Block(np.empty((stop - start, 0), np.float32), np.empty((stop - start, 0), np.uint32))]
    parts += [block.read(start, stop) for block in blocks]
    return Block(np.hstack([part.floats for part in parts]), np.hstack([part.ids for part in parts]))
