"""Sections of the pages of a suite: a heading, sentences, a table of text cells, drawings.

HTML and Markdown are drawn from the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.intervals import Spread
from loadtest.suite.drawings import Drawing

NOT_MEASURED = "–"


@dataclass(frozen=True, slots=True)
class SuiteTable:
    """Rows of cells; the first column names the row."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, sentences, then a table and drawings where there are any."""

    title: str
    sentences: tuple[str, ...]
    table: SuiteTable | None = None
    drawings: tuple[Drawing, ...] = ()


def spread_cell(spread: Spread | None, form: str, unknown: str = NOT_MEASURED) -> str:
    """Median, with the lowest and the highest where there are several."""
    if spread is None:
        return unknown
    if spread.n == 1:
        return form.format(spread.median)
    return f"{form.format(spread.median)} ({form.format(spread.low)} to {form.format(spread.high)})"
