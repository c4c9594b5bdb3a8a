"""Ids and their rows: the compiled index and its Python twin keep the same promises and the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
import xxhash

from feature_store.online.id_index import COMPILED, DuplicateId, IdIndex, build_id_index, index_of_blob

NEEDS_COMPILER = pytest.mark.skipif(not COMPILED, reason="the extension is not compiled here")
BOTH = pytest.mark.parametrize("compiled", [pytest.param(True, marks=NEEDS_COMPILER), False], ids=["C", "Python"])
UNKNOWN = 1_000_000


def made_up_ids(n: int) -> list[str]:
    """Distinct ids of 1 to 64 bytes, some beyond ASCII; every length class of the hash is among them."""
    generator = np.random.default_rng(5)
    fillers = ["", "x", "-campaign", "é" * 10, "東京" * 8, "a" * 50]
    return [f"{i}{fillers[generator.integers(len(fillers))]}" for i in range(n)]


@BOTH
@pytest.mark.parametrize("n", [0, 1, 2, 3, 33, 5_000])
def test_every_id_finds_its_row(compiled: bool, n: int) -> None:
    """And nobody else's, across the borders of blocks and slots."""
    ids = made_up_ids(n)
    index = build_id_index(ids, compiled=compiled)
    strangers = [f"{text}!" for text in ids] + ["", "nobody"]

    rows = index.lookup([*ids, *strangers], UNKNOWN)

    assert rows.tolist() == [*range(n), *[UNKNOWN] * len(strangers)]
    assert list(index.texts()) == ids
    assert len(index) == n


@BOTH
def test_the_unknown_are_counted_and_keep_their_place(compiled: bool) -> None:
    """The caller looks elsewhere for them, and only if there are any."""
    index = build_id_index(["a1", "a2"], compiled=compiled)
    out = np.empty(3, dtype=np.int64)

    n_unknown = index.lookup_into(["a2", "nobody", "a1"], UNKNOWN, out)

    assert n_unknown == 1
    assert out.tolist() == [1, UNKNOWN, 0]


@BOTH
def test_text_without_utf8_is_unknown(compiled: bool) -> None:
    """A lone surrogate can come from JSON; it is nobody's id, and no reason to fail."""
    index = build_id_index(["a1"], compiled=compiled)

    assert index.lookup(["\ud800", "a1"], UNKNOWN).tolist() == [UNKNOWN, 0]


@BOTH
def test_what_is_not_text_is_refused(compiled: bool) -> None:
    """An id that was not made text before would always be unknown, silently."""
    index = build_id_index(["1"], compiled=compiled)

    with pytest.raises(TypeError, match="ids must be text, got int"):
        index.lookup([1], UNKNOWN)  # type: ignore[list-item]


@BOTH
def test_an_id_that_comes_twice_is_named(compiled: bool) -> None:
    """One of its rows could never be found."""
    with pytest.raises(DuplicateId, match="'a2' comes twice"):
        build_id_index(["a1", "a2", "a3", "a2"], compiled=compiled)


@BOTH
def test_the_answer_needs_its_room(compiled: bool) -> None:
    """C code writes to memory that it was given."""
    index = build_id_index(["a1"], compiled=compiled)

    with pytest.raises(ValueError, match="out must"):
        index.lookup_into(["a1", "a2"], UNKNOWN, np.empty(1, dtype=np.int64))


@BOTH
def test_some_ids_make_another_index(compiled: bool) -> None:
    """A compaction keeps the ids of the rows that are left."""
    ids = made_up_ids(300)
    index = build_id_index(ids, compiled=compiled)
    kept = np.arange(0, 300, 7)

    chosen = index_of_blob(*index.select(kept), compiled=compiled)

    assert list(chosen.texts()) == [ids[row] for row in kept]
    assert list(index_of_blob(*index.select(kept[:0]), compiled=compiled).texts()) == []


@NEEDS_COMPILER
def test_both_build_the_same_bytes() -> None:
    """A snapshot may be written by one and read by the other."""
    ids = made_up_ids(2_000)

    compiled, twin = build_id_index(ids, compiled=True), build_id_index(ids, compiled=False)

    np.testing.assert_array_equal(compiled.slots, twin.slots)
    np.testing.assert_array_equal(compiled.offsets, twin.offsets)
    np.testing.assert_array_equal(compiled.blob, twin.blob)


@BOTH
def test_ids_that_begin_at_the_same_slot_are_told_apart(compiled: bool) -> None:
    """At a load of one half most slots of a small table are walked through."""
    first_slot = 3
    ids = [text for i in range(400) if xxhash.xxh64_intdigest((text := f"ad{i}").encode()) & 15 == first_slot][:8]

    index = build_id_index(ids, compiled=compiled)

    assert len(index.slots) == 16
    assert index.lookup([*ids, "ad-none"], UNKNOWN).tolist() == [*range(8), UNKNOWN]


@NEEDS_COMPILER
@pytest.mark.parametrize("damage", ["slots", "offsets", "blob", "all slots"])
def test_damaged_arrays_raise_and_never_crash(damage: str) -> None:
    """They come from a disk; a wild read would take the whole worker down."""
    ids = [f"ad-{i}" for i in range(50)]
    whole = build_id_index(ids, compiled=True)
    slots, offsets, blob = whole.slots.copy(), whole.offsets.copy(), whole.blob.copy()
    if damage == "slots":
        slots[slots > 0] |= 0xFFFF_FFFF
    elif damage == "offsets":
        offsets[1:] = 2**32 - 1
    elif damage == "blob":
        blob = blob[: len(blob) // 2]
    else:
        slots[:] = slots[slots > 0][0] & 0xFFFF_FFFF

    index = IdIndex(slots, offsets, blob, compiled=True)

    if damage == "all slots":
        assert index.lookup(ids, UNKNOWN).tolist() == [UNKNOWN] * 50
    else:
        with pytest.raises(ValueError, match="the id index is damaged"):
            index.lookup(ids, UNKNOWN)


@NEEDS_COMPILER
@pytest.mark.parametrize(
    ("slots", "offsets", "match"),
    [
        (np.zeros(3, np.uint64), np.zeros(1, np.uint32), "a power of two"),
        (np.zeros(0, np.uint64), np.zeros(1, np.uint32), "a power of two"),
        (np.zeros(4, np.uint64), np.zeros(0, np.uint32), "one more than rows"),
        (np.zeros(4, np.uint64), np.zeros(9, np.uint32), "too few for 8 rows"),
        (np.zeros(33, np.uint8)[1:].view(np.uint64), np.zeros(1, np.uint32), "aligned uint64"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(slots: np.ndarray, offsets: np.ndarray, match: str) -> None:
    """Before anything is read."""
    index = IdIndex(slots, offsets, np.zeros(0, np.uint8), compiled=True)

    with pytest.raises(ValueError, match=match):
        index.lookup(["a1"], UNKNOWN)
