"""The Criteo display-advertising format: label, I1 to I13 integers, C1 to C26 hashed categories, tab separated.

No header, no ids, no time; rows are in order of time. Numbers and categories may be empty.
Source: Criteo Labs, "Display Advertising Challenge" (2014), readme of the data.
"""

from __future__ import annotations

from pathlib import Path

from feature_store.offline.delimited import Dialect, load_delimited
from feature_store.offline.engine import Engine
from feature_store.project import Project
from models.logs.opened import OpenedLog, existing

INTEGERS = tuple(f"I{i}" for i in range(1, 14))
CATEGORIES = tuple(f"C{i}" for i in range(1, 27))
HEADER = ("label", *INTEGERS, *CATEGORIES)


def open_criteo(source: str, project: Project, engine: Engine, workdir: Path) -> OpenedLog:
    """A file in the Criteo format, plain or gzip."""
    path = existing(Path(source))
    load_delimited(
        engine,
        path,
        "raw",
        workdir=workdir,
        types=dict.fromkeys(INTEGERS, "DOUBLE"),
        dialect=Dialect(delimiter="\t", header=HEADER, quoting=False),
    )
    return OpenedLog("raw", path.name, path.absolute().parent, unit="line")
