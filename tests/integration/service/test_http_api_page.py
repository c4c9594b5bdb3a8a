"""docs/http-api.md against `/openapi.json` and the running service: nothing undocumented, nothing invented."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import pytest

from service.admin import AdminApp
from service.errors import BodyTooLarge, DeadlinePassed, Overloaded, WrongMethod
from service.http_errors import INTERNAL, KINDS, REFUSALS
from service.knowledge import CODES
from service.schema_fields import fields_of
from tests.integration.service.conftest import Worker
from tests.integration.service.json_schema import violations
from tests.raw_http import Answer
from tests.snippets import page

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGE = page("docs/http-api.md")
EXAMPLE = re.compile(r"<!-- api: (\w+) -->\n```sh\n(.*?)```\n\n```json\n(.*?)```", re.DOTALL)
EXAMPLES = {name: (command, answer) for name, command, answer in EXAMPLE.findall(PAGE)}
PROBLEM = "application/problem+json"
ALIASES = {"/healthz": "/livez"}


def section(heading: str) -> str:
    """The text of a section, up to the next of its kind."""
    return re.split(r"^## ", PAGE.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str, column: str) -> dict[str, str]:
    """The table headed by `column` in a part of the page: name to meaning, a cell of several names once for each."""
    table = re.search(rf"^\| {re.escape(column)} \|.*\n\|[-|]+\n((?:\|.*\n?)+)", text, re.MULTILINE)
    assert table, f"no table {column!r}"
    cells = [line.strip("| \n").split(" | ") for line in table[1].splitlines()]
    return {name: line[-1] for line in cells for name in re.findall(r"`([^`]+)`", line[0])}


async def document_of(worker: Worker) -> dict[str, Any]:
    """The published document."""
    document: dict[str, Any] = (await worker.ask("GET", "/openapi.json")).json()
    return document


async def asked(worker: Worker, command: str) -> Answer:
    """What a `curl` of the page is answered."""
    words = shlex.split(command)
    url = next(word for word in words if word.startswith("http"))
    headers = {"content_type": "application/x-www-form-urlencoded"} if "-d" in words else {}
    for flag, value in pairwise(words):
        if flag == "-H":
            name, _, said = value.partition(": ")
            headers[name.lower().replace("-", "_")] = said
    body = words[words.index("-d") + 1].encode() if "-d" in words else None
    return await worker.ask("GET" if body is None else "POST", urlsplit(url).path, body, **headers)


async def test_every_path_and_field_is_on_the_page_and_no_other(worker: Worker) -> None:
    """Of bodies and of answers, under the path that they belong to."""
    document = await document_of(worker)
    named = document["components"]["schemas"]

    for path, item in document["paths"].items():
        for method, operation in item.items():
            text = section(f"`{method.upper()} {ALIASES.get(path, path)}`")
            assert f"{method.upper()} {path}`" in PAGE
            answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
            assert set(rows(text, "answer")) == {field.path for field in fields_of(answer, named)}, path
            if "requestBody" in operation:
                body = operation["requestBody"]["content"]["application/json"]["schema"]
                fields = {field.path: field.required for field in fields_of(body, named)}
                meanings = rows(text, "body")
                assert set(meanings) == set(fields), path
                wanted = {name for name, meaning in meanings.items() if meaning.startswith("required;")}
                assert wanted == {name for name, required in fields.items() if required}, path


async def test_every_header_is_on_the_page(worker: Worker) -> None:
    """Those of a problem as well."""
    operation = (await document_of(worker))["paths"]["/v1/rank"]["post"]
    text = section("Headers")

    assert {entry["name"] for entry in operation["parameters"]} <= set(rows(text, "of a request"))
    assert set(operation["responses"]["200"]["headers"]) <= set(rows(text, "of an answer"))
    assert {"Retry-After", "Allow"} <= set(rows(text, "of an answer"))


async def test_every_code_status_and_problem_is_on_the_page_and_no_other(worker: Worker) -> None:
    """What may happen can be listed."""
    document = await document_of(worker)
    text = section("Problems")
    problems = re.findall(r"^\| (\d{3}) \| `([\w-]+)` \|", text, re.MULTILINE)
    statuses = {
        status
        for item in document["paths"].values()
        for operation in item.values()
        for status, answer in operation["responses"].items()
        if PROBLEM in answer.get("content", {})
    }

    assert set(problems) == {(str(kind.status), kind.slug) for kind in (*KINDS.values(), INTERNAL, *REFUSALS)}
    assert {status for status, _ in problems} == statuses
    assert list(rows(section("Codes of `degraded`"), "code")) == list(CODES)
    schema = document["paths"]["/v1/rank"]["post"]["responses"]["404"]["content"][PROBLEM]["schema"]
    assert set(rows(text, "problem")) == {f.path for f in fields_of(schema, document["components"]["schemas"])}


@pytest.mark.parametrize("name", EXAMPLES)
async def test_an_example_is_answered_as_the_page_shows(worker: Worker, name: str) -> None:
    """The same status and the same shape, both as the document has them; figures are the model's."""
    document = await document_of(worker)
    command, shown = EXAMPLES[name]

    answer = await asked(worker, command)

    method = "post" if " -d " in command else "get"
    responses = document["paths"][urlsplit(shlex.split(command)[2]).path][method]["responses"]
    schema = responses[str(answer.status)]["content"][answer.headers["content-type"]]["schema"]
    parsed = Answer(0, {}, shown.encode()).json()
    assert violations(answer.json(), schema, document["components"]["schemas"]) == []
    assert violations(parsed, schema, document["components"]["schemas"]) == []
    assert shape(parsed) == shape(answer.json())
    if answer.status != 200:
        assert {**answer.json(), "request_id": ""} == {**parsed, "request_id": ""}


async def test_every_path_has_an_example() -> None:
    """Seven, of which one goes wrong."""
    assert set(EXAMPLES) == {"rank", "predict", "models", "readyz", "livez", "version", "problem"}


async def test_the_details_of_problems_are_what_is_said(worker: Worker) -> None:
    """Those that a request can bring about are asked for, the others made as the service makes them."""
    rank = "/v1/rank"
    said = [
        await worker.ask("POST", rank, b'{"candidates": ['),
        await worker.ask("GET", "/v1/nothing"),
        await worker.rank({"user_id": "u1", "candidates": ["a1"], "model": "autumn"}),
        await worker.ask("POST", rank, b"a,b", content_type="text/csv"),
        await worker.rank({"user_id": "u1", "candidates": ["a1"], "top_k": 0}),
        await worker.rank({"user_id": "u1", "candidates": ["a1"]}, x_deadline_ms="0.001"),
    ]
    made = (WrongMethod("GET", "POST"), BodyTooLarge(1_048_576), Overloaded("queue_time", 1), DeadlinePassed(0.001))
    details = [answer.json()["detail"] for answer in said] + [str(error) for error in made]

    assert [detail for detail in details if f"| {detail} |" not in section("Problems")] == []


async def test_the_pages_of_the_admin_port_are_on_the_page() -> None:
    """It describes itself nowhere else."""
    app = AdminApp(metrics=bytes, metrics_content_type="text/plain", workers=list, token=None)

    assert set(rows(section("The admin port"), "page")) >= {f"GET {name}" for name in app.pages}


def shape(value: object) -> object:
    """Keys of objects, all the way down; an array is the set of its items' shapes, a single value is nothing."""
    if isinstance(value, dict):
        return {key: shape(held) for key, held in value.items()}
    if isinstance(value, list):
        return {repr(shape(item)) for item in value}
    return None
