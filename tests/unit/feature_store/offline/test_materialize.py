"""Materializing: all entities, at one time, resumable, and never an empty view."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_store.definition import Project
from feature_store.errors import LogError, NoRowLeft, SchemaError, StoreDown
from feature_store.offline import engine as engine_module
from feature_store.offline.materialize import MaterializeReport, materialize
from feature_store.online.codec import decode_rows
from feature_store.online.layout import ViewKeys
from feature_store.online.memory_store import MemoryStore
from feature_store.rows import Rows
from feature_store.schema import FeatureView
from tests.logs import HOUR_MS, parquet, shop_log, shop_project

VIEW = """
[views.scores]
entity = "user"
ttl = "10h"
from = "{source}"
{event_time}
[views.scores.features]
x = {{}}
kind = {{ dtype = "id" }}
"""
NOW_MS = 100 * HOUR_MS


def now() -> int:
    return NOW_MS


def project_of(folder: Path, *, source: str = "external", dated: bool = False) -> Project:
    event_time = 'event_time = { column = "at", unit = "ms" }' if dated else ""
    return shop_project(VIEW.format(source=source, event_time=event_time), folder)


def scores(path: Path, n: int = 10, *, at: Sequence[int] | None = None) -> Path:
    columns: dict[str, Any] = {
        "user_id": [f"u{i}" for i in range(n)],
        "x": np.arange(n, dtype=np.float64),
        "kind": [f"k{i % 3}" for i in range(n)],
        "at": [NOW_MS - HOUR_MS] * n if at is None else at,
    }
    return parquet(path, columns)


def run(project: Project, folder: Path, store: MemoryStore, as_of_ms: int | None = None) -> MaterializeReport:
    return materialize(
        project, project.schema.views, None, store, workdir=folder / "work", clock=now, as_of_ms=as_of_ms
    )


def stored(store: MemoryStore, project: Project, entity_ids: list[str]) -> Rows:
    view = project.schema.views[0]
    keys = ViewKeys(project.schema.project, view).rows(entity_ids)
    return decode_rows(view, asyncio.run(store.get_many(keys, timeout_ms=10)))


class DyingStore(MemoryStore):
    """A store whose server is lost after so many batches."""

    def __init__(self, n_batches: int) -> None:
        super().__init__("shop", now)
        self.batches: list[list[str]] = []
        self.dies_after = n_batches

    @contextmanager
    def session(self, view: FeatureView, *, distinct: bool = False) -> Any:
        with super().session(view, distinct=distinct) as session:
            write = session.write

            def write_or_die(entity_ids: list[str], *rest: Any) -> Any:
                if len(self.batches) == self.dies_after:
                    raise StoreDown("the server is gone")
                self.batches.append(entity_ids)
                return write(entity_ids, *rest)

            session.write = write_or_die
            yield session


def test_features_computed_elsewhere_are_loaded_as_they_are(tmp_path: Path) -> None:
    """A file handed over on the command line: id, event time, columns; no SQL, no log."""
    project = project_of(tmp_path, dated=True).with_table("scores", scores(tmp_path / "made_elsewhere.parquet"))
    store = MemoryStore("shop", now)

    report = run(project, tmp_path, store)

    rows = stored(store, project, ["u3", "u9", "u10"])
    assert rows.found.tolist() == [True, True, False]
    assert rows.floats[:2, 0].tolist() == [3, 9]
    assert rows.event_time_ms[:2].tolist() == [NOW_MS - HOUR_MS] * 2
    assert (report.written, report.views[0].entities, report.views[0].resumed_after_rows) == (10, 10, None)


def test_rows_without_a_time_are_stamped_with_the_as_of_time(tmp_path: Path) -> None:
    """They hold since ever, so what is stored is as fresh as the run."""
    scores(tmp_path / "users.parquet")
    project = project_of(tmp_path, source="users.parquet")
    store = MemoryStore("shop", now)

    run(project, tmp_path, store, as_of_ms=NOW_MS - 5)

    assert stored(store, project, ["u0"]).event_time_ms.tolist() == [NOW_MS - 5]


def test_a_later_row_is_not_yet_materialized(tmp_path: Path) -> None:
    """As of a time means what was known then, in serving as in training."""
    scores(tmp_path / "users.parquet", 3, at=[NOW_MS - HOUR_MS, NOW_MS - 2 * HOUR_MS, NOW_MS])
    project = project_of(tmp_path, source="users.parquet", dated=True)
    store = MemoryStore("shop", now)

    report = run(project, tmp_path, store, as_of_ms=NOW_MS - HOUR_MS)

    assert stored(store, project, ["u0", "u1", "u2"]).found.tolist() == [True, True, False]
    assert report.views[0].later_than_as_of == 1


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    """A scheduler may start it twice."""
    scores(tmp_path / "users.parquet")
    project = project_of(tmp_path, source="users.parquet", dated=True)
    store = MemoryStore("shop", now)
    run(project, tmp_path, store)
    before = stored(store, project, ["u1", "u2"])

    report = run(project, tmp_path, store)

    after = stored(store, project, ["u1", "u2"])
    assert report.written == 10
    assert before.floats.tobytes() == after.floats.tobytes()
    assert before.event_time_ms.tolist() == after.event_time_ms.tolist()


def test_a_killed_run_is_resumed_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million rows are not written again because the server was away for a minute, and the as-of time stays."""
    monkeypatch.setattr(engine_module, "ROWS_PER_BATCH", 2_048)
    scores(tmp_path / "users.parquet", 10_000)
    project = project_of(tmp_path, source="users.parquet")
    store = DyingStore(n_batches=2)
    with pytest.raises(StoreDown):
        run(project, tmp_path, store)
    first_ids = {entity_id for batch in store.batches for entity_id in batch}

    store.dies_after = 100
    report = run(project, tmp_path, store)

    later_ids = [entity_id for batch in store.batches[2:] for entity_id in batch]
    assert report.views[0].resumed_after_rows == len(first_ids)
    assert len(first_ids) + len(later_ids) == 10_000
    assert first_ids.isdisjoint(later_ids)
    assert stored(store, project, [f"u{i}" for i in range(10_000)]).found.all()


