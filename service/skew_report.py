"""What `clickserve evaluate --skew` found, as one JSON document and as tables for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.styled import Styled
from rich.table import Table

from service.console import Screen

if TYPE_CHECKING:
    from models.evaluation.skew import ColumnSkew
    from models.evaluation.skew_check import SkewReport


def skew_document(report: SkewReport) -> dict[str, Any]:
    """All figures as plain values."""
    return {
        "rows": report.rows,
        "versions": list(report.versions),
        "skewed": list(report.skewed),
        "columns": [
            {
                "column": column.column,
                "allowed_ulps": column.allowed_ulps,
                "rows": column.rows,
                "differing": column.differing,
                "share": column.share,
                "unequal": column.unequal,
                "max_ulps": column.max_ulps,
                "example": column.example,
            }
            for column in report.columns
        ],
        "views": [
            {
                "view": view.view,
                "rows": view.rows,
                "missing": view.missing,
                "missing_but_known": view.missing_but_known,
                "stale": view.stale,
                "behind": view.behind,
                "behind_ms_max": view.behind_ms_max,
                "unknown": view.unknown,
                "as_of_times": len(view.as_of_times),
            }
            for view in report.views
        ],
    }


def show_skew(report: SkewReport, screen: Screen) -> None:
    """The columns, the views, and the verdict."""
    screen.print(f"{report.rows:,} served rows of {', '.join(report.versions)}", soft_wrap=True)
    columns = Table(box=None)
    for heading in ("column", "rows", "differing", "share", "not bit-equal", "largest", "allowed", ""):
        columns.add_column(heading, justify="left" if heading in ("column", "") else "right")
    for column in report.columns:
        columns.add_row(
            column.column,
            f"{column.rows:,}",
            f"{column.differing:,}",
            f"{column.share:.2%}",
            f"{column.unequal:,}",
            _distance(column),
            "equal" if column.allowed_ulps == 0 else f"{column.allowed_ulps} ulp",
            Styled("ok", "green") if column.passes else Styled("skew", "red"),
        )
    screen.print(columns)
    views = Table(box=None)
    for heading in ("view", "rows", "as-of times", "missing", "known offline", "stale", "behind", "at most", "unknown"):
        views.add_column(heading, justify="left" if heading == "view" else "right")
    for view in report.views:
        counts = (view.rows, len(view.as_of_times), view.missing, view.missing_but_known, view.stale, view.behind)
        behind = _age(view.behind_ms_max) if view.behind else ""
        views.add_row(view.view, *(f"{count:,}" for count in counts), behind, f"{view.unknown:,}")
    screen.print(views)
    for column in report.columns:
        if column.example is not None:
            screen.print(f"{column.column}: {_told(column.example)}", soft_wrap=True)
    if report.skewed:
        screen.print(f"skew in {', '.join(report.skewed)}", style="red", soft_wrap=True)
    else:
        screen.print("no skew: every served value is the offline one", style="green")


def _distance(column: ColumnSkew) -> str:
    if column.max_ulps is None:
        return ""
    return "NaN" if column.max_ulps >= 2**32 else f"{column.max_ulps:,} ulp"


def _age(duration_ms: int) -> str:
    """Rounded, in the largest unit that it fills."""
    units = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000))
    unit, length_ms = next((unit for unit in units if duration_ms >= unit[1]), units[-1])
    return f"{duration_ms / length_ms:.1f} {unit}"


def _told(example: dict[str, Any]) -> str:
    offline = "no row of this as-of" if example["offline"] is None else example["offline"]
    return (
        f"request {example['request_id']}, user {example['user_id']!r}, ad {example['ad_id']!r}, "
        f"as of {example['as_of_ms']}: served {example['served']}, offline {offline}"
    )
