"""Frames become the same requests as JSON does, or the same problems; rankings become the golden frames."""

from __future__ import annotations

import json
import re
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.rank_frame import rank_frame, received_ranking
from service.binary_frame import framed_request, ranking_frame
from service.errors import InvalidRequest, MalformedBody, RequestError
from service.knowledge import CODES, Knowledge
from service.rank_form import Ranking
from service.wire import DegradedCode, ModelReference, RankRequest, rank_request
from tests.conftest import REPOSITORY

LIMIT = 5
GOLDEN = json.loads((REPOSITORY / "tests/golden/binary_rank.json").read_text())
PAGE = (REPOSITORY / "docs/binary-rank.md").read_text()
WHOLE = rank_frame(["a1", "é"], user_id="u1", context={"device": "phone"}, bids=[1.5, 0.25], model="other")

TEXTS = st.text(max_size=3) | st.sampled_from(["a", "b", "a b", "{a}", "é" * 33, "x" * 65, "\x7f"])
LINES = TEXTS.filter(lambda text: "\n" not in text)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
CONTEXTS = st.dictionaries(st.text(max_size=3), SCALARS | st.text(max_size=3) | st.lists(st.integers(), max_size=1))


def header(**said: int) -> bytes:
    """The 24 bytes of a request of one candidate, with some fields changed."""
    usual = {"version": 1, "flags": 0, "model": 0, "user": 0, "reserved": 0, "n": 1, "top_k": 0, "context": 0}
    return struct.pack("<4sBBHHHIII", b"CSRQ", *(usual | said).values())


def outcome(read: Any, body: bytes) -> object:
    """The request that a body becomes, as something that can be compared; or its problem."""
    try:
        request: RankRequest = read(body, LIMIT)
    except RequestError as error:
        return type(error), str(error)
    bids = None if request.bids is None else request.bids.tolist()
    return request.model, request.user_id, request.ad_ids, bids, request.context, request.top_k


@pytest.mark.parametrize("name", GOLDEN["requests"])
def test_the_golden_requests_are_read_as_what_they_say(name: str) -> None:
    """Callers were written against these bytes."""
    golden = GOLDEN["requests"][name]
    said = golden["says"]

    request = framed_request(bytes.fromhex(golden["hex"]), LIMIT)

    assert request.ad_ids == said["candidates"]
    assert (None if request.bids is None else request.bids.tolist()) == said.get("bids")
    assert (request.user_id, request.context) == (said.get("user_id"), said.get("context", {}))
    assert (request.model, request.top_k) == (said.get("model", "default"), said.get("top_k", len(request.ad_ids)))


def test_the_golden_answers_are_written() -> None:
    """To the byte: with everything that an answer may say, and with as little as possible."""
    full = Ranking(
        "r-1",
        ModelReference("default", "v000001-3f9c2a71", "champion"),
        ["a1", "a2", "a3"],
        np.array([1, 0, 2]),
        np.array([0.125, 0.5]),
        np.array([0.25, 1.0]),
        ["ad_missing", "deadline_partial"],
        Knowledge({"ad_missing"}, {0: ["ad_missing"]}, [], missing=1, stale=0, age_ms_max=5_400_000),
    )
    plain = Ranking(
        "r-2",
        ModelReference("default", "v1", "champion"),
        ["a1", "a2"],
        np.array([1]),
        np.array([0.125, 0.5]),
        None,
        [],
        Knowledge(set(), {}, [], missing=0, stale=0, age_ms_max=None),
    )

    assert ranking_frame(full).hex() == GOLDEN["answers"]["full"]
    assert ranking_frame(plain).hex() == GOLDEN["answers"]["plain"]


