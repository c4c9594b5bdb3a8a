"""Logs as they come: each flaw is a clear message or a counted exclusion, and never a model that lies in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from feature_store.clock import system_clock
from service import cli
from tests.logs import HOUR_MS, parquet

DAY_MS = 24 * HOUR_MS
MIDNIGHT_MS = 1_700_006_400_000
"""Of 2023-11-15 UTC, when the logs begin."""
N = 1_000
N_USERS = 30
FEATURES = """
[project]
name = "bad"
[log]
user_id = "user"
ad_id = "ad"
time = { column = "at", unit = "ms" }
click_time = { column = "click_at", unit = "ms" }
[context.place]
dtype = "id"
[context.bid]
[views.profile]
entity = "user"
ttl = "3650d"
from = "users.parquet"
key = "user"
[views.profile.features]
age = {}
"""


class Trained(NamedTuple):
    """What `clickserve train` said; the document is empty where it failed."""

    code: int
    document: dict[str, Any]
    said: str

    @property
    def doubts(self) -> str:
        """Its warnings in one text."""
        return "\n".join(self.document["warnings"])


class Shop:
    """Trains on logs in a folder of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        parquet(folder / "users.parquet", {"user": [f"u{i}" for i in range(N_USERS)], "age": np.arange(N_USERS) / 2})

    def train(self, *logs: dict[str, Any], features: str = FEATURES, model: str = "logistic") -> Trained:
        """On one file for each of the logs."""
        (self.folder / "features.toml").write_text(features)
        for i, columns in enumerate(logs):
            parquet(self.folder / f"log-{i}.parquet", columns)
        command = ["train", "--model", model, "--data", f"parquet:{self.folder / 'log-*.parquet'}", "--json"]
        command += ["--features", str(self.folder / "features.toml"), "--workdir", str(self.folder / "work")]
        code = cli.run([*command, "--registry", str(self.folder / "registry")])
        out, said = self._capsys.readouterr()
        return Trained(code, json.loads(out) if code == 0 else {}, said)


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    return Shop(tmp_path, capsys)


def good(seed: int = 1, n: int = N) -> dict[str, Any]:
    """Five days of impressions without a flaw."""
    random = np.random.default_rng(seed)
    at = MIDNIGHT_MS + np.sort(random.choice(5 * DAY_MS, n, replace=False))
    clicked = random.random(n) < 0.3
    return {
        "user": [f"u{i}" for i in random.integers(0, N_USERS, n)],
        "ad": [f"a{i}" for i in random.integers(0, 9, n)],
        "at": at,
        "clicked": clicked,
        "click_at": pa.array(at + random.integers(1, HOUR_MS, n), mask=~clicked),
        "place": [f"p{i}" for i in random.integers(0, 3, n)],
        "bid": random.random(n),
    }


def clicked_where(clicked: np.ndarray, columns: dict[str, Any]) -> dict[str, Any]:
    return columns | {"clicked": clicked, "click_at": pa.array(columns["at"] + 5, mask=~clicked)}


def test_a_good_log_raises_no_doubt(shop: Shop) -> None:
    """Otherwise the warnings below would be noise that everybody learns to skip."""
    trained = shop.train(good())

    assert (trained.code, trained.document["warnings"], trained.document["rejected_rows"]) == (0, [], 0)


def test_a_log_without_a_click_is_refused(shop: Shop) -> None:
    """There is nothing to learn, and most often a wrong column behind it."""
    trained = shop.train(clicked_where(np.zeros(N, bool), good()))

    assert trained.code == 1
    assert f"no impression of the {N} in the log was clicked, so there is nothing to learn; check log" in trained.said


def test_where_every_click_was_rejected_the_refusal_says_why(shop: Shop) -> None:
    """Click times in the wrong zone lie before their impressions: what is missing is the reason, not the label."""
    columns = good()
    columns["click_at"] = pa.array(columns["at"] - HOUR_MS, mask=~columns["clicked"])

    trained = shop.train(columns)

    clicks = int(columns["clicked"].sum())
    assert trained.code == 1
    assert f"no impression of the {N - clicks} in the log was clicked" in trained.said
    assert f"{clicks} x click_at is earlier than the impression" in trained.said


