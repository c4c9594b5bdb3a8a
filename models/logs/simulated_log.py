"""Files of a simulated log, and how they come to be: all at once or not at all.

    impressions.parquet   time_ms int64 ascending, user_id, ad_id, placement, device text, hour int8 (UTC),
                          position int8 (1 is the top slot), clicked bool, click_time_ms int64 (null: not clicked)
    truth.parquet         true_p, attainable_p float64: row i belongs to impression i; never features
    users.parquet         user_id, segment, home_region text, account_age_days float32
    ads.parquet           ad_id, campaign_id, advertiser_id, category text, created_ms int64, price float32
    summary.json          what was made, and how good the two oracles are on it

The log is complete: every click is in it, also one that arrives after the last impression. A reader who wants to know
what was known at some time must look at click_time_ms.

Everything is written into a hidden sibling folder that takes the final name at the end, so a log that is there is
whole. Rows reach the disk in row groups; memory does not grow with the log. pyarrow is used in this module only.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import SimulationError
from models.logs.simulated_impressions import Impressions, Outcomes
from models.logs.simulated_world import World

IMPRESSIONS, TRUTH, USERS, ADS = "impressions.parquet", "truth.parquet", "users.parquet", "ads.parquet"
SUMMARY = "summary.json"
LOG_FILES = frozenset({IMPRESSIONS, TRUTH, USERS, ADS, SUMMARY})

ROWS_PER_GROUP = 250_000
"""Rows gathered before they are written: about 25 MB in memory, and enough for a reader to work in parallel."""

IMPRESSION_SCHEMA = pa.schema(
    [
        ("time_ms", pa.int64()),
        ("user_id", pa.string()),
        ("ad_id", pa.string()),
        ("placement", pa.string()),
        ("device", pa.string()),
        ("hour", pa.int8()),
        ("position", pa.int8()),
        ("clicked", pa.bool_()),
        ("click_time_ms", pa.int64()),
    ]
)
TRUTH_SCHEMA = pa.schema([("true_p", pa.float64()), ("attainable_p", pa.float64())])


class LogWriter:
    """Writes impressions and their truth, row by row alike, into one folder; closed by leaving `with`."""

    def __init__(self, folder: Path, world: World) -> None:
        preset = world.preset
        self._impressions = _RowGroups(folder / IMPRESSIONS, IMPRESSION_SCHEMA)
        self._truth = _RowGroups(folder / TRUTH, TRUTH_SCHEMA)
        self._user_ids = _numbered("u", preset.n_users)
        self._ad_ids = _numbered("a", preset.n_ads)
        self._placements = _numbered("p", len(preset.placement_mix))
        self._devices = pa.array([device for device, _ in preset.device_mix])

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._impressions.close(flush=error is None)
        self._truth.close(flush=error is None)

    def append(self, shown: Impressions, outcomes: Outcomes) -> None:
        """Add n impressions."""
        clicked = outcomes.clicked
        self._impressions.append(
            [
                shown.time_ms,
                self._user_ids.take(pa.array(shown.user)),
                self._ad_ids.take(pa.array(shown.ad)),
                self._placements.take(pa.array(shown.placement)),
                self._devices.take(pa.array(shown.device)),
                np.full(len(clicked), shown.hour_of_day, dtype=np.int8),
                (shown.slot + 1).astype(np.int8),
                clicked,
                pa.array(shown.time_ms + outcomes.click_delay_ms, mask=~clicked),
            ]
        )
        self._truth.append([outcomes.true_p, outcomes.attainable_p])


def write_entities(folder: Path, world: World) -> None:
    """Write the tables of users and ads."""
    preset, users, ads = world.preset, world.users, world.ads
    user_table = {
        "user_id": _numbered("u", preset.n_users),
        "segment": _numbered("s", preset.n_segments).take(pa.array(users.segment)),
        "home_region": _numbered("r", preset.n_regions).take(pa.array(users.home_region)),
        "account_age_days": users.account_age_days,
    }
    ad_table = {
        "ad_id": _numbered("a", preset.n_ads),
        "campaign_id": _numbered("c", preset.n_campaigns).take(pa.array(ads.campaign)),
        "advertiser_id": _numbered("v", preset.n_advertisers).take(pa.array(ads.advertiser)),
        "category": _numbered("cat", preset.n_categories).take(pa.array(ads.category)),
        "created_ms": ads.created_ms,
        "price": ads.price,
    }
    pq.write_table(pa.table(user_table), folder / USERS, compression="zstd")
    pq.write_table(pa.table(ad_table), folder / ADS, compression="zstd")


@contextmanager
def new_log_folder(out_dir: Path, *, overwrite: bool) -> Iterator[Path]:
    """A hidden folder beside `out_dir` that becomes `out_dir` when the block ends well, and vanishes when it does not.

    Raises:
        SimulationError: `out_dir` is a file, or holds something and `overwrite` is off, or holds something that is
            no simulated log (overwriting never deletes foreign files), or the disk refuses.
    """
    out_dir = out_dir.resolve()
    try:
        _check_replaceable(out_dir, overwrite=overwrite)
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        unfinished = out_dir.with_name(f".{out_dir.name}.{secrets.token_hex(4)}.unfinished")
        unfinished.mkdir()
        try:
            yield unfinished
            _put_in_place(unfinished, out_dir)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise SimulationError(f"cannot write the simulated log to {out_dir}: {error}") from error


def _check_replaceable(out_dir: Path, *, overwrite: bool) -> None:
    if not out_dir.exists():
        return
    if not out_dir.is_dir():
        raise SimulationError(f"{out_dir} is a file; name a folder for the simulated log")
    found = {entry.name for entry in out_dir.iterdir()}
    if foreign := sorted(found - LOG_FILES):
        raise SimulationError(
            f"{out_dir} holds {foreign[0]!r}, which is no part of a simulated log; name an empty or new folder"
        )
    if found and not overwrite:
        raise SimulationError(f"{out_dir} already holds a simulated log; name another folder or ask to overwrite it")


def _put_in_place(unfinished: Path, out_dir: Path) -> None:
    """Rename; a log that stood there before is moved aside first and deleted last."""
    if not out_dir.exists():
        unfinished.rename(out_dir)
        return
    replaced = unfinished.with_suffix(".replaced")
    out_dir.rename(replaced)
    try:
        unfinished.rename(out_dir)
    except OSError:
        replaced.rename(out_dir)
        raise
    shutil.rmtree(replaced)


class _RowGroups:
    """A Parquet file that is written one full row group at a time."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._waiting: list[pa.Table] = []
        self._n_waiting = 0

    def append(self, columns: list[Any]) -> None:
        self._waiting.append(pa.Table.from_arrays([pa.array(column) for column in columns], schema=self._schema))
        self._n_waiting += self._waiting[-1].num_rows
        if self._n_waiting >= ROWS_PER_GROUP:
            self._flush()

    def close(self, *, flush: bool) -> None:
        if flush and self._n_waiting:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=self._n_waiting)
        self._waiting, self._n_waiting = [], 0


def _numbered(prefix: str, n: int) -> pa.Array:
    """(n,) texts `prefix0`, `prefix1`, …"""
    return pa.array([f"{prefix}{number}" for number in range(n)])