def test_a_caller_reads_from_an_answer_what_the_service_said() -> None:
    """By the page alone: its half was written without looking at ours."""
    answer = received_ranking(bytes.fromhex(GOLDEN["answers"]["full"]))

    assert (answer.request_id, answer.model) == ("r-1", ("default", "v000001-3f9c2a71", "champion"))
    assert answer.places.tolist() == [1, 0, 2]
    np.testing.assert_array_equal(answer.p_click, np.array([0.5, 0.125, np.nan], dtype=np.float32))
    np.testing.assert_array_equal(answer.scores, [1.0, 0.25, np.nan])
    assert answer.own_codes is not None
    assert answer.own_codes.tolist() == [0, 1 << CODES.index("ad_missing"), 0]
    assert answer.degraded == 1 << CODES.index("ad_missing") | 1 << CODES.index("deadline_partial")
    assert (answer.missing, answer.stale, answer.age_ms_max) == (1, 0, 5_400_000)
    assert received_ranking(bytes.fromhex(GOLDEN["answers"]["plain"])).age_ms_max is None


def test_codes_are_only_ever_added_at_the_end() -> None:
    """A code's place is its bit; a caller built last year must not read one code as another."""
    known = GOLDEN["codes"]

    assert list(CODES[: len(known)]) == known
    assert len(CODES) <= 32


def test_the_page_shows_the_golden_frames_and_the_bits_of_the_codes() -> None:
    """People write their callers by it."""
    examples = re.findall(r"^```\n([0-9a-f]+)\n```$", PAGE, re.MULTILINE)
    bits = {int(bit): code for bit, code in re.findall(r"\| (\d+) \| `(\w+)` ", PAGE)}

    assert examples == [GOLDEN["requests"]["ids"]["hex"], GOLDEN["answers"]["full"]]
    assert bits == dict(enumerate(CODES))


@given(
    candidates=st.lists(LINES, min_size=1, max_size=LIMIT),
    context=st.none() | CONTEXTS,
    user_id=st.none() | TEXTS.filter(bool),
    model=st.none() | st.text(min_size=1, max_size=3),
    top_k=st.none() | st.integers(1, 9),
    data=st.data(),
)
def test_a_frame_is_what_the_same_json_is(
    candidates: list[str],
    context: dict[str, object] | None,
    user_id: str | None,
    model: str | None,
    top_k: int | None,
    data: st.DataObject,
) -> None:
    """The same request, or the same problem at the same path: a form is no way around a check."""
    number = st.floats(-1, 9) | st.sampled_from([0.0, 1e308])
    bids = data.draw(st.none() | st.lists(number, min_size=len(candidates), max_size=len(candidates)))
    objects = candidates if bids is None else [{"ad_id": a, "bid": b} for a, b in zip(candidates, bids, strict=True)]
    optional = {"user_id": user_id, "context": context, "top_k": top_k, "model": model}
    body = {"candidates": objects} | {key: value for key, value in optional.items() if value is not None}

    frame = rank_frame(
        candidates, user_id=user_id or "", context=context, bids=bids, top_k=top_k or 0, model=model or ""
    )

    assert outcome(framed_request, frame) == outcome(rank_request, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"", "the frame has 0 bytes, fewer than the 24 of its header"),
        (WHOLE[:23], "the frame has 23 bytes, fewer than the 24 of its header"),
        (b'{"user_id": "u1", "candidates": ["a1"]}', """the frame begins with b'{"us', expected b'CSRQ'"""),
        (header(version=2) + b"a", "the frame has version 2, read is 1"),
        (header(flags=2) + b"a", "the frame has flags 2 and reserved 0; expected flags 0 or 1, and 0"),
        (header(reserved=7) + b"a", "the frame has flags 0 and reserved 7; expected flags 0 or 1, and 0"),
        (header(context=2**32 - 1) + b"a", "the frame ends after 25 bytes, but by its header its ids begin at byte"),
        (header(flags=1, n=5) + b"a", "the frame ends after 25 bytes, but by its header its ids begin at byte 64"),
        (header(n=2) + b"a", "the frame announces 2 candidates, but its ids are not 2 with line feeds between them"),
        (header() + b"a\nb", "the frame announces 1 candidates, but its ids are not 1 with line feeds between them"),
        (header() + b"a\n", "the frame announces 1 candidates, but its ids are not 1 with line feeds between them"),
        (header() + b"ab\xff", "the frame is not UTF-8 at byte 26"),
        (header(user=1) + b"\xc3a", "the frame is not UTF-8 at byte 24"),
        (header(model=3) + b"\xed\xa0\x80a", "the frame is not UTF-8 at byte 24"),
        (header(context=1) + b"{a", "the context is not JSON: Expecting property name"),
        (header(context=9) + b'{"a":NaN}a', "the context is not JSON: NaN is not a JSON number"),
        (header(context=2) + b"\xff\xffa", "the context is not UTF-8 at byte 0"),
        (header(context=50_000) + b"[" * 50_000 + b"a", "the context is nested too deeply"),
    ],
)
def test_a_frame_whose_parts_do_not_add_up_is_malformed(frame: bytes, message: str) -> None:
    """And says where; nothing of a promised size is made before."""
    with pytest.raises(MalformedBody) as caught:
        framed_request(frame, LIMIT)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (header(n=0), "candidates: expected at least one, got none"),
        (header(n=2**32 - 1), "candidates: expected at most 5 (server.max_candidates), got 4294967295"),
        (header(context=2) + b"[]a", "context: expected an object, got [] (array)"),
        (header(context=8) + b'{"a":{}}a', "context.a: expected a number, text, null or boolean, got {} (object)"),
        (rank_frame(["a", "a"]), "candidates[1]: duplicate of candidates[0], both are 'a'; send each ad once"),
        (rank_frame(["a", ""]), "candidates[1]: expected text of 1 to 64 bytes or an integer, got 0 bytes"),
        (rank_frame(["a b"], bids=[1]), "candidates[0].ad_id: braces, space and control characters may not be"),
        (rank_frame(["a", "b"], bids=[1, -2]), "candidates[1].bid: expected a number of 0 or more, got -2"),
        *(
            (
                rank_frame(["a", "b"], bids=[1, bid]),
                "candidates[1].bid: expected a finite number of 0 or more, got a number that is not finite",
            )
            for bid in (float("nan"), float("inf"), -float("inf"))
        ),
    ],
)
def test_a_value_that_the_route_does_not_take_is_named_by_its_path(frame: bytes, message: str) -> None:
    """As if the request were JSON."""
    with pytest.raises(InvalidRequest) as caught:
        framed_request(frame, LIMIT)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("size", range(len(WHOLE) - len("a1\né".encode())))
