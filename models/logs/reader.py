"""Reading a click log named `KIND:PATH` into the canonical form.

    simulated:DIR       what `clickserve simulate` wrote
    criteo:FILE         the Criteo format: tab separated, no header, 13 integers and 26 categories; gzip welcome
    avazu:FILE          the Avazu format: commas, a header, hours and categories; gzip welcome
    ipinyou:FILE        impressions of iPinYou's bidders as Parquet with named columns
    talkingdata:FILE    clicks on ads for apps, and when the app was installed, as Parquet
    movielens:[DIR]     MovieLens 100K from the installed `recbole` wheel, or from a folder
    obd:[DIR]           the Open Bandit Dataset from the installed `obp` wheel, or from a folder
    parquet:FILE|GLOB   an own log, described by features.toml
    csv:FILE            an own log, described by features.toml; one line is one row; gzip welcome

The first seven bring their own definition of features; another one may be given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from feature_store.clock import Clock, system_clock
from feature_store.errors import LogNameError
from feature_store.offline.engine import Engine
from feature_store.offline.log import Log
from feature_store.offline.log_writer import write_log
from feature_store.offline.progress import Progress, silent
from feature_store.project import Project
from feature_store.run_folder import RunFolder
from models.logs.avazu import open_avazu
from models.logs.criteo import open_criteo
from models.logs.movielens import open_movielens
from models.logs.obd import open_obd
from models.logs.opened import OpenedLog
from models.logs.own_files import open_csv, open_parquet, open_simulated
from models.logs.presets import preset

_OPENERS: Final[dict[str, Callable[[str, Project, Engine, Path], OpenedLog]]] = {
    "simulated": open_simulated,
    "criteo": open_criteo,
    "avazu": open_avazu,
    "ipinyou": open_parquet,
    "talkingdata": open_parquet,
    "movielens": open_movielens,
    "obd": open_obd,
    "parquet": open_parquet,
    "csv": open_csv,
}
KINDS: Final = tuple(_OPENERS)
KINDS_WITH_A_PRESET: Final = ("simulated", "criteo", "avazu", "ipinyou", "talkingdata", "movielens", "obd")
KINDS_IN_A_WHEEL: Final = ("movielens", "obd")


def read_log(
    spec: str,
    project: Project | None = None,
    *,
    workdir: Path,
    clock: Clock = system_clock,
    on_progress: Progress = silent,
    memory_mb: int | None = None,
) -> Log:
    """Read a log, check every row, and keep the good ones in canonical form in `workdir`.

    Args:
        spec: `KIND:PATH`, see above.
        project: how the log names things and which features it has; the kind's own definition where None.
        workdir: takes the list of rejected rows, and the canonical log in a folder of its own that goes with the answer
            (`run_folder.py`), so that runs side by side never read each other's rows.
        clock: the present; what a log says to have happened more than a day after it is rejected.
        on_progress: told the stage and its share done.
        memory_mb: what checking and sorting may take before they spill into `workdir`; see `Engine`.
    Raises:
        LogNameError: unknown kind, no path, no such file, or nobody said what the columns mean.
        SchemaError: the project names a column that the log does not have, or not of that type.
        LogError: no usable row.
    """
    kind, colon, source = spec.partition(":")
    if kind not in _OPENERS or not colon:
        raise LogNameError(f'"{spec}" names no log; write KIND:PATH with a kind of {", ".join(KINDS)}')
    if not source and kind not in KINDS_IN_A_WHEEL:
        raise LogNameError(f'"{spec}" names no file; write {kind}:PATH')
    project = own_project(kind) if project is None else project
    held = RunFolder(workdir)
    on_progress("opening the log", 0.0)
    zone, spill_folder = project.schema.time_zone, held.path / "spill"
    with Engine(time_zone=zone, spill_folder=spill_folder, memory_mb=memory_mb) as engine, engine.about(spec):
        opened = _OPENERS[kind](source, project, engine, held.path)
        on_progress("opening the log", 1.0)
        digest = hashlib.sha256(f"{spec} {project!r}".encode()).hexdigest()[:8]
        log = write_log(
            engine,
            opened.relation,
            project,
            held.path / "log.parquet",
            report=workdir / f"{kind}-{digest}.rejected.csv",
            what=opened.what,
            folder=opened.folder,
            clock=clock,
            unit=opened.unit,
            on_progress=on_progress,
        )
    return replace(log, name=spec, held=held)


def own_project(kind: str) -> Project:
    """The definition that comes with a kind of log.

    Raises:
        LogNameError: the kind has none, because only its owner knows what the columns mean.
    """
    if kind not in KINDS_WITH_A_PRESET:
        brings = f"{', '.join(KINDS_WITH_A_PRESET)} logs bring theirs"
        raise LogNameError(f"features.toml says what the columns mean ({brings}); name it with --features")
    return preset(kind)
