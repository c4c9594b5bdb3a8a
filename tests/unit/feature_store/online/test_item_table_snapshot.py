"""Item tables on disk: whole, of the right views, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feature_store.errors import SnapshotError
from feature_store.online.item_table import ItemTable
from feature_store.online.item_table_snapshot import load_snapshot, save_snapshot
from feature_store.online.item_table_source import ItemTableSource
from feature_store.online.memory_store import MemoryStore
from tests.stores import Now, make_view, numbered

PROFILE = make_view("ad_profile", "ad", n_float=2, n_id=1)


def make_table(ads: dict[str, float]) -> ItemTable:
    clock = Now()
    store = MemoryStore("shop", clock)
    with store.session(PROFILE) as session:
        session.write(list(ads), *numbered(PROFILE, list(ads.values()), clock()))
        session.finish()
    table = ItemTableSource(store, [PROFILE], clock).refresh()
    assert table is not None
    return table


@pytest.mark.parametrize("ads", [{"a1": 1.0, "東京": 2.0}, {}], ids=["two ads", "no ads"])
def test_a_snapshot_is_the_table(tmp_path: Path, ads: dict[str, float]) -> None:
    """The service starts from it as if Redis had answered."""
    table = make_table(ads)
    save_snapshot(table, tmp_path)

    loaded = load_snapshot(tmp_path, [PROFILE])

    assert loaded.ad_ids == table.ad_ids
    for name in ("floats", "ids", "event_time_ms", "found"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(table, name))
    assert loaded.positions == table.positions
    assert loaded.version == table.version
    assert loaded.loaded_ms == table.loaded_ms


def test_a_view_without_columns_can_be_saved(tmp_path: Path) -> None:
    """An array of no bytes cannot be mapped; it must not matter."""
    table = ItemTableSource(MemoryStore("criteo"), [], Now()).refresh()
    assert table is not None
    save_snapshot(table, tmp_path)

    loaded = load_snapshot(tmp_path, [])

    assert loaded.floats.shape == (1, 0)


def test_the_newest_snapshot_counts_and_the_others_go(tmp_path: Path) -> None:
    """A service that runs for months must not fill the disk."""
    save_snapshot(make_table({"a1": 1}), tmp_path)
    newest = save_snapshot(make_table({"a2": 2}), tmp_path)

    loaded = load_snapshot(tmp_path, [PROFILE])

    assert loaded.ad_ids == ("a2",)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [newest]


def test_a_table_that_is_mapped_outlives_its_files(tmp_path: Path) -> None:
    """Another worker may write the next snapshot at any time."""
    save_snapshot(make_table({"a1": 1}), tmp_path)
    loaded = load_snapshot(tmp_path, [PROFILE])

    save_snapshot(make_table({"a2": 2}), tmp_path)

    assert loaded.floats[0, 0] == 1.0


def test_no_snapshot_is_an_error_that_says_so(tmp_path: Path) -> None:
    """The first start without Redis cannot work, and must not look like damage."""
    with pytest.raises(SnapshotError, match="no whole snapshot"):
        load_snapshot(tmp_path / "never", [PROFILE])


@pytest.mark.parametrize("name", ["floats.npy", "ids.npy", "event_time_ms.npy", "found.npy", "ad_ids.txt"])
def test_one_changed_byte_is_found(tmp_path: Path, name: str) -> None:
    """A flipped bit would be somebody's bid."""
    path = save_snapshot(make_table({"a1": 1}), tmp_path) / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(SnapshotError, match=rf"{name} is damaged"):
        load_snapshot(tmp_path, [PROFILE])


@pytest.mark.parametrize("name", ["floats.npy", "manifest.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    """Somebody tidied up."""
    (save_snapshot(make_table({"a1": 1}), tmp_path) / name).unlink()

    with pytest.raises(SnapshotError, match=name):
        load_snapshot(tmp_path, [PROFILE])


@pytest.mark.parametrize("content", [b"", b"{}", b'{"layout": "one"}', b"\xff"])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    """A half-written disk holds anything."""
    (save_snapshot(make_table({"a1": 1}), tmp_path) / "manifest.json").write_bytes(content)

    with pytest.raises(SnapshotError, match="cannot be read"):
        load_snapshot(tmp_path, [PROFILE])


def test_a_snapshot_of_other_views_is_refused(tmp_path: Path) -> None:
    """Its columns would be taken for the model's."""
    save_snapshot(make_table({"a1": 1}), tmp_path)
    wanted = make_view("ad_profile", "ad", n_float=3)

    with pytest.raises(SnapshotError, match=rf"holds the views \({PROFILE.fingerprint[:8]}\).*'ad_profile'"):
        load_snapshot(tmp_path, [wanted])


def test_a_writer_that_was_killed_leaves_the_old_snapshot(tmp_path: Path) -> None:
    """What it had begun is cleared away by the next one."""
    save_snapshot(make_table({"a1": 1}), tmp_path)
    begun = tmp_path / "items-begun"
    begun.mkdir()
    (begun / "floats.npy").write_bytes(b"half")

    loaded = load_snapshot(tmp_path, [PROFILE])
    save_snapshot(make_table({"a2": 2}), tmp_path)

    assert loaded.ad_ids == ("a1",)
    assert not begun.exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A full or read-only disk must not take the service down."""
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(SnapshotError, match="cannot write a snapshot"):
        save_snapshot(make_table({"a1": 1}), tmp_path / "file")
