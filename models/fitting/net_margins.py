"""What nets say, in NumPy and doubles: the prediction that an exported graph is held against.

No torch: a trained model predicts with the very numbers that are exported, and the rounding of float32 sums is left
behind in training.
"""

from __future__ import annotations

import numpy as np

from models.encoder import Encoded
from models.plans.numpy_linear import linear_columns
from models.plans.numpy_two_tower import dense, net_input, tower_vector
from models.specs import DeepCrossSpec, Float64s, LinearSpec, TwoTowerSpec

SCORED_ROWS = 8_192

NetSpec = DeepCrossSpec | TwoTowerSpec | LinearSpec
"""A net's model; the linear one where no column varies, so that there is nothing for a net to read."""


def net_margins(spec: NetSpec, encoded: Encoded) -> Float64s:
    """(n,) margins, summed in float64."""
    parts = [slice(start, start + SCORED_ROWS) for start in range(0, len(encoded.features), SCORED_ROWS)]
    each = (_margins(spec, Encoded(encoded.features[part], encoded.ids[part])) for part in parts)
    return np.concatenate([np.empty(0), *each])


def _margins(spec: NetSpec, rows: Encoded) -> Float64s:
    linear = spec if isinstance(spec, LinearSpec) else spec.linear
    columns = linear_columns(linear, rows.features, 0, rows.ids.astype(np.uint32), 0)
    margins: Float64s = linear.intercept + columns.total
    if isinstance(spec, LinearSpec):
        return margins
    missing = np.isnan(rows.features)
    if isinstance(spec, DeepCrossSpec):
        return margins + _deep_cross(spec, net_input(spec.inputs, columns, missing, spec.id_vectors))
    query, ad = (
        tower_vector(tower, net_input(tower.inputs, columns, missing, spec.id_vectors))
        for tower in (spec.query, spec.ad)
    )
    margins += (query * ad).sum(axis=1)
    return margins


def _deep_cross(spec: DeepCrossSpec, x0: Float64s) -> Float64s:
    """(n, width) -> (n,)"""
    x, h = x0, x0
    for cross in spec.crosses:
        x = x0 * (x @ cross.narrow.astype(np.float64) @ cross.wide.astype(np.float64) + cross.bias) + x
    for layer in spec.hidden:
        h = np.maximum(dense(layer, h), 0.0)
    found: Float64s = np.concatenate([x, h], axis=1) @ spec.out.astype(np.float64)
    return found
