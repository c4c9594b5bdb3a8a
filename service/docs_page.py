"""`/docs`: the OpenAPI document as one page that needs neither scripts nor the network.

Swagger UI would come from other people's servers, and a service inside a closed network would show a blank page. Made
once, at start; nothing in it depends on a request.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from service.schema_fields import Schema, fields_of

SERVER = "http://127.0.0.1:8080"
"""Where the examples ask: the defaults of `server.host` and `server.port`."""

_PROBLEM = "application/problem+json"

_STYLE = """
:root { color-scheme: light dark; --line: #d8dce3; --soft: #f4f6f9; --dim: #5b6472; --get: #1a7f4b; --post: #1f5fbf; }
@media (prefers-color-scheme: dark) {
  :root { --line: #343a46; --soft: #1c2027; --dim: #9aa4b2; --get: #4cc38a; --post: #7fb0ff; }
}
body { font: 16px/1.55 system-ui, sans-serif; max-width: 58rem; margin: 0 auto; padding: 2rem 1.25rem 5rem; }
h1 { margin: 0; } h1 small { font-weight: 400; font-size: 1rem; color: var(--dim); }
h2 { margin: 3rem 0 .25rem; font-size: 1.15rem; } h3 { margin: 1.5rem 0 .25rem; font-size: .95rem; }
code, pre { font: .875em/1.5 ui-monospace, monospace; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .75rem 1rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: .925rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .75rem .4rem 0; border-top: 1px solid var(--line); }
th { color: var(--dim); font-weight: 500; border-top: 0; } td:first-child { white-space: nowrap; }
td:nth-child(2):not(:last-child) { width: 32%; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 1.5rem 0; padding: .75rem 0;
  border: solid var(--line); border-width: 1px 0; }
a { color: var(--post); text-decoration: none; } a:hover { text-decoration: underline; }
.get, .post { font: 700 .75rem ui-monospace, monospace; text-transform: uppercase; margin-right: .5rem; }
.get { color: var(--get); } .post { color: var(--post); }
"""


def docs_page(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document."""
    info, named = document["info"], document["components"]["schemas"]
    operations = [
        (method, path, operation) for path, item in document["paths"].items() for method, operation in item.items()
    ]
    title = escape(info["title"])
    return "\n".join(
        [
            f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>',
            f'<meta name="viewport" content="width=device-width">\n<style>{_STYLE}</style>\n</head>\n<body>',
            f"<h1>{title} <small>{escape(info['version'])}</small></h1>",
            *(f"<p>{_prose(paragraph)}</p>" for paragraph in info["description"].split("\n\n")),
            "<nav>",
            *(f'<a href="#{_anchor(path)}"><code>{escape(path)}</code></a>' for _, path, _ in operations),
            '<a href="#problems">Problems</a>\n<a href="/openapi.json">openapi.json</a>\n</nav>',
            *(part for operation in operations for part in _operation(*operation, named)),
            *_problems(operations, named),
            "</body>\n</html>\n",
        ]
    )


def _operation(method: str, path: str, operation: Mapping[str, Any], named: Mapping[str, Schema]) -> Iterator[str]:
    yield f'<section id="{_anchor(path)}">'
    yield f'<h2><span class="{method}">{method}</span><code>{escape(path)}</code></h2>'
    yield f"<p><strong>{_prose(operation['summary'])}</strong> {_prose(operation.get('description', ''))}</p>"
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if parameters := operation.get("parameters"):
        yield from _table("Headers", ((entry["name"], "text", entry["description"]) for entry in parameters))
    if body:
        yield from _fields("Body", body["schema"], named)
    yield from _examples(method, path, body)
    for status, answer in operation["responses"].items():
        content = answer.get("content", {})
        if "application/json" in content:
            yield from _answer(status, answer, content["application/json"], named)
    yield "</section>"


def _answer(status: str, answer: Schema, content: Schema, named: Mapping[str, Schema]) -> Iterator[str]:
    yield from _fields(f"Answer {status}", content["schema"], named)
    for example in content.get("examples", {}).values():
        yield f"<pre>{escape(json.dumps(example['value'], indent=2))}</pre>"
    if headers := answer.get("headers"):
        yield from _table("Its headers", ((name, "text", header["description"]) for name, header in headers.items()))


def _examples(method: str, path: str, body: Schema | None) -> Iterator[str]:
    """A command for each example of a request; what has no body is asked for as it stands."""
    yield "<h3>Try it</h3>"
    if body is None:
        yield f"<pre>curl -s {escape(SERVER + path)}</pre>"
        return
    for example in body["examples"].values():
        sent = shlex.quote(json.dumps(example["value"]))
        summary = f"# {example['summary']}\n" if "summary" in example else ""
        yield f"<pre>{escape(f'{summary}curl -s {SERVER}{path} -d {sent}')}</pre>"


def _problems(operations: list[tuple[str, str, Any]], named: Mapping[str, Schema]) -> Iterator[str]:
    """What may go wrong, once for all routes."""
    found = {
        status: answer
        for _, _, operation in operations
        for status, answer in operation["responses"].items()
        if _PROBLEM in answer.get("content", {})
    }
    yield '<section id="problems">\n<h2>Problems</h2>'
    yield (
        f"<p>An error is answered as <code>{_PROBLEM}</code> (RFC 9457). Programs read <code>type</code>, which is "
        "<code>urn:clickserve:problem:</code> and one of the names below; people read <code>detail</code>.</p>"
    )
    yield from _table(
        "", ((status, answer["description"]) for status, answer in sorted(found.items())), ("status", "meaning (name)")
    )
    for answer in list(found.values())[:1]:
        yield from _fields("Body", answer["content"][_PROBLEM]["schema"], named)
    yield "</section>"


def _fields(heading: str, schema: Schema, named: Mapping[str, Schema]) -> Iterator[str]:
    yield from _table(
        heading,
        (
            (field.path, field.kind if field.required else f"{field.kind}; may be absent", field.description)
            for field in fields_of(schema, named)
        ),
    )


def _table(
    heading: str, rows: Iterator[tuple[str, ...]], columns: tuple[str, ...] = ("name", "what", "meaning")
) -> Iterator[str]:
    if heading:
        yield f"<h3>{escape(heading)}</h3>"
    yield "<table>\n<tr>" + "".join(f"<th>{column}</th>" for column in columns) + "</tr>"
    for first, *others in rows:
        cells = "".join(f"<td>{_prose(text)}</td>" for text in others)
        yield f"<tr><td><code>{escape(first)}</code></td>{cells}</tr>"
    yield "</table>"


def _prose(text: str) -> str:
    """Text with its `code` marked up."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _anchor(path: str) -> str:
    return path.strip("/").replace("/", "-")
