"""What the routes owe to HTTP: statuses, headers, limits, and connections that stay usable."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from service.settings import Settings
from tests.artifacts import ServedProject
from tests.integration.service.conftest import Worker, body_of, running
from tests.raw_http import Answer, request

pytestmark = pytest.mark.asyncio(loop_scope="session")

MEBIBYTE = 1 << 20


def assert_is_problem(answer: Answer, status: int, slug: str) -> dict[str, object]:
    """The answer is a problem of that kind; gives its document."""
    document: dict[str, object] = answer.json()
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["type"] == f"urn:clickserve:problem:{slug}"
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b"", 400, "malformed-body"),
        (b"{", 400, "malformed-body"),
        (b'{"candidates": ["\xff"]}', 400, "malformed-body"),
        (b'{"candidates": [NaN]}', 400, "malformed-body"),
        (b"[" * 100_000, 400, "malformed-body"),
        (b'{"user_id": 1, "candidates": []}', 422, "invalid-request"),
        (b'{"user_id": 1, "candidates": ["a", "a"]}', 422, "invalid-request"),
        (b'{"user_id": 1, "candidates": ["a"], "top_k": 0}', 422, "invalid-request"),
        (b'{"user_id": 1, "candidates": ["a", {"ad_id": "b", "bid": 1}]}', 422, "invalid-request"),
        (b'{"user_id": "../../etc", "candidates": ["a{b}"]}', 422, "invalid-request"),
        (body_of({"user_id": 1, "candidates": list(range(1_001))}), 422, "invalid-request"),
        (b'{"candidates": ["a"]}', 422, "invalid-request"),
        (b'{"user_id": 1, "candidates": ["a"], "model": "other"}', 404, "unknown-model"),
        (b'{"user_id": 1, "candidates": ["a"], "model": ""}', 404, "unknown-model"),
    ],
)
async def test_bad_bodies_are_problems(worker: Worker, body: bytes, status: int, slug: str) -> None:
    """Whatever a caller sends, the answer names the kind of mistake; never a 500."""
    connection = await worker.connect()

    connection.send(request("POST", "/v1/rank", body, content_length=str(len(body))))
    answer = await connection.answer()

    document = assert_is_problem(answer, status, slug)
    assert document["detail"]


async def test_a_problem_names_the_path_of_the_value(worker: Worker) -> None:
    """In a field of its own, for programs, and at the head of the detail, for people."""
    answer = await worker.rank({"user_id": 1, "candidates": ["a", "b", "c", {"ad_id": [12]}]})

    document = assert_is_problem(answer, 422, "invalid-request")
    assert document["path"] == "candidates[3].ad_id"
    assert document["detail"] == ("candidates[3].ad_id: expected text of 1 to 64 bytes or an integer, got [12] (array)")


async def test_a_body_announced_too_large_is_refused_before_it_is_read(worker: Worker) -> None:
    """Ten megabytes are neither received nor kept."""
    connection = await worker.connect()

    connection.send(request("POST", "/v1/rank", content_length=str(10 * MEBIBYTE)))
    answer = await connection.answer()

    assert_is_problem(answer, 413, "body-too-large")


async def test_a_large_body_that_waits_to_be_asked_for_ends_the_connection(worker: Worker) -> None:
    """After 413 the caller may send it or not; read on, and its bytes could be taken for the next request."""
    connection = await worker.connect()
    head = request("POST", "/v1/rank", content_length=str(10 * MEBIBYTE), expect="100-continue")

    connection.send(head)
    answer = await connection.answer()

    assert_is_problem(answer, 413, "body-too-large")
    assert answer.closes
    assert await connection.rest() == b""


async def test_a_body_that_waits_to_be_asked_for_is_asked_for(worker: Worker, shop: ServedProject) -> None:
    """curl and Java do so; the connection stays usable."""
    connection = await worker.connect()
    body = body_of(shop.rank_body())

    connection.send(request("POST", "/v1/rank", content_length=str(len(body)), expect="100-continue"))
    asked = await connection.answer()
    connection.send(body + shop.rank_request())
    answers = [await connection.answer() for _ in range(2)]

    assert asked.status == 100
    assert [(answer.status, answer.closes) for answer in answers] == [(200, False), (200, False)]


async def test_a_body_that_grows_too_large_is_refused_while_it_is_read(worker: Worker) -> None:
    """Chunked bodies announce nothing."""
    connection = await worker.connect()
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"

    connection.send(request("POST", "/v1/rank", transfer_encoding="chunked") + chunk * 20)
    answer = await connection.answer()

    assert_is_problem(answer, 413, "body-too-large")


async def test_a_caller_that_sends_ten_megabytes_hears_why_and_may_go_on(worker: Worker, shop: ServedProject) -> None:
    """Closing at once would reset the connection before the caller has read the answer."""
    connection = await worker.connect()
    body = body_of({"user_id": 1, "candidates": ["x" * (10 * MEBIBYTE)]})

    connection.send(request("POST", "/v1/rank", body))
    refused = await connection.answer()
    connection.send(shop.rank_request())
    served = await connection.answer()

    assert_is_problem(refused, 413, "body-too-large")
    assert served.status == 200


async def test_a_body_in_pieces_is_put_together(worker: Worker, shop: ServedProject) -> None:
    """Networks cut where they like."""
    connection = await worker.connect()
    whole = shop.rank_request(100)

    for start in range(0, len(whole), 97):
        connection.send(whole[start : start + 97])
        await asyncio.sleep(0)  # the loop sends each piece by itself
    answer = await connection.answer()

    assert answer.status == 200


async def test_a_caller_that_leaves_in_the_middle_of_its_body_harms_nobody(worker: Worker, shop: ServedProject) -> None:
    """Mobile clients do, all the time."""
    leaving = await worker.connect()

    leaving.send(shop.rank_request()[:-10])
    await leaving.close()

    assert (await worker.rank(shop.rank_body())).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "application/json; charset=utf-8"}, 200),
        ({"content_type": "APPLICATION/JSON"}, 200),
        ({"content_type": ""}, 200),
        ({"content_encoding": "identity"}, 200),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 200),  # what `curl -d` announces
        ({"content_type": "multipart/form-data"}, 415),
        ({"content_encoding": "gzip"}, 415),
    ],
)
async def test_only_plain_json_is_read(
    worker: Worker, shop: ServedProject, headers: dict[str, str], status: int
) -> None:
    """A compressed body would be read as malformed, which helps nobody."""
    answer = await worker.rank(shop.rank_body(), **headers)

    assert answer.status == status


async def test_a_wrong_method_says_which_is_right(worker: Worker) -> None:
    """On the hot paths and on the framework's."""
    for method, path, allowed in (
        ("GET", "/v1/rank", "POST"),
        ("PUT", "/v1/predict", "POST"),
        ("POST", "/livez", "GET"),
    ):
        answer = await worker.ask(method, path)

        assert_is_problem(answer, 405, "wrong-method")
        assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/", "/v1/rank/", "/v1/events", "/v2", "/metrics", "/livez/"])
