"""Entities with random features, and a click log whose truth uses every one of the 40 columns.

Features are standard normal float32, context values uniform. The true log-odds are a straight line in every column, a
bend in every column, and products of user, ad and context columns; all 40 have comparable weight, so trees split on all
of them. Their spread (1.2) and level give about 9 % clicks and an AUC that a real log could have.
Memory: 80 bytes per user, 64 per ad, 160 per impression.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from models.random_streams import random_stream
from service.reference_workload.parameters import (
    AD_FEATURES,
    AD_PREFIX,
    CONTEXT_BOUND,
    CONTEXT_FEATURES,
    CONTEXT_KEYS,
    USER_FEATURES,
    USER_PREFIX,
    WorkloadParameters,
)

IMPRESSIONS = 120_000
"""Enough for 31 leaves of 50 rows in each of 200 trees, few enough to train in well under a minute."""

FIRST_MS = 1_767_225_600_000
"""2026-01-01 UTC; an impression a second from there on."""

SPREAD = 1.2
"""Standard deviation of the true log-odds, that of the simulated log."""

LEVEL = -2.8
N_PRODUCTS = 24

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Entities:
    """users: (users, 20) float32, row i is `u<i>`; ads: (ads, 16) float32, row i is `a<i>`."""

    users: Floats
    ads: Floats


def entities_of(parameters: WorkloadParameters) -> Entities:
    """The features of all users and ads."""
    return Entities(
        users=random_stream(parameters.seed, "users").standard_normal((parameters.users, USER_FEATURES), np.float32),
        ads=random_stream(parameters.seed, "ads").standard_normal((parameters.ads, AD_FEATURES), np.float32),
    )


def write_log(entities: Entities, seed: int, folder: Path) -> Path:
    """Writes `users.parquet`, `ads.parquet` and `impressions.parquet`; answers the last one's path."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_entities(folder / "users.parquet", "user_id", USER_PREFIX, entities.users)
    _write_entities(folder / "ads.parquet", "ad_id", AD_PREFIX, entities.ads)
    random = random_stream(seed, "impressions")
    user = random.integers(len(entities.users), size=IMPRESSIONS)
    ad = random.integers(len(entities.ads), size=IMPRESSIONS)
    context = random.uniform(-CONTEXT_BOUND, CONTEXT_BOUND, (IMPRESSIONS, CONTEXT_FEATURES)).astype(np.float32)
    log_odds = _true_log_odds(np.hstack([entities.users[user], entities.ads[ad], context]), seed)
    impressions = {
        "time_ms": FIRST_MS + 1_000 * np.arange(IMPRESSIONS, dtype=np.int64),
        "user_id": _entity_ids(USER_PREFIX, user),
        "ad_id": _entity_ids(AD_PREFIX, ad),
        "clicked": random.random(IMPRESSIONS) < 1.0 / (1.0 + np.exp(-log_odds)),
    }
    impressions |= {key: context[:, i] for i, key in enumerate(CONTEXT_KEYS)}
    path = folder / "impressions.parquet"
    pq.write_table(pa.table(impressions), path)
    return path


def _true_log_odds(columns: Floats, seed: int) -> npt.NDArray[np.float64]:
    """(n, 40) -> (n,): a line and a bend in each column, and products of columns of different sides."""
    random = random_stream(seed, "truth")
    x = columns.astype(np.float64)
    d = x.shape[1]
    line, bend = random.choice([-1.0, 1.0], (2, d)) * random.uniform(0.7, 1.3, (2, d))
    score = x @ line + np.abs(x) @ bend
    from_users = random.integers(USER_FEATURES, size=N_PRODUCTS)
    from_others = random.integers(USER_FEATURES, d, size=N_PRODUCTS)
    score += (x[:, from_users] * x[:, from_others]) @ random.choice([-1.0, 1.0], N_PRODUCTS)
    standardised: npt.NDArray[np.float64] = (score - score.mean()) / score.std()
    return LEVEL + SPREAD * standardised


def _write_entities(path: Path, key: str, prefix: str, features: Floats) -> None:
    ids = _entity_ids(prefix, np.arange(len(features)))
    columns = {f"f{i}": np.ascontiguousarray(column) for i, column in enumerate(features.T)}
    pq.write_table(pa.table({key: ids, **columns}), path)


def _entity_ids(prefix: str, numbers: npt.NDArray[np.int64]) -> list[str]:
    return [f"{prefix}{number}" for number in numbers.tolist()]
