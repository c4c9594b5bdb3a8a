"""`clickserve explain`: why a user clicks an ad with that probability, in words a campaign manager reads.

A running service is asked for one prediction with its explanation. A contribution is in log-odds before the calibrator;
the calibrator stretches the way from the baseline to the answer, so every contribution is stretched with it, by

    (log-odds of p_click - log-odds of baseline_p_click) / (raw_logit - baseline),

and the changes of the odds that are shown multiply to the whole change, from the baseline to the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec
from rich.table import Table

from service import exit_codes
from service.asking import asking, context_of, warn_of_unknown_keys
from service.commands.options import FiniteRange, json_option
from service.console import Console, Screen
from service.terminal_text import say_error

NAMED = 2
"""Features that the sentence on top names for each direction; the table has the others."""


@click.command("explain")
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Where the service listens.")
@click.option("--user", "user_id", help="The user; needed where the model has features of users.")
@click.option("--ad", "ad_id", help="The ad; needed where the model has features of ads.")
@click.option("--context", "context_pairs", multiple=True, metavar="KEY=VALUE", help="May be given several times.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="How many features to show.")
@click.option("--model", default="default", show_default=True)
@click.option("--timeout", "timeout_s", type=FiniteRange(0, min_open=True), default=5.0, show_default=True)
@json_option
def command(
    url: str,
    user_id: str | None,
    ad_id: str | None,
    context_pairs: tuple[str, ...],
    top: int,
    model: str,
    timeout_s: float,
    as_json: bool,
) -> int:
    """Say why a user clicks an ad: clickserve explain --user u1 --ad a7 --context device=phone."""
    entities = {key: value for key, value in (("user_id", user_id), ("ad_id", ad_id)) if value is not None}
    context = context_of(context_pairs)
    with asking(url, timeout_s=timeout_s) as client:
        from service.client import Instance

        warn_of_unknown_keys(client, model, context)
        answer = client.predict([Instance(**entities, context=context)], model=model, explain=True)
    (prediction,) = answer.predictions
    p_click, explanation = prediction.p_click, msgspec.to_builtins(prediction.explanation)
    if p_click is None or explanation is None:
        say_error("the explanation was not ready in time; ask again, or raise deadline.explain_ms of the service")
        return exit_codes.FAILURE
    changes = odds_changes(p_click, explanation)
    contributions = [
        {**entry, "odds_change": change} for entry, change in zip(explanation["contributions"], changes, strict=True)
    ]
    result = {
        **entities,
        "said": sentence(entities, p_click, explanation["baseline_p_click"], contributions),
        "p_click": p_click,
        **explanation,
        "contributions": contributions,
        "model": msgspec.to_builtins(answer.model),
        "degraded": answer.degraded,
    }
    Console(json_only=as_json).result(result, lambda screen: _show(screen, result, top))
    return 0


def odds_changes(p_click: float, explanation: Mapping[str, Any]) -> list[float]:
    """By what share each contribution changes the odds of the answer: 0.5 raises them by half, -0.5 halves them."""
    way = explanation["raw_logit"] - explanation["baseline"]
    calibrated_way = _log_odds(p_click) - _log_odds(explanation["baseline_p_click"])
    # Contributions that cancel out leave no way to measure the calibrator's stretch on.
    stretch = calibrated_way / way if abs(way) > 1e-6 and calibrated_way / way > 0 else 1.0
    return [math.expm1(min(stretch * entry["contribution"], 700.0)) for entry in explanation["contributions"]]


def sentence(
    entities: Mapping[str, str], p_click: float, baseline_p_click: float, contributions: Sequence[Mapping[str, Any]]
) -> str:
    """The answer, where the model starts from, and what makes the difference."""
    ad = f"ad {entities['ad_id']}" if "ad_id" in entities else "this ad"
    who = f"User {entities['user_id']} clicks {ad}" if "user_id" in entities else f"{ad[0].upper()}{ad[1:]} is clicked"
    said = f"{who} with {percent(p_click)}; with nothing unusual known it would be {percent(baseline_p_click)}."
    for word, sign in (("raises", 1), ("lowers", -1)):
        named = [entry for entry in contributions if entry["contribution"] * sign > 0][:NAMED]
        if named:
            said += f" What {word} it most: {' and '.join(map(_named, named))}."
    return said


def _named(entry: Mapping[str, Any]) -> str:
    """A feature with its value; a hash tells a reader nothing."""
    value = _shown(entry["value"])
    return entry["feature"] if value.startswith("#") else f"{entry['feature']} ({value})"


def percent(share: float) -> str:
    """`2.1 %`; two digits that mean something, whatever the size."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.1f} %"


def change_in_words(change: float) -> str:
    """`raises the odds by 45 %`."""
    return f"{'raises' if change > 0 else 'lowers'} the odds by {percent(abs(change))}"


def _show(screen: Screen, result: Mapping[str, Any], top: int) -> None:
    screen.print(result["said"])
    table = Table(title=f"model {result['model']['name']} {result['model']['version']}", title_justify="left")
    table.add_column("feature")
    table.add_column("its value", justify="right")
    table.add_column("what it does")
    for entry in result["contributions"][:top]:
        table.add_row(entry["feature"], _shown(entry["value"]), change_in_words(entry["odds_change"]))
    screen.print(table)
    if others := result["contributions"][top:]:
        together = math.prod(1 + entry["odds_change"] for entry in others) - 1
        screen.print(f"{len(others)} more, together: {change_in_words(together)} (--top shows more)")
    if result["degraded"]:
        screen.print(f"degraded: {' '.join(result['degraded'])}")


def _shown(value: float | str | None) -> str:
    if value is None:
        return "missing"
    return value if isinstance(value, str) else f"{value:.4g}"


def _log_odds(p: float) -> float:
    """Of a probability as it was answered, with 12 digits."""
    p = min(max(p, 1e-12), 1 - 1e-12)
    return math.log(p) - math.log1p(-p)