async def test_a_path_that_does_not_exist_is_a_problem(worker: Worker, path: str) -> None:
    """Metrics and admin actions listen elsewhere."""
    answer = await worker.ask("GET", path)

    assert_is_problem(answer, 404, "unknown-path")


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/readyz", "/version", "/v1/models", "/docs", "/openapi.json"])
async def test_head_is_get_without_a_body(worker: Worker, path: str) -> None:
    """Load balancers probe so; the connection must stay usable."""
    connection = await worker.connect()

    connection.send(request("HEAD", path) + request("GET", "/livez", connection="close"))
    head, between, get = (await connection.rest()).partition(b"\r\n\r\nHTTP/1.1 200 OK\r\n")

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert between
    assert get.endswith(b'{"status":"alive"}')


async def test_a_request_id_comes_back(worker: Worker, shop: ServedProject) -> None:
    """In the header and in the body, so that a caller's log and ours can be joined."""
    answer = await worker.rank(shop.rank_body(), x_request_id="abc-123")

    assert answer.headers["x-request-id"] == "abc-123"
    assert answer.json()["request_id"] == "abc-123"


@pytest.mark.parametrize("sent", ["two words", "x" * 129, "naïve", '"\t"'])
async def test_a_request_id_that_could_break_a_log_is_replaced(worker: Worker, sent: str) -> None:
    """The caller still gets an id to ask about."""
    connection = await worker.connect()

    connection.send(f"GET /livez HTTP/1.1\r\nhost: x\r\nx-request-id: {sent}\r\n\r\n".encode())
    answer = await connection.answer()

    assert answer.headers["x-request-id"] not in ("", sent)


