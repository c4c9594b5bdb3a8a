"""`clickserve evaluate`: a published model held against a log, every figure with its interval.

With `--skew` it is what the live service served that is held against the log.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from service.commands.options import (
    FiniteRange,
    data_option,
    engine_option,
    features_option,
    json_option,
    name_option,
    registry_option,
    rows_option,
    workdir_option,
)
from service.console import Console, Screen
from service.evaluation_tables import figure_text, show_further, table_of
from service.exit_codes import GATE
from service.rejected_rows import rejects_document, rejects_of, rejects_said, say_rejects
from service.skew_report import show_skew, skew_document

if TYPE_CHECKING:
    from feature_store.offline.engine import EngineName
    from models.registry.manifest import TrainedOn
    from service.measuring import Measured


@click.command("evaluate")
@data_option
@features_option
@engine_option
@rows_option
@registry_option
@name_option()
@click.option("--version", help="Which version; the newest where absent.")
@click.option(
    "--predictions",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a CSV with header y,p and one line per accepted row, in the order of the input.",
)
@click.option(
    "--skew",
    is_flag=True,
    help="Compare what was served (--served) with offline features of the same rows; exit 3 where a column differs.",
)
@click.option(
    "--served",
    "served_dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that a service logged to (served_log.folder).",
)
@click.option(
    "--by",
    multiple=True,
    metavar="COLUMN",
    help="Also figures for each value of a column: a context feature, an attribute (ad_profile.category) or any column "
    "of the log; may be given several times.",
)
@click.option(
    "--threshold",
    "thresholds",
    type=FiniteRange(0.0, 1.0),
    multiple=True,
    metavar="P",
    help="Also precision, recall and F1 where p_click >= P is called a click; may be given several times.",
)
@click.option(
    "--against", metavar="VERSION", help="Also the differences to this version on the same impressions, in pairs."
)
@click.option(
    "--candidates-by",
    metavar="COLUMN",
    help="Where the log holds propensities: the column that decides which ads a round could have shown (a campaign, a "
    "slot); all ads of the log where absent.",
)
@click.option(
    "--clip", type=FiniteRange(min=0.0, min_open=True), metavar="W", help="Count weights of rounds above W as W."
)
@workdir_option
@json_option
def command(
    data: str,
    features_file: Path | None,
    engine: EngineName,
    rows: tuple[float, float],
    registry_dir: Path,
    name: str,
    version: str | None,
    predictions: Path | None,
    skew: bool,
    served_dir: Path | None,
    by: tuple[str, ...],
    thresholds: tuple[float, ...],
    against: str | None,
    candidates_by: str | None,
    clip: float | None,
    workdir: Path,
    as_json: bool,
) -> int:
    """Score a log as serving would and compare what was promised with what came.

    On a simulated log the two oracles stand beside the model: what is true, and what serving could know.

    With --skew no model is scored: the vectors in --served are compared with the offline features of the same rows, of
    every version of the model where --version names none.
    """
    if skew != (served_dir is not None):
        raise click.UsageError("--skew compares what lies in --served DIR: give both or neither")
    if served_dir is not None:
        if predictions is not None or rows != (0.0, 1.0):
            raise click.UsageError("--skew scores nothing and reads the whole log: leave --predictions and --rows out")
        return _skew(served_dir, data, features_file, engine, name, version, workdir, Console(json_only=as_json))
    from models.evaluation.evaluate import seen_in_training, write_predictions
    from models.evaluation.further import Asked, further
    from models.evaluation.grouping_columns import check_asked
    from models.logs.frame import build_frame
    from models.registry.registry import Registry
    from service.measuring import measure
    from service.training_jobs import click_delay, open_log

    if predictions is not None and not predictions.absolute().parent.is_dir():
        raise click.UsageError(f"--predictions {predictions}: there is no folder {predictions.parent}")
    registry = Registry(registry_dir, name)
    newest, champion = registry.newest(), registry.champion()
    predictor = registry.load(version or newest)
    other = None if against is None else registry.load(against)
    console = Console(json_only=as_json)
    with console.progress() as on_progress:
        log = open_log(data, features_file, workdir, on_progress)
        check_asked(log, by, candidates_by, clip)  # before minutes are spent on joins and scores
        frame = build_frame(log, engine=engine, on_progress=on_progress)
        with rejects_said(console, rejects_of(frame)) as rejected:
            on_progress("scoring", 0.0)
            part = frame.part(*rows)
            measured = measure(predictor, part)
            on_progress("scoring", 1.0)
            on_progress("further questions", 0.0)
            asked = Asked(by, thresholds, other, candidates_by, clip)
            answers = further(predictor, measured.evaluation, part, frame, asked)
            on_progress("further questions", 1.0)
    delay = click_delay(log)
    if predictions is not None:
        write_predictions(measured.evaluation, predictions)
    trained_on = predictor.manifest.trained_on
    n_seen = seen_in_training(predictor.manifest, part, data)
    other_seen = None if other is None else seen_in_training(other.manifest, part, data)
    document = (
        measured.document()
        | {
            "newest": newest,
            "champion": champion,
            "impressions_in_training_period": n_seen,
            "against_impressions_in_training_period": other_seen,
            "pending_impressions": frame.log.pending,
            "label": msgspec.to_builtins(predictor.manifest.label),
            "click_delay": msgspec.to_builtins(delay),
            "trained_on": msgspec.to_builtins(trained_on),
        }
        | msgspec.to_builtins(answers)
        | rejects_document(rejected)
    )
    label = f"label: {predictor.manifest.label.described()}" + ("" if delay is None else f"; {delay.described()}")
    role = _role(predictor.manifest.version, newest, champion)

    def show(screen: Screen) -> None:
        _show(screen, measured, role)
        screen.print(label, soft_wrap=True)
        if frame.log.pending:
            screen.print(f"pending: {frame.log.pending_words()}", soft_wrap=True)
        screen.print(_honesty(len(part), n_seen, trained_on))
        show_further(screen, answers)
        if other is not None:
            theirs = _honesty(len(part), other_seen, other.manifest.trained_on)
            screen.print(f"version {other.manifest.version}: {theirs}")

    console.result(document, show)
    return 0


def _skew(
    served_dir: Path,
    data: str,
    features_file: Path | None,
    engine: EngineName,
    name: str,
    version: str | None,
    workdir: Path,
    console: Console,
) -> int:
    from service.measuring import skew_of
    from service.training_jobs import open_log

    with console.progress() as on_progress:
        log = open_log(data, features_file, workdir, on_progress)
        report = skew_of(
            served_dir, log, name=name, version=version, workdir=workdir, on_progress=on_progress, engine=engine
        )
    say_rejects(console, {"log": log.rejects})
    console.result(
        skew_document(report) | rejects_document({"log": log.rejects}), lambda screen: show_skew(report, screen)
    )
    return GATE if report.skewed else 0


def _role(version: str, newest: str, champion: str | None) -> str:
    """Which of the versions this is; the newest need not be the one that answers requests."""
    age = "the newest" if version == newest else f"not the newest, {newest}"
    if champion is None:
        return f"{age}; there is no champion"
    return f"{age}; {'the champion' if version == champion else f'not the champion, {champion}'}"


def _honesty(n: int, n_seen: int | None, trained_on: TrainedOn | None) -> str:
    """Whether the model knew these clicks before it was asked."""
    if trained_on is None:
        return (
            "this version was imported, and nobody said what it was trained on: if it has seen these clicks, the "
            "figures flatter it"
        )
    if n_seen is None:
        return (
            f"whether this version was trained on these impressions cannot be told: without times, only rows of "
            f"{trained_on.source} can be recognised"
        )
    if n_seen == 0:
        return "none of these impressions lies in the period that this version was trained on"
    return (
        f"warning: of {n:,} impressions, {n_seen:,} lie in the period that this version was trained on; it may have "
        "seen their clicks, so the figures may flatter it: judge it on later ones (--rows, or a newer log)"
    )


def _show(screen: Screen, measured: Measured, role: str) -> None:
    metrics = measured.evaluation.metrics
    n, clicks = metrics["auc"].n, metrics["auc"].clicks
    version = measured.evaluation.version
    screen.print(f"model {version} ({role}) on {n:,} impressions with {clicks:,} clicks", soft_wrap=True)
    oracles = measured.oracles
    columns = ("metric", "model [95 % interval]", "attainable [95 % interval]", "truth [95 % interval]")
    table = table_of(*columns[: 2 if oracles is None else 4])
    for name, interval in metrics.items():
        row = [name, figure_text(interval)]
        if oracles is not None:
            row += [figure_text(oracles.attainable.get(name)), figure_text(oracles.true.get(name))]
        table.add_row(*row)
    screen.print(table)
    if caution := metrics["auc"].caution():
        screen.print(caution)
    if "gauc" in metrics:
        counting = f"{measured.evaluation.gauc_users:,} users who have clicks and non-clicks"
        screen.print(f"gauc is the mean over {counting}, weighted by their {metrics['gauc'].n:,} impressions")
    if oracles is not None:
        screen.print(f"share of the attainable NE gain: {figure_text(oracles.share_of_attainable_gain)}")
