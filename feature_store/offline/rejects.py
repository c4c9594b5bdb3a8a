"""Rows of a file that could not be used: counted by reason, the first ten shown, all of them in a side report.

A row that vanishes silently makes a log that lies about its click rate, so nothing is dropped without a trace.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_store.offline.engine import SqlEngine, text

N_SHOWN = 10
REJECTED = "rejected_rows"
"""Temporary table (line, reason, shown) that everything that reads a file adds to."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One row that could not be used, and why."""

    line: int
    """1 is the first line of a text file, or the first row of a Parquet file."""
    reason: str
    shown: str
    """The offending value or line, shortened."""


@dataclass(frozen=True, slots=True)
class Rejects:
    """What was left out while reading one file or table."""

    counts: dict[str, int]
    """Rows by reason, most frequent first."""
    first: tuple[RejectedRow, ...]
    """The first ten in order of the file."""
    unit: str = "row"
    """What `line` counts: `line` of a text file or `row` of a table."""
    report: Path | None = None
    """CSV of all rejected rows (line, reason, value); None where nothing was rejected."""

    @property
    def n(self) -> int:
        """Rejected rows altogether."""
        return sum(self.counts.values())

    def described(self) -> str:
        """Some lines for a person: counts by reason, then the first ten; empty where nothing was rejected."""
        if not self.n:
            return ""
        lines = [f"{self.n} {self.unit}{'s' if self.n > 1 else ''} rejected:"]
        lines += [f"  {count} x {reason}" for reason, count in self.counts.items()]
        lines += [f"  {self.unit} {row.line}: {row.reason}: {row.shown}" for row in self.first]
        if self.report is not None:
            lines.append(f"  all of them: {self.report}")
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "rows": self.n,
            "reasons": self.counts,
            "unit": self.unit,
            "first": [{"line": row.line, "reason": row.reason, "value": row.shown} for row in self.first],
            "report": None if self.report is None else str(self.report),
        }


def create_reject_table(engine: SqlEngine) -> None:
    """Make the table of rejected rows, empty, unless it is there."""
    engine.run(f"CREATE TEMP TABLE IF NOT EXISTS {REJECTED} (line BIGINT, reason VARCHAR, shown VARCHAR)")


def take_rejects(engine: SqlEngine, unit: str, report: Path | None) -> Rejects:
    """Count what was rejected since the last call, and list all of it in the file `report`, where one is named."""
    counts = engine.rows(f"SELECT reason, count(*) FROM {REJECTED} GROUP BY reason ORDER BY count(*) DESC, reason")
    if not counts:
        if report is not None:
            report.unlink(missing_ok=True)  # of an earlier run
        return Rejects({}, (), unit)
    first = engine.rows(
        f"SELECT line, reason, CASE WHEN length(shown) > 80 THEN left(shown, 77) || '...' ELSE shown END "
        f"FROM {REJECTED} ORDER BY line LIMIT {N_SHOWN}"
    )
    if report is not None:
        unfinished = report.with_name(f".{report.name}.{secrets.token_hex(4)}.unfinished")  # two runs may write one
        engine.run(
            f"COPY (SELECT line AS {unit}, reason, shown AS value FROM {REJECTED} ORDER BY line) "
            f"TO {text(str(unfinished))} (FORMAT csv, HEADER)"
        )
        unfinished.replace(report)
    engine.run(f"DELETE FROM {REJECTED}")
    rows = tuple(RejectedRow(int(str(line)), str(reason), str(shown)) for line, reason, shown in first)
    return Rejects({str(reason): int(str(count)) for reason, count in counts}, rows, unit, report)
