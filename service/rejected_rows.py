"""Rows of the input that could not be used, told alike by every command that reads a log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.console import Console

if TYPE_CHECKING:
    from feature_store.offline.rejects import Rejects


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
