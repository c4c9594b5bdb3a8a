"""The binary row and the catalogue chunk, byte by byte."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from feature_store.errors import CodecError
from feature_store.online.chunk import decode_chunk, encode_chunk
from feature_store.online.codec import (
    HEADER_BYTES,
    decode_packed,
    decode_row,
    decode_rows,
    encode_rows,
    event_time_of,
    row_bytes,
)
from tests.conftest import REPOSITORY
from tests.stores import make_view, numbered

GOLDEN = json.loads((REPOSITORY / "tests" / "golden" / "online_bytes.json").read_text())
VIEW = make_view("user_profile", n_float=3, n_id=2)
FLOATS = np.array([[1.5, math.nan, -0.25], [0.0, 3.0e38, 1.0e-45]], dtype=np.float32)
IDS = np.array([[0, 4_294_967_295], [17, 1]], dtype=np.uint32)
TIMES = np.array([1_790_000_000_000, 0], dtype=np.int64)


def values() -> list[bytes]:
    return encode_rows(VIEW, FLOATS, IDS, TIMES)


def test_stored_rows_never_change() -> None:
    """Rows written by last year's version must be read by this one; other programs read them too."""
    assert [value.hex() for value in values()] == GOLDEN["rows"]


def test_stored_chunks_never_change() -> None:
    """As above, for catalogues."""
    assert encode_chunk(VIEW, ["a1", "東京"], values()).hex() == GOLDEN["chunk"]


def test_golden_rows_are_decoded() -> None:
    """The other direction, from bytes that no encoder of this run made."""
    rows = decode_rows(VIEW, [bytes.fromhex(row) for row in GOLDEN["rows"]])

    np.testing.assert_array_equal(rows.floats, FLOATS)
    np.testing.assert_array_equal(rows.ids, IDS)
    np.testing.assert_array_equal(rows.event_time_ms, TIMES)


def test_golden_chunks_are_decoded() -> None:
    """As above, for catalogues."""
    entity_ids, rows = decode_chunk(VIEW, bytes.fromhex(GOLDEN["chunk"]))

    assert entity_ids == ["a1", "東京"]
    np.testing.assert_array_equal(rows.ids, IDS)


@given(data=st.data(), n=st.integers(0, 9), n_float=st.integers(0, 5), n_id=st.integers(0, 5))
def test_what_is_encoded_is_decoded(data: st.DataObject, n: int, n_float: int, n_id: int) -> None:
    """Whatever the widths and values, NaN included; one by one as well as together."""
    view = make_view(n_float=n_float, n_id=n_id)
    finite = st.floats(width=32, allow_infinity=False)
    floats = data.draw(arrays.arrays(np.float32, (n, n_float), elements=finite))
    ids = data.draw(arrays.arrays(np.uint32, (n, n_id)))
    times = data.draw(arrays.arrays(np.int64, n, elements=st.integers(0, 2**62)))

    stored = encode_rows(view, floats, ids, times)
    rows = decode_rows(view, stored)
    singles = [decode_row(view, value) for value in stored]

    np.testing.assert_array_equal(rows.floats, floats)
    np.testing.assert_array_equal(rows.ids, ids)
    np.testing.assert_array_equal(rows.event_time_ms, times)
    assert rows.found.all()
    for i, single in enumerate(singles):
        np.testing.assert_array_equal(single.floats, floats[i : i + 1])
        np.testing.assert_array_equal(single.ids, ids[i : i + 1])
        assert single.event_time_ms.tolist() == [times[i]]
        assert event_time_of(stored[i]) == times[i]


@given(st.lists(st.booleans(), max_size=8))
def test_missing_rows_are_defaults_in_their_place(present: list[bool]) -> None:
    """Row i answers key i."""
    stored = encode_rows(VIEW, *reversed_columns(len(present)))

    rows = decode_rows(VIEW, [value if is_there else None for value, is_there in zip(stored, present, strict=True)])

    assert rows.found.tolist() == present
    expected = [float(i) if is_there else 0.5 for i, is_there in enumerate(present)]
    assert rows.floats[:, 0].tolist() == expected


