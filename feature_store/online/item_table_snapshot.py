"""An item table on disk: what the service starts from when Redis is away.

A snapshot is a folder of NumPy files with a manifest of checksums; `current` names the newest one and is replaced
atomically, so a reader sees a whole old snapshot or a whole new one, and a writer that is killed leaves the old one
valid. Checksums are XXH3-128: they find damage, not malice. Arrays are mapped, not read, so several workers share them.
Only the newest snapshot is kept; one that a reader has mapped stays readable after its files are unlinked.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from feature_store.errors import SnapshotError
from feature_store.online.item_table import ItemTable, frozen_table
from feature_store.online.store import CataloguePosition
from feature_store.schema import FeatureView

LAYOUT = 1
_ARRAYS = ("floats", "ids", "event_time_ms", "found")
_IDS_FILE = "ad_ids.txt"
_MANIFEST = "manifest.json"
_CURRENT = "current"


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a snapshot says about itself; written last."""

    layout: int
    fingerprints: tuple[str, ...]
    positions: tuple[tuple[int, int], ...]
    loaded_ms: int
    checksums: dict[str, str]


def save_snapshot(table: ItemTable, directory: Path) -> Path:
    """Writes the table below `directory` and makes it the current one. Returns its folder.

    Raises:
        SnapshotError: it cannot be written; the snapshot before it stays current.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two writers would clear each other's folders away
            return _save(table, directory)
    except OSError as error:
        raise SnapshotError(f"cannot write a snapshot of the item table to {directory}: {error}") from None


def _save(table: ItemTable, directory: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="items-", dir=directory))
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(table, name), allow_pickle=False)
    (folder / _IDS_FILE).write_text("\n".join(table.ad_ids), encoding="utf-8")
    files = [f"{name}.npy" for name in _ARRAYS] + [_IDS_FILE]
    manifest = _Manifest(
        layout=LAYOUT,
        fingerprints=tuple(view.fingerprint for view in table.views),
        positions=tuple((position.version, position.sequence) for position in table.positions),
        loaded_ms=table.loaded_ms,
        checksums={name: _checksum(folder / name) for name in files},
    )
    (folder / _MANIFEST).write_bytes(msgspec.json.encode(manifest))
    _point_to(directory, folder)
    _remove_others(directory, folder)
    return folder


def load_snapshot(directory: Path, views: Sequence[FeatureView]) -> ItemTable:
    """The current snapshot, its arrays mapped from disk. Its rows may have outlived their time-to-live meanwhile.

    Raises:
        SnapshotError: there is none, it is damaged, or it was made for other views.
    """
    try:
        folder = directory / (directory / _CURRENT).read_text(encoding="utf-8").strip()
        manifest = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=_Manifest)
        _check_manifest(folder, manifest, views)
        arrays = {name: _mapped(folder / f"{name}.npy") for name in _ARRAYS}
        text = (folder / _IDS_FILE).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SnapshotError(
            f"no whole snapshot of the item table in {directory}: {error.filename} is missing"
        ) from None
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise SnapshotError(f"the snapshot of the item table in {directory} cannot be read: {error}") from None
    ad_ids = tuple(text.split("\n")) if text else ()
    if {len(ad_ids) + 1} != {len(array) for array in arrays.values()}:
        raise SnapshotError(f"snapshot {folder} is damaged: {len(ad_ids)} ads, but arrays of other lengths; delete it")
    return frozen_table(
        tuple(views),
        tuple(CataloguePosition(*position) for position in manifest.positions),
        ad_ids,
        arrays["floats"],
        arrays["ids"],
        arrays["event_time_ms"],
        arrays["found"],
        manifest.loaded_ms,
        {ad_id: row for row, ad_id in enumerate(ad_ids)},
    )


def _check_manifest(folder: Path, manifest: _Manifest, views: Sequence[FeatureView]) -> None:
    if manifest.layout != LAYOUT:
        raise SnapshotError(f"snapshot {folder} has layout {manifest.layout}, this version reads {LAYOUT}; delete it")
    wanted = {view.fingerprint: view.name for view in views}
    if manifest.fingerprints != tuple(wanted):
        asked = ", ".join(f"{name!r} ({fingerprint[:8]})" for fingerprint, name in wanted.items())
        held = ", ".join(fingerprint[:8] for fingerprint in manifest.fingerprints)
        raise SnapshotError(f"snapshot {folder} holds the views ({held}), the model wants {asked}")
    for name, wanted_sum in manifest.checksums.items():
        found_sum = _checksum(folder / name)
        if found_sum != wanted_sum:
            raise SnapshotError(f"{folder / name} is damaged: checksum {found_sum}, its manifest says {wanted_sum}")


def _mapped(path: Path) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _checksum(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _point_to(directory: Path, folder: Path) -> None:
    """Makes a folder the current snapshot; on disk before the name is, so that a crash cannot leave an empty one."""
    for file in folder.iterdir():
        _flush(file)
    _flush(folder)
    new = directory / f"{folder.name}.{_CURRENT}"
    new.write_text(folder.name, encoding="utf-8")
    _flush(new)
    new.replace(directory / _CURRENT)
    _flush(directory)


def _flush(path: Path) -> None:
    """Forces a file's content, or a folder's names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_others(directory: Path, folder: Path) -> None:
    """Older snapshots, whole or begun."""
    for other in directory.glob("items-*"):
        if other != folder and other.is_dir():
            shutil.rmtree(other, ignore_errors=True)
