"""Entity ids and hashed values."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.errors import EntityIdError
from feature_store.ids import MISSING_ID, canonical_text, entity_id, hash_id, hash_ids
from tests.conftest import REPOSITORY

GOLDEN = json.loads((REPOSITORY / "tests" / "golden" / "hashes.json").read_text())


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{str(case['value'])[:20]!r} seed {case['seed']}")
def test_hashes_never_change(case: dict[str, object]) -> None:
    """A changed hash silently turns every stored row and every trained model into nonsense."""
    seed = case["seed"]
    assert isinstance(seed, int)

    assert hash_id(case["value"], seed) == case["hash"]


def test_many_hashes_are_the_hashes_of_each() -> None:
    """Training hashes columns, serving hashes single values."""
    values = ["a", None, 3, 3.0, True, math.nan]

    hashes = hash_ids(values, seed=7)

    assert hashes.dtype == np.uint32
    assert hashes.tolist() == [hash_id(value, 7) for value in values]


@pytest.mark.parametrize("missing", [None, math.nan, np.float32("nan")])
def test_a_missing_value_has_the_hash_zero(missing: object) -> None:
    """Missing is no category of its own by accident of its spelling."""
    assert hash_id(missing, 7) == MISSING_ID


@given(st.text(), st.integers(0, 2**63 - 1))
def test_no_value_has_the_hash_of_missing(text: str, seed: int) -> None:
    """One value in four billion would otherwise count as missing."""
    assert 1 <= hash_id(text, seed) < 2**32


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (3.0, "3"), (np.int64(3), "3"), (np.float32(3), "3"), (0.1, "0.1"), (-0.0, "0"), (True, "true")],
)
def test_one_category_has_one_text(value: object, text: str) -> None:
    """Senders of JSON do not agree on how a whole number is written."""
    assert canonical_text(value) == text


@pytest.mark.parametrize("value", ["u1", "ä", "東京", "a:b*[x]", "x" * 64, "é" * 32, "~", "'"])
def test_ordinary_text_is_an_id(value: str) -> None:
    """Shops have ids in their own language and style."""
    assert entity_id(value) == value


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (-7, "-7"), (2**64, str(2**64))])
def test_an_integer_becomes_decimal_text(value: int, text: str) -> None:
    """7 and "7" are the same user."""
    assert entity_id(value) == text


NO_IDS = ["", "x" * 65, "é" * 33, "a b", "a{b", "a}b", "\n", "\x00", "\x7f", "\u0085", "\u2028", "\ud800"]


@pytest.mark.parametrize("value", [*NO_IDS, None, 1.5, True, [12], {"id": 1}, b"u1"], ids=repr)
def test_anything_else_is_no_id(value: object) -> None:
    """Keys, hash tags and line protocols are built from ids."""
    with pytest.raises(EntityIdError):
        entity_id(value)


def test_a_bad_id_is_shown_short() -> None:
    """A megabyte of id must not become a megabyte of log."""
    with pytest.raises(EntityIdError) as caught:
        entity_id(["x" * 1_000_000])

    assert len(str(caught.value)) < 150
