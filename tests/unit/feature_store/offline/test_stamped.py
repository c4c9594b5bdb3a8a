"""Features logged with the time they were computed: what holds since when, and a leak that cannot hide."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from feature_store.definition import parse_project
from feature_store.errors import LogError, SchemaError
from feature_store.offline.offline_store import OfflineStore
from service import cli
from tests.logs import HOUR_MS, SHOP, parquet, random_columns, shop_log
from tests.planted import N_ROWS, STAMPED, planted_columns


def test_one_feature_in_ten_thousand_stamped_a_second_late_is_found(tmp_path: Path) -> None:
    """The file's row is named, whatever the order of times."""
    columns, planted = planted_columns(seed=1)
    log = shop_log(tmp_path, STAMPED, columns)

    with (
        OfflineStore(log.project, log, tmp_path) as store,
        pytest.raises(LogError, match=rf"'logged' leaks: in 1 of {N_ROWS:,} rows read_at .* row {planted + 1}, by 1 s"),
    ):
        store.at_impressions(log.project.schema.views[0])


def test_training_refuses_a_leak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No model is published, and no option lets it pass."""
    columns, _ = planted_columns(seed=2)
    path = parquet(tmp_path / "log.parquet", columns)
    (tmp_path / "features.toml").write_text(SHOP + STAMPED)
    command = ["train", "--model", "logistic", "--data", f"parquet:{path}", "--registry", str(tmp_path / "registry")]

    code = cli.run([*command, "--features", str(tmp_path / "features.toml"), "--workdir", str(tmp_path / "work")])

    assert code == 1
    assert "clickserve: view 'logged' leaks: in 1 of 10,000 rows" in capsys.readouterr().err
    assert not (tmp_path / "registry").exists()


def test_a_logged_feature_holds_from_its_stamp_on(tmp_path: Path) -> None:
    """Each impression gets its user's newest value by stamp that is not later, and none beyond the ttl."""
    columns = random_columns(3, 400)
    at = np.asarray(columns["at"])
    age = np.random.default_rng(3).integers(0, 4 * HOUR_MS, 400)
    columns |= {"read_at": at - age, "score": np.arange(400.0)}
    log = shop_log(tmp_path, STAMPED.replace("30d", "2h"), columns)

    with OfflineStore(log.project, log, tmp_path) as store:
        rows = store.at_impressions(log.project.schema.views[0])

    who = np.asarray(columns["who"])
    stamps = at - age
    for i in range(400):
        known = np.flatnonzero((who == who[i]) & (stamps <= at[i]))
        newest = known[stamps[known] == stamps[known].max()].max()
        assert rows.found[i] == (at[i] - stamps[newest] <= 2 * HOUR_MS)
        if rows.found[i]:
            assert rows.floats[i, 0] == newest


def test_rows_without_a_stamp_are_left_out_and_counted(tmp_path: Path) -> None:
    """When they were computed nobody knows, so they could be leaks."""
    columns = random_columns(4, 50)
    missing = np.arange(50) % 10 == 0
    columns |= {"read_at": pa.array(np.asarray(columns["at"]) - 5, mask=missing), "score": np.arange(50.0)}
    log = shop_log(tmp_path, STAMPED, columns)

    with OfflineStore(log.project, log, tmp_path) as store:
        rows = store.at_impressions(log.project.schema.views[0])

        assert store.rejects["logged"].counts == {"read_at is missing": 5}
    assert not set(rows.floats[:, 0]) & set(np.flatnonzero(missing))


@pytest.mark.parametrize(
    ("head", "column", "expected"),
    [
        (SHOP, "hit_at", "the time of the click: a leak"),
        (SHOP.replace('time = { column = "at", unit = "ms" }', ""), "read_at", "event_time: log.time does not say"),
    ],
    ids=["label", "no time"],
)
def test_a_stamp_that_cannot_be_one_is_refused(head: str, column: str, expected: str) -> None:
    """The time of the click says that there was one; and without times nothing can be compared."""
    with pytest.raises(SchemaError, match=expected):
        parse_project(head + STAMPED.replace("read_at", column), origin="features.toml")


def test_the_leak_is_told_as_a_line_of_a_text_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever looks it up opens the file, and the header is its first line."""
    at = [1_000_000 + i * 1_000 for i in range(200)]
    read_at = [time + (1_000 if i == 57 else -1) for i, time in enumerate(at)]
    lines = [f"u{i % 9},a1,{at[i]},{i % 2},{read_at[i]},1" for i in range(200)]
    (tmp_path / "log.csv").write_text("\n".join(["who,what,at,hit,read_at,score", *lines]) + "\n")
    head = SHOP.replace('click_time = { column = "hit_at", unit = "ms" }', "")
    (tmp_path / "features.toml").write_text(head + STAMPED)
    command = [
        "train",
        "--data",
        f"csv:{tmp_path / 'log.csv'}",
        "--features",
        str(tmp_path / "features.toml"),
        "--json",
    ]

    code = cli.run([*command, "--workdir", str(tmp_path / "work"), "--registry", str(tmp_path / "registry")])

    said = capsys.readouterr()
    assert (code, said.out or json.dumps({})) == (1, "{}")
    assert "first in line 59, by 1 s" in said.err
