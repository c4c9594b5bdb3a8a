"""What is derived from every ad: computed once, found by everybody, never that of other rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feature_store.online.derived_arrays import CHUNK_ROWS, Derivation, derived_array
from feature_store.online.item_base import ItemBase, build_item_base
from feature_store.online.item_table_snapshot import SnapshotFolder
from feature_store.online.process_lock import process_lock
from feature_store.online.store import CataloguePosition, CatalogueRows
from feature_store.rows import Floats, Ids, Rows
from tests.stores import make_view, numbered

PROFILE = make_view("ad_profile", "ad", n_float=2, n_id=1)
NOW_MS = 1_700_000_000_000


class Doubling:
    """A derivation that counts how often it computed."""

    def __init__(self, width: int = 2) -> None:
        self.chunks: list[int] = []
        self.derivation = Derivation("double", width, np.dtype(np.float32), self)

    def __call__(self, floats: Floats, ids: Ids) -> Floats:
        self.chunks.append(len(floats))
        return 2 * floats


@pytest.fixture
def base(tmp_path: Path) -> ItemBase:
    """A mapped base of more than two chunks of ads."""
    n = 2 * CHUNK_ROWS + 10
    times, floats, ids = numbered(PROFILE, [float(i) for i in range(n)], NOW_MS)
    rows = Rows(floats, ids, times, np.ones(n, dtype=np.bool_))
    catalogue = CatalogueRows(CataloguePosition(1, 0), [f"a{i}" for i in range(n)], rows)
    folder = SnapshotFolder(tmp_path, [PROFILE])
    with folder.lock():
        return folder.load(folder.save(build_item_base([PROFILE], [catalogue], NOW_MS, max_ads=n)))


def test_it_is_computed_in_chunks_once_and_then_mapped(base: ItemBase) -> None:
    """One worker's seconds are enough, and no call keeps others waiting."""
    first, second = Doubling(), Doubling()

    made = derived_array(base, first.derivation)
    found = derived_array(base, second.derivation)

    np.testing.assert_array_equal(made, 2 * base.rows.floats)
    np.testing.assert_array_equal(found, made)
    assert first.chunks == [CHUNK_ROWS, CHUNK_ROWS, 11]
    assert second.chunks == []
    assert not found.flags.writeable


@pytest.mark.parametrize("file", ["derived-double.npy", "derived-double.json"])
def test_a_damaged_file_is_made_again(base: ItemBase, file: str) -> None:
    """A flipped bit would be somebody's bid."""
    derived_array(base, Doubling().derivation)
    assert base.folder is not None
    path = base.folder / file
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)

    again = Doubling()
    array = derived_array(base, again.derivation)

    np.testing.assert_array_equal(array, 2 * base.rows.floats)
    assert len(again.chunks) == 3


def test_a_base_in_memory_gets_an_array_in_memory(base: ItemBase) -> None:
    """Where the disk takes no snapshot."""
    own = ItemBase(base.views, base.positions, base.rows, base.index, base.loaded_ms)

    array = derived_array(own, Doubling().derivation)

    np.testing.assert_array_equal(array, 2 * base.rows.floats)


def test_a_folder_that_is_gone_stops_nothing(base: ItemBase) -> None:
    """Another worker's newer base took its place at this moment."""
    assert base.folder is not None
    for path in base.folder.iterdir():
        path.unlink()
    base.folder.rmdir()

    array = derived_array(base, Doubling().derivation)

    np.testing.assert_array_equal(array, 2 * base.rows.floats)


def test_somebody_who_holds_the_lock_for_long_is_not_waited_for(
    base: ItemBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped in the middle must not stop all others."""
    monkeypatch.setattr("feature_store.online.derived_arrays.WAIT_S", 0.0)
    assert base.folder is not None

    with process_lock(base.folder / "derived.lock"):
        array = derived_array(base, Doubling().derivation)

    np.testing.assert_array_equal(array, 2 * base.rows.floats)
    assert not (base.folder / "derived-double.npy").exists()


def test_a_computation_of_another_width_is_refused(base: ItemBase) -> None:
    """Broadcasting would hide it."""
    with pytest.raises(ValueError, match=r"'double' computed float32 \(1024, 2\), not float32 \(1024, 1\)"):
        derived_array(base, Doubling(width=1).derivation)


@pytest.mark.parametrize("key", ["", "a/b", "..\x00", "k" * 129])
def test_a_key_must_be_able_to_name_a_file(key: str) -> None:
    """It does."""
    with pytest.raises(ValueError, match="a key becomes a file's name"):
        Derivation(key, 1, np.dtype(np.float32), Doubling())
