"""`clickserve rank`: one ranking request to a running service, from the shell."""

from __future__ import annotations

from typing import Any

import click
import msgspec
from rich.table import Table

from service.asking import asking, context_of, warn_of_unknown_keys
from service.commands.options import FiniteRange, json_option
from service.console import Console, Screen


@click.command("rank")
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Where the service listens.")
@click.option("--user", "user_id", required=True, help="The user to rank for.")
@click.option("--context", "context_pairs", multiple=True, metavar="KEY=VALUE", help="May be given several times.")
@click.option("--top-k", type=click.IntRange(1), help="How many of the best to answer; all where absent.")
@click.option("--model", default="default", show_default=True)
@click.option("--timeout", "timeout_s", type=FiniteRange(0, min_open=True), default=5.0, show_default=True)
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
    asked, context = [_candidate(text) for text in candidates], context_of(context_pairs)
    with asking(url, timeout_s=timeout_s) as client:
        from service.client import Candidate

        ads = [ad_id if bid is None else Candidate(ad_id, bid) for ad_id, bid in asked]
        warn_of_unknown_keys(client, model, context)
        ranked = client.rank(user_id, ads, context=context, top_k=top_k, model=model)
    answer = msgspec.to_builtins(ranked)
    Console(json_only=as_json).result(answer, lambda screen: _show(screen, answer))
    return 0


def _candidate(text: str) -> tuple[str, float | None]:
    """An ad and its bid, None where it has none."""
    ad_id, equals, bid = text.partition("=")
    if not equals:
        return ad_id, None
    try:
        return ad_id, float(bid)
    except ValueError:
        raise click.UsageError(f"{text!r}: the bid after = must be a number") from None


def _show(screen: Screen, answer: dict[str, Any]) -> None:
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
        row = [str(place), result["ad_id"], "-" if p_click is None else f"{p_click:.6f}"]
        if scored:
            row.append("-" if result.get("score") is None else f"{result['score']:.6f}")
        table.add_row(*row, " ".join(result.get("degraded", [])))
    screen.print(table)
    if answer["degraded"]:
        screen.print(f"degraded: {' '.join(answer['degraded'])}")
