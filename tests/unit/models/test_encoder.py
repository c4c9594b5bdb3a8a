"""The encoder: one layout of columns for training and serving, and nothing infinite in it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from feature_store.ids import hash_id
from feature_store.schema import ContextFeature, Feature, FeatureView, PairFeature, TableSource
from models.encoder import Block, Encoder, ModelInputs, context_number
from models.errors import EncodingError


def view(entity: str, name: str, *features: Feature) -> FeatureView:
    source = TableSource(columns=tuple(feature.name for feature in features))
    return FeatureView(name=name, entity=entity, features=features, source=source, hash_seed=0, ttl_ms=1)  # type: ignore[arg-type]


USER = view("user", "u", Feature("age"), Feature("taste", width=3), Feature("segment", dtype="id"))
AD = view("ad", "a", Feature("slot"), Feature("price"), Feature("category", dtype="id"))
PAIRS = (
    PairFeature("liking", "lookup", "u.taste", "a.slot"),
    PairFeature("cross", "cross_hash", "u.segment", "a.category"),
    PairFeature("same", "equal", "u.segment", "a.category"),
)
CONTEXT = (ContextFeature("hour"), ContextFeature("device", dtype="id", default="phone"))


def inputs(
    views: tuple[FeatureView, ...] = (USER, AD),
    context: tuple[ContextFeature, ...] = CONTEXT,
    pairs: tuple[PairFeature, ...] = PAIRS,
) -> ModelInputs:
    return ModelInputs(project="p", views=views, context=context, pairs=pairs, hash_seed=0)


def block(floats: list[list[float]], ids: list[list[int]]) -> Block:
    return Block(np.array(floats, dtype=np.float32), np.array(ids, dtype=np.uint32))


ONE_USER = block([[30, 0.1, 0.2, 0.3]], [[7]])
TWO_ADS = block([[2, 9.5], [5, np.nan]], [[7], [8]])
ONE_CONTEXT = block([[12]], [[3]])


def test_columns_come_in_the_order_user_ad_context_pairs() -> None:
    """A graph knows its columns by place alone."""
    encoder = Encoder(inputs())

    assert encoder.float_names == (
        "u.age", "u.taste[0]", "u.taste[1]", "u.taste[2]",
        "a.slot", "a.price",
        "context.hour",
        "pair.liking", "pair.same",
    )  # fmt: skip
    assert encoder.id_names == ("u.segment", "a.category", "context.device", "pair.cross")


def test_values_lie_under_their_names() -> None:
    """Column by column, what went in under a name comes out under it."""
    encoder = Encoder(inputs())

    encoded = encoder.encode(ONE_USER, TWO_ADS, ONE_CONTEXT)

    floats = dict(zip(encoder.float_names, encoded.features.T.tolist(), strict=True))
    ids = dict(zip(encoder.id_names, encoded.ids.T.tolist(), strict=True))
    assert floats["u.age"] == [30, 30]
    assert floats["a.slot"] == [2, 5]
    assert floats["context.hour"] == [12, 12]
    assert floats["pair.liking"][0] == pytest.approx(0.3)
    assert math.isnan(floats["pair.liking"][1])
    assert floats["pair.same"] == [1, 0]
    assert ids["u.segment"] == [7, 7]
    assert ids["a.category"] == [7, 8]
    assert ids["context.device"] == [3, 3]
    assert len(set(ids["pair.cross"])) == 2
    assert encoded.features.dtype == np.float32
    assert encoded.ids.dtype == np.int64


def test_serving_one_user_equals_training_on_many_rows() -> None:
    """A model trained on rows and served on a broadcast user must see the same numbers."""
    encoder = Encoder(inputs())
    user_rows = Block(ONE_USER.floats.repeat(2, axis=0), ONE_USER.ids.repeat(2, axis=0))
    context_rows = Block(ONE_CONTEXT.floats.repeat(2, axis=0), ONE_CONTEXT.ids.repeat(2, axis=0))

    served = encoder.encode(ONE_USER, TWO_ADS, ONE_CONTEXT)
    trained = encoder.encode(user_rows, TWO_ADS, context_rows)

    np.testing.assert_array_equal(served.features, trained.features)
    np.testing.assert_array_equal(served.ids, trained.ids)


def test_no_rows_make_empty_matrices() -> None:
    """An empty list of candidates is a question with an empty answer, not a crash."""
    encoder = Encoder(inputs())
    no_ads = Block(np.empty((0, 2), np.float32), np.empty((0, 1), np.uint32))

    encoded = encoder.encode(ONE_USER, no_ads, ONE_CONTEXT)

    assert encoded.features.shape == (0, 9)
    assert encoded.ids.shape == (0, 4)


def test_blocks_of_different_lengths_are_refused() -> None:
    """Two users and three ads have no meaning side by side; a silent broadcast would mix up rows."""
    encoder = Encoder(inputs())
    two_users = Block(ONE_USER.floats.repeat(2, axis=0), ONE_USER.ids.repeat(2, axis=0))
    three_ads = block([[0, 1]] * 3, [[1]] * 3)

    with pytest.raises(EncodingError, match=r"\[2, 3, 1\]"):
        encoder.encode(two_users, three_ads, ONE_CONTEXT)


def test_absent_context_takes_its_default_and_is_told() -> None:
    """Whoever bids on a default must be able to know."""
    encoded = Encoder(inputs()).encode_context({})

    assert encoded.missing
    assert not encoded.unknown
    assert math.isnan(encoded.block.floats[0, 0])
    assert encoded.block.ids[0, 0] == hash_id("phone", 0)


def test_a_context_key_of_no_feature_is_told() -> None:
    """A misspelt key would otherwise be a default for ever."""
    encoded = Encoder(inputs()).encode_context({"hour": 3, "device": "tablet", "devcie": "tablet"})

    assert encoded.unknown
    assert not encoded.missing


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e39, -1e39, 10**400, "12", None, [1]])
def test_a_context_value_that_is_no_float32_is_missing(value: object) -> None:
    """No infinity reaches a graph, and no warning reaches the log of a server."""
    assert context_number(value) is None


@pytest.mark.parametrize(
    ("value", "number"), [(True, 1.0), (3, 3.0), (0.1, 0.1), (np.int64(4), 4.0), (np.float32(0.5), 0.5)]
)
def test_a_context_number_is_any_kind_of_number(value: object, number: float) -> None:
    """Logs bring NumPy's numbers, requests Python's."""
    assert context_number(value) == number


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (PairFeature("x", "product", "u.agee", "a.price"), "no such column 'u.agee'"),
        (PairFeature("x", "product", "u.segment", "a.price"), "product works on numbers"),
        (PairFeature("x", "equal", "u.age", "a.category"), "equal works on hashes"),
        (PairFeature("x", "product", "u.taste", "a.price"), "widths 3 and 1"),
        (PairFeature("x", "lookup", "u.age", "u.taste"), "widths 1 and 3"),
    ],
)
def test_a_pair_of_impossible_sides_is_refused(pair: PairFeature, message: str) -> None:
    """Before training, not at the first request."""
    with pytest.raises(EncodingError, match=message):
        Encoder(inputs(pairs=(pair,)))


def test_two_columns_of_one_name_are_refused() -> None:
    """The second would hide the first in every report."""
    with pytest.raises(EncodingError, match=r"context\.hour"):
        Encoder(inputs(context=(ContextFeature("hour"), ContextFeature("hour"))))
