"""The client against the real service: every field arrives under its name, and problems arrive as exceptions."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import pytest_asyncio
from msgspec import Struct

from service import wire
from service.client import (
    AsyncClient,
    Candidate,
    Client,
    Instance,
    Overloaded,
    RankAnswer,
    RejectedRequest,
    RetryPolicy,
    answers,
)
from service.routes.models import SlotState
from service.settings import Settings
from tests.artifacts import ServedProject
from tests.integration.service.conftest import Worker, running

pytestmark = pytest.mark.asyncio(loop_scope="session")

TWINS = [
    (getattr(answers, name), getattr(wire, name))
    for name in (
        *("ModelReference", "FeatureCounts", "Contribution", "Explanation"),
        *("Result", "RankAnswer", "Prediction", "PredictAnswer"),
    )
]


@pytest_asyncio.fixture(loop_scope="session")
async def client(worker: Worker) -> AsyncIterator[AsyncClient]:
    """A client of the shared worker."""
    async with AsyncClient(f"http://127.0.0.1:{worker.port}") as opened:
        yield opened


@pytest.mark.parametrize(("ours", "theirs"), TWINS, ids=lambda struct: struct.__module__.rpartition(".")[2])
async def test_answers_have_the_fields_of_the_wire(ours: type[Struct], theirs: type[Struct]) -> None:
    """In its order: one vocabulary, wherever somebody reads it."""
    assert ours.__struct_fields__ == theirs.__struct_fields__


async def test_slots_have_the_fields_of_the_wire() -> None:
    """The framework's route has a schema of its own."""
    assert answers.ModelSlot.__struct_fields__ == tuple(SlotState.model_fields)


async def test_a_ranking_is_what_the_raw_answer_says(worker: Worker, shop: ServedProject, client: AsyncClient) -> None:
    """Nothing is lost or changed on the way, whatever optional fields an answer has."""
    body = shop.rank_body(5)
    bids = {ad_id: 1.0 + i for i, ad_id in enumerate(shop.ads.entity_ids[:3])}
    asked = {"user_id": "nobody", "candidates": [*map(_bid_of, bids.items())], "explain": True, "top_k": 2}
    raw = [(await worker.rank(question, x_request_id="r1")).json() for question in (body, asked)]

    plain = await client.rank(body["user_id"], body["candidates"], context=body["context"], request_id="r1")  # type: ignore[arg-type]
    rich = await client.rank("nobody", bids, top_k=2, explain=True, request_id="r1")

    for answer, said in zip((plain, rich), raw, strict=True):
        document = msgspec.to_builtins(answer)
        assert _without_ages(document) == _without_ages(said)
    assert rich.results[0].explanation is not None
    assert rich.results[0].score == pytest.approx(bids[rich.results[0].ad_id] * (rich.results[0].p_click or 0))


async def test_predictions_come_in_the_order_of_the_instances(shop: ServedProject, client: AsyncClient) -> None:
    """And agree with the ranking of the same pairs."""
    user_id, ads = shop.users.entity_ids[3], shop.ads.entity_ids[:4]
    ranked = await client.rank(user_id, ads, context={"device": "phone"})

    predicted = await client.predict([Instance(user_id, ad_id, {"device": "phone"}) for ad_id in ads])

    by_ad = {result.ad_id: result.p_click for result in ranked.results}
    assert [p.p_click for p in predicted.predictions] == [pytest.approx(by_ad[ad_id], abs=1e-9) for ad_id in ads]
    assert predicted.model == ranked.model


async def test_a_refused_request_names_its_place(client: AsyncClient) -> None:
    """As the service says it, to the letter."""
    with pytest.raises(RejectedRequest) as caught:
        await client.rank("u1", ["a1", "a 2"], request_id="mine")

    error = caught.value
    assert (error.status, error.code, error.request_id) == (422, "invalid-request", "mine")
    assert error.type == "urn:clickserve:problem:invalid-request"
    assert [problem.path for problem in error.errors] == ["candidates[1]"]
    assert str(error).startswith("422 A value is not what the route needs: candidates[1]: ")


