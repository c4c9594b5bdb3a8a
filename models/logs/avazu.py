"""The Avazu format: one line an impression of a mobile ad, with the hour it was shown in and 20 anonymous categories.

A header, commas, no users worth the name (most rows share one `device_id`) and no ads: everything is context. Times are
whole hours, UTC; within an hour the order of the file stands.
Source: Kaggle, "Click-Through Rate Prediction" (Avazu, 2014), description of the data.
"""

from __future__ import annotations

from pathlib import Path

from feature_store.errors import LogError
from feature_store.offline.delimited import load_delimited
from feature_store.offline.engine import Engine
from feature_store.project import Project
from models.logs.opened import OpenedLog, existing

TIME_COLUMN = "hour"


def open_avazu(source: str, project: Project, engine: Engine, workdir: Path) -> OpenedLog:
    """A file in the Avazu format, plain or gzip; adds `shown_at` and `hour_of_day`."""
    path = existing(Path(source))
    load_delimited(engine, path, "avazu", workdir=workdir, types={})
    if TIME_COLUMN not in engine.columns("avazu"):
        raise LogError(f"{path} has no column {TIME_COLUMN!r}, so it is not in the Avazu format")
    engine.run(
        f"CREATE OR REPLACE TEMP VIEW raw AS SELECT *, try_strptime('20' || {TIME_COLUMN}, '%Y%m%d%H') AS shown_at, "
        f"right({TIME_COLUMN}, 2) AS hour_of_day FROM avazu"
    )
    return OpenedLog("raw", path.name, path.absolute().parent, unit="line")
