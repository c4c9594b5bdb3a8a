"""Small click logs for tests: made in memory, written as Parquet, read through the product's own reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.definition import Project, parse_project
from feature_store.offline.log import Log
from models.logs.reader import read_log

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS

SHOP = """
[project]
name = "shop"
[log]
user_id = "who"
ad_id = "what"
time = { column = "at", unit = "ms" }
clicked = "hit"
click_time = { column = "hit_at", unit = "ms" }
"""
"""How the logs of `random_columns` name things; tests add their views."""


def parquet(path: Path, columns: Mapping[str, Sequence[object] | np.ndarray | pa.Array]) -> Path:
    """Writes a Parquet file."""
    pq.write_table(pa.table(dict(columns)), path)
    return path


def shop_project(views: str, folder: Path) -> Project:
    """The project of `SHOP` with these views."""
    return parse_project(SHOP + views, origin="features.toml", folder=folder)


def random_columns(seed: int, n: int, *, n_users: int = 5, n_ads: int = 7, hours: int = 30) -> dict[str, object]:
    """A log with late clicks and impressions that share a millisecond, in the names of `SHOP`."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(0, hours * HOUR_MS // MINUTE_MS, size=n)) * MINUTE_MS + 10 * HOUR_MS
    hit = rng.random(n) < 0.4
    late = at + rng.integers(0, 5 * HOUR_MS, size=n)
    return {
        "who": [f"u{i}" for i in rng.integers(n_users, size=n)],
        "what": [f"a{i}" for i in rng.integers(n_ads, size=n)],
        "at": at,
        "hit": hit,
        "hit_at": pa.array(late, mask=~hit),
        "place": [f"p{i}" for i in rng.integers(3, size=n)],
    }


def shop_log(folder: Path, views: str = "", columns: Mapping[str, object] | None = None, *, seed: int = 0) -> Log:
    """Writes and reads a log of the shop; files that the views read must lie in `folder`."""
    path = parquet(folder / "log.parquet", random_columns(seed, 300) if columns is None else columns)
    return read_log(f"parquet:{path}", shop_project(views, folder), workdir=folder / "work")
