"""`POST /v1/rank` over a real socket, against rows in a real store and a real model."""

from __future__ import annotations

import numpy as np
import pytest

from feature_store.ids import hash_id
from models.encoder import Block
from models.registry.predictor import Predictor
from models.registry.registry import Registry
from tests.artifacts import HASH_SEED, ServedProject
from tests.integration.service.conftest import Worker

pytestmark = pytest.mark.asyncio(loop_scope="session")


def expected_p_click(shop: ServedProject, user: int, ads: list[int], device: str) -> dict[str, float]:
    """What the published model says of rows taken straight from the project."""
    predictor = Predictor(Registry(shop.registry_dir).get(shop.version))
    context = Block(np.empty((1, 0), np.float32), np.array([[hash_id(device, HASH_SEED)]], np.uint32))
    scores = predictor.score(
        Block(shop.users.floats[[user]], shop.users.ids[[user]]),
        Block(shop.ads.floats[ads], shop.ads.ids[ads]),
        context,
    )
    return dict(zip([shop.ads.entity_ids[ad] for ad in ads], scores.p_click.tolist(), strict=True))


async def test_every_candidate_gets_the_probability_of_its_own_rows(worker: Worker, shop: ServedProject) -> None:
    """An answer that mixes up users, ads or context is fast, plausible and worthless."""
    ads = [7, 3, 250, 41]
    body = {"user_id": "u5", "candidates": [f"a{ad}" for ad in ads], "context": {"device": "tablet"}}

    answer = (await worker.rank(body)).json()

    got = {result["ad_id"]: result["p_click"] for result in answer["results"]}
    assert got == pytest.approx(expected_p_click(shop, 5, ads, "tablet"), abs=1e-9)
    assert answer["degraded"] == []
    assert answer["model"] == {"name": "default", "version": shop.version, "variant": "champion"}
    assert answer["features"]["missing"] == answer["features"]["stale"] == 0
    assert answer["features"]["age_ms_max"] > 0


async def test_results_are_ordered_best_first(worker: Worker, shop: ServedProject) -> None:
    """Callers show the first ones without looking at the numbers."""
    results = (await worker.rank(shop.rank_body(200))).json()["results"]

    p_click = [result["p_click"] for result in results]
    assert len(results) == 200
    assert p_click == sorted(p_click, reverse=True)


