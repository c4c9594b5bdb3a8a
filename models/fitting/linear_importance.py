"""How much each column decides in a linear model: its share in the variance of the margins, taken one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.encoder import Encoded
from models.fitting.linear_design import Float64s, LinearDesign


def column_shares(design: LinearDesign, weights: Float64s, encoded: Encoded, names: Sequence[str]) -> dict[str, float]:
    """Shares that add up to 1, columns without any left out.

    Args:
        weights: (n_weights,) of the design.
        encoded: rows to see them on.
        names: of the numbers, then of the hashes.
    """
    n, d = encoded.features.shape
    matrix = design.matrix(encoded)
    parts = (matrix.data * weights[matrix.indices]).reshape(n, 2 * d + len(design.id_sizes))
    variances = np.concatenate([(parts[:, :d] + parts[:, d : 2 * d]).var(axis=0), parts[:, 2 * d :].var(axis=0)])
    total = variances.sum() or 1.0
    rounding = np.finfo(np.float64).eps * total  # what the variance of a constant comes to
    return {name: float(v / total) for name, v in zip(names, variances, strict=True) if v > rounding}
