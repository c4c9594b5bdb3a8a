"""`/openapi.json` says what the service does: real answers of every kind are held against it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import pytest

from loadtest.rank_frame import RANKING_MEDIA, REQUEST_MEDIA, rank_frame
from service.http_errors import KINDS, REFUSALS
from service.knowledge import CODES
from tests.artifacts import ServedProject
from tests.integration.service.conftest import Worker, body_of
from tests.integration.service.json_schema import violations
from tests.raw_http import Answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

RANK, PREDICT = "/v1/rank", "/v1/predict"


async def document_of(worker: Worker) -> dict[str, Any]:
    """The published document."""
    document: dict[str, Any] = (await worker.ask("GET", "/openapi.json")).json()
    return document


def answered_schema(document: dict[str, Any], route: str, method: str, answer: Answer) -> dict[str, Any]:
    """What the document says about an answer of that status and content type."""
    response = document["paths"][route][method]["responses"][str(answer.status)]
    schema: dict[str, Any] = response["content"][answer.headers["content-type"]]["schema"]
    return schema


@pytest.mark.parametrize(
    ("route", "body", "status"),
    [
        (RANK, {"user_id": "u1", "candidates": ["a1", "a2"], "context": {"device": "phone"}}, 200),
        (
            RANK,
            {"user_id": "u1", "candidates": [{"ad_id": "a1", "bid": 2}, {"ad_id": "no", "bid": 1}], "top_k": 1},
            200,
        ),
        (RANK, {"user_id": "no", "candidates": ["no"], "context": {"odd": None}}, 200),
        (PREDICT, {"instances": [{"user_id": "u1", "ad_id": "a1"}, {"user_id": "no", "ad_id": "no"}]}, 200),
        (RANK, {"user_id": "u1", "candidates": []}, 422),
        (RANK, {"user_id": "u1", "candidates": ["a"], "model": "no"}, 404),
        (PREDICT, {"instances": [{}]}, 422),
    ],
)
async def test_answers_are_what_the_document_says(
    worker: Worker, route: str, body: dict[str, object], status: int
) -> None:
    """The hot paths bypass the framework that writes the document, so nothing else holds the two together."""
    document = await document_of(worker)

    answer = await worker.ask("POST", route, body)

    schema = answered_schema(document, route, "post", answer)
    assert answer.status == status
    assert violations(answer.json(), schema, document["components"]["schemas"]) == []
    said_headers = document["paths"][route]["post"]["responses"]["200"]["headers"]
    assert status != 200 or all(name.lower() in answer.headers for name in said_headers)


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/readyz", "/version", "/v1/models"])
async def test_answers_of_the_framework_are_what_the_document_says(worker: Worker, path: str) -> None:
    """Held against the same checker."""
    document = await document_of(worker)

    answer = await worker.ask("GET", path)

    schema = answered_schema(document, path, "get", answer)
    assert violations(answer.json(), schema, document["components"]["schemas"]) == []


async def test_examples_are_what_the_document_says(worker: Worker) -> None:
    """People copy them first."""
    document = await document_of(worker)

    wrong = [
        line
        for content in contents(document)
        for example in content.get("examples", {}).values()
        for line in violations(example["value"], content["schema"], document["components"]["schemas"])
    ]

    assert wrong == []


async def test_the_examples_of_requests_are_accepted(worker: Worker) -> None:
    """By the service itself, not only by a schema."""
    document = await document_of(worker)

    for route in (RANK, PREDICT):
        body = document["paths"][route]["post"]["requestBody"]["content"]["application/json"]
        for example in body["examples"].values():
            assert (await worker.ask("POST", route, example["value"])).status == 200


async def test_the_document_names_the_forms_that_are_read_and_answered(worker: Worker, shop: ServedProject) -> None:
    """No more, no fewer: the media types of requests and answers are what each route takes and gives."""
    document = await document_of(worker)
    known = document["paths"][RANK]["post"]
    bodies = {"application/json": body_of(shop.rank_body()), REQUEST_MEDIA: rank_frame(["a1"], user_id="u1")}

    answered = {
        (await worker.ask("POST", RANK, body, content_type=media, accept=accept)).headers["content-type"]
        for media, body in bodies.items()
        for accept in known["responses"]["200"]["content"]
    }
    refused = await worker.ask("POST", PREDICT, bodies[REQUEST_MEDIA], content_type=REQUEST_MEDIA)

    assert set(known["requestBody"]["content"]) == set(bodies)
    assert set(known["responses"]["200"]["content"]) == answered == {"application/json", RANKING_MEDIA}
    assert list(document["paths"][PREDICT]["post"]["requestBody"]["content"]) == ["application/json"]
    assert refused.status == 415


async def test_every_problem_and_every_code_is_documented(worker: Worker) -> None:
    """A caller can list what may happen."""
    document = await document_of(worker)

    responses = document["paths"][RANK]["post"]["responses"]
    codes = document["components"]["schemas"]["RankAnswer"]["properties"]["degraded"]["items"]["enum"]
    assert set(codes) == set(CODES)
    for kind in KINDS.values():
        assert f"`{kind.slug}`" in responses[str(kind.status)]["description"]


async def test_a_field_that_the_document_does_not_know_is_refused(worker: Worker, shop: ServedProject) -> None:
    """The schema of requests says so as well."""
    document = await document_of(worker)
    body = {**shop.rank_body(), "usr_id": 1}

    answer = await worker.rank(body)

    schema = document["paths"][RANK]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert answer.status == 422
    assert violations(body, schema, document["components"]["schemas"]) == ["$.usr_id: not in the schema"]


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.commands: list[str] = []
        self.text = ""
        self._in_pre = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._in_pre |= tag == "pre"
        self.links += [value for name, value in attrs if name in ("href", "src") and value]
        self.anchors |= {value for name, value in attrs if name == "id" and value}

    def handle_endtag(self, tag: str) -> None:
        self._in_pre &= tag != "pre"

    def handle_data(self, data: str) -> None:
        self.text += data
        self.commands += [data] if self._in_pre and "curl " in data else []


async def docs(worker: Worker) -> Page:
    """`/docs` in a browser."""
    answer = await worker.ask("GET", "/docs")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return Page(answer.body.decode())


async def test_the_documentation_page_needs_nobody_else(worker: Worker) -> None:
    """A service in a closed network has no way to other people's servers."""
    page = await docs(worker)

    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json"}
    assert {link[1:] for link in page.links if link.startswith("#")} == page.anchors


