"""`clickserve bench compare A B`: is the second report's service slower than the first's? Exit 3 if it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from service import exit_codes
from service.commands.options import json_option, tolerance_option
from service.console import Console
from service.terminal_text import say_error

SIDE = click.Path(exists=True, path_type=Path)


@click.command("compare")
@click.argument("a", type=SIDE)
@click.argument("b", type=SIDE)
@tolerance_option
@click.option("--force", is_flag=True, help="Compare although workload, rate or machine differ, and say so.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/compare"),
    show_default=True,
    help="Folder for compare.html and compare.json.",
)
@json_option
def command(a: Path, b: Path, tolerance: float, force: bool, out: Path, as_json: bool) -> int:
    """Compare the report B with A: p50, p99, answers in time, CPU per request and failures, each with an interval.

    A side is a report.json, a folder with one, or a folder of such folders (rounds, measured by turns with the other
    side's). `bench turns` measures and compares two services at once, which finds more in less time.

    Exit 0 no regression, 1 the reports cannot be compared, 3 a figure is slower or more requests failed.
    """
    from loadtest.comparing.page import document, write_page
    from loadtest.comparing.sides import read_side
    from loadtest.comparing.verdict import compare
    from loadtest.errors import ComparisonError
    from service.bench_outcomes import show_comparison

    try:
        comparison = compare(read_side(a), read_side(b), tolerance=tolerance, force=force)
    except ComparisonError as error:
        say_error(error)
        return exit_codes.FAILURE
    described: dict[str, Any] = {**document(comparison), "html": str(write_page(comparison, out))}
    Console(json_only=as_json).result(described, lambda screen: show_comparison(screen, described))
    return exit_codes.GATE if comparison.regressed else 0