def test_a_frame_that_is_cut_short_is_refused(size: int) -> None:
    """Wherever it ends before its ids."""
    with pytest.raises(MalformedBody):
        framed_request(WHOLE[:size], LIMIT)


@given(at=st.integers(0, len(WHOLE) - 1), replaced=st.binary(max_size=9), cut=st.integers(0, 9))
def test_a_damaged_frame_is_read_or_refused(at: int, replaced: bytes, cut: int) -> None:
    """Never anything else: an unexpected error would be a 500."""
    damaged = WHOLE[:at] + replaced + WHOLE[at + cut :]

    outcome(framed_request, damaged)


@given(fields=st.binary(min_size=19, max_size=19), rest=st.binary(max_size=99))
def test_any_bytes_behind_the_magic_are_read_or_refused(fields: bytes, rest: bytes) -> None:
    """Lengths may promise gigabytes."""
    outcome(framed_request, b"CSRQ\x01" + fields + rest)


def test_a_body_that_came_in_pieces_is_read_the_same() -> None:
    """It is a bytearray then."""
    assert outcome(framed_request, bytearray(WHOLE)) == outcome(framed_request, WHOLE)  # type: ignore[arg-type]


@given(codes=st.lists(st.sampled_from(CODES), unique=True))
def test_codes_are_bits(codes: list[DegradedCode]) -> None:
    """Each of them, in any company."""
    ranking = Ranking(
        "r",
        ModelReference("default", "v1", "champion"),
        ["a"],
        np.array([0]),
        np.array([0.5]),
        None,
        codes,
        Knowledge(set(), {}, [], missing=0, stale=0, age_ms_max=-1),
    )

    answer = received_ranking(ranking_frame(ranking))

    assert {code for bit, code in enumerate(CODES) if answer.degraded >> bit & 1} == set(codes)
    assert answer.age_ms_max == -1
