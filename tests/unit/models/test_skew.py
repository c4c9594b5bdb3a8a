"""The skew check: silent for rows that materializing would write, exact for every other row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.errors import LogError, SchemaError
from feature_store.offline.log import Log
from feature_store.offline.offline_store import OfflineStore
from feature_store.rows import Rows
from feature_store.schema import FeatureView
from models.encoder import Block, Encoder, ModelInputs, Side
from models.evaluation.served_vectors import ServedVectors, read_served
from models.evaluation.skew import NOT_A_NUMBER, ulps_apart
from models.evaluation.skew_check import SkewReport, check_skew
from tests.logs import HOUR_MS, MINUTE_MS, parquet, random_columns, shop_log

VIEWS = """
[views.user_windows]
entity = "user"
ttl = "9h"
step = "30m"
lag = "20m"
[views.user_windows.features]
seen = { impressions = "3h" }
rate = { ctr = "all", prior_impressions = 2 }
[views.user_place]
entity = "user"
ttl = "5h"
from = "log"
[views.user_place.features]
place = { dtype = "id", default = "nowhere" }
[views.ad_profile]
entity = "ad"
ttl = "40h"
from = "ads.parquet"
key = "id"
event_time = { column = "since", unit = "ms" }
[views.ad_profile.features]
campaign = { dtype = "id" }
price = { default = 0.5 }
[views.campaign_windows]
entity = "ad"
ttl = "9h"
step = "1h"
by = "ad_profile.campaign"
[views.campaign_windows.features]
clicks = { clicks = "all" }
rate = { ctr = "4h", prior_impressions = 3 }
[context.place]
dtype = "id"
[pairs.seen_price]
op = "product"
left = "user_windows.seen"
right = "ad_profile.price"
"""
BEGIN_MS = 10 * HOUR_MS
"""Of the shop's random logs."""


def dated_log(folder: Path, seed: int) -> Log:
    """A log beside a table of ads that join and change campaigns at any time, mostly within a step."""
    random = np.random.default_rng(seed)
    n = 40
    parquet(
        folder / "ads.parquet",
        {
            "id": [f"a{i}" for i in random.integers(7, size=n)],
            "since": BEGIN_MS + random.integers(0, 30 * HOUR_MS, size=n),
            "campaign": [f"c{i}" for i in random.integers(3, size=n)],
            "price": random.random(n),
        },
    )
    return shop_log(folder, VIEWS, random_columns(seed, 400), seed=seed)


def as_materialized(store: OfflineStore, view: FeatureView, moment_ms: int, entity_ids: list[str]) -> Rows:
    """What an online store would answer after materializing as of a moment; the product's own way of writing it."""
    rows = Rows.missing(view, len(entity_ids))
    for batch in store.as_of(view, moment_ms):
        for i, entity_id in enumerate(batch.entity_ids):
            if entity_id in entity_ids:
                at = entity_ids.index(entity_id)
                rows.floats[at], rows.ids[at] = batch.floats[i], batch.ids[i]
                rows.event_time_ms[at], rows.found[at] = batch.event_time_ms[i], True
    return rows


def served_after(store: OfflineStore, log: Log, moments: list[int]) -> ServedVectors:
    """Every user with one ad after each materialization, as the service would have logged it a while later."""
    encoder = Encoder(ModelInputs.of(log.project.schema))
    users, ads = [f"u{i}" for i in range(7)], [f"a{i}" for i in range(2, 9)]
    entity_ids = {"user": users, "ad": ads}
    context = encoder.encode_context({"place": "p1"}).block
    features, ids, as_of_ms = [], [], []
    for moment_ms in moments:
        rows = [as_materialized(store, view, moment_ms, entity_ids[view.entity]) for view in encoder.inputs.views]
        user, ad = (
            Block(
                np.concatenate(
                    [r.floats for r, v in zip(rows, encoder.inputs.views, strict=True) if v.entity == entity], 1
                ),
                np.concatenate(
                    [r.ids for r, v in zip(rows, encoder.inputs.views, strict=True) if v.entity == entity], 1
                ),
            )
            for entity in ("user", "ad")
        )
        encoded = encoder.encode(user, ad, context)
        features.append(encoded.features)
        ids.append(encoded.ids)
        as_of_ms.append(np.stack([r.event_time_ms for r in rows], axis=1))
    n = len(moments) * len(users)
    return ServedVectors(
        encoder=encoder,
        versions=("v1",),
        request_ids=[f"r{i}" for i in range(n)],
        time_ms=np.repeat(moments, len(users)) + 10 * MINUTE_MS,
        entity_ids={"user": users * len(moments), "ad": ads * len(moments)},
        contexts=['{"place":"p1"}'],
        context_codes=np.zeros(n, dtype=np.int32),
        features=np.concatenate(features),
        ids=np.concatenate(ids),
        as_of_ms=np.concatenate(as_of_ms),
    )


@pytest.mark.parametrize("seed", range(6))
def test_what_materializing_writes_at_any_moment_has_no_skew(tmp_path: Path, seed: int) -> None:
    """Whatever the step, lag, time-to-live or group, and whether the row was there."""
    log = dated_log(tmp_path, seed)
    random = np.random.default_rng(seed)
    moments = (BEGIN_MS + np.sort(random.integers(HOUR_MS, 32 * HOUR_MS, size=8))).tolist()
    with OfflineStore(log.project, log, tmp_path) as store:
        served = served_after(store, log, moments)

        report = check_skew(store, log.project, [served])

    assert report.skewed == ()
    assert [view.unknown for view in report.views] == [0, 0, 0, 0]
    assert {column.column: column.unequal for column in report.columns if column.unequal} == {}
    assert report.rows == 56
    assert all(0 < view.missing < 56 for view in report.views)