def reversed_columns(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, hashes and times of n rows, in the encoder's order."""
    times, floats, ids = numbered(VIEW, [float(i) for i in range(n)], 1)
    return floats, ids, times


def test_one_missing_row_is_the_defaults() -> None:
    """The fast path knows misses as well."""
    row = decode_row(VIEW, None)

    assert not row.found[0]
    assert row.floats[0, 0] == 0.5


def test_decoded_rows_own_their_memory() -> None:
    """A table of a million rows must not keep the network's buffers alive, and must be writable."""
    rows = decode_packed(VIEW, b"".join(values()))

    rows.floats[0, 0] = 9.0
    assert rows.floats.flags.c_contiguous


def test_infinity_is_refused_with_its_column() -> None:
    """The model's graph must never see one, and here is where it can still be named."""
    floats = FLOATS.copy()
    floats[1, 2] = -np.inf

    with pytest.raises(CodecError, match=r"row 1 has -inf in user_profile\.f2"):
        encode_rows(VIEW, floats, IDS, TIMES)


@pytest.mark.parametrize("number", [math.inf, -math.inf])
def test_infinity_that_somebody_else_wrote_is_refused(number: float) -> None:
    """Other programs write rows too; a linear model would make a probability of it that is no number."""
    good = values()[0]
    bad = good[: HEADER_BYTES + 4] + struct.pack("<f", number) + good[HEADER_BYTES + 8 :]

    with pytest.raises(CodecError, match=rf"row 0 has {number} in user_profile\.f1"):
        decode_row(VIEW, bad)
    with pytest.raises(CodecError, match=rf"row 1 has {number} in user_profile\.f1"):
        decode_rows(VIEW, [good, None, bad])


def test_bytes_of_infinity_elsewhere_in_a_row_are_no_infinity() -> None:
    """An id and an event time may be any number, and two numbers side by side may look like one."""
    floats = np.frombuffer(b"\0" + struct.pack("<f", math.inf) + bytes(7), "<f4")
    ids = np.array([[0x7F800000, 0xFF800000]], dtype=np.uint32)
    value = encode_rows(VIEW, floats.reshape(1, 3), ids, np.array([0x7F800000], dtype=np.int64))[0]

    assert np.isfinite(decode_row(VIEW, value).floats).all()


@pytest.mark.parametrize(
    ("at", "wrong", "message"),
    [
        (0, b"XX", r"magic b'XX', expected b'CS'"),
        (2, b"\x02", "layout 2, expected 1"),
        (3, b"\x80", "flags 128, expected 0"),
        (4, b"\x04\x00", r"numbers \(n_float\) 4, expected 3"),
        (6, b"\x01\x00", r"hashes \(n_id\) 1, expected 2"),
        (24, b"\x01\x00", r"tiles \(n_tile\) 1, expected 0"),
        (30, b"\x01", "reserved bytes"),
    ],
)
def test_a_damaged_header_is_named(at: int, wrong: bytes, message: str) -> None:
    """Both values and the view: whoever reads the log must know what to do."""
    good = values()[0]
    bad = good[:at] + wrong + good[at + len(wrong) :]

    with pytest.raises(CodecError, match=f"'user_profile'.*{message}"):
        decode_row(VIEW, bad)
    with pytest.raises(CodecError, match=message):
        decode_rows(VIEW, [good, None, bad])


@pytest.mark.parametrize("cut", [0, 1, HEADER_BYTES - 1, HEADER_BYTES, row_bytes(VIEW) - 1])
def test_a_torn_row_is_refused(cut: int) -> None:
    """Read as far as it goes it would still look like numbers."""
    torn = values()[0][:cut]

    with pytest.raises(CodecError):
        decode_row(VIEW, torn)
    with pytest.raises(CodecError):
        decode_rows(VIEW, [torn])


def test_two_torn_rows_do_not_add_up() -> None:
    """Rows are joined before they are read: one byte too many and one too few must not cancel out."""
    first, second = values()

    with pytest.raises(CodecError):
        decode_rows(VIEW, [first + b"\0", second[:-1]])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_row_or_an_error(value: bytes) -> None:
    """Somebody else may write under our keys; a request must survive it."""
    try:
        decode_row(VIEW, value)
    except CodecError:
        return
    assert value[:2] == b"CS"


@given(st.binary(max_size=200), st.integers(0, 60))
def test_any_bytes_are_a_chunk_or_an_error(noise: bytes, at: int) -> None:
    """As above, for catalogues; noise in the middle of a good one as well."""
    good = encode_chunk(VIEW, ["a1", "a2"], values())
    for chunk in (noise, good[:at] + noise + good[at + len(noise) :]):
        try:
            entity_ids, rows = decode_chunk(VIEW, chunk)
        except CodecError:
            continue
        assert len(entity_ids) == len(rows)


def test_a_chunk_of_another_view_is_refused() -> None:
    """Its rows have another width."""
    with pytest.raises(CodecError, match="rows of 52 bytes, the view has 56"):
        decode_chunk(make_view(n_float=4, n_id=2), encode_chunk(VIEW, ["a1", "a2"], values()))


def test_a_chunk_whose_ids_are_not_text_is_refused() -> None:
    """An id becomes part of an answer."""
    chunk = bytearray(encode_chunk(VIEW, ["a1", "a2"], values()))
    chunk[struct.calcsize("<2sBBIII") + 8] = 0xFF

    with pytest.raises(CodecError, match="not UTF-8"):
        decode_chunk(VIEW, bytes(chunk))


def test_the_specification_shows_the_golden_row() -> None:
    """Others write programs from that page."""
    page = (REPOSITORY / "docs" / "redis-layout.md").read_text()

    assert f"\n{GOLDEN['rows'][0]}\n" in page
