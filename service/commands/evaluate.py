"""`clickserve evaluate`: a published model held against a log, every figure with its interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console as RichConsole
from rich.table import Table

from service.commands.options import data_option, features_option, json_option, registry_option, rows_option
from service.console import Console

if TYPE_CHECKING:
    from models.registry.manifest import Interval
    from service.jobs import Measured


@click.command("evaluate")
@data_option
@features_option
@rows_option
@registry_option
@click.option("--name", default="default", show_default=True, help="Name of the model.")
@click.option("--version", help="Which version; the newest where absent.")
@click.option(
    "--predictions",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a CSV with header y,p and one line per accepted row, in the order of the input.",
)
@click.option(
    "--workdir", type=click.Path(file_okay=False, path_type=Path), default=Path(".clickserve/work"), show_default=True
)
@json_option
def command(
    data: str,
    features_file: Path | None,
    rows: tuple[float, float],
    registry_dir: Path,
    name: str,
    version: str | None,
    predictions: Path | None,
    workdir: Path,
    as_json: bool,
) -> int:
    """Score a log as serving would and compare what was promised with what came.

    On a simulated log the two oracles stand beside the model: what is true, and what serving could know.
    """
    from models.evaluation.evaluate import write_predictions
    from models.registry.registry import Registry
    from service.jobs import measure, read_frame

    registry = Registry(registry_dir, name)
    predictor = registry.load(version or registry.newest())
    console = Console(json_only=as_json)
    with console.progress() as on_progress:
        frame = read_frame(data, features_file, workdir, on_progress)
        on_progress("scoring", 0.0)
        measured = measure(predictor, frame.part(*rows))
        on_progress("scoring", 1.0)
    if frame.log.rejects.n:
        console.say(frame.log.rejects.described())
    if predictions is not None:
        write_predictions(measured.evaluation, predictions)
    document = measured.document() | {"rejected_rows": frame.log.rejects.n}
    console.result(document, lambda screen: _show(screen, measured))
    return 0


def _show(screen: RichConsole, measured: Measured) -> None:
    metrics = measured.evaluation.metrics
    n, clicks = metrics["auc"].n, metrics["auc"].clicks
    table = Table(title=f"model {measured.evaluation.version} on {n:,} impressions with {clicks:,} clicks", box=None)
    table.title_justify = "left"
    table.add_column("metric")
    table.add_column("model [95 % interval]")
    oracles = measured.oracles
    if oracles is not None:
        table.add_column("attainable")
        table.add_column("truth")
    for name, interval in metrics.items():
        row = [name, _figure(interval)]
        if oracles is not None:
            row += [f"{oracles.attainable[name].value:.4f}", f"{oracles.true[name].value:.4f}"]
        table.add_row(*row)
    screen.print(table)
    if oracles is not None:
        screen.print(f"share of the attainable NE gain: {_figure(oracles.share_of_attainable_gain)}")


def _figure(interval: Interval) -> str:
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
