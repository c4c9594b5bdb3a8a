"""What a reader answers: somebody's rows, ready to be checked."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from feature_store.errors import LogNameError


class OpenedLog(NamedTuple):
    """A relation inside an engine that holds a log in its own words, and `_line`."""

    relation: str
    what: str
    """The log's name in messages."""
    folder: Path
    """Where the tables beside the log lie."""
    unit: str = "row"
    """What `_line` counts: `row` or `line`."""


def existing(path: Path) -> Path:
    """The path itself, if it is a file.

    Raises:
        LogNameError: it is not.
    """
    if not path.is_file():
        raise LogNameError(f"there is no file {path}")
    return path
