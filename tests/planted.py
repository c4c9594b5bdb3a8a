"""A log with one leak in it, for both engines: a feature that is stamped one second after its impression."""

from __future__ import annotations

import numpy as np

from tests.logs import random_columns

N_ROWS = 10_000
STAMPED = """
[views.logged]
entity = "user"
ttl = "30d"
from = "log"
event_time = { column = "read_at", unit = "ms" }
[views.logged.features]
score = {}
"""
"""After `tests.logs.SHOP`."""


def planted_columns(seed: int) -> tuple[dict[str, object], int]:
    """Columns, each row stamped up to a second early, but for the one whose number is answered."""
    rng = np.random.default_rng(seed)
    columns = random_columns(seed, N_ROWS)
    at = np.asarray(columns["at"])
    read_at = at - rng.integers(0, 1_000, N_ROWS)
    planted = int(rng.integers(N_ROWS))
    read_at[planted] = at[planted] + 1_000
    return columns | {"read_at": read_at, "score": rng.random(N_ROWS)}, planted