async def test_answers_carry_their_model_and_their_timing(worker: Worker, shop: ServedProject) -> None:
    """A browser's network panel shows the stages."""
    answer = await worker.rank(shop.rank_body())

    stages = [part.split(";dur=") for part in answer.headers["server-timing"].split(", ")]
    assert answer.headers["x-model-version"] == shop.version
    assert [name for name, _ in stages] == ["features", "assemble", "model", "total"]
    assert all(float(duration) >= 0 for _, duration in stages)


@pytest.mark.parametrize("value", ["0", "-5", "soon", "nan", "1e3", "1_000", "9" * 400, ""])
async def test_a_deadline_that_is_no_time_is_refused(worker: Worker, shop: ServedProject, value: str) -> None:
    """A caller who believes in a deadline that nobody keeps would wait for ever."""
    answer = await worker.rank(shop.rank_body(), x_deadline_ms=value)

    assert assert_is_problem(answer, 422, "invalid-request")["path"] == "X-Deadline-Ms"


async def test_a_deadline_that_has_passed_is_504(worker: Worker, shop: ServedProject) -> None:
    """Nothing could be scored in a microsecond."""
    answer = await worker.rank(shop.rank_body(), x_deadline_ms="0.001")

    assert_is_problem(answer, 504, "deadline-passed")


@pytest.mark.parametrize("value", ["5000", " 5000", "5000 ", "\t5000.5\t "])
async def test_white_space_around_a_deadline_is_no_part_of_it(worker: Worker, shop: ServedProject, value: str) -> None:
    """Nor of any other value (RFC 9110, 5.5)."""
    answer = await worker.rank(shop.rank_body(), x_deadline_ms=value)

    assert answer.status == 200


async def test_a_service_over_capacity_refuses_with_a_time_to_come_back(
    settings: Settings, shop: ServedProject
) -> None:
    """With one place and no queue, one of several requests at once gets in; health checks always do."""
    crowded = settings_with(settings, max_inflight=1, max_queued=0)
    async with running(crowded) as worker:
        connections = [await worker.connect() for _ in range(8)]

        for connection in connections:
            connection.send(shop.rank_request())
        answers = [await connection.answer() for connection in connections]
        alive = await worker.ask("GET", "/livez")

    statuses = {answer.status for answer in answers}
    refused = [answer for answer in answers if answer.status == 503]
    assert statuses == {200, 503}
    assert_is_problem(refused[0], 503, "overloaded")
    assert refused[0].headers["retry-after"] == "1"
    assert alive.status == 200


async def test_draining_fails_readiness_and_closes_connections(settings: Settings, shop: ServedProject) -> None:
    """Requests are still answered: load balancers need time to notice."""
    async with running(settings) as worker:
        before = await worker.ask("GET", "/readyz")

        worker.runtime.begin_drain()
        after = await worker.ask("GET", "/readyz")
        served = await worker.rank(shop.rank_body())

    assert (before.status, before.json()) == (200, {"ready": True, "degraded": []})
    assert (after.status, after.json()["ready"]) == (503, False)
    assert served.status == 200
    assert after.closes
    assert served.closes


async def test_models_and_version_are_told(worker: Worker, shop: ServedProject) -> None:
    """What an operator asks first."""
    models = (await worker.ask("GET", "/v1/models")).json()
    version = (await worker.ask("GET", "/version")).json()

    [slot] = models["models"]
    assert slot.pop("plan").split(", ")[0] in ("trees", "linear")
    assert slot == {
        "name": "default",
        "version": shop.version,
        "variant": "champion",
        "state": "ready",
        "ad_parts": "precomputed",
        "context": [feature.name for feature in shop.schema.context],
    }
    assert set(version) == {"clickserve", "python"}


async def test_pipelined_requests_are_answered_in_order(worker: Worker, shop: ServedProject) -> None:
    """A refused request between two good ones changes nothing for them."""
    connection = await worker.connect()
    bad = request("POST", "/v1/rank", b"{")

    connection.send(shop.rank_request(1) + bad + shop.rank_request(2))
    answers = [await connection.answer() for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 400, 200]
    assert [len(json.loads(answer.body).get("results", ())) for answer in answers] == [1, 0, 2]


def settings_with(settings: Settings, **admission: int) -> Settings:
    """The same settings with another door."""
    return replace(settings, admission=replace(settings.admission, **admission))