async def test_an_unknown_model_is_a_refused_request(client: AsyncClient) -> None:
    """Nobody needs to tell 404 from 422 to know whose fault it is."""
    with pytest.raises(RejectedRequest, match="no model 'nobody' is served") as caught:
        await client.predict([Instance("u1", "a1")], model="nobody")

    assert (caught.value.status, caught.value.code) == (404, "unknown-model")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan"), np.float32("inf")])
async def test_a_number_that_json_cannot_say_is_not_sent(client: AsyncClient, value: float) -> None:
    """It would arrive as null, which means unknown, and change the answer silently."""
    with pytest.raises(ValueError, match="finite"):
        await client.rank("u1", ["a1"], context={"hour": value})
    with pytest.raises(ValueError, match="finite"):
        await client.rank("u1", [Candidate("a1", value)])


async def test_numbers_and_ids_of_numpy_may_be_asked(client: AsyncClient, shop: ServedProject) -> None:
    """Candidates come out of an array more often than not."""
    ids = np.array(shop.ads.entity_ids[:3])

    answer = await client.rank(np.str_("u1"), ids, context={"device": np.str_("phone"), "hour": np.int64(3)})

    assert sorted(result.ad_id for result in answer.results) == sorted(ids.tolist())


async def test_admission_refuses_with_a_time_to_come_again(settings: Settings, shop: ServedProject) -> None:
    """With one place, no queue and no second attempt, one of many calls at once gets in."""
    crowded = _crowded(settings)
    async with running(crowded) as worker, _client(worker, RetryPolicy(max_attempts=1)) as client:
        ended = await asyncio.gather(*(_ranked(client, shop) for _ in range(8)), return_exceptions=True)

    refused = [error for error in ended if isinstance(error, Overloaded)]
    assert len(refused) + sum(isinstance(answer, RankAnswer) for answer in ended) == 8
    assert {(error.status, error.code, error.retry_after_s) for error in refused} == {(503, "overloaded", 1.0)}


async def test_who_was_refused_comes_again_and_is_served(settings: Settings, shop: ServedProject) -> None:
    """That is what Retry-After is for."""
    async with running(_crowded(settings)) as worker, _client(worker, RetryPolicy(max_ms=1_000)) as client:
        ended = await asyncio.gather(*(_ranked(client, shop) for _ in range(3)))

    assert [len(answer.results) for answer in ended] == [20, 20, 20]


async def test_the_blocking_client_has_the_same_answers(worker: Worker, shop: ServedProject) -> None:
    """One vocabulary, two ways to wait; threads may share a client."""

    def ask(client: Client) -> list[str]:
        return [result.ad_id for result in client.rank("u3", shop.ads.entity_ids[:9]).results]

    with Client(f"http://127.0.0.1:{worker.port}/") as blocking:
        slots = await asyncio.to_thread(blocking.models)
        ready = await asyncio.to_thread(blocking.ready)
        orders = await asyncio.gather(*(asyncio.to_thread(ask, blocking) for _ in range(6)))

    assert [(slot.name, slot.version, slot.state) for slot in slots] == [("default", shop.version, "ready")]
    assert (ready.ready, ready.degraded) == (True, [])
    assert len(set(map(tuple, orders))) == 1


async def test_a_draining_service_is_not_ready(settings: Settings) -> None:
    """That is an answer and no failure: the question was whether."""
    async with running(settings) as worker, _client(worker) as client:
        worker.runtime.begin_drain()

        answer = await client.ready()

    assert not answer.ready


def _client(worker: Worker, retry: RetryPolicy | None = None) -> AsyncClient:
    return AsyncClient(f"http://127.0.0.1:{worker.port}", retry=retry)


async def _ranked(client: AsyncClient, shop: ServedProject) -> RankAnswer:
    return await client.rank(shop.users.entity_ids[3], shop.ads.entity_ids[:20])


def _crowded(settings: Settings) -> Settings:
    return replace(settings, admission=replace(settings.admission, max_inflight=1, max_queued=0))


def _bid_of(pair: tuple[str, float]) -> dict[str, object]:
    return {"ad_id": pair[0], "bid": pair[1]}


def _without_ages(document: dict[str, object]) -> dict[str, object]:
    """The age of rows grows between two questions."""
    features = {**document["features"], "age_ms_max": None}  # type: ignore[dict-item]
    return {**document, "features": features}
