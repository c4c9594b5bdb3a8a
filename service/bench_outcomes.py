"""How the commands around the load tests end: a comparison on the screen, an error as an exit status.

Imports the load generator: import this where it is called.
"""

from __future__ import annotations

from typing import Any

from rich.table import Table

from loadtest.errors import BudgetError, TargetError, UrlError, WorkloadError
from service import exit_codes
from service.console import Screen


def exit_code_of(error: Exception) -> int:
    """What an error of a load test ends a command with."""
    if isinstance(error, (BudgetError, UrlError, WorkloadError)):
        return exit_codes.USAGE
    return exit_codes.DEPENDENCY_DOWN if isinstance(error, TargetError) else exit_codes.FAILURE


def show_comparison(screen: Screen, described: dict[str, Any]) -> None:
    """The verdict, then a line per figure and per share."""
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
    if described["figures"]:
        screen.print(table)
    for found in described["shares"]:
        (n_a, of_a), (n_b, of_b) = found["counted"]["a"], found["counted"]["b"]
        screen.print(
            f"{found['name']}: A {n_a:,} of {of_a:,} ({found['a']:.2%}), B {n_b:,} of {of_b:,} ({found['b']:.2%}); "
            f"B - A {found['low'] * 100:+.2f} to {found['high'] * 100:+.2f} of 100: {found['verdict']}",
            soft_wrap=True,
        )
    for reason in described["notes"]:
        screen.print(f"mind: {reason}")
    for difference in described["forced_over"]:
        screen.print(f"compared by force although {difference}")
    screen.print(described["html"], soft_wrap=True)