async def test_the_documentation_page_names_every_field_and_every_problem(worker: Worker) -> None:
    """A page that knows less than the document would be believed all the same."""
    document, page = await document_of(worker), await docs(worker)

    names = {name for schema in document["components"]["schemas"].values() for name in schema.get("properties", ())}
    slugs = {kind.slug for kind in (*KINDS.values(), *REFUSALS)}
    missing = [word for word in (*document["paths"], *names, *slugs, *CODES) if word not in page.text]
    assert missing == []


async def test_the_commands_of_the_documentation_page_work(worker: Worker) -> None:
    """They are copied and run, with another address at most."""
    page = await docs(worker)

    answers = []
    for command in page.commands:
        _, _, url, *data = shlex.split(command, comments=True)
        body = data[1].encode() if data else None
        form = {"content_type": "application/x-www-form-urlencoded"} if data else {}  # what `curl -d` announces
        answers.append(await worker.ask("POST" if data else "GET", urlsplit(url).path, body, **form))

    assert len(answers) == 9
    assert {answer.status for answer in answers} == {200}


def contents(node: object) -> Iterator[dict[str, Any]]:
    """Every described body in the document."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "content":
                yield from value.values()
            yield from contents(value)
    elif isinstance(node, list):
        for item in node:
            yield from contents(item)
