"""Contributions of columns as contributions of features: the columns of a vector (`emb[3]`) belong to one feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.specs import Float64s


class ExplainedFeature(NamedTuple):
    """A feature as people know it."""

    name: str
    columns: tuple[int, ...]
    """Among [features | ids]; more than one where the feature is a vector."""


def explained_features(float_names: Sequence[str], id_names: Sequence[str]) -> tuple[ExplainedFeature, ...]:
    """The features behind d + k columns, in their order."""
    found: dict[str, list[int]] = {}
    for column, name in enumerate((*float_names, *id_names)):
        found.setdefault(name.partition("[")[0], []).append(column)
    return tuple(ExplainedFeature(name, tuple(columns)) for name, columns in found.items())


def by_feature(contributions: Float64s, features: Sequence[ExplainedFeature]) -> Float64s:
    """(n, d + k) contributions of columns -> (n, number of features)."""
    sums: Float64s = np.stack([contributions[:, list(f.columns)].sum(axis=1) for f in features], axis=1)
    return sums