def test_a_changed_source_is_materialized_from_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the old file and half of the new one would be a state that never existed."""
    monkeypatch.setattr(engine_module, "ROWS_PER_BATCH", 2_048)
    scores(tmp_path / "users.parquet", 5_000)
    project = project_of(tmp_path, source="users.parquet")
    store = DyingStore(n_batches=1)
    with pytest.raises(StoreDown):
        run(project, tmp_path, store)
    scores(tmp_path / "users.parquet", 5_001)

    store.dies_after = 100
    report = run(project, tmp_path, store)

    assert report.views[0].resumed_after_rows is None
    assert report.written == 5_001


def test_progress_ends_at_one(tmp_path: Path) -> None:
    """Long work shows where it stands."""
    scores(tmp_path / "users.parquet")
    project = project_of(tmp_path, source="users.parquet")
    told: list[tuple[str, float]] = []

    materialize(
        project,
        project.schema.views,
        None,
        MemoryStore("shop", now),
        workdir=tmp_path,
        clock=now,
        on_progress=lambda stage, share: told.append((stage, share)),
    )

    assert told[0] == ("reading scores", 0.0)
    assert told[-1] == ("materializing scores", 1.0)


def test_rejected_rows_of_the_file_are_reported(tmp_path: Path) -> None:
    """An id that may not become part of a key costs its own row only."""
    parquet(tmp_path / "users.parquet", {"user_id": ["a", "{b}"], "x": [1.0, 2.0], "kind": ["k", "k"]})
    project = project_of(tmp_path, source="users.parquet")

    report = run(project, tmp_path, MemoryStore("shop", now))

    assert report.written == 1
    assert report.views[0].rejected.counts == {"user_id holds a brace, space or control character": 1}


def test_a_view_whose_rows_have_all_expired_is_refused(tmp_path: Path) -> None:
    """Published, it would be nothing but defaults, and nobody would know why."""
    scores(tmp_path / "users.parquet")
    project = project_of(tmp_path, source="users.parquet")

    with pytest.raises(NoRowLeft, match=r"all 10 rows as of .* have outlived their time-to-live"):
        run(project, tmp_path, MemoryStore("shop", now), as_of_ms=NOW_MS - 11 * HOUR_MS)


def test_a_view_whose_every_row_is_older_than_the_stored_one_says_so(tmp_path: Path) -> None:
    """Written 0 and exit 0 look like success; most often the as-of time was a mistake."""
    scores(tmp_path / "users.parquet")
    project = project_of(tmp_path, source="users.parquet")
    store = MemoryStore("shop", now)
    first = run(project, tmp_path, store)

    second = run(project, tmp_path, store, as_of_ms=NOW_MS - HOUR_MS)

    assert first.views[0].warning == ""
    assert second.views[0].warning == (
        "view 'scores': nothing was written: all 10 rows as of 1970-01-05T03:00:00+00:00 were skipped, "
        "10 because the store holds newer ones"
    )


def test_no_view_is_written_before_all_can_be_read(tmp_path: Path) -> None:
    """A store with one view of today and one of last week is a state nobody asked for."""
    scores(tmp_path / "users.parquet")
    good = VIEW.format(source="users.parquet", event_time="")
    project = shop_project(good + good.replace("views.scores", "views.other") + "y = {}\n", tmp_path)
    store = MemoryStore("shop", now)

    with pytest.raises(SchemaError, match=r'views.other.features.y: users.parquet has no column "y"'):
        run(project, tmp_path, store)

    assert store.states() == []


def test_a_time_before_every_row_is_refused(tmp_path: Path) -> None:
    """Most often an as-of time in seconds instead of milliseconds."""
    scores(tmp_path / "users.parquet")
    project = project_of(tmp_path, source="users.parquet", dated=True)

    with pytest.raises(NoRowLeft, match=r"'scores' has no row as of 1970-01-01T00:00:05.*10 rows are later"):
        run(project, tmp_path, MemoryStore("shop", now), as_of_ms=5_000)


def test_an_external_view_wants_its_file(tmp_path: Path) -> None:
    """The message says both ways to name it."""
    with pytest.raises(SchemaError, match=r'from = "scores.parquet" to train and .* --view scores --from FILE'):
        run(project_of(tmp_path), tmp_path, MemoryStore("shop", now))


def test_a_file_can_only_be_named_for_a_table_view(tmp_path: Path) -> None:
    """A misspelt view must not be ignored."""
    with pytest.raises(SchemaError, match="view 'score' does not read a table; views that do: scores"):
        project_of(tmp_path).with_table("score", tmp_path / "x.parquet")


def test_a_view_of_the_log_wants_the_log(tmp_path: Path) -> None:
    """Counts cannot be made of nothing."""
    views = '[views.w]\nentity = "user"\nttl = "9d"\nstep = "1h"\n[views.w.features]\nn = { clicks = "all" }\n'

    with pytest.raises(LogError, match="'w' needs the click log"):
        run(shop_project(views, tmp_path), tmp_path, MemoryStore("shop", now))


def test_counts_of_the_log_are_materialized_for_every_user_of_it(tmp_path: Path) -> None:
    """As of now, users without a recent impression have a row too: their count of all time stands."""
    views = '[views.w]\nentity = "user"\nttl = "9d"\nstep = "1h"\n[views.w.features]\nn = { impressions = "all" }\n'
    log = shop_log(tmp_path, views)
    store = MemoryStore("shop", now)

    materialize(log.project, log.project.schema.views, log, store, workdir=tmp_path, clock=now)

    users = log.columns(["_user_id"])["_user_id"]
    rows = stored(store, log.project, users.values)
    assert rows.floats[:, 0].tolist() == np.bincount(users.codes).tolist()
