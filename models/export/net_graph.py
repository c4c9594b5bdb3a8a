"""What nets have in common as ONNX: the vector that they read of a row, and dense layers.

Constants are the float32 that were learnt, so a file is half as large; they are cast to double, which ONNX Runtime does
once at load for layers and per row for the vectors of hashes. In double a graph answers as the trainer does to the last
bits and passes the proof of every other model. The layers of a deep cross net cost 50 µs more per 100 rows than in
float32.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from models.export.fragment import Fragment
from models.export.linear_graph import LinearNodes
from models.specs import DenseLayer, Float32s, LinearSpec, NetInputs


class NetNodes:
    """A linear model's nodes inside a core, and pieces of nets beside it. Names of pieces begin with their `prefix`."""

    def __init__(self, core: Fragment, linear: LinearSpec, id_vectors: Float32s) -> None:
        self.core = core
        self.linear = LinearNodes(core, linear)
        self._vectors = core.constant("id_vectors", id_vectors) if len(id_vectors) else ""

    def input(self, inputs: NetInputs, prefix: str) -> str:
        """(n, width) of `NetInputs`, the width being 1 or more."""
        parts = []
        if len(inputs.numbers):
            assert self.linear.z is not None
            parts.append(self._columns(self.linear.z, inputs.numbers, f"{prefix}_numbers"))
        if len(inputs.missing):
            assert self.linear.missing is not None
            found = self._columns(self.linear.missing, inputs.missing, f"{prefix}_missing")
            parts.append(self.core.node("Cast", [found], f"{prefix}_missing_f64", to=TensorProto.DOUBLE))
        if len(inputs.ids):
            assert self.linear.id_place is not None
            places = self._columns(self.linear.id_place, inputs.ids, f"{prefix}_ids")
            found = self.core.node("Gather", [self._vectors, places], f"{prefix}_vectors", axis=0)  # (n, b, e)
            wide = self.core.node("Cast", [found], f"{prefix}_vectors_f64", to=TensorProto.DOUBLE)
            flat = self.core.constant(f"{prefix}_flat", np.array([0, len(inputs.ids) * inputs.rank]))
            parts.append(self.core.node("Reshape", [wide, flat], f"{prefix}_vectors_flat"))  # (n, b e)
        return self.core.node("Concat", parts, f"{prefix}_input", axis=1)

    def dense(self, x: str, layer: DenseLayer, name: str) -> str:
        """x @ weights + bias, (n, a) -> (n, b)."""
        product = self.core.node("MatMul", [x, self.doubles(layer.weights, f"{name}_weights")], f"{name}_product")
        return self.core.node("Add", [product, self.doubles(layer.bias, f"{name}_bias")], name)

    def rectified(self, x: str, layer: DenseLayer, name: str) -> str:
        """max(0, x @ weights + bias)"""
        return self.core.node("Relu", [self.dense(x, layer, name)], f"{name}_rectified")

    def doubles(self, values: Float32s, name: str) -> str:
        """A constant of float32, as doubles."""
        constant = self.core.constant(name, values)
        return self.core.node("Cast", [constant], f"{name}_f64", to=TensorProto.DOUBLE)

    def finish(self, margin: str) -> None:
        """The linear model's margins and these, (n,), are the model's."""
        self.core.rename_output(self.core.node("Add", [self.linear.total, margin], "margin"), "raw_logit")

    def _columns(self, matrix: str, columns: np.ndarray, name: str) -> str:
        return self.core.node("Gather", [matrix, self.core.constant(f"{name}_at", columns)], name, axis=1)
