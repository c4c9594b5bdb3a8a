"""The point-in-time join, and its promise that training and serving get the same rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from feature_store.errors import LogError, SchemaError
from feature_store.ids import hash_id
from feature_store.offline.log import Log
from feature_store.offline.offline_store import OfflineStore
from tests.every_kind import DATED, EVERY_KIND, every_kind_log, write_users
from tests.logs import HOUR_MS, parquet, shop_log, shop_project


def one_a_hour(folder: Path, views: str, user: str, hours: list[int]) -> Log:
    """A log with one impression of one user at each of the given hours."""
    n = len(hours)
    columns = {"who": [user] * n, "what": ["a"] * n, "at": [hour * HOUR_MS for hour in hours]}
    columns |= {"hit": [False] * n, "hit_at": pa.array([None] * n, type=pa.int64())}
    return shop_log(folder, views, columns)


def test_the_newest_row_that_is_not_later_answers(tmp_path: Path) -> None:
    """A later row would leak; of two rows with equal time the one created last wins."""
    write_users(tmp_path)
    log = one_a_hour(tmp_path, DATED.format(ttl="90d"), "u0", [4, 5, 14, 15, 30])

    with OfflineStore(log.project, log, tmp_path) as store:
        rows = store.at_impressions(log.project.schema.views[0])

    assert rows.found.tolist() == [False, True, True, True, True]
    np.testing.assert_array_equal(rows.floats[:, 0], [np.nan, 10, 10, 30, 30])
    assert rows.event_time_ms.tolist() == [0, 5 * HOUR_MS, 5 * HOUR_MS, 15 * HOUR_MS, 15 * HOUR_MS]


def test_a_row_older_than_its_time_to_live_is_missing(tmp_path: Path) -> None:
    """It has expired from the online store, and training must not be luckier than serving."""
    write_users(tmp_path)
    log = one_a_hour(tmp_path, DATED.format(ttl="5h"), "u0", [10, 11, 20, 21])

    with OfflineStore(log.project, log, tmp_path) as store:
        rows = store.at_impressions(log.project.schema.views[0])

    assert rows.found.tolist() == [True, False, True, False]


def test_missing_values_and_missing_rows_become_defaults(tmp_path: Path) -> None:
    """A default stands for a missing value inside a row as for a whole missing row; without one it stays missing."""
    write_users(tmp_path)
    log = one_a_hour(tmp_path, DATED.format(ttl="90d"), "u1", [10, 25])
    seed = log.project.schema.hash_seed

    with OfflineStore(log.project, log, tmp_path) as store:
        rows = store.at_impressions(log.project.schema.views[0])

    assert rows.found.tolist() == [False, True]
    np.testing.assert_array_equal(rows.floats, [[np.nan, 0.25, 0.25], [np.nan, 0.25, 0.25]])
    assert rows.ids[:, 0].tolist() == [hash_id("nowhere", seed), hash_id("oslo", seed)]


def test_a_table_without_times_holds_since_ever(tmp_path: Path) -> None:
    """Its rows never expire while training, because materializing stamps them anew each time."""
    write_users(tmp_path)
    undated = DATED.format(ttl="1h").replace('event_time = { column = "since", unit = "ms" }\n', "")
    log = one_a_hour(tmp_path, undated, "u0", [1, 100])

    with OfflineStore(log.project, log, tmp_path) as store:
        rows = store.at_impressions(log.project.schema.views[0])

    assert rows.found.tolist() == [True, True]
    assert rows.event_time_ms.tolist() == [HOUR_MS, 100 * HOUR_MS]


@pytest.mark.parametrize("view_name", [view.name for view in shop_project(EVERY_KIND, Path()).schema.views])
def test_what_is_materialized_at_a_time_is_what_an_impression_at_that_time_was_joined_with(
    tmp_path: Path, view_name: str
) -> None:
    """The one promise that makes a served feature the trained one, for every kind of source."""
    log = every_kind_log(tmp_path)
    view = log.project.schema.view(view_name)
    assert view is not None
    columns = log.columns([f"_{view.entity}_id", "_time_ms"])
    entities, times = ([column.values[code] for code in column.codes] for column in columns.values())

    n_compared = 0
    with OfflineStore(log.project, log, tmp_path) as store:
        joined = store.at_impressions(view)
        for time_ms in sorted(set(times))[5::29]:
            served = {}
            for batch in store.as_of(view, time_ms):
                for i, entity in enumerate(batch.entity_ids):
                    served[entity] = (batch.event_time_ms[i], batch.floats[i].tobytes(), batch.ids[i].tobytes())
            for at in [at for at, time in enumerate(times) if time == time_ms]:
                trained = (joined.event_time_ms[at], joined.floats[at].tobytes(), joined.ids[at].tobytes())
                assert served.get(entities[at]) == (trained if joined.found[at] else None)
                n_compared += joined.found[at]

    assert n_compared > 0


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (
            "SELECT user_id AS entity_id, max(time_ms) AS event_time_ms, count(*) AS n FROM log GROUP BY 1",
            "the last time",
        ),
        ("SELECT user_id AS entity_id, min(time_ms) AS event_time_ms, count(*) AS n FROM log GROUP BY 1", "the first"),
        (
            "SELECT DISTINCT user_id AS entity_id, time_ms AS event_time_ms, "
            "count(*) FILTER (clicked) OVER (PARTITION BY user_id ORDER BY time_ms) AS n FROM log",
            "clicks counted from their impression on",
        ),
    ],
)
def test_an_sql_view_that_sees_the_future_is_refused(tmp_path: Path, query: str, why: str) -> None:
    """Its rows change when later lines are added, so a model trained on them would know what serving cannot."""
    views = f'[views.q]\nentity = "user"\nttl = "9d"\nsql = "{query}"\n[views.q.features]\nn = {{}}\n'
    log = shop_log(tmp_path, views)

    with (
        OfflineStore(log.project, log, tmp_path) as store,
        pytest.raises(LogError, match=r"views\.q\.sql: sees the future"),
    ):
        store.at_impressions(log.project.schema.views[0])


def test_an_sql_view_with_two_rows_for_one_moment_is_refused(tmp_path: Path) -> None:
    """Which of them would be served is anybody's guess."""
    query = "SELECT user_id AS entity_id, time_ms // 3600000 * 3600000 AS event_time_ms, _line AS n FROM log"
    views = f'[views.q]\nentity = "user"\nttl = "9d"\nsql = "{query}"\n[views.q.features]\nn = {{}}\n'
    log = shop_log(tmp_path, views.replace("_line", "time_ms"))

    with OfflineStore(log.project, log, tmp_path) as store, pytest.raises(LogError, match="two different rows for"):
        store.at_impressions(log.project.schema.views[0])


