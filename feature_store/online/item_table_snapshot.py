"""The base of an item table on disk: what all workers of a machine share, and start from when Redis is away.

A snapshot is a folder of NumPy files with a manifest of checksums. `current` names the newest one and is replaced
atomically, so a reader sees a whole old snapshot or a whole new one, and a writer that is killed leaves the old one
valid. Arrays are mapped, not read, so that workers share their memory. Only the current snapshot is kept; one that a
process has mapped stays readable after its files are unlinked.
Writers hold `SnapshotFolder.lock`: two at once would clear each other's folders away.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import numpy as np

from feature_store.errors import SnapshotError
from feature_store.online.array_files import checksum, flush, mapped, write_whole
from feature_store.online.id_index import IdIndex
from feature_store.online.item_base import ItemBase
from feature_store.online.item_rows import ItemRows
from feature_store.online.process_lock import process_lock
from feature_store.online.store import CataloguePosition
from feature_store.schema import FeatureView

LAYOUT = 2
_ROWS = ("floats", "ids", "event_time_ms", "found")
_INDEX = ("slots", "offsets", "blob")
_MANIFEST = "manifest.json"
_CURRENT = "current"


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a snapshot says about itself; written last."""

    layout: int
    fingerprints: tuple[str, ...]
    positions: tuple[tuple[int, int], ...]
    loaded_ms: int
    checksums: dict[str, str]


class SnapshotFolder:
    """The snapshots of one set of views."""

    def __init__(self, directory: Path, views: Sequence[FeatureView]) -> None:
        """Nothing is read or made yet."""
        self._directory = directory
        self._views = tuple(views)

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """The right to save, held until the block ends; False if another process has it.

        Raises:
            SnapshotError: the folder cannot be written to.
        """
        with ExitStack() as block:
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
                is_mine = block.enter_context(process_lock(self._directory / "lock"))
            except OSError as error:
                raise self._cannot_write(error) from None
            yield is_mine

    def current(self) -> Path | None:
        """The newest snapshot's folder, None if there is none that can be read."""
        try:
            return self._directory / (self._directory / _CURRENT).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None

    def save(self, base: ItemBase) -> Path:
        """Writes a base; it is not the current one yet. Returns its folder.

        Raises:
            SnapshotError: it cannot be written; the snapshot before it stays current.
        """
        try:
            return self._write(base)
        except OSError as error:
            raise self._cannot_write(error) from None

    def make_current(self, folder: Path) -> None:
        """Lets all readers find a saved base, and removes those before it, whole or begun.

        Raises:
            SnapshotError: `current` cannot be written.
        """
        try:
            write_whole(self._directory / _CURRENT, folder.name.encode())
        except OSError as error:
            raise SnapshotError(f"cannot name {folder} the current snapshot: {error}") from None
        for other in self._directory.glob("items-*"):
            if other != folder and other.is_dir():
                shutil.rmtree(other, ignore_errors=True)

    def load(self, folder: Path | None = None) -> ItemBase:
        """A snapshot, its arrays mapped from disk: the current one, or that of a folder. Its rows may have outlived
        their time-to-live meanwhile.

        Raises:
            SnapshotError: there is none, it is damaged, or it was made for other views.
        """
        folder = folder or self.current()
        if folder is None:
            raise SnapshotError(f"no whole snapshot of the item table in {self._directory}: {_CURRENT} is missing")
        try:
            manifest = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=_Manifest)
            _check_manifest(folder, manifest, self._views)
            rows = ItemRows(**{name: mapped(folder / f"{name}.npy") for name in _ROWS})
            slots, offsets, blob = (mapped(folder / f"{name}.npy") for name in _INDEX)
            index = IdIndex(slots, offsets, blob)
        except FileNotFoundError as error:
            raise SnapshotError(
                f"no whole snapshot of the item table in {self._directory}: {error.filename} is missing"
            ) from None
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise SnapshotError(
                f"the snapshot of the item table in {self._directory} cannot be read: {error}"
            ) from None
        if {len(index) + 1} != {len(array) for array in (rows.floats, rows.ids, rows.event_time_ms, rows.found)}:
            raise SnapshotError(
                f"snapshot {folder} is damaged: {len(index)} ads, but arrays of other lengths; delete it"
            )
        positions = tuple(CataloguePosition(*position) for position in manifest.positions)
        return ItemBase(self._views, positions, rows, index, manifest.loaded_ms, folder)

    def _cannot_write(self, error: OSError) -> SnapshotError:
        return SnapshotError(f"cannot write a snapshot of the item table to {self._directory}: {error}")

    def _write(self, base: ItemBase) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="items-", dir=self._directory))
        arrays = base.arrays()
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
            flush(folder / f"{name}.npy")
        manifest = _Manifest(
            layout=LAYOUT,
            fingerprints=tuple(view.fingerprint for view in base.views),
            positions=tuple((position.version, position.sequence) for position in base.positions),
            loaded_ms=base.loaded_ms,
            checksums={f"{name}.npy": checksum(folder / f"{name}.npy") for name in arrays},
        )
        write_whole(folder / _MANIFEST, msgspec.json.encode(manifest))
        return folder


def _check_manifest(folder: Path, manifest: _Manifest, views: Sequence[FeatureView]) -> None:
    if manifest.layout != LAYOUT:
        raise SnapshotError(f"snapshot {folder} has layout {manifest.layout}, this version reads {LAYOUT}; delete it")
    wanted = {view.fingerprint: view.name for view in views}
    if manifest.fingerprints != tuple(wanted):
        asked = ", ".join(f"{name!r} ({fingerprint[:8]})" for fingerprint, name in wanted.items())
        held = ", ".join(fingerprint[:8] for fingerprint in manifest.fingerprints)
        raise SnapshotError(f"snapshot {folder} holds the views ({held}), the model wants {asked}")
    for name, wanted_sum in manifest.checksums.items():
        found_sum = checksum(folder / name)
        if found_sum != wanted_sum:
            raise SnapshotError(f"{folder / name} is damaged: checksum {found_sum}, its manifest says {wanted_sum}")
