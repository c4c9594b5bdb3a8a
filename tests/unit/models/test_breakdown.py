"""Groups are causal and complete, and a segment is flagged only where it is surely off."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.definition import parse_project
from models.calibrator import sigmoid
from models.errors import NoSuchColumn
from models.evaluation import metrics
from models.evaluation.breakdown import breakdown
from models.evaluation.grouping_columns import check_asked
from models.evaluation.groups import Groups, groups_by, own_groups
from models.logs.frame import TrainingFrame, build_frame
from models.logs.reader import read_log
from tests.logs import HOUR_MS, SHOP, parquet, random_columns, shop_log

VIEWS = """
[context.place]
dtype = "id"
[views.shelf]
entity = "ad"
ttl = "90d"
from = "ads.parquet"
key = "what"
[views.shelf.features]
kind = { dtype = "id" }
price = {}
"""


def shop_frame(folder: Path, n: int = 400) -> TrainingFrame:
    """Seven ads of two kinds, one of them without a row; `size` is a column of the log and no feature."""
    parquet(folder / "ads.parquet", {"what": [f"a{i}" for i in range(6)], "kind": list("xyxyxy"), "price": range(6)})
    columns = random_columns(3, n) | {"size": np.random.default_rng(0).normal(size=n)}
    return build_frame(shop_log(folder, VIEWS, columns))


def test_the_age_of_an_ad_is_its_impressions_so_far(tmp_path: Path) -> None:
    """Written out over the whole log; a part keeps the ages of the whole."""
    frame = shop_frame(tmp_path)

    seen: dict[int, int] = {}
    expected = []
    for code in frame.ads.codes.tolist():
        expected.append(seen.get(code, 0))
        seen[code] = expected[-1] + 1
    assert frame.earlier_of_ad.tolist() == expected
    assert frame.part(0.5, 0.9).earlier_of_ad.tolist() == expected[200:360]


def test_what_comes_later_changes_no_age(tmp_path: Path) -> None:
    """Ages of the first half are those of a log that ends there."""
    parquet(tmp_path / "ads.parquet", {"what": ["a0"], "kind": ["x"], "price": [1.0]})
    columns = random_columns(5, 200)
    half = {name: column[:100] for name, column in columns.items()}  # type: ignore[index]

    whole = build_frame(shop_log(tmp_path, VIEWS, columns))
    first = build_frame(shop_log(tmp_path, VIEWS, half))

    for ages in ("earlier_of_ad", "earlier_of_user"):
        assert getattr(whole, ages)[:100].tolist() == getattr(first, ages).tolist()


@pytest.mark.parametrize("by", ["place", "context.place", "shelf.kind", "shelf.price", "what", "size"])
def test_groups_hold_the_rows_that_a_filter_would_find(tmp_path: Path, by: str) -> None:
    """A context feature, an attribute by its text, a number, and plain columns of the log; also in a part of it."""
    frame = shop_frame(tmp_path).part(0.25, 1)
    ads = [frame.ads.values[code] for code in frame.ads.codes]

    groups = groups_by(frame, by)

    named = [groups.names[code] for code in groups.codes]
    if by.endswith("place"):
        place = frame.log_column("place")
        assert named == [place.values[code] for code in place.codes]
    elif by == "shelf.kind":
        assert named == ["missing" if ad == "a6" else "xyxyxy"[int(ad[1])] for ad in ads]
    elif by == "shelf.price":
        assert named == ["missing" if ad == "a6" else ad[1] for ad in ads]
    elif by == "what":
        assert named == ads
    else:
        assert sorted(np.bincount(groups.codes).tolist()) == [60] * 5


def test_rare_values_are_one_group(tmp_path: Path) -> None:
    """Twenty tables of one click each would say nothing."""
    frame = build_frame(shop_log(tmp_path, '[context.place]\ndtype = "id"\n', random_columns(0, 500, n_ads=50)))

    groups = groups_by(frame, "what")

    sizes = np.bincount(groups.codes)
    assert groups.names[-1] == "30 others"
    assert (len(groups.names), sizes.sum()) == (21, 500)
    assert sizes[:20].tolist() == sorted(sizes[:20].tolist(), reverse=True)


def test_an_unknown_column_is_refused_with_the_nearest(tmp_path: Path) -> None:
    """A table that is silently missing looks like an answer."""
    with pytest.raises(NoSuchColumn, match=r"--by shelf.kin: .* did you mean 'shelf.kind'"):
        groups_by(shop_frame(tmp_path), "shelf.kin")


@pytest.mark.parametrize("by", ["hit", "hit_at", "_clicked", "_delay_ms", "_row"])
def test_what_tells_of_the_click_and_our_own_columns_make_no_groups(tmp_path: Path, by: str) -> None:
    """Every group would be of one class; and nobody asked for a column that they did not write."""
    with pytest.raises(NoSuchColumn, match=f"--by {by}: ") as refused:
        groups_by(shop_frame(tmp_path), by)

    assert "_time_ms" not in str(refused.value)


def test_the_refusal_names_the_columns_of_the_log_too(tmp_path: Path) -> None:
    """Any of them makes groups, not only features."""
    log = shop_frame(tmp_path).log

    with pytest.raises(NoSuchColumn, match=r"there are place, shelf\.kind, shelf\.price, who, what, at, size$"):
        check_asked(log, ("zzz",), None, None)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/St_Johns"])
def test_a_time_makes_one_group_a_day_of_the_logs_zone(tmp_path: Path, zone: str) -> None:
    """Twenty groups of one impression would say nothing; a day ends where the log's owner's day ends."""
    columns = random_columns(3, 400, hours=200)
    log = parquet(tmp_path / "log.parquet", columns)
    head = SHOP.replace('name = "shop"', f'name = "shop"\ntime_zone = "{zone}"')
    project = parse_project(head + '[context.place]\ndtype = "id"\n', origin="features.toml", folder=tmp_path)
    frame = build_frame(read_log(f"parquet:{log}", project, workdir=tmp_path / "w"))

    groups = groups_by(frame, "at")

    days = [str(datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).date()) for at in frame.time_ms.tolist()]
    assert [groups.names[code] for code in groups.codes] == days
    assert list(groups.names) == sorted(set(days))


def test_of_many_days_the_newest_are_told_apart(tmp_path: Path) -> None:
    """A year is no table; what comes last tells most."""
    frame = build_frame(shop_log(tmp_path, '[context.place]\ndtype = "id"\n', random_columns(3, 2_000, hours=24 * 40)))

    groups = groups_by(frame, "at")

    days = frame.time_ms // (24 * HOUR_MS)
    assert len(groups.names) == 21
    assert groups.names[0].endswith("earlier days")
    assert (groups.codes[-1], groups.codes[0]) == (20, 0)
    assert len(np.unique(days[groups.codes == 0])) == int(groups.names[0].split()[0])


def test_every_log_is_broken_down_by_what_it_knows(tmp_path: Path) -> None:
    """This one has ads and users, and no positions."""
    found = {groups.by: groups.names for groups in own_groups(shop_frame(tmp_path, 1_000))}

    assert found == {
        "ad_age": ("first 100", "101 to 1,000"),
        "user": ("new: no earlier impression", "seen before"),
    }


@given(st.integers(0, 1_000))
def test_segments_are_the_figures_of_their_rows(seed: int) -> None:
    """Every impression in one of them; what a segment cannot define is not told."""
    random = np.random.default_rng(seed)
    clicked, p_click = random.random(60) < 0.3, random.integers(1, 9, size=60) / 10.0
    groups = Groups("g", random.integers(4, size=60), ("a", "b", "c", "d"))

    segments = breakdown(groups, clicked, p_click, None).segments

    for i, segment in enumerate(segments):
        rows = groups.codes == i
        assert (segment.impressions, segment.clicks) == (rows.sum(), clicked[rows].sum())
        assert (segment.calibration_ratio is None) == (not clicked[rows].any())
        assert (segment.auc is None) == (len(set(clicked[rows].tolist())) < 2)
        if segment.auc is not None and segment.normalized_entropy is not None:
            assert segment.auc.value == metrics.auc(clicked[rows], p_click[rows])
            assert segment.normalized_entropy.value == metrics.normalized_entropy(clicked[rows], p_click[rows])


def test_only_what_is_surely_off_by_a_tenth_is_flagged() -> None:
    """Exact: never, over eight samples. Off by a fifth: with 4 000 clicks, not with 400."""
    flags = {"exact": 0, "off": 0, "off and small": 0}
    sizes = {"exact": 40_000, "off": 40_000, "off and small": 4_000}

    for seed in range(8):
        random = np.random.default_rng(seed)
        for name, n in sizes.items():
            p_true = sigmoid(random.normal(-2.3, 0.5, size=n))
            p_click = p_true if name == "exact" else 1.2 * p_true
            (found,) = breakdown(
                Groups("g", np.zeros(n, dtype=np.int64), ("all",)), random.random(n) < p_true, p_click, None
            ).segments
            flags[name] += found.flagged

    by_place = Groups("position", np.zeros(n, dtype=np.int64), ("all",), judged=False)
    assert not breakdown(by_place, np.arange(n) % 2 == 0, np.full(n, 0.9), None).segments[0].flagged
    assert flags["exact"] == flags["off and small"] == 0
    assert flags["off"] == 8
