"""Item tables of several processes: one memory, and no death that leaves the next one without a base."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from feature_store.online.item_table import ItemTable
from feature_store.online.item_table_snapshot import SnapshotFolder
from feature_store.online.item_table_source import COMPACT_AFTER_MS, RETIRED_MS, ItemTableSource
from feature_store.online.memory_store import MemoryStore
from tests.conftest import REPOSITORY
from tests.stores import Now, make_view, numbered

VIEW = make_view("ad_profile", "ad")

READER = """
import sys
from pathlib import Path
from feature_store.online.item_table_snapshot import SnapshotFolder
from tests.stores import make_view

base = SnapshotFolder(Path(sys.argv[1]), [make_view("ad_profile", "ad")]).load()
base.rows.floats.sum()
print([line.split() for line in open("/proc/self/maps") if line.rstrip().endswith("floats.npy")][0][4], flush=True)
sys.stdin.read()
"""

WRITER = """
import sys
from pathlib import Path
import numpy as np
from feature_store.online.item_base import build_item_base
from feature_store.online.item_table_snapshot import SnapshotFolder
from feature_store.online.store import CataloguePosition, CatalogueRows
from feature_store.rows import Rows
from tests.stores import make_view, numbered

view, now_ms, n = make_view("ad_profile", "ad"), 1_700_000_000_000, 20_000
times, floats, ids = numbered(view, [float(i) for i in range(n)], now_ms)
rows = Rows(floats, ids, times, np.ones(n, dtype=np.bool_))
catalogue = CatalogueRows(CataloguePosition(1, 0), [f"a{i}" for i in range(n)], rows)
base = build_item_base([view], [catalogue], now_ms, max_ads=n)
folder = SnapshotFolder(Path(sys.argv[1]), [view])
with folder.lock() as is_mine:
    while is_mine:
        folder.make_current(folder.save(base))
        print("saved", flush=True)
"""


BUILDER = """
import sys, tempfile
from pathlib import Path
from feature_store.online.item_table_snapshot import SnapshotFolder
from tests.stores import make_view

with SnapshotFolder(Path(sys.argv[1]), [make_view("ad_profile", "ad")]).lock():
    print(tempfile.mkdtemp(prefix="items-", dir=sys.argv[1]), flush=True)
    sys.stdin.read()
"""


@contextmanager
def process(program: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a program on a snapshot folder, killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def told(child: subprocess.Popen[str]) -> str:
    """The next line that a process says."""
    assert child.stdout is not None
    line = child.stdout.readline().strip()
    assert line, "the process ended without a word"
    return line


class Worker:
    """Item tables over a store of its own, with a clock to turn."""

    def __init__(self, folder: Path, n_ads: int) -> None:
        self.clock = Now()
        self._store = MemoryStore("shop", self.clock)
        self.write({f"a{i}": float(i) for i in range(n_ads)})
        self.source = ItemTableSource(self._store, [VIEW], self.clock, folder)

    def write(self, ads: dict[str, float]) -> None:
        with self._store.session(VIEW) as session:
            session.write(list(ads), *numbered(VIEW, list(ads.values()), self.clock()))
            session.finish()

    def table(self) -> ItemTable:
        """The newest, after a refresh."""
        assert self.source.refresh()
        assert self.source.table is not None
        return self.source.table


def test_two_processes_share_the_memory_of_one_base(tmp_path: Path) -> None:
    """A million ads with their masks are hundreds of megabytes; workers must not each have their own."""
    table = Worker(tmp_path, 10_000).table()
    table.base.floats.sum()

    with process(READER, tmp_path) as reader:
        inode = told(reader)
        mapping = _mapping(tmp_path, "floats.npy")

    assert f" {inode} " in mapping["header"]
    assert int(mapping["Pss"]) < int(mapping["Rss"])  # somebody else has the same pages
    assert mapping["Private_Dirty"] == "0"


def test_the_turn_of_a_killed_builder_goes_to_the_next(tmp_path: Path) -> None:
    """Kill -9 while it holds the lock: the kernel takes it back, and what it had begun is cleared away."""
    worker = Worker(tmp_path, 10)
    with process(BUILDER, tmp_path) as builder:
        begun = Path(told(builder))
        is_followed = worker.source.refresh()
        builder.kill()
        builder.wait()

        table = worker.table()

    assert not is_followed
    assert len(table) == 10
    assert not begun.exists()


@pytest.mark.parametrize("n_saved", [1, 2, 3])
def test_a_writer_killed_anywhere_leaves_a_whole_snapshot(tmp_path: Path, n_saved: int) -> None:
    """It is killed at whatever point of the next save it has reached."""
    with process(WRITER, tmp_path) as writer:
        for _ in range(n_saved):
            told(writer)
        writer.kill()
        writer.wait()

    folder = SnapshotFolder(tmp_path, [VIEW])
    base = folder.load()
    with folder.lock() as is_mine:
        folder.make_current(folder.save(base))

    assert is_mine
    assert len(base) == 20_000
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [folder.current()]


def test_a_replaced_base_gives_its_memory_back(tmp_path: Path) -> None:
    """In small steps and by the thread that replaced it, or the last request to let go would stand still for it."""
    worker = Worker(tmp_path, 10_000)
    old = worker.table()
    total = np.nansum(old.base.floats)
    held_bytes = int(_mapping(tmp_path, "floats.npy")["Rss"])
    worker.write({"a1": 100.0})
    worker.clock.ahead_ms += COMPACT_AFTER_MS
    assert worker.table() is not old

    worker.clock.ahead_ms += RETIRED_MS
    worker.table()
    left_bytes = int(_mapping(tmp_path, "floats.npy (deleted)")["Rss"])

    assert held_bytes > left_bytes == 0
    assert np.nansum(old.base.floats) == total


def _mapping(folder: Path, name: str) -> dict[str, str]:
    """What the kernel says about the memory of a file below the folder that is mapped here."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if str(folder) in line and line.endswith(name))
    fields = dict(line.split(":", 1) for line in lines[first + 1 : first + 20] if ":" in line)
    return {"header": lines[first]} | {key: value.split()[0] for key, value in fields.items() if value.split()}
