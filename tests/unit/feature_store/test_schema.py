"""Feature views: what changes their meaning, and what does not."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from feature_store.ids import hash_id
from feature_store.schema import Feature, FeatureView, SqlSource, TableSource, WindowMeasure, WindowSource
from tests.stores import make_view

VIEW = FeatureView(
    name="ad_profile",
    entity="ad",
    features=(
        Feature(name="price", default=0.5),
        Feature(name="category", dtype="id", default="other"),
        Feature(name="embedding", width=3),
        Feature(name="tags", dtype="id", width=2),
    ),
    source=TableSource(columns=("price_eur", "category", "emb", "tags")),
    hash_seed=7,
    ttl_ms=1_000,
)


def test_the_fingerprint_never_changes() -> None:
    """Stored rows and published models name it; a new one would orphan them all."""
    assert VIEW.fingerprint == "3d4636740d94b577e2e468ca5035622d434db334c295405cdb5451a52f9c978d"


def test_the_fingerprint_of_windows_never_changes() -> None:
    """What later versions can say of a window must not rename what earlier ones stored."""
    measures = (
        WindowMeasure(measure="impressions", window_ms=604_800_000),
        WindowMeasure(measure="ctr", prior_impressions=20.0),
    )
    source = WindowSource(step_ms=3_600_000, lag_ms=600_000, by="ad_profile.campaign", measures=measures)
    features = (Feature(name="seen"), Feature(name="rate", default=0.01))
    view = msgspec.structs.replace(VIEW, name="ad_clicks", features=features, source=source)

    assert view.fingerprint == "4e104616fb2043087449d7afb398597c2e3f908df469283c0075dcda2f4a3667"


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "ad_profiles"},
        {"entity": "user"},
        {"hash_seed": 8},
        {"features": VIEW.features[::-1]},
        {"features": (*VIEW.features[:3], Feature(name="tags", dtype="id", width=3))},
        {"features": (Feature(name="price", default=0.25), *VIEW.features[1:])},
        {"features": (*VIEW.features[:2], Feature(name="embedding", width=3, ngrams=(1,)), VIEW.features[3])},
        {"features": (*VIEW.features[:2], Feature(name="embedding", width=3, ngrams=(1, 2)), VIEW.features[3])},
        {"source": TableSource(columns=("price_usd", "category", "emb", "tags"))},
        {"source": SqlSource(sql="SELECT 1")},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_meaning_has_another_fingerprint(changed: dict[str, object]) -> None:
    """Rows of two meanings under one key would be read as each other."""
    assert msgspec.structs.replace(VIEW, **changed).fingerprint != VIEW.fingerprint


def test_the_time_to_live_is_no_part_of_the_meaning() -> None:
    """Keeping rows longer must not orphan the stored ones."""
    assert msgspec.structs.replace(VIEW, ttl_ms=2_000).fingerprint == VIEW.fingerprint


def test_a_number_has_one_fingerprint_however_it_is_written() -> None:
    """A view built in Python and the same view read from a file must meet under one key."""
    whole = msgspec.structs.replace(VIEW, features=(Feature(name="price", default=1),))
    point = msgspec.structs.replace(VIEW, features=(Feature(name="price", default=1.0),))

    assert whole.fingerprint == point.fingerprint


def test_the_group_of_a_window_is_part_of_its_meaning() -> None:
    """Counts of a campaign are not counts of an ad."""
    measures = (WindowMeasure(measure="clicks"),)
    alone = WindowSource(step_ms=1, lag_ms=0, measures=measures)
    grouped = WindowSource(step_ms=1, lag_ms=0, measures=measures, by="ad_profile.campaign")

    views = [msgspec.structs.replace(VIEW, source=source) for source in (alone, grouped)]

    assert views[0].fingerprint != views[1].fingerprint


def test_what_counts_are_split_across_is_part_of_their_meaning() -> None:
    """Number 3 of a vector by category is not number 3 of a vector by price class."""
    measures = (WindowMeasure(measure="clicks"),)
    sources = [
        WindowSource(step_ms=1, lag_ms=0, measures=measures, across=across)
        for across in (msgspec.UNSET, "ads.category", "ads.price_class")
    ]

    assert len({msgspec.structs.replace(VIEW, source=source).fingerprint for source in sources}) == 3


def test_the_half_life_is_part_of_the_meaning() -> None:
    """A count that forgets within an hour is not one that forgets within a day, nor one that never does."""
    sources = [
        WindowSource(step_ms=1, lag_ms=0, measures=(WindowMeasure(measure="clicks", half_life_ms=half_life),))
        for half_life in (msgspec.UNSET, 3_600_000, 86_400_000)
    ]

    fingerprints = {msgspec.structs.replace(VIEW, source=source).fingerprint for source in sources}

    assert len(fingerprints) == 3


def test_columns_follow_the_order_of_features_by_kind() -> None:
    """Models name columns; the stored row has numbers first, then hashes."""
    assert VIEW.float_columns == (
        "ad_profile.price",
        "ad_profile.embedding[0]",
        "ad_profile.embedding[1]",
        "ad_profile.embedding[2]",
    )
    assert VIEW.id_columns == ("ad_profile.category", "ad_profile.tags[0]", "ad_profile.tags[1]")


def test_defaults_stand_in_the_order_of_columns() -> None:
    """A missing row must look like a row."""
    assert VIEW.default_floats[0] == np.float32(0.5)
    assert all(math.isnan(value) for value in VIEW.default_floats[1:])
    assert VIEW.default_ids.tolist() == [hash_id("other", 7), 0, 0]


@pytest.mark.parametrize(("time_ms", "as_of_ms"), [(3_600_000, 3_000_000), (3_599_999, 2_000_000), (0, -1_000_000)])
def test_windows_are_seen_as_of_the_last_step_before_the_lag(time_ms: int, as_of_ms: int) -> None:
    """Training and serving must cut time at the same places."""
    source = WindowSource(step_ms=1_000_000, lag_ms=600_000, measures=())

    assert source.as_of_ms(time_ms) == as_of_ms


def test_a_view_without_features_is_a_view() -> None:
    """An entity may be known only by being there."""
    view = make_view(n_float=0, n_id=0)

    assert (view.n_float, view.n_id) == (0, 0)
