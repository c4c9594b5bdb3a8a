"""Bodies become checked requests, or errors that name the path and the value."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest, MalformedBody, RequestError
from service.wire import RankRequest, predict_request, rank_request

LIMIT = 5
ID = "expected text of 1 to 64 bytes or an integer"
CANDIDATE = ID + ", or an object with ad_id and bid"
FORBIDDEN = "braces, space and control characters may not be in an id"
BID = "expected a finite number of 0 or more"


def refusal(body: bytes | str) -> RequestError:
    """What a body of `/v1/rank` is refused with."""
    with pytest.raises(RequestError) as caught:
        rank_request(body.encode() if isinstance(body, str) else body, LIMIT)
    return caught.value


def test_candidates_without_bids() -> None:
    """Integers are decimal text from here on; everything that was left out has its default."""
    request = rank_request(b'{"user_id": 7, "candidates": ["a", 2, {"ad_id": "c"}]}', LIMIT)

    assert request == RankRequest("default", "7", ["a", "2", "c"], None, {}, 3)


def test_candidates_with_bids() -> None:
    """Bids become one array in the order of the request; `top_k` beyond the candidates is all of them."""
    body = {
        "candidates": [{"ad_id": "a", "bid": 1.5}, {"ad_id": "b", "bid": 0}],
        "context": {"hour": 3, "note": None},
        "top_k": 9,
        "model": "other",
    }

    request = rank_request(json.dumps(body).encode(), LIMIT)

    assert request.bids is not None
    np.testing.assert_array_equal(request.bids, [1.5, 0.0])
    assert (request.top_k, request.model, request.context) == (2, "other", {"hour": 3, "note": None})
    assert request.user_id is None


def test_of_a_name_that_stands_twice_the_last_value_holds() -> None:
    """What `docs/http-api.md` promises: looking for doubles would cost every request, and no caller sends them."""
    body = b'{"candidates": ["a", "b"], "context": {"hour": 20, "hour": 21}, "top_k": 1, "top_k": 2}'

    request = rank_request(body, LIMIT)

    assert (request.context, request.top_k) == ({"hour": 21}, 2)


def test_a_bid_of_minus_zero_is_zero() -> None:
    """JSON can say it, and nobody wants to read a score of it."""
    request = rank_request(b'{"candidates": [{"ad_id": "a", "bid": -0.0}]}', LIMIT)

    assert request.bids is not None
    assert not np.signbit(request.bids).any()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"candidates": [{"ad_id": [12]}]}', "candidates[0].ad_id: " + ID + ", got [12] (array)"),
        ('{"candidates": ["a", 1.5]}', "candidates[1]: " + CANDIDATE + ", got 1.5 (number)"),
        ('{"candidates": [true]}', "candidates[0]: " + CANDIDATE + ", got true (boolean)"),
        ('{"candidates": [""]}', "candidates[0]: " + ID + ", got 0 bytes"),
        (json.dumps({"candidates": ["é" * 33]}), "candidates[0]: " + ID + ", got 66 bytes"),
        ('{"candidates": ["a", "b c"]}', "candidates[1]: " + FORBIDDEN + ", got 'b c'"),
        ('{"candidates": [{"ad_id": "{x}"}]}', "candidates[0].ad_id: " + FORBIDDEN + ", got '{x}'"),
        (r'{"candidates": ["a\u2028"]}', "candidates[0]: " + FORBIDDEN + r", got 'a\u2028'"),
        (r'{"user_id": "a\u0000", "candidates": ["a"]}', "user_id: " + FORBIDDEN + r", got 'a\x00'"),
        ('{"user_id": null, "candidates": ["a"]}', "user_id: " + ID + ", got null"),
        ('{"candidates": []}', "candidates: expected at least one, got none"),
        ('{"candidates": [1, 2, 3, 4, 5, 6]}', "candidates: expected at most 5 (server.max_candidates), got 6"),
        ('{"candidates": null}', "candidates: expected an array, got null"),
        ("{}", "candidates: required, but missing"),
        ("[1]", "expected an object, got [1] (array)"),
        (
            '{"candidates": ["a", "b", {"ad_id": "a"}]}',
            "candidates[2].ad_id: duplicate of candidates[0], both are 'a'; send each ad once",
        ),
        ('{"candidates": [1, "1"]}', "candidates[1]: duplicate of candidates[0], both are '1'; send each ad once"),
        (
            '{"candidates": [{"ad_id": "a", "bid": 1}, "b"]}',
            "candidates[1].bid: missing, while candidates[0] has one; send a bid for all candidates or for none",
        ),
        (
            '{"candidates": [{"ad_id": "a", "bid": 1}, {"ad_id": "b", "bid": -2}]}',
            "candidates[1].bid: expected a number of 0 or more, got -2",
        ),
        (
            '{"candidates": [{"ad_id": "a", "bid": 1e999}]}',
            "candidates[0].bid: " + BID + ", got a number that is not finite",
        ),
        ('{"candidates": [{"ad_id": "a", "bid": "1"}]}', "candidates[0].bid: " + BID + ', got "1" (text)'),
        ('{"candidates": [{"ad_id": "a", "bdi": 1}]}', "candidates[0].bdi: unknown field; did you mean 'bid'?"),
        ('{"candidates": [{"bid": 1}]}', "candidates[0].ad_id: required, but missing"),
        ('{"usr_id": 1, "candidates": ["a"]}', "usr_id: unknown field; did you mean 'user_id'?"),
        ('{"candidates": ["a"], "top_k": 0}', "top_k: expected at least 1, got 0"),
        ('{"candidates": ["a"], "top_k": 1.0}', "top_k: expected an integer of 1 or more, got 1.0 (number)"),
        (
            '{"candidates": ["a"], "context": {"x": [1]}}',
            "context.x: expected a number, text, null or boolean, got [1] (array)",
        ),
        (
            '{"candidates": ["a"], "context": {"x": -1e999}}',
            "context.x: expected a finite number, got one too large for a float64",
        ),
        ('{"candidates": ["a"], "context": "x"}', 'context: expected an object, got "x" (text)'),
        ('{"candidates": ["a"], "model": 3}', "model: expected text, got 3 (number)"),
        ('{"candidates": ["a"], "explain": 1}', "explain: expected true or false, got 1 (number)"),
        ('{"candidates": ["a"], "explian": true}', "explian: unknown field; did you mean 'explain'?"),
    ],
)
def test_a_wrong_value_is_named_with_its_path(body: str, message: str) -> None:
    """A caller finds the place without reading our code."""
    error = refusal(body)

    assert isinstance(error, InvalidRequest)
    assert str(error) == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty; expected a JSON object"),
        (b'{"candidates": ["a"]', "the body is not JSON"),
        (b'{"candidates": ["a"]} {}', "the body is not JSON: Extra data"),
        (b'{"candidates": [NaN]}', "the body is not JSON: NaN is not a JSON number"),
        (b'{"candidates": [{"ad_id": 1, "bid": -Infinity}]}', "the body is not JSON: -Infinity is not a JSON number"),
        (b'{"unknown": 1, "candidates": NaN}', "the body is not JSON: NaN is not a JSON number"),
        (b'{"candidates": ["\xff"]}', "the body is not UTF-8 at byte 17"),
        (b'{"candidates": ["\\ud800"]}', "is half of a character"),
        (b"[" * 100_000, "the body is nested too deeply"),
        (b'{"candidates": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "the body is nested too deeply"),
        (b'\xef\xbb\xbf{"candidates": ["a"]}', "the body is not JSON: Unexpected UTF-8 BOM"),
    ],
)
def test_what_is_not_json_is_malformed(body: bytes, message: str) -> None:
    """Malformed comes before invalid: a wrong value in half a document is not the caller's first problem."""
    error = refusal(body)

    assert isinstance(error, MalformedBody)
    assert message in str(error)


