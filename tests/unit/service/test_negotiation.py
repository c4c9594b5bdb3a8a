"""Which form a request is read in and its answer written in, by two headers."""

from __future__ import annotations

import pytest

from service.answering import Answer
from service.deadline import Deadline
from service.errors import UnsupportedMedia
from service.negotiation import json_only, json_or_frames
from service.rank_form import RankForm

FRAME, RANKING = b"application/vnd.clickserve.rank.v1", b"application/vnd.clickserve.ranking.v1"
JSON = b"application/json"


async def answer_with_forms(
    asked: RankForm, answered: RankForm, body: bytes | bytearray, deadline: Deadline, request_id: str
) -> Answer:
    """A use case that answers which forms it was given."""
    return Answer(asked.content_type, "", "", answered.content_type)


async def use_json(body: bytes | bytearray, deadline: Deadline, request_id: str) -> Answer:
    """A use case that knows one form."""
    return Answer(body, "", "", JSON)  # type: ignore[arg-type]


def headers(content_type: bytes | None, accept: bytes | None = None) -> dict[bytes, bytes]:
    """Those that are there."""
    named = {b"content-type": content_type, b"accept": accept}
    return {name: value for name, value in named.items() if value is not None}


@pytest.mark.parametrize(
    ("content_type", "accept", "asked", "answered"),
    [
        (None, None, JSON, JSON),
        (JSON, b"*/*", JSON, JSON),
        (b"application/x-www-form-urlencoded", b"*/*", JSON, JSON),
        (b"Application/JSON; charset=utf-8", b"text/html", JSON, JSON),
        (JSON, RANKING, JSON, RANKING),
        (JSON, b"application/json;q=0.5, " + RANKING + b";q=1", JSON, RANKING),
        (FRAME, None, RANKING, RANKING),
        (FRAME, b"*/*", RANKING, RANKING),
        (FRAME, b"text/html", RANKING, RANKING),
        (FRAME, JSON, RANKING, JSON),
        (FRAME, b"text/html, Application/JSON;q=0.9", RANKING, JSON),
        (b"Application/Vnd.Clickserve.Rank.V1 ; x=1", RANKING, RANKING, RANKING),
    ],
)
async def test_forms_follow_the_headers(
    content_type: bytes | None, accept: bytes | None, asked: bytes, answered: bytes
) -> None:
    """As the page has it; who says nothing about the answer gets it as the request was."""
    use_case = json_or_frames(answer_with_forms)(headers(content_type, accept))

    answer = await use_case(b"", Deadline(0.0, 0.0, float), "r-1")

    assert (answer.body, answer.content_type) == (asked, answered)


def test_a_form_that_a_route_does_not_read_is_refused() -> None:
    """With the ones it does read."""
    with pytest.raises(UnsupportedMedia, match=r"expected application/json or application/vnd.clickserve.rank.v1, got"):
        json_or_frames(answer_with_forms)(headers(b"text/plain"))
    with pytest.raises(UnsupportedMedia, match=r"expected application/json, got 'application/vnd.clickserve.rank.v1'"):
        json_only(use_json)(headers(FRAME))


@pytest.mark.parametrize("content_type", [JSON, FRAME])
def test_a_compressed_body_is_refused_in_every_form(content_type: bytes) -> None:
    """Nothing here unpacks, so nothing can be blown up."""
    with pytest.raises(UnsupportedMedia, match=r"Content-Encoding: expected an uncompressed body, got 'gzip'"):
        json_or_frames(answer_with_forms)(headers(content_type) | {b"content-encoding": b"gzip"})
