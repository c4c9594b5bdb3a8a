"""What `clickserve evaluate` prints beside the figures of the whole sample: one table for each further question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from models.evaluation.breakdown import Breakdown
    from models.evaluation.comparison import Comparison
    from models.evaluation.thresholds import AtThreshold
    from models.registry.manifest import Interval


def figure_text(interval: Interval | None) -> str:
    """A figure and its 95 % interval."""
    if interval is None:
        return "not defined"
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def show_thresholds(screen: RichConsole, thresholds: Sequence[AtThreshold]) -> None:
    """Precision, recall and F1 at the thresholds that were asked for."""
    if not thresholds:
        return
    table = table_of("p_click at least", "called clicks", "precision [95 %]", "recall [95 %]", "F1 [95 %]")
    for at in thresholds:
        figures = (figure_text(figure) for figure in (at.precision, at.recall, at.f1))
        table.add_row(f"{at.threshold:g}", f"{at.called:,}", *figures)
    screen.print(table)


def show_breakdowns(screen: RichConsole, breakdowns: Sequence[Breakdown]) -> None:
    """One table for each question; a flagged segment says so."""
    for found in breakdowns:
        table = table_of(
            f"by {found.by}", "impressions", "clicks", "promised / seen [95 %]", "NE [95 %]", "AUC [95 %]", ""
        )
        for segment in found.segments:
            figures = (segment.calibration_ratio, segment.normalized_entropy, segment.auc)
            texts = ("-" if figure is None else figure_text(figure) for figure in figures)
            counts = (f"{segment.impressions:,}", f"{segment.clicks:,}")
            table.add_row(escape(segment.value), *counts, *texts, "off by more than 10 %" if segment.flagged else "")
        screen.print(table)
        if found.by == "position":
            screen.print("p_click speaks of the mean over positions: here the ratio shows what a place is worth")
    if n := sum(len(found.segments) for found in breakdowns):
        screen.print(
            f"of {n} groups' 95 % intervals about {n / 20:.1f} miss by chance; marked are those with 1,000 clicks or "
            "more whose whole interval lies beyond 1 ± 0.10"
        )


def show_comparison(screen: RichConsole, compared: Comparison) -> None:
    """Differences to another model."""
    screen.print(f"minus version {compared.old}, on the same {compared.auc.n:,} impressions, in pairs:", soft_wrap=True)
    table = table_of("difference", "[95 % interval]", "")
    signs = (("normalized_entropy", -1.0), ("log_loss", -1.0), ("auc", 1.0))
    for name, better in signs:
        found: Interval = getattr(compared, name)
        ends = sorted((better * found.low, better * found.high))
        verdict = "better" if ends[0] > 0 else "worse" if ends[1] < 0 else "cannot be told apart"
        table.add_row(name, f"{found.value:+.5f} [{found.low:+.5f}, {found.high:+.5f}]", verdict)
    screen.print(table)


def table_of(*columns: str) -> Table:
    """An empty table in the manner of all of them."""
    table = Table(box=None)
    for column in columns:
        table.add_column(column)
    return table