def test_unusable_rows_of_a_table_are_counted(tmp_path: Path) -> None:
    """An infinite number or a hostile id costs its own row and is told; the others are served."""
    parquet(
        tmp_path / "users.parquet",
        {
            "id": ["u0", "u 1", "u2", "u3"],
            "since": [0, 0, -5, 0],
            "age": [1.0, 2.0, 3.0, float("inf")],
            "city": ["a", "b", "c", "d"],
            "taste": [[1.0, 2.0]] * 4,
        },
    )
    log = one_a_hour(tmp_path, DATED.format(ttl="90d"), "u0", [4])

    with OfflineStore(log.project, log, tmp_path) as store:
        rows = store.at_impressions(log.project.schema.views[0])

    assert rows.found.tolist() == [True]
    assert [row.line for row in store.rejects["profile"].first] == [2, 3, 4]
    assert store.rejects["profile"].counts == {
        "age is infinite or too large for a 32-bit number": 1,
        "id holds a brace, space or control character": 1,
        "since lies outside 1970 to 9999; is its unit right?": 1,
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"age": ["x", "y"]},
            'features.age: column "age" of users.parquet is VARCHAR; float32\\[1\\] wants one number',
        ),
        (
            {"taste": [1.0, 2.0]},
            'features.taste: column "taste" of users.parquet is DOUBLE; float32\\[2\\] wants a list',
        ),
        ({"id": [1.5, 2.5]}, 'profile.key: column "id" of users.parquet is DOUBLE; ids are text or integers'),
        ({"city": [[1], [2]]}, 'features.city: column "city" of users.parquet is BIGINT\\[\\]; an id is one text'),
        (
            {"since": [True, False]},
            'event_time.column: column "since" of users.parquet is BOOLEAN and cannot be read as ms',
        ),
        ({"age": None, "aged": [1, 2]}, 'has no column "age", did you mean "aged"'),
    ],
)
def test_a_column_of_the_wrong_type_is_refused(tmp_path: Path, change: dict[str, object], expected: str) -> None:
    """The message names the file, the column, what it is and what is wanted."""
    columns = {"id": ["u0", "u1"], "since": [0, 0], "age": [1, 2], "city": ["a", "b"], "taste": [[1.0, 2.0]] * 2}
    parquet(tmp_path / "users.parquet", {k: v for k, v in (columns | change).items() if v is not None})
    log = one_a_hour(tmp_path, DATED.format(ttl="90d"), "u0", [4])

    with OfflineStore(log.project, log, tmp_path) as store, pytest.raises(SchemaError, match=expected):
        store.at_impressions(log.project.schema.views[0])


def test_a_table_that_is_not_there_is_named_with_the_places_searched(tmp_path: Path) -> None:
    """A path is relative to features.toml or to the log, and the message says both; here they are one folder."""
    log = one_a_hour(tmp_path, DATED.format(ttl="90d"), "u0", [4])

    with (
        OfflineStore(log.project, log, tmp_path) as store,
        pytest.raises(LogError, match=r'there is no "users.parquet" in [^ ]+$'),
    ):
        store.at_impressions(log.project.schema.views[0])


@pytest.mark.parametrize("view_name", [view.name for view in shop_project(EVERY_KIND, Path()).schema.views])
def test_questions_of_ones_own_are_answered_as_impressions_are(tmp_path: Path, view_name: str) -> None:
    """The check of served vectors asks about anybody at any time; the rows of training are the measure."""
    log = every_kind_log(tmp_path, seed=4)
    view = log.project.schema.view(view_name)
    assert view is not None
    columns = log.columns([f"_{view.entity}_id", "_time_ms"])
    entities, times = ([column.values[code] for code in column.codes] for column in columns.values())
    order = np.random.default_rng(1).permutation(log.n)
    asked = [entities[i] for i in order]

    with OfflineStore(log.project, log, tmp_path) as store:
        expected = store.at_impressions(view).take(order)
        rows = store.at(view, ["nobody", *asked], np.array([times[0], *(times[i] for i in order)], dtype=np.int64))

    assert expected.found.any()
    assert not rows.found[0]
    np.testing.assert_array_equal(rows.floats[0], view.default_floats)
    for answered, wanted in zip(
        (rows.floats, rows.ids, rows.event_time_ms, rows.found),
        (expected.floats, expected.ids, expected.event_time_ms, expected.found),
        strict=True,
    ):
        np.testing.assert_array_equal(answered[1:], wanted)
