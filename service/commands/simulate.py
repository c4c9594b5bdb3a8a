"""`clickserve simulate`: an impression log whose true click probabilities are known."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.commands.options import json_option
from service.console import Console, key_value_table

if TYPE_CHECKING:
    from models.logs.oracles import OracleQuality
    from models.logs.simulation_preset import RateShift


@click.command("simulate")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write; made by this command.")
@click.option("--impressions", type=click.IntRange(1_000), default=1_000_000, show_default=True)
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Decides the world and every draw in it."
)
@click.option("--preset", default="sim-v1", show_default=True, help="Which frozen world to draw from.")
@click.option("--drift/--no-drift", default=True, show_default=True, help="Whether click rates drift over the days.")
@click.option(
    "--rate-shift",
    metavar="DAY:FACTOR",
    help="From that day of the log on, every click probability is FACTOR of what it was; 7:0.6 is a drop of 40 %.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier simulation in the same folder.")
@json_option
def command(
    out: Path,
    impressions: int,
    seed: int,
    preset: str,
    drift: bool,
    rate_shift: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a seeded, time-ordered log of impressions and late clicks, with two oracles beside it.

    The folder holds impressions.parquet, users.parquet, ads.parquet, truth.parquet (true and attainable click
    probability of each impression; never features) and summary.json. Train on it with --data simulated:FOLDER.
    """
    from models.logs.simulator import PRESETS, simulate

    if preset not in PRESETS:
        raise click.BadParameter(f"{preset!r} is not a preset; known are {', '.join(PRESETS)}", param_hint="--preset")
    shift = None if rate_shift is None else _shift(rate_shift)
    console = Console(json_only=as_json)
    with console.progress() as on_progress:
        summary = simulate(
            PRESETS[preset],
            n_impressions=impressions,
            seed=seed,
            out_dir=out,
            drift=drift,
            shift=shift,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    oracles = summary.tail
    rows = {
        "impressions": f"{summary.n_impressions:,}, {summary.n_clicks:,} clicked ({summary.ctr:.3%})",
        "log-odds": f"standard deviation {summary.log_odds_sd:.3f}",
        "variance": ", ".join(f"{name} {share:.1%}" for name, share in summary.variance_shares.items()),
        "oracles": f"on the last {oracles.n_impressions:,} impressions with {oracles.n_clicks:,} clicks",
        "  true": _quality(oracles.true),
        "  attainable": _quality(oracles.attainable),
        "train on it": f"clickserve train --data simulated:{out}",
    }
    console.result(asdict(summary), lambda screen: screen.print(key_value_table(f"simulated log in {out}", rows)))


def _shift(text: str) -> RateShift:
    from models.logs.simulation_preset import RateShift

    day, _, factor = text.partition(":")
    try:
        return RateShift(int(day), float(factor))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not DAY:FACTOR, such as 7:0.6", param_hint="--rate-shift") from None


def _quality(oracle: OracleQuality) -> str:
    if oracle.normalized_entropy is None or oracle.auc is None:
        return "not defined: all impressions of the tail have the same outcome"
    return f"NE {oracle.normalized_entropy:.4f}, AUC {oracle.auc:.4f}"