def test_where_a_few_clicks_are_left_the_rejected_ones_are_told_with_the_refusal(shop: Shop) -> None:
    """Too little to learn from, because most of it could not be used."""
    columns = good()
    early = np.cumsum(columns["clicked"]) > 3
    columns["click_at"] = pa.array(columns["at"] + np.where(early, -5, 5), mask=~columns["clicked"])

    trained = shop.train(columns)

    assert trained.code == 1
    assert "with 3 clicks are too few to learn from" in trained.said
    assert f"{int(columns['clicked'].sum()) - 3} x click_at is earlier than the impression" in trained.said


@pytest.mark.parametrize(
    ("of_800", "of_200"),
    [((200, 50, 0, 0), 0), ((0, 0, 150, 0), 50), ((50, 50, 50, 50), 0), ((50, 200, 200, 200), 200)],
    ids=["first days", "one quarter", "tail without", "tail of clicks alone"],
)
@pytest.mark.parametrize("model", ["logistic", "ftrl"])
def test_clicks_in_one_part_of_the_time_are_told_part_by_part(
    shop: Shop, model: str, of_800: tuple[int, ...], of_200: int
) -> None:
    """A fold of one class can neither teach nor judge."""
    clicked = np.zeros(N, bool)
    for first, clicks in enumerate((*of_800, of_200)):
        clicked[200 * first :][:clicks] = True

    trained = shop.train(clicked_where(clicked, good()), model=model)

    assert trained.code == 1
    assert f"clicks are too uneven over time: {list(of_800)} in the four quarters" in trained.said
    assert f"{of_200} in the last 20 %" in trained.said


@pytest.mark.parametrize("model", ["logistic", "ftrl"])
def test_a_fold_of_one_class_that_leaves_enough_is_named(shop: Shop, model: str) -> None:
    """The other folds can teach; but clicks that stop for days are most often lost."""
    clicked = np.arange(N) % 4 == 0
    clicked[200:400] = False

    trained = shop.train(clicked_where(clicked, good()), model=model)

    assert trained.code == 0
    assert trained.doubts == (
        "of the 5 fifths of the log, number 2 holds impressions of one class alone (clicks in each: [50, 0, 50, 50, "
        "50]); did clicks stop arriving, or come late?"
    )


def test_columns_that_never_change_are_named(shop: Shop) -> None:
    """They harm nobody, but somebody believed that they carry something."""
    ages = np.full(N_USERS, 40.0)
    parquet(shop.folder / "users.parquet", {"user": [f"u{i}" for i in range(N_USERS)], "age": ages})

    trained = shop.train(good() | {"place": ["p"] * N, "bid": np.full(N, np.nan)})

    assert trained.code == 0
    assert trained.doubts == (
        f"profile.age, context.bid, context.place: the same value in all {N:,} impressions, so nothing can be learnt "
        "from it"
    )


def test_a_column_of_a_new_type_is_refused_between_two_runs(shop: Shop) -> None:
    """Numbers that became text would be missing in every impression."""
    columns = good()

    trained = shop.train(columns | {"bid": [str(bid) for bid in columns["bid"]]})

    assert trained.code == 2
    assert 'context.bid: column "bid" of log-*.parquet is VARCHAR; float32[1] wants one number' in trained.said


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (np.arange(N), np.arange(N) + 0.7, "holds numbers with a point, but whole numbers in"),
        (np.arange(N) / 2, [f"{i}" for i in range(N)], "holds text, but numbers with a point in"),
        (pa.nulls(N), np.arange(N) / 2, "holds numbers with a point, but nothing in"),
    ],
    ids=["rounded", "text", "nothing"],
)
def test_a_column_of_a_new_type_is_refused_between_two_files(shop: Shop, first: Any, second: Any, words: str) -> None:
    """The first file decides what is read: 0.7 would be 1 in silence."""
    trained = shop.train(good(1) | {"bid": first}, good(2) | {"bid": second})

    assert trained.code == 1
    assert f'column "bid" of {shop.folder / "log-1.parquet"} {words} {shop.folder / "log-0.parquet"}' in trained.said


def test_files_that_differ_in_width_or_missing_values_alone_are_one_log(shop: Shop) -> None:
    """Writers choose the narrowest type, day by day."""
    wide, narrow, none = np.arange(N) / 2, np.arange(N, dtype=np.int16), pa.nulls(N)

    trained = shop.train(good(1) | {"bid": wide}, good(2) | {"bid": narrow}, good(3) | {"bid": none})

    assert trained.code == 0


