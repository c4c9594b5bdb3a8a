"""Hashes as numbers for trees: a category's code is the smoothed log-odds of its click rate in the training rows.

Trees split numbers by order, and the only useful order of hashes is by click rate. A code learnt from the very rows a
tree then trains on repeats their labels, and the tree believes it. So the rows are
dealt into parts, and each row's training code comes from the other parts only; the map that is served is learnt from
all of them. Codes are log-odds and not ranks, so that codes of different parts mean the same.

A category seen fewer than `MIN_SEEN` times, or never, has no code: it becomes missing, and the trees learn what missing
means. The missing hash (0) is a category like any other.

Source of the idea: target statistics, Micci-Barreca 2001; out-of-fold against leakage, Prokhorenkova et al. 2018.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.random_streams import random_stream
from models.specs import CodeMap

PARTS = 8
MIN_SEEN = 5
PRIOR_ROWS = 20.0
"""How many rows at the overall rate are added to each category before its rate is taken."""

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def fit_codes(ids: Int64s, clicked: Bools, seed: int) -> tuple[tuple[CodeMap, ...], npt.NDArray[np.float32]]:
    """Code maps of the id columns, and the out-of-fold codes of the rows they were learnt from.

    Args:
        ids: (n, k) int64 hashes, 0 = missing.
        clicked: (n,) bool.
    Returns:
        One map per column that has at least two codes, and (n, number of maps) float32 with NaN for "no code".
    """
    part = random_stream(seed, "parts of category codes").integers(0, PARTS, size=len(clicked))
    maps: list[CodeMap] = []
    columns: list[npt.NDArray[np.float32]] = []
    for column in range(ids.shape[1]):
        keys, category = np.unique(ids[:, column], return_inverse=True)
        seen, clicks = _counts(category, part, clicked, len(keys))
        codes = _codes(seen.sum(axis=0), clicks.sum(axis=0))
        known = np.isfinite(codes)
        if np.unique(codes[known]).size < 2:
            continue
        others = _codes(seen.sum(axis=0) - seen, clicks.sum(axis=0) - clicks)  # (PARTS, v): all parts but one
        maps.append(CodeMap(column, keys[known], codes[known]))
        columns.append(np.where(known[category], others[part, category], np.float32(np.nan)))
    codes_of_rows = np.column_stack(columns) if columns else np.empty((len(clicked), 0), dtype=np.float32)
    return tuple(maps), codes_of_rows


def apply_codes(maps: tuple[CodeMap, ...], ids: Int64s) -> npt.NDArray[np.float32]:
    """(n, k) hashes -> (n, number of maps) float32 codes, as the served graph makes them."""
    if not maps:
        return np.empty((len(ids), 0), dtype=np.float32)
    return np.column_stack([code_map.apply(ids[:, code_map.column]) for code_map in maps])


def _counts(category: Int64s, part: Int64s, clicked: Bools, n_keys: int) -> tuple[Int64s, Int64s]:
    """Impressions and clicks of each part and category, (PARTS, v) each."""
    cell = part * n_keys + category
    size = PARTS * n_keys
    seen = np.bincount(cell, minlength=size).reshape(PARTS, n_keys)
    clicks = np.bincount(cell[clicked], minlength=size).reshape(PARTS, n_keys)
    return seen, clicks


def _codes(seen: Int64s, clicks: Int64s) -> npt.NDArray[np.float32]:
    """Smoothed log-odds along the last axis, NaN where a category was seen too rarely."""
    # Half a click and half a non-click keep the overall rate inside (0, 1).
    rate = (clicks.sum(axis=-1, keepdims=True) + 0.5) / (seen.sum(axis=-1, keepdims=True) + 1.0)
    positive = clicks + PRIOR_ROWS * rate
    negative = seen - clicks + PRIOR_ROWS * (1.0 - rate)
    return np.where(seen >= MIN_SEEN, np.log(positive / negative), np.nan).astype(np.float32)
