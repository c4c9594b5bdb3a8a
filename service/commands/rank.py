"""`clickserve rank`: one ranking request to a running service, from the shell."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import click
from rich.console import Console as RichConsole
from rich.markup import escape
from rich.table import Table

from service import exit_codes
from service.commands.options import json_option
from service.console import Console

REFUSED_REQUESTS = (400, 413, 422)
"""What the service answers where the request itself is wrong: here, what was typed."""


@click.command("rank")
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Where the service listens.")
@click.option("--user", "user_id", required=True, help="The user to rank for.")
@click.option("--context", "context_pairs", multiple=True, metavar="KEY=VALUE", help="May be given several times.")
@click.option("--top-k", type=click.IntRange(1), help="How many of the best to answer; all where absent.")
@click.option("--model", default="default", show_default=True)
@click.option("--timeout", "timeout_s", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True)
@json_option
@click.argument("candidates", nargs=-1, required=True, metavar="AD[=BID]...")
def command(
    url: str,
    user_id: str,
    context_pairs: tuple[str, ...],
    top_k: int | None,
    model: str,
    timeout_s: float,
    as_json: bool,
    candidates: tuple[str, ...],
) -> int:
    """Rank candidate ads for a user: clickserve rank --user u1 a1 a2 a3, or with bids a1=0.8 a2=1.2."""
    body: dict[str, Any] = {
        "user_id": user_id,
        "candidates": [_candidate(text) for text in candidates],
        "context": dict(_context(text) for text in context_pairs),
        "model": model,
    }
    if top_k is not None:
        body["top_k"] = top_k
    try:
        status, answer = post_json(f"{url.rstrip('/')}/v1/rank", body, timeout_s=timeout_s)
    except (OSError, HTTPException) as error:
        click.echo(f"clickserve: no answer from {url} ({error}); is it running? clickserve serve starts it", err=True)
        return exit_codes.DEPENDENCY_DOWN
    if status != 200:
        click.echo(f"clickserve: {status} {answer.get('title', '')}: {answer.get('detail', answer)}", err=True)
        return exit_codes.USAGE if status in REFUSED_REQUESTS else exit_codes.FAILURE
    Console(json_only=as_json).result(answer, lambda screen: _show(screen, answer))
    return 0


def post_json(url: str, body: object, *, timeout_s: float) -> tuple[int, dict[str, Any]]:
    """One POST with a JSON body; answers status and decoded document.

    Raises:
        OSError, HTTPException: nothing that speaks HTTP answered in time.
        click.UsageError: the address is not an http or https one.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.UsageError(f"{url!r} is not an address like http://host:port")
    connection = (HTTPSConnection if parts.scheme == "https" else HTTPConnection)(
        parts.hostname, parts.port, timeout=timeout_s
    )
    try:
        connection.request("POST", parts.path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
    finally:
        connection.close()
    try:
        document = json.loads(text)
    except ValueError:
        document = {"detail": text[:200].decode(errors="replace")}
    return response.status, document if isinstance(document, dict) else {"detail": document}


def _candidate(text: str) -> str | dict[str, object]:
    ad_id, equals, bid = text.partition("=")
    if not equals:
        return ad_id
    try:
        return {"ad_id": ad_id, "bid": float(bid)}
    except ValueError:
        raise click.UsageError(f"{text!r}: the bid after = must be a number") from None


def _context(text: str) -> tuple[str, object]:
    """`hour=13` is a number, `device=phone` text, `--context 'note="13"'` the text 13."""
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--context {text!r}: expected KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _show(screen: RichConsole, answer: dict[str, Any]) -> None:
    table = Table(title=f"model {answer['model']['name']} {answer['model']['version']}", title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("ad")
    table.add_column("p_click", justify="right")
    scored = any("score" in result for result in answer["results"])
    if scored:
        table.add_column("score", justify="right")
    table.add_column("degraded")
    for place, result in enumerate(answer["results"], start=1):
        p_click = result["p_click"]
        row = [str(place), escape(result["ad_id"]), "-" if p_click is None else f"{p_click:.6f}"]
        if scored:
            row.append("-" if result.get("score") is None else f"{result['score']:.6f}")
        table.add_row(*row, " ".join(result.get("degraded", [])))
    screen.print(table)
    if answer["degraded"]:
        screen.print(f"degraded: {' '.join(answer['degraded'])}")
