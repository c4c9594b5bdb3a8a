"""A piece of a graph under construction: nodes and constants, every name with the piece's prefix.

The prefix is the boundary between the parts of a model: all that is called `core/…` decides the score, all that is
called `calibrator/…` turns it into a probability and can be replaced alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx


class Fragment:
    """Collects nodes in the order they run."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Adds a tensor and answers its full name."""
        full = f"{self.prefix}/{name}"
        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), full))
        return full

    def node(self, op: str, inputs: list[str], name: str, *, domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output and answers the output's full name."""
        full = f"{self.prefix}/{name}"
        self.nodes.append(onnx.helper.make_node(op, inputs, [full], name=full, domain=domain, **attributes))
        return full

    def rename_output(self, old: str, new: str) -> None:
        """Gives the output of the node that makes `old` the name under which the graph answers it."""
        node = next(node for node in self.nodes if node.output[0] == old)
        node.output[0] = new
