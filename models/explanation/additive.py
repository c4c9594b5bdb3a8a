"""Linear models and factorisation machines taken apart: their own terms against a row of averages.

The baseline is the answer for a row in which every number is the average of the training rows (z = 0: the average of
its signed logarithm is in the graph, as `mean`, and its bin is the bin of that average) and every id says nothing
(weight 0, which is where the penalty pulls the weight of an id that tells nothing). It needs no data beside the graph.
Hashes that were missing or unseen in training keep the weights of their table entries and count as any other.

A linear model is a sum over columns, so a column's Shapley value is its term less its term in the baseline. A
factorisation machine adds the product of the vectors of every two columns; in the baseline all vectors are 0, and the
Shapley value of such a product is half of it for each of the two.
Cost: one pass over the row, some microseconds.

Source: Shapley 1953; Lundberg and Lee 2017, "A Unified Approach to Interpreting Model Predictions".
"""

from __future__ import annotations

import numpy as np

from models.encoder import Encoded
from models.plans.numpy_linear import LinearColumns, linear_columns
from models.specs import FactorisationMachineSpec, Float64s, LinearSpec


class LinearContributions:
    """See `Contributions`."""

    def __init__(self, spec: LinearSpec) -> None:
        self._spec = spec
        average = np.sign(spec.mean) * np.expm1(np.abs(spec.mean)) if spec.signed_log else spec.mean  # (d,)
        average_bin = 1 + (average[:, None] > spec.edges).sum(axis=1)
        self._number_terms: Float64s = spec.bin_weights[np.arange(len(average)), average_bin]
        self.baseline = float(spec.intercept + self._number_terms.sum())

    def of(self, rows: Encoded) -> Float64s:
        """See `Contributions.of`."""
        return self.of_columns(self.columns(rows))

    def columns(self, rows: Encoded) -> LinearColumns:
        """What the model reads of n rows."""
        d, k = len(self._spec.slope), len(self._spec.id_sizes)
        return linear_columns(self._spec, rows.features[:, :d], 0, rows.ids[:, :k].astype(np.uint32), 0)

    def of_columns(self, columns: LinearColumns) -> Float64s:
        """(n, d + k)"""
        return np.concatenate([columns.number_terms - self._number_terms, columns.id_terms], axis=1)


class FactorisationMachineContributions:
    """See `Contributions`."""

    def __init__(self, spec: FactorisationMachineSpec) -> None:
        self._spec = spec
        self._linear = LinearContributions(spec.linear)
        self.baseline = self._linear.baseline

    def of(self, rows: Encoded) -> Float64s:
        """See `Contributions.of`."""
        columns = self._linear.columns(rows)
        vectors = np.concatenate(
            [columns.z[:, :, None] * self._spec.number_vectors, self._spec.id_vectors[columns.place]], axis=1
        )  # (n, d + k, r)
        others = vectors.sum(axis=1, keepdims=True) - vectors
        halves = (vectors * others).sum(axis=2) / 2
        contributions: Float64s = self._linear.of_columns(columns) + halves
        return contributions
