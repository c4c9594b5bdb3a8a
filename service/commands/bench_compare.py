"""`clickserve bench compare A B`: is the second report's service slower than the first's? Exit 3 if it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console as RichConsole
from rich.table import Table

from service import exit_codes
from service.commands.options import FiniteRange, json_option
from service.console import Console

SIDE = click.Path(exists=True, path_type=Path)


@click.command("compare")
@click.argument("a", type=SIDE)
@click.argument("b", type=SIDE)
@click.option(
    "--tolerance",
    type=FiniteRange(0.01, 1),
    default=0.05,
    show_default=True,
    help="Relative change that counts as none; the p99 and the throughput get twice as much.",
)
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
    """Compare the report B with A: p50, p99, answers in time and CPU per request, each with an interval.

    A side is a report.json, a folder with one, or a folder of such folders (rounds measured in turns with the other
    side: the surest way). Exit 0 no regression, 1 the reports cannot be compared, 3 a figure is slower.
    """
    from loadtest.comparing.page import document, write_page
    from loadtest.comparing.sides import read_side
    from loadtest.comparing.verdict import compare
    from loadtest.errors import ComparisonError

    try:
        comparison = compare(read_side(a), read_side(b), tolerance=tolerance, force=force)
    except ComparisonError as error:
        click.echo(f"clickserve: {error}", err=True)
        return exit_codes.FAILURE
    described: dict[str, Any] = {**document(comparison), "html": str(write_page(comparison, out))}
    Console(json_only=as_json).result(described, lambda screen: show(screen, described))
    return exit_codes.GATE if comparison.regressed else 0


def show(screen: RichConsole, described: dict[str, Any]) -> None:
    """The verdict, then a line per figure."""
    screen.print(described["verdict"], style="bold")
    table = Table(box=None)
    for heading in ("typical second", "A", "B", "B / A", f"{described['interval']:.0%} interval", "verdict"):
        table.add_column(heading)
    for figure in described["figures"]:
        table.add_row(
            f"{figure['name']} ({figure['unit'].replace('per_s', '1/s')})",
            *(f"{figure[side]:.4g}" for side in ("a", "b")),
            f"{figure['ratio']:.3f}",
            f"{figure['low']:.3f} to {figure['high']:.3f}",
            figure["verdict"],
        )
    screen.print(table)
    for reason in described["notes"]:
        screen.print(f"mind: {reason}", markup=False)
    for difference in described["forced_over"]:
        screen.print(f"compared by force although {difference}", markup=False)
    screen.print(described["html"], markup=False, soft_wrap=True)