@pytest.mark.parametrize("place", ['"candidates": [%s]', '"candidates": ["a"], "context": {"x": %s}'])
def test_an_integer_of_any_length_is_answered(place: str) -> None:
    """Python refuses to convert integers of more than 4 300 digits; that must not surface as a defect."""
    body = "{" + place % ("1" * 5_000) + "}"

    assert isinstance(refusal(body), InvalidRequest)


def test_a_message_shows_a_bounded_part_of_a_value() -> None:
    """A megabyte of nonsense must not come back, nor go to a log."""
    body = json.dumps({"candidates": [["x" * 10_000]], "k" * 10_000: 1})

    assert len(str(refusal(body))) < 200


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["user_id", "candidates", "context", "top_k", "model", "other"])
CANDIDATES = st.lists(
    st.text(max_size=3) | st.fixed_dictionaries({"ad_id": JSON_VALUES}, optional={"bid": JSON_VALUES}), max_size=4
)


@given(st.dictionaries(FIELDS, JSON_VALUES | CANDIDATES), st.binary(max_size=3), st.integers(0, 3))
def test_any_body_is_a_request_or_a_refusal(document: dict[str, object], noise: bytes, cut: int) -> None:
    """Nothing a caller can send is a defect, and what is refused says why."""
    body = json.dumps(document).encode("utf-8", "surrogatepass")
    body = body[: len(body) - cut] + noise

    try:
        outcome: RankRequest | str = rank_request(body, LIMIT)
    except RequestError as error:
        outcome = str(error)

    if isinstance(outcome, str):
        assert outcome.encode()
    else:
        assert 1 <= outcome.top_k <= len(outcome.ad_ids) == len(set(outcome.ad_ids)) <= LIMIT


def test_instances_keep_their_order_and_may_repeat() -> None:
    """A prediction is about a pair; the same pair twice is two predictions."""
    request = predict_request(
        b'{"instances": [{"user_id": 1, "ad_id": "a"}, {"ad_id": "a", "context": {"h": 1}}]}', LIMIT
    )

    assert request.user_ids == ["1", None]
    assert request.ad_ids == ["a", "a"]
    assert request.contexts == [{}, {"h": 1}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"instances": []}', "instances: expected at least one, got none"),
        (b'{"instances": [{}, {"ad_id": "a b"}]}', "instances[1].ad_id: braces, space and control characters"),
        (b'{"instances": [{"user_id": 1.5}]}', "instances[0].user_id: " + ID + ", got 1.5 (number)"),
        (b'{"instances": [{"cntext": {}}]}', "instances[0].cntext: unknown field; did you mean 'context'?"),
        (b'{"instances": [7]}', "instances[0]: expected an object, got 7 (number)"),
        (b'{"instances": [{},{},{},{},{},{}]}', "instances: expected at most 5 (server.max_candidates), got 6"),
    ],
)
def test_a_wrong_instance_is_named_with_its_path(body: bytes, message: str) -> None:
    """As for candidates."""
    with pytest.raises(InvalidRequest) as caught:
        predict_request(body, LIMIT)

    assert message in str(caught.value)
