"""Frames over a real connection: the answers of the JSON form, in fewer bytes."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from loadtest.rank_frame import RANKING_MEDIA, REQUEST_MEDIA, rank_frame, received_ranking
from service.knowledge import CODES
from tests.artifacts import ServedProject
from tests.integration.service.conftest import Worker
from tests.raw_http import Answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

JSON = "application/json"


async def ask(worker: Worker, body: object, media: str, accept: str) -> Answer:
    """One ranking in these forms."""
    return await worker.rank(body, content_type=media, accept=accept)


def results_of(answer: Answer, sent: list[str]) -> list[dict[str, Any]]:
    """The results of a frame as JSON would have them."""
    assert answer.headers["content-type"] == RANKING_MEDIA
    ranking = received_ranking(answer.body)
    results: list[dict[str, Any]] = [
        {"ad_id": sent[place], "p_click": pytest.approx(p_click, rel=1e-7)}
        for place, p_click in zip(ranking.places.tolist(), ranking.p_click.tolist(), strict=True)
    ]
    if ranking.scores is not None:
        for result, score in zip(results, ranking.scores.tolist(), strict=True):
            result["score"] = pytest.approx(score, rel=1e-11)
    if ranking.own_codes is not None:
        for result, bits in zip(results, ranking.own_codes.tolist(), strict=True):
            result |= {"degraded": codes_of(bits)} if bits else {}
    return results


def codes_of(bits: int) -> list[str]:
    """Codes in the order of their bits."""
    return [code for place, code in enumerate(CODES) if bits >> place & 1]


@pytest.mark.parametrize("n", [1, 20, 300])
@pytest.mark.parametrize("with_bids", [False, True])
async def test_every_pair_of_forms_answers_the_same(
    worker: Worker, shop: ServedProject, n: int, with_bids: bool
) -> None:
    """Asked in JSON or in a frame, answered in JSON or in a frame: one ranking, one set of codes and counts."""
    ads = [*shop.ads.entity_ids[: n - 1], "new-ad"]
    bids = np.random.default_rng(n).random(n).tolist() if with_bids else None
    candidates = ads if bids is None else [{"ad_id": ad, "bid": bid} for ad, bid in zip(ads, bids, strict=True)]
    context = {"device": "phone", "odd": 1}
    body = {"user_id": "u3", "candidates": candidates, "context": context, "top_k": 25}
    frame = rank_frame(ads, user_id="u3", context=context, bids=bids, top_k=25)

    expected = (await ask(worker, body, JSON, JSON)).json()
    json_for_frame = (await ask(worker, frame, REQUEST_MEDIA, JSON)).json()
    frames = [await ask(worker, body, JSON, RANKING_MEDIA), await ask(worker, frame, REQUEST_MEDIA, "*/*")]

    assert json_for_frame["results"] == expected["results"]
    assert json_for_frame["degraded"] == expected["degraded"]
    for answer in frames:
        ranking = received_ranking(answer.body)
        assert results_of(answer, ads) == expected["results"]
        assert codes_of(ranking.degraded) == expected["degraded"]
        assert ranking.model == tuple(expected["model"].values())
        assert ranking.request_id == answer.headers["x-request-id"]
        assert (ranking.missing, ranking.stale) == (expected["features"]["missing"], expected["features"]["stale"])
        assert answer.headers["x-model-version"] == shop.version


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b"", 400, "malformed-body"),
        (b"CSRQ", 400, "malformed-body"),
        (rank_frame(["a1"], user_id="u1")[:-3], 400, "malformed-body"),
        (struct.pack("<4sBBHHHIII", b"CSRQ", 1, 1, 65_535, 65_535, 0, 1_000, 0, 2**32 - 1), 400, "malformed-body"),
        (b'{"user_id": "u1", "candidates": ["a1"]}', 400, "malformed-body"),
        (rank_frame(["a1", "a1"], user_id="u1"), 422, "invalid-request"),
        (rank_frame(["a1"], user_id="u1", bids=[float("nan")]), 422, "invalid-request"),
        (rank_frame([f"a{i}" for i in range(1_001)], user_id="u1"), 422, "invalid-request"),
        (rank_frame(["a1"]), 422, "invalid-request"),
        (rank_frame(["a1"], user_id="u1", model="other"), 404, "unknown-model"),
        (bytes(2 << 20), 413, "body-too-large"),
    ],
)
async def test_what_is_wrong_with_a_frame_is_said_in_json(worker: Worker, body: bytes, status: int, slug: str) -> None:
    """A problem is read by people and by programs that may know nothing of frames."""
    answer = await worker.rank(body, content_type=REQUEST_MEDIA, content_length=str(len(body)), accept=RANKING_MEDIA)

    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["type"] == f"urn:clickserve:problem:{slug}"
