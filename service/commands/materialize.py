"""`clickserve materialize`: feature rows, as they are known at one time, into the online store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from service.commands.options import (
    URL_NAMED_BY,
    config_option,
    engine_option,
    features_option,
    json_option,
    redis_url_option,
    workdir_option,
)
from service.console import Console, Screen
from service.rejected_rows import rejects_document, say_rejects

if TYPE_CHECKING:
    from feature_store.offline.engine import EngineName
    from feature_store.offline.materialize import MaterializedView, MaterializeReport


@click.command("materialize")
@click.option("--data", metavar="KIND:PATH", help="The click log that windows and log attributes are made from.")
@features_option
@engine_option
@click.option("--view", "view_names", multiple=True, help="Which views; all where absent. May be given several times.")
@click.option(
    "--from",
    "from_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Rows computed elsewhere, for the one --view named: entity id, event time, columns.",
)
@click.option(
    "--as-of",
    "as_of_text",
    default="now",
    show_default=True,
    help="Whose knowledge: now, log-end, milliseconds since 1970 UTC, or an ISO time.",
)
@config_option
@redis_url_option
@workdir_option
@json_option
def command(
    data: str | None,
    features_file: Path | None,
    engine: EngineName,
    view_names: tuple[str, ...],
    from_file: Path | None,
    as_of_text: str,
    config_file: Path | None,
    redis_url: str | None,
    workdir: Path,
    as_json: bool,
) -> int:
    """Write one packed row per entity and view. Running it again changes nothing; a killed run is resumed."""
    from feature_store.errors import NoRowLeft
    from feature_store.schema import LogSource, SqlSource, WindowSource
    from service.materializing import as_of, materialize_views, project_of
    from service.settings_origins import load_settings
    from service.training_jobs import open_log

    settings = load_settings(config_file, os.environ, {"redis.url": redis_url})
    time = as_of(as_of_text)
    project = project_of(data, features_file)
    known = {view.name: view for view in project.schema.views}
    unknown = [name for name in view_names if name not in known]
    if unknown:
        raise click.UsageError(f"no view {unknown[0]!r} in {project.origin}; there are {', '.join(known) or 'none'}")
    if from_file is not None:
        if len(view_names) != 1:
            raise click.UsageError("--from brings the rows of one view; name it with --view")
        project = project.with_table(view_names[0], from_file)
    views = [known[name] for name in view_names] or list(known.values())
    if not views:
        raise click.UsageError(f"{project.origin} declares no view, so there is nothing to materialize")
    from_log = [view.name for view in views if isinstance(view.source, (LogSource, WindowSource, SqlSource))]
    if from_log and data is None:
        raise click.UsageError(f"views {', '.join(from_log)} are made from the click log; name it with --data")
    console = Console(json_only=as_json)
    with console.progress() as on_progress:
        log = open_log(data, features_file, workdir, on_progress) if data else None
        of_log = {"log": log.rejects} if log else {}
        try:
            report = materialize_views(
                project,
                views,
                log,
                settings,
                time=time,
                workdir=workdir,
                on_progress=on_progress,
                engine=engine,
                url_named_by=URL_NAMED_BY,
            )
        except NoRowLeft as error:
            say_rejects(console, of_log | dict(error.rejected))
            document = {"error": str(error)} | rejects_document(of_log | dict(error.rejected))
            console.result(document, lambda screen: None)
            raise
    rejected = of_log | {view.view: view.rejected for view in report.views}
    say_rejects(console, rejected)
    warnings = [view.warning for view in report.views if view.warning]
    for warning in warnings:
        console.say(f"warning: {warning}")
    document = {
        "written": report.written,
        "views": [described(view) for view in report.views],
        "warnings": warnings,
    } | rejects_document(rejected)
    console.result(document, lambda screen: _show(screen, report))
    return 0


def described(view: MaterializedView) -> dict[str, Any]:
    """What became of one view, as plain values."""
    return {
        "view": view.view,
        "fingerprint": view.fingerprint,
        "as_of_ms": view.as_of_ms,
        "entities": view.entities,
        "written": view.rows.written,
        "older_skipped": view.rows.older_skipped,
        "expired_skipped": view.rows.expired_skipped,
        "later_than_as_of": view.later_than_as_of,
        "resumed_after_rows": view.resumed_after_rows,
        "seconds": view.seconds,
        "predicted_bytes_per_entity": view.predicted_bytes_per_entity,
        "real_bytes_per_entity": view.real_bytes_per_entity,
    }


def _show(screen: Screen, report: MaterializeReport) -> None:
    table = Table(box=None)
    for name in ("view", "written", "skipped", "after as-of", "seconds", "bytes per entity: predicted", "grown by"):
        table.add_column(name, justify="left" if name == "view" else "right")
    for view in report.views:
        table.add_row(
            view.view,
            f"{view.rows.written:,}",
            f"{view.rows.older_skipped + view.rows.expired_skipped:,}",
            f"{view.later_than_as_of:,}",
            f"{view.seconds:.1f}",
            _bytes(view.predicted_bytes_per_entity),
            _bytes(view.real_bytes_per_entity),
        )
    screen.print(table)


def _bytes(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