def checked(folder: Path, change: dict[str, int] | None = None, shift_ms: int = 0) -> SkewReport:
    """A report on honest rows of which those with a row have columns moved by steps of float32, or an as-of shifted."""
    log = dated_log(folder, 1)
    with OfflineStore(log.project, log, folder) as store:
        served = served_after(store, log, [BEGIN_MS + 12 * HOUR_MS, BEGIN_MS + 20 * HOUR_MS])
        features, as_of_ms = served.features.copy(), served.as_of_ms.copy()
        for name, steps in (change or {}).items():
            at = served.encoder.float_names.index(name)
            for _ in range(steps):
                features[:, at] = np.nextafter(features[:, at], np.float32(np.inf))
        columns = served.encoder.layout
        user = Block(
            features[:, : columns[Side.USER].n_floats], served.ids[:, : columns[Side.USER].n_ids].astype(np.uint32)
        )
        ad_at = columns[Side.AD]
        ad = Block(
            features[:, ad_at.first_float : ad_at.first_float + ad_at.n_floats],
            served.ids[:, ad_at.first_id : ad_at.first_id + ad_at.n_ids].astype(np.uint32),
        )
        pairs = served.encoder.encode_pairs(user, ad, served.encoder.encode_context({}).block)
        features[:, columns[Side.PAIR].first_float :] = pairs.floats
        as_of_ms[:, 1] += np.where(as_of_ms[:, 1] > 0, shift_ms, 0)
        return check_skew(store, log.project, [replace(served, features=features, as_of_ms=as_of_ms)])


@pytest.mark.parametrize(
    ("change", "skewed"),
    [
        ({"user_windows.rate": 1, "campaign_windows.rate": 1}, ()),
        ({"user_windows.rate": 2}, ("user_windows.rate",)),
        ({"user_windows.seen": 1}, ("user_windows.seen",)),
        ({"campaign_windows.clicks": 1, "ad_profile.price": 1}, ("ad_profile.price", "campaign_windows.clicks")),
    ],
)
def test_rates_may_be_one_step_away_and_counts_and_attributes_none(
    tmp_path: Path, change: dict[str, int], skewed: tuple[str, ...]
) -> None:
    """A pair of a wrong column is right about what it was made from: it is not named again."""
    report = checked(tmp_path, change)

    assert report.skewed == skewed


def test_a_row_of_an_as_of_that_the_log_does_not_know_differs(tmp_path: Path) -> None:
    """It was made from other data, whatever it says."""
    report = checked(tmp_path, shift_ms=1)

    (place,) = (view for view in report.views if view.view == "user_place")
    assert report.skewed == ("user_place.place",)
    assert place.unknown == place.rows - place.missing > 0


def test_a_view_that_has_changed_since_is_refused_by_name(tmp_path: Path) -> None:
    """Other features under the same name would be called skew."""
    log = dated_log(tmp_path, 1)
    schema = log.project.schema
    changed = tuple(
        msgspec.structs.replace(view, hash_seed=99) if view.name == "ad_profile" else view for view in schema.views
    )
    project = msgspec.structs.replace(log.project, schema=msgspec.structs.replace(schema, views=changed))
    with OfflineStore(log.project, log, tmp_path) as store:
        served = served_after(store, log, [BEGIN_MS + 12 * HOUR_MS])

        with pytest.raises(SchemaError, match="view 'ad_profile' of fingerprint"):
            check_skew(store, project, [served])


def test_files_of_two_schemas_are_counted_together(tmp_path: Path) -> None:
    """A new version with one more feature does not split what is known of the others."""
    log = dated_log(tmp_path, 1)
    with OfflineStore(log.project, log, tmp_path) as store:
        served = served_after(store, log, [BEGIN_MS + 12 * HOUR_MS])

        report = check_skew(store, log.project, [served, replace(served, versions=("v2",))])

    assert (report.rows, report.versions) == (14, ("v1", "v2"))
    assert {column.rows for column in report.columns} == {14}


@pytest.mark.parametrize(
    ("content", "message"), [(None, "holds no finished file"), (b"no Parquet", "cannot be read as Parquet")]
)
def test_a_folder_without_a_served_log_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    """Nothing compared must not look like nothing wrong."""
    if content is not None:
        (tmp_path / "served-1-1-1.parquet").write_bytes(content)

    with pytest.raises(LogError, match=message):
        read_served(tmp_path, "default", None)


@given(
    value=st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**99), max_value=2.0**99),
    steps=st.integers(0, 5),
)
def test_distance_counts_steps_of_float32(value: float, steps: int) -> None:
    """Also across zero, where -0.0 and 0.0 are one step apart."""
    start = np.array([value], dtype=np.float32)
    end = start.copy()
    for _ in range(steps):
        if end[0] == 0 and np.signbit(end[0]):
            end = np.zeros(1, dtype=np.float32)
        else:
            below_zero = end[0] < 0
            end = np.nextafter(end, np.float32(np.inf))
            end = np.array([-0.0], dtype=np.float32) if below_zero and end[0] == 0 else end

    assert ulps_apart(start, end).tolist() == ulps_apart(end, start).tolist() == [steps]


def test_nan_equals_nan_and_nothing_else() -> None:
    """A missing number is served as missing."""
    nan, number = np.float32(np.nan), np.float32(1)

    apart = ulps_apart(np.array([nan, nan, number]), np.array([nan, number, nan]))

    assert apart.tolist() == [0, NOT_A_NUMBER, NOT_A_NUMBER]
