"""Kernels of factorised models: the contract, and which implementation runs.

The compiled ones serve where they were built, else NumPy. Both give the same answers and pass the same tests.
"""

from __future__ import annotations

import importlib
from typing import Literal, Protocol

import numpy as np

from feature_store.rows import Floats, Ids
from models.calibrator import CalibratorMap
from models.errors import PlanError
from models.plans.choice import KernelChoice
from models.plans.numpy_linear import NumpyLinearKernel
from models.plans.numpy_trees import NumpyTreeKernel
from models.plans.parts import Part
from models.plans.tree_tables import TreeTables
from models.segments import Int32s
from models.specs import Float64s, Int64s, LinearSpec

KernelName = Literal["compiled", "numpy"]

SIGNATURES = {"_trees": 2, "_linear": 1}
"""Of each module's kernel; the same number stands in its source, where it is not 1, and rises with every change of its
arguments."""

WAY_OUT = "install a C compiler and Python's headers, remove .venv/.installed and run `make setup` again"
"""For whoever wants the compiled kernels and has none that serve."""


class Kernel(Protocol):
    """Scores pairs from the parts of their entities; w is the width of a part. Safe to share between threads."""

    def partial(self, floats: Floats, first_float: int, ids: Ids, first_id: int, out: Part) -> None:
        """Brings the columns of m rows into their parts.

        Args:
            floats: (m, f) float32, columns `first_float` and following; NaN for missing.
            ids: (m, i) uint32, id columns `first_id` and following; 0 for missing.
            out: (m, w), changed: the part so far, or the empty part (`FactorisedPlan.empty`).
        Raises:
            ValueError: floats, ids and out have different numbers of rows; (compiled) shapes or types do not fit the
                model.
        """

    def score(
        self,
        shared: Part,
        base: Part,
        delta: Part,
        split: int,
        rows: Int64s,
        raw_logit: Float64s,
        p_click: Float64s,
        segments: Int32s | None,
    ) -> None:
        """Scores n pairs.

        Args:
            shared: (1 or n, w) parts of user and context together.
            base, delta, split, rows: parts of the n ads; see `AdParts`.
            raw_logit, p_click: (n,) float64, written.
            segments: (1 or n,) whose line of the calibrator follows; None: nobody's.
        Raises:
            ValueError: (compiled) shapes or types do not fit, or a row or a segment does not exist.
        """


def compiled_kernels_trouble() -> str | None:
    """Why the compiled kernels cannot serve under this Python; None where they can."""
    for name, signature in SIGNATURES.items():
        try:
            module = importlib.import_module(f"models.plans.{name}")
        except ModuleNotFoundError:
            return "were not built"
        except ImportError as error:
            return f"cannot be loaded ({error})"
        if getattr(module, "SIGNATURE", 1) != signature:
            return "were built from older sources"
    return None


def kernel_name(choice: KernelChoice) -> KernelName:
    """The kernels that will run.

    Raises:
        PlanError: the compiled ones are wanted and cannot serve.
    """
    if choice == "numpy":
        return "numpy"
    trouble = compiled_kernels_trouble()
    if trouble is None:
        return "compiled"
    if choice == "auto":
        return "numpy"
    raise PlanError(f"the compiled kernels {trouble}; {WAY_OUT}, or choose the NumPy kernels")


def tree_kernel(name: KernelName, tables: TreeTables, *, in_tiles: bool = True) -> Kernel:
    """The kernel over these tables.

    Args:
        in_tiles: whether the compiled one may score 16 pairs at a time, or 8 of trees of more than 32 leaves, where the
            processor has AVX-512. The answers are the same to the bit.
    """
    if name == "numpy":
        return NumpyTreeKernel(tables)
    kernel: Kernel = importlib.import_module("models.plans._trees").TreeKernel(
        in_tiles,
        tables.stride,
        tables.cuts,
        tables.test_tree,
        tables.test_mask,
        tables.column_start,
        tables.rows,
        tables.column_row,
        tables.leaves,
        tables.keys,
        tables.codes,
        tables.key_start,
        tables.code_column,
        *tables.calibrator,
    )
    return kernel


def linear_kernel(name: KernelName, spec: LinearSpec, correction: float, calibrator: CalibratorMap) -> Kernel:
    """The kernel over these weights; the compiled one knows the signed logarithm only."""
    if name == "numpy" or not spec.signed_log:
        return NumpyLinearKernel(spec, correction, calibrator)
    kernel: Kernel = importlib.import_module("models.plans._linear").LinearKernel(
        spec.intercept,
        spec.limit,
        *map(
            np.ascontiguousarray,
            (
                spec.mean,
                spec.spread,
                spec.slope,
                spec.edges,
                spec.bin_weights,
                spec.id_sizes,
                spec.id_offsets,
                spec.id_weights,
                *calibrator.pieces(correction),
            ),
        ),
    )
    return kernel