def test_clicks_before_their_impressions_are_left_out_and_counted(shop: Shop) -> None:
    """Two clocks, or two columns swapped; whether the click is real nobody can tell."""
    columns = good()
    early = np.asarray(columns["clicked"]) & (np.arange(N) % 10 == 0)
    arrived = np.where(early, columns["at"] - 5_000, columns["at"] + 5)
    columns["click_at"] = pa.array(arrived, mask=~columns["clicked"])

    trained = shop.train(columns)

    reasons = trained.document["rejects"]["log"]["reasons"]
    assert reasons == {"click_at is earlier than the impression": int(early.sum())}


def twice(columns: dict[str, Any], n: int) -> dict[str, Any]:
    """The first n impressions once more, at the end."""
    return {name: pa.concat_arrays([pa.array(values), pa.array(values)[:n]]) for name, values in columns.items()}


def test_impressions_that_are_there_twice_are_counted(shop: Shop) -> None:
    """Two alike may be two where times are coarse, so they stay; but somebody is told."""
    trained = shop.train(twice(good(), 50))

    assert f"50 of {N + 50:,} impressions repeat an earlier one: same user, ad, time and label" in trained.doubts
    assert trained.document["rejected_rows"] == 0


def test_with_an_id_an_impression_counts_once(shop: Shop) -> None:
    """Sent twice, it is one; two that look alike are two; without an id nobody can tell."""
    features = FEATURES.replace("[log]", '[log]\nimpression_id = "id"')
    columns = twice(good(), 50)
    ids: list[int | None] = [*range(N), *range(30), *range(N, N + 10), *[None] * 10]

    trained = shop.train(columns | {"id": ids}, features=features)

    told = trained.document["rejects"]["log"]
    assert (trained.code, trained.document["warnings"]) == (0, [])
    assert told["reasons"] == {"id repeats an earlier row": 30}
    assert told["first"][0] == {"line": N + 1, "reason": "id repeats an earlier row", "value": "0"}


def test_impressions_of_the_future_are_left_out_and_counted(shop: Shop) -> None:
    """They would be the newest, and the newest judge the model."""
    columns = good()
    columns["at"] = np.where(np.arange(N) < 7, system_clock() + 30 * DAY_MS, columns["at"])

    trained = shop.train(clicked_where(columns["clicked"], columns))

    reasons = trained.document["rejects"]["log"]["reasons"]
    assert reasons == {"at lies more than a day after now; is its unit right?": 7}


def test_a_day_without_an_impression_is_named(shop: Shop) -> None:
    """An export that lost a day trains without complaint, and every count over that day is too low."""
    columns = good()
    kept = pa.array((columns["at"] - MIDNIGHT_MS) // DAY_MS != 2)

    trained = shop.train({name: pa.array(values).filter(kept) for name, values in columns.items()})

    assert trained.doubts.startswith("1 of 5 days (UTC) hold no impression: 2023-11-17; if rows are lost")


@pytest.mark.parametrize("users", [[], ["U1", "U2"]], ids=["empty", "other ids"])
def test_a_view_that_answers_nobody_is_named(shop: Shop, users: list[str]) -> None:
    """An empty table and one of other ids are the same to a model: defaults, everywhere."""
    ages = pa.array(np.ones(len(users)))
    parquet(shop.folder / "users.parquet", {"user": pa.array(users, pa.string()), "age": ages})

    trained = shop.train(good())

    assert trained.code == 0
    assert trained.doubts.startswith(f"view 'profile' has no row for any of {N:,} impressions, so its features are all")


def test_a_log_that_streams_is_doubted_as_well(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views without rows, lost days and lost clicks are seen where the log does not fit into memory, too."""
    monkeypatch.setattr("service.training_jobs.STREAMED_FROM", 100)
    columns = good()
    clicked = np.arange(N) % 4 == 0
    clicked[150:350] = False
    kept = pa.array((columns["at"] - MIDNIGHT_MS) // DAY_MS != 2)
    parquet(shop.folder / "users.parquet", {"user": pa.array([], pa.string()), "age": pa.array([], pa.float64())})
    lost = {name: pa.array(values).filter(kept) for name, values in clicked_where(clicked, columns).items()}

    trained = shop.train(lost, model="ftrl")

    assert trained.code == 0
    assert "view 'profile' has no row for any of" in trained.doubts
    assert "1 of 5 days (UTC) hold no impression: 2023-11-17" in trained.doubts
    assert "number 2 holds impressions of one class alone" in trained.doubts
