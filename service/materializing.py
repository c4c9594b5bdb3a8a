"""Rows of features as they are known at a time, written into the configured store. Loads DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from feature_store.clock import system_clock
from feature_store.definition import Project, load_project
from feature_store.offline.engine import EngineName
from feature_store.offline.log import Log
from feature_store.offline.materialize import MaterializeReport, materialize
from feature_store.online.redis_errors import NAMED_BY
from feature_store.online.redis_writer import RedisRowWriter
from feature_store.schema import FeatureView
from models.logs.reader import own_project
from service.console import OnProgress
from service.errors import SettingsError
from service.settings import Settings
from service.store_address import store_url

LATEST_MS = 253_402_300_799_999
"""The end of the year 9999, the last that a calendar of ours can say."""

AsOf = Literal["now", "log-end"] | int
"""The time whose knowledge is written: the present, the log's last impression, or milliseconds since 1970 UTC."""


def as_of(text: str) -> AsOf:
    """`now`, `log-end`, milliseconds since 1970 UTC, or an ISO time (UTC where it names no zone).

    Raises:
        SettingsError: none of these.
    """
    if text == "now":
        return "now"
    if text == "log-end":
        return "log-end"
    if text.isdecimal() and int(text) <= LATEST_MS:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"--as-of: {text!r} is no as-of time; write now, log-end, milliseconds since 1970 UTC or 2026-01-31T12:00"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def materialize_views(
    project: Project,
    views: Sequence[FeatureView],
    log: Log | None,
    settings: Settings,
    *,
    time: AsOf,
    workdir: Path,
    on_progress: OnProgress,
    engine: EngineName = "duckdb",
    url_named_by: str = NAMED_BY,
) -> MaterializeReport:
    """Writes the views' rows into the configured store, or into the embedded one where no Redis is named.

    Args:
        url_named_by: what names another store where this is called, for the error that it is away.

    Raises:
        EngineError: the engine is not to be had here.
        MaterializeError: the time is in the future.
        NoRowLeft: a view has no row at that time that can be used.
        SettingsError: the log's end is asked for, and there is no log.
        StoreError: the store failed; run it again to resume.
    """
    if time == "log-end" and log is None:
        raise SettingsError("--as-of: log-end is the time of a log's last impression; name the log with --data")
    moment = log.last_ms if time == "log-end" and log else None if time == "now" else int(time)
    with store_url(settings) as url:
        writer = RedisRowWriter(url, project.schema.project, on_wait=on_progress, named_by=url_named_by)
        try:
            return materialize(
                project,
                views,
                log,
                writer,
                workdir=workdir,
                clock=system_clock,
                as_of_ms=moment,
                engine=engine,
                on_progress=on_progress,
            )
        finally:
            writer.close()


def project_of(data: str | None, features_file: Path | None) -> Project:
    """The definition of features: the file, or what comes with the kind of log.

    Raises:
        LogNameError: neither a file nor a kind of log that brings its own.
    """
    if features_file:
        return load_project(features_file)
    return own_project((data or "").partition(":")[0])