async def test_with_bids_the_order_is_by_score(worker: Worker, shop: ServedProject) -> None:
    """What a click is worth times how likely it is; the probability is answered beside it."""
    bids = {f"a{ad}": 0.1 + ad % 7 for ad in range(30)}
    body = {"user_id": 5, "candidates": [{"ad_id": ad, "bid": bid} for ad, bid in bids.items()]}

    results = (await worker.rank({**body, "user_id": "u5"})).json()["results"]

    scores = [result["score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert scores == pytest.approx([bids[result["ad_id"]] * result["p_click"] for result in results])
    assert len({result["p_click"] for result in results}) > 1


async def test_bids_of_zero_leave_the_order_to_the_margin(worker: Worker, shop: ServedProject) -> None:
    """Equal scores are ordered by `raw_logit`, not by accident."""
    ids = shop.ads.entity_ids[:20]
    plain = (await worker.rank({"user_id": "u5", "candidates": ids})).json()["results"]

    free = (await worker.rank({"user_id": "u5", "candidates": [{"ad_id": ad, "bid": 0} for ad in ids]})).json()[
        "results"
    ]

    assert [result["ad_id"] for result in free] == [result["ad_id"] for result in plain]
    assert {result["score"] for result in free} == {0}


async def test_equal_candidates_keep_the_order_of_the_request(worker: Worker) -> None:
    """Unknown ads all have the same rows: defaults."""
    ids = ["z9", "z1", "z5", "z3"]

    results = (await worker.rank({"user_id": "u5", "candidates": ids})).json()["results"]

    assert [result["ad_id"] for result in results] == ids


async def test_top_k_limits_the_answer_and_not_the_choice(worker: Worker, shop: ServedProject) -> None:
    """The best of all candidates, not the best of the first few."""
    everything = (await worker.rank(shop.rank_body(50))).json()["results"]

    few = (await worker.rank({**shop.rank_body(50), "top_k": 3})).json()["results"]

    assert few == everything[:3]


async def test_an_unknown_user_is_a_code_and_not_an_error(worker: Worker, shop: ServedProject) -> None:
    """New users come every second."""
    answer = await worker.rank({**shop.rank_body(3), "user_id": "never-seen"})

    document = answer.json()
    assert answer.status == 200
    assert document["degraded"] == ["user_missing"]
    assert document["features"]["missing"] == 1
    assert not any("degraded" in result for result in document["results"])


async def test_an_unknown_ad_says_so_on_its_own_result(worker: Worker, shop: ServedProject) -> None:
    """Nobody should bid on a default row unknowingly; the others are not to blame."""
    body = {**shop.rank_body(2), "candidates": ["a1", "never-seen", "a2"]}

    document = (await worker.rank(body)).json()

    assert document["degraded"] == ["ad_missing"]
    assert document["features"]["missing"] == 1
    assert {r["ad_id"]: r.get("degraded") for r in document["results"]} == {
        "a1": None,
        "a2": None,
        "never-seen": ["ad_missing"],
    }


@pytest.mark.parametrize(
    ("context", "codes"),
    [
        ({"device": "phone"}, []),
        ({}, ["context_missing"]),
        ({"device": None}, ["context_missing"]),
        ({"device": "phone", "weather": "fine"}, ["context_unknown"]),
        ({"weather": "fine"}, ["context_missing", "context_unknown"]),
        ({"device": "a device nobody trained on"}, []),
    ],
)
async def test_context_that_is_absent_or_unknown_is_a_code(
    worker: Worker, context: dict[str, object], codes: list[str]
) -> None:
    """A key that callers misspell is visible; a value the model has not seen is ordinary."""
    document = (await worker.rank({"user_id": "u1", "candidates": ["a1"], "context": context})).json()

    assert document["degraded"] == codes


async def test_hostile_numbers_in_the_context_leave_every_answer_finite(worker: Worker, shop: ServedProject) -> None:
    """A caller can send the largest float32 and integers of any size."""
    for value in (3.4e38, -3.4e38, 1e300, 10**400, True, ""):
        body = {**shop.rank_body(20), "context": {"device": value}}

        results = (await worker.rank(body)).json()["results"]

        assert all(0 <= result["p_click"] <= 1 for result in results)


async def test_a_thousand_candidates_are_answered(worker: Worker, shop: ServedProject) -> None:
    """The largest request that is allowed spans several chunks; each row still gets its own answer."""
    ids = [*shop.ads.entity_ids, *(f"new-{i}" for i in range(1_000 - len(shop.ads.entity_ids)))]

    document = (await worker.rank({"user_id": "u5", "candidates": ids, "context": {"device": "phone"}})).json()

    got = {result["ad_id"]: result["p_click"] for result in document["results"]}
    known = expected_p_click(shop, 5, list(range(300)), "phone")
    assert len(got) == 1_000
    assert {ad: got[ad] for ad in known} == pytest.approx(known, abs=1e-9)
    assert document["features"]["missing"] == 700


async def test_ids_are_text_of_any_script_or_integers(worker: Worker) -> None:
    """Integers are answered as text, and text as it came."""
    ids: list[object] = [7, "реклама", "广告-1", "x" * 64, "a|b~c"]

    results = (await worker.rank({"user_id": 12345678901234567890, "candidates": ids})).json()["results"]

    assert {result["ad_id"] for result in results} == {str(ad) for ad in ids}


async def test_predict_answers_the_same_probabilities_in_request_order(worker: Worker, shop: ServedProject) -> None:
    """Two routes, one truth; each instance has a user and a context of its own."""
    pairs = [(5, 7, "phone"), (6, 7, "tablet"), (5, 3, "phone"), (5, 7, "phone")]
    instances = [
        {"user_id": f"u{user}", "ad_id": f"a{ad}", "context": {"device": device}} for user, ad, device in pairs
    ]

    document = (await worker.ask("POST", "/v1/predict", {"instances": instances})).json()

    expected = [expected_p_click(shop, user, [ad], device)[f"a{ad}"] for user, ad, device in pairs]
    assert [prediction["p_click"] for prediction in document["predictions"]] == pytest.approx(expected, abs=1e-9)
    assert document["degraded"] == []


async def test_predict_says_what_is_missing_on_each_instance(worker: Worker) -> None:
    """Here the user is an instance's own, too."""
    instances = [
        {"user_id": "u1", "ad_id": "a1"},
        {"user_id": "new", "ad_id": "a1"},
        {"user_id": "new", "ad_id": "new"},
    ]

    document = (await worker.ask("POST", "/v1/predict", {"instances": instances})).json()

    assert [p.get("degraded") for p in document["predictions"]] == [
        None,
        ["user_missing"],
        ["user_missing", "ad_missing"],
    ]
    assert document["degraded"] == ["user_missing", "ad_missing", "context_missing"]
    assert document["features"]["missing"] == 3
