"""A foreign graph inside one of ours: its inputs are fed from `features`, its probability becomes `raw_logit`.

    features -> [columns in the original's order] -> the original's own operators -> p -> log-odds = raw_logit

Operators that the probability does not need (labels, a ZipMap) are left out. Log-odds are those of the original's own
float32 probability, held to [1e-7, 1 - 1e-7], so that a forest that says 0 or 1 stays finite; an identity calibrator
follows, which `clickserve recalibrate` can replace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from models.calibrator import CalibratorMap
from models.errors import ExportError, ImportRefused
from models.export.calibrator_graph import calibrator_graph
from models.export.foreign_answer import Chosen
from models.export.foreign_graph import Array, ForeignGraph, ForeignInput
from models.export.fragment import Fragment
from models.export.graph import OPSET, assembled
from models.plans.foreign_source import ForeignColumns
from models.specs import Float64s

LEAST_P = 1e-7
"""As in the metrics: what is nearer to 0 or 1 than this is certainty, and its log-odds are finite all the same."""
LEAST_OPSET = 13
"""Of ai.onnx: the first in which our calibrators mean what they mean in 21."""

_DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Wiring:
    """A foreign graph's inputs in terms of ours."""

    inputs: tuple[ForeignInput, ...]
    columns: ForeignColumns

    def fed(self, features: Array) -> dict[str, Array]:
        """(n, d) float32 -> the original's inputs, in its own order and types, missing numbers filled."""
        filled = np.where(np.isnan(features), self.columns.fills.astype(np.float32), features)
        fed = {}
        for wired in self.inputs:
            matrix = filled[:, self.columns.positions[wired.name]].astype(wired.dtype)
            fed[wired.name] = np.ascontiguousarray(matrix[:, 0] if wired.flat else matrix)
        return fed

    @property
    def whole(self) -> list[int]:
        """Our columns that the graph reads as whole numbers."""
        parts = [self.columns.positions[wired.name] for wired in self.inputs if wired.is_whole]
        return sorted({int(place) for part in parts for place in part})


def log_odds(p: Float64s) -> Float64s:
    """(n,) what the wrapped graph answers as `raw_logit` for the original's probabilities."""
    held = p.clip(LEAST_P, 1 - LEAST_P)
    result: Float64s = np.log(held) - np.log(1 - held)
    return result


def wrapped(foreign: ForeignGraph, chosen: Chosen, wiring: Wiring) -> bytes:
    """The original's own operators between our inputs and outputs.

    Raises:
        ImportRefused: its operators cannot stand beside ours.
    """
    core = Fragment("core")
    for wired in wiring.inputs:
        _feed(core, wired, wiring.columns)
    probability = _original(core, foreign, chosen.output)
    flat = core.node("Cast", [probability], "answer_f64", to=TensorProto.DOUBLE)
    n_columns = _n_columns(foreign, chosen, wiring)
    shape = core.constant("answer_shape", np.array([-1, n_columns], dtype=np.int64))
    matrix = core.node("Reshape", [flat, shape], "answer_matrix")
    at = core.constant("answer_at", np.array([chosen.column], dtype=np.int64))
    column = core.node("Gather", [matrix, at], "answer_column", axis=1)
    p = core.node("Reshape", [column, core.constant("rows", np.array([-1], dtype=np.int64))], "answer")
    limits = [core.constant(name, np.array(value)) for name, value in (("least", LEAST_P), ("most", 1 - LEAST_P))]
    held = core.node("Clip", [p, *limits], "held")
    other = core.node("Sub", [core.constant("one", np.array(1.0)), held], "other")
    logs = [core.node("Log", [value], f"log_{name}") for name, value in (("held", held), ("other", other))]
    core.rename_output(core.node("Sub", logs, "log_odds"), "raw_logit")
    opsets = _opsets(foreign.model, {node.domain for node in core.nodes if node.name.startswith("core/original/")})
    parts = [core, calibrator_graph(CalibratorMap.identity(), 0.0)]
    try:
        return assembled(parts, len(wiring.columns.fills), wiring.columns.n_ids, opsets)
    except ExportError as error:
        raise ImportRefused(
            f"the original, in ai.onnx {opsets['']}, cannot stand between our inputs and outputs: {error}; export it "
            'with {"": 21, "ai.onnx.ml": 3} as target_opset'
        ) from error


def _feed(core: Fragment, wired: ForeignInput, columns: ForeignColumns) -> None:
    """Names the value that the original reads as this input."""
    name = f"input/{wired.name}"
    positions = columns.positions[wired.name]
    at = core.constant(f"{name}/at", positions.astype(np.int64))
    value = core.node("Gather", ["features", at], f"{name}/columns", axis=1)
    fills = columns.fills[positions]
    if not np.isnan(fills).all():
        missing = core.node("IsNaN", [value], f"{name}/missing")
        filling = core.constant(f"{name}/fill", fills.astype(np.float32)[None, :])
        value = core.node("Where", [missing, filling, value], f"{name}/filled")
    if wired.flat:
        value = core.node("Reshape", [value, core.constant(f"{name}/shape", np.array([-1], np.int64))], f"{name}/flat")
    core.node("Cast", [value], name, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(wired.dtype)))


def _original(core: Fragment, foreign: ForeignGraph, output: str) -> str:
    """Adds the operators that an output needs, under names of the core, and answers the name of its numbers."""
    graph = foreign.model.graph
    makers = {name: node for node in graph.node for name in node.output if name}
    if output in makers and makers[output].op_type == "ZipMap":
        output = makers[output].input[0]
    needed: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name and name not in needed:
            needed.add(name)
            waiting += list(makers[name].input) if name in makers else []
    names = {wired.name: f"core/input/{wired.name}" for wired in foreign.inputs}

    def renamed(values: Sequence[str]) -> list[str]:
        return [value and names.get(value, f"core/original/{value}") for value in values]

    for tensor in graph.initializer:
        if tensor.name in needed and tensor.name not in names:
            copied = onnx.TensorProto()
            copied.CopyFrom(tensor)
            copied.name = f"core/original/{tensor.name}"
            core.constants.append(copied)
    for place, node in enumerate(graph.node):
        if needed.isdisjoint(node.output):
            continue
        moved = onnx.NodeProto()
        moved.CopyFrom(node)
        moved.name = f"core/original/{place}_{node.op_type}"
        del moved.input[:], moved.output[:]
        moved.input.extend(renamed(node.input))
        moved.output.extend(renamed(node.output))
        core.nodes.append(moved)
    return renamed([output])[0]


def _n_columns(foreign: ForeignGraph, chosen: Chosen, wiring: Wiring) -> int:
    """Columns of the chosen output, as it answers one row of zeros."""
    row = np.zeros((1, len(wiring.columns.fills)), dtype=np.float32)
    n_columns: int = foreign.answers(chosen.output, wiring.fed(row)).columns.shape[1]
    return n_columns


def _opsets(model: onnx.ModelProto, used: set[str]) -> dict[str, int]:
    """By domain: the original's where its operators are used, else ours.

    Operators older than `LEAST_OPSET` are read as of it. What that changes, the graph's checker or the proof finds.
    """
    given = {
        "" if imported.domain in _DEFAULT_DOMAINS else imported.domain: imported.version
        for imported in model.opset_import
    }
    ours = OPSET if used.isdisjoint(_DEFAULT_DOMAINS) else given.get("", OPSET)
    return {"": max(ours, LEAST_OPSET), "ai.onnx.ml": given.get("ai.onnx.ml", 3)}
