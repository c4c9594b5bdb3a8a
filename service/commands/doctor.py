"""`clickserve doctor`: find what would make serving slow or wrong, and say what to do about it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.styled import Styled
from rich.table import Table

from feature_store.errors import EmbeddedServerError
from service.commands.options import config_option, json_option
from service.console import Console, Screen
from service.exit_codes import DEPENDENCY_DOWN

if TYPE_CHECKING:
    from service.checkup.finding import Finding
    from service.settings import Settings

_COLOURS = {"ok": "green", "warning": "yellow", "failure": "red"}


@click.command("doctor")
@config_option
@click.option("--registry", "registry_dir", type=click.Path(file_okay=False, path_type=Path), help="Published models.")
@json_option
def command(config_file: Path | None, registry_dir: Path | None, as_json: bool) -> int:
    """Find what would make serving slow or wrong, and say what to do.

    Exit status: 0 if it would serve (warnings included), 1 if the model would not load, 69 if the store is down
    or refuses a read.
    """
    from service.settings_origins import load_settings

    return run(load_settings(config_file, os.environ, {"registry.dir": registry_dir}), as_json=as_json)


def run(settings: Settings, *, as_json: bool) -> int:
    """Print all findings about what these settings would serve; answers the exit status."""
    findings = examine(settings)
    document = {"findings": [asdict(finding) for finding in findings]}
    Console(json_only=as_json).result(document, lambda screen: _show(screen, findings))
    return max(finding.exit_code for finding in findings)


def examine(settings: Settings) -> list[Finding]:
    """All findings: machine, store, models. Without a Redis URL the embedded server is asked, started if need be."""
    from feature_store.clock import system_clock
    from feature_store.online.embedded import EmbeddedServer
    from service.checkup.finding import failure
    from service.checkup.machine import check_machine
    from service.checkup.models import check_models
    from service.checkup.served_log import check_served_log
    from service.checkup.store import check_store

    findings = [*check_machine(settings), *check_served_log(settings.served_log)]
    with ExitStack() as stack:
        url = settings.redis.url
        if not url:
            try:
                url = stack.enter_context(EmbeddedServer(settings.redis.embedded_dir)).url
            except EmbeddedServerError as error:
                findings.append(
                    failure("store", str(error), "set REDIS_URL, or repair the installation", DEPENDENCY_DOWN)
                )
        store_findings = check_store(url, embedded=not settings.redis.url) if url else []
        answers = bool(url) and all(finding.verdict != "failure" for finding in store_findings)
        return [*findings, *store_findings, *check_models(settings, url if answers else "", system_clock)]


def _show(screen: Screen, findings: Sequence[Finding]) -> None:
    table = Table(show_header=False, pad_edge=False, box=None)
    table.add_column()
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        verdict = Styled(finding.verdict, _COLOURS[finding.verdict])
        advice = f"\n→ {finding.advice}" if finding.advice else ""
        table.add_row(verdict, finding.check, finding.seen + advice)
    screen.print(table)
    n_bad = sum(finding.verdict != "ok" for finding in findings)
    screen.print(f"\n{n_bad} of {len(findings)} findings ask for something" if n_bad else "\nall is well")
