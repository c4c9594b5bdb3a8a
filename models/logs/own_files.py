"""Logs in the owner's own Parquet and CSV files, and simulated ones, which are Parquet files with known names."""

from __future__ import annotations

import glob
from pathlib import Path

from feature_store.errors import LogNameError
from feature_store.offline.delimited import load_delimited
from feature_store.offline.engine import Engine
from feature_store.offline.parquet import show_parquet
from feature_store.project import Project
from feature_store.schema import LogSource, SqlSource
from feature_store.sql_text import columns_read
from models.logs.opened import OpenedLog, existing

IMPRESSIONS = "impressions.parquet"


def open_simulated(source: str, project: Project, engine: Engine, workdir: Path) -> OpenedLog:
    """The folder of a simulated log."""
    folder = Path(source)
    if not (folder / IMPRESSIONS).is_file():
        raise LogNameError(f"{folder} holds no {IMPRESSIONS}; make it with: clickserve simulate --out {folder}")
    return _parquet([folder / IMPRESSIONS], str(folder), engine)


def open_parquet(source: str, project: Project, engine: Engine, workdir: Path) -> OpenedLog:
    """A Parquet file or a glob of them; rows are numbered through all files in order of their names."""
    found = glob.glob(source)  # noqa: PTH207 - the pattern may be absolute, which Path.glob refuses
    paths = sorted(map(Path, found)) or [existing(Path(source))]
    return _parquet(paths, Path(source).name, engine)


def open_csv(source: str, project: Project, engine: Engine, workdir: Path) -> OpenedLog:
    """A CSV file with a header; torn lines are set aside and counted."""
    path = existing(Path(source))
    types, sniffed = _text_types(project)
    load_delimited(engine, path, "raw", workdir=workdir, types=types, sniffed=sniffed)
    return OpenedLog("raw", path.name, path.absolute().parent, unit="line")


def _parquet(paths: list[Path], what: str, engine: Engine) -> OpenedLog:
    show_parquet(engine, paths, "raw")
    return OpenedLog("raw", what, paths[0].absolute().parent)


def _text_types(project: Project) -> tuple[dict[str, str], set[str]]:
    """SQL types of the columns of a text file that the project reads, and those whose type must be guessed.

    Ids, categories and times stay text, so that "007" keeps its zeros and a time that cannot be read is shown as it
    stands; SQL written by people needs the types it sees.
    """
    log = project.log
    sniffed = set() if log.clicked.sql is None else set(log.clicked.reads)
    types = {
        name: "VARCHAR"
        for name in (log.user_id, log.ad_id, log.impression_id, log.position, log.propensity, log.clicked.column)
        if name
    }
    for context in project.schema.context:
        types[context.column or context.name] = "VARCHAR" if context.dtype == "id" else "DOUBLE"
    for view in project.schema.views:
        if isinstance(view.source, LogSource):
            for feature, column in zip(view.features, view.source.columns, strict=True):
                types[column] = "VARCHAR" if feature.read_as == "id" else "DOUBLE"
        elif isinstance(view.source, SqlSource):
            sniffed |= set(columns_read(view.source.sql))
    for time in (log.time, log.click_time, *project.stamps.values()):
        if time is not None and time.column not in sniffed:
            types.setdefault(time.column, "VARCHAR")
    return types, sniffed
