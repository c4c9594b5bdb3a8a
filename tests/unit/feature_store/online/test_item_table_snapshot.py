"""Bases of item tables on disk: whole, of the right views, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feature_store.errors import SnapshotError
from feature_store.online.item_base import ItemBase, build_item_base
from feature_store.online.item_table_snapshot import SnapshotFolder
from feature_store.online.store import CataloguePosition, CatalogueRows
from feature_store.rows import Rows
from feature_store.schema import FeatureView
from tests.stores import make_view, numbered

PROFILE = make_view("ad_profile", "ad", n_float=2, n_id=1)
NOW_MS = 1_700_000_000_000


def make_base(ads: dict[str, float], views: tuple[FeatureView, ...] = (PROFILE,)) -> ItemBase:
    """A base of these ads, all values of an ad equal to its number."""
    times, floats, ids = numbered(PROFILE, list(ads.values()), NOW_MS)
    rows = Rows(floats, ids, times, np.ones(len(ads), dtype=np.bool_))
    catalogues = [CatalogueRows(CataloguePosition(3, 7), list(ads), rows) for _ in views]
    return build_item_base(views, catalogues, NOW_MS, max_ads=100)


def snapshots(directory: Path, *views: FeatureView) -> SnapshotFolder:
    """The snapshots of some views."""
    return SnapshotFolder(directory, views or (PROFILE,))


def save(directory: Path, base: ItemBase) -> Path:
    """Makes a base the current snapshot."""
    folder = SnapshotFolder(directory, base.views)
    with folder.lock() as is_mine:
        assert is_mine
        saved = folder.save(base)
        folder.make_current(saved)
    return saved


@pytest.mark.parametrize("ads", [{"a1": 1.0, "東京": 2.0}, {}], ids=["two ads", "no ads"])
def test_a_snapshot_is_the_base(tmp_path: Path, ads: dict[str, float]) -> None:
    """The service starts from it as if Redis had answered."""
    base = make_base(ads)
    save(tmp_path, base)

    loaded = snapshots(tmp_path).load()

    assert loaded.index.lookup([*ads, "nobody"], -1).tolist() == [*range(len(ads)), -1]
    for name in ("floats", "ids", "event_time_ms", "found"):
        np.testing.assert_array_equal(getattr(loaded.rows, name), getattr(base.rows, name))
    assert loaded.positions == base.positions
    assert loaded.loaded_ms == base.loaded_ms


def test_a_view_without_columns_can_be_saved(tmp_path: Path) -> None:
    """An array of no bytes cannot be mapped; it must not matter."""
    save(tmp_path, make_base({}, views=()))

    loaded = SnapshotFolder(tmp_path, ()).load()

    assert loaded.rows.floats.shape == (1, 0)


def test_the_newest_snapshot_counts_and_the_others_go(tmp_path: Path) -> None:
    """A service that runs for months must not fill the disk."""
    save(tmp_path, make_base({"a1": 1}))
    newest = save(tmp_path, make_base({"a2": 2}))

    assert snapshots(tmp_path).current() == newest
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [newest]


def test_a_saved_base_is_not_found_before_it_is_made_current(tmp_path: Path) -> None:
    """What is derived from it is written first, so that nobody maps half of it."""
    first = save(tmp_path, make_base({"a1": 1}))

    snapshots(tmp_path).save(make_base({"a2": 2}))

    assert snapshots(tmp_path).current() == first


def test_a_base_that_is_mapped_outlives_its_files(tmp_path: Path) -> None:
    """Another worker may write the next snapshot at any time."""
    save(tmp_path, make_base({"a1": 1}))
    loaded = snapshots(tmp_path).load()

    save(tmp_path, make_base({"a2": 2}))

    assert loaded.rows.floats[0, 0] == 1.0


def test_two_writers_take_turns(tmp_path: Path) -> None:
    """They would clear each other's folders away."""
    with snapshots(tmp_path).lock() as first, snapshots(tmp_path).lock() as second:
        assert (first, second) == (True, False)

    with snapshots(tmp_path).lock() as third:
        assert third


def test_no_snapshot_is_an_error_that_says_so(tmp_path: Path) -> None:
    """The first start without Redis cannot work, and must not look like damage."""
    with pytest.raises(SnapshotError, match="no whole snapshot"):
        snapshots(tmp_path / "never").load()


@pytest.mark.parametrize("name", ["floats", "ids", "event_time_ms", "found", "slots", "offsets", "blob"])
def test_one_changed_byte_is_found(tmp_path: Path, name: str) -> None:
    """A flipped bit would be somebody's bid."""
    path = save(tmp_path, make_base({"a1": 1})) / f"{name}.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(SnapshotError, match=rf"{name}.npy is damaged"):
        snapshots(tmp_path).load()


@pytest.mark.parametrize("name", ["floats.npy", "manifest.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    """Somebody tidied up."""
    (save(tmp_path, make_base({"a1": 1})) / name).unlink()

    with pytest.raises(SnapshotError, match=name):
        snapshots(tmp_path).load()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"layout": "one"}', b"\xff"])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    """A half-written disk holds anything."""
    (save(tmp_path, make_base({"a1": 1})) / "manifest.json").write_bytes(content)

    with pytest.raises(SnapshotError, match="cannot be read"):
        snapshots(tmp_path).load()


def test_a_snapshot_of_other_views_is_refused(tmp_path: Path) -> None:
    """Its columns would be taken for the model's."""
    save(tmp_path, make_base({"a1": 1}))
    wanted = make_view("ad_profile", "ad", n_float=3)

    with pytest.raises(SnapshotError, match=rf"holds the views \({PROFILE.fingerprint[:8]}\).*'ad_profile'"):
        snapshots(tmp_path, wanted).load()


def test_a_writer_that_was_killed_leaves_the_old_snapshot(tmp_path: Path) -> None:
    """What it had begun is cleared away by the next one."""
    first = save(tmp_path, make_base({"a1": 1}))
    begun = tmp_path / "items-begun"
    begun.mkdir()
    (begun / "floats.npy").write_bytes(b"half")

    current = snapshots(tmp_path).current()
    save(tmp_path, make_base({"a2": 2}))

    assert current == first
    assert not begun.exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A full or read-only disk must not take the service down."""
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(SnapshotError, match="cannot write a snapshot"), snapshots(tmp_path / "file").lock():
        pass
