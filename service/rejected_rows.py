"""Rows of the input that could not be used, told alike by every command that reads a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from service.console import Console
from service.terminal_text import visible

if TYPE_CHECKING:
    from feature_store.offline.rejects import Rejects
    from models.logs.frame import TrainingFrame
    from models.logs.stored_frame import StoredFrame


def rejects_of(frame: TrainingFrame | StoredFrame) -> dict[str, Rejects]:
    """By source: what was left out of a log and of the tables beside it."""
    return {"log": frame.log.rejects, **frame.table_rejects}


@contextmanager
def rejects_said(console: Console, rejected: Mapping[str, Rejects]) -> Iterator[Mapping[str, Rejects]]:
    """Says them when the work is done, and also when it fails: what is missing may be the reason why.

    A failure leaves no document to tell of them, so then they are said to machines as well.
    """
    try:
        yield rejected
    except Exception:  # whatever failed is raised again below
        for source, rejects in rejected.items():
            if rejects.n:
                click.echo(visible(f"{source}: {rejects.described()}"), err=True)
        raise
    say_rejects(console, rejected)


def say_rejects(console: Console, rejected: Mapping[str, Rejects]) -> None:
    """For a person: by source (`log`, or a view and its table), counts by reason and the first ten."""
    for source, rejects in rejected.items():
        if rejects.n:
            console.say(f"{source}: {rejects.described()}")


def rejects_document(rejected: Mapping[str, Rejects]) -> dict[str, Any]:
    """The same for a machine; sources without a rejected row are left out."""
    return {
        "rejected_rows": sum(rejects.n for rejects in rejected.values()),
        "rejects": {source: rejects.document() for source, rejects in rejected.items() if rejects.n},
    }
