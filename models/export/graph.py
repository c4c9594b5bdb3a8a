"""The model as one ONNX graph: a core up to `raw_logit`, then the calibrator up to `p_click`.

Inputs are `features` float32 (n, d) and, where the model reads hashes, `ids` int64 (n, k). Both outputs are float64
(n,): a float32 probability near 1 % can tell only steps of 1e-9 and would tie scores that the strictly increasing
calibrator keeps apart.

The core's hash covers its own nodes and constants in a canonical serialisation and nothing of the calibrator, so all
that is computed from the core (plans, their tables, its proof) outlives a recalibration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import onnx
from onnx import TensorProto

from models.calibrator import CalibratorMap
from models.errors import ExportError
from models.export.calibrator_graph import calibrator_graph
from models.export.dcn_graph import deep_cross_core
from models.export.fm_graph import factorisation_machine_core
from models.export.fragment import Fragment
from models.export.linear_graph import linear_core
from models.export.tree_graph import ML_DOMAIN, tree_core
from models.export.two_tower_graph import two_tower_core
from models.specs import (
    DeepCrossSpec,
    FactorisationMachineSpec,
    LinearSpec,
    ModelSpec,
    TreeEnsembleSpec,
    TwoTowerSpec,
)

# IR 14, which onnx 1.23 writes by default, is refused by ONNX Runtime 1.31.
IR_VERSION = 10
OPSET, ML_OPSET = 21, 3


def export_graph(spec: ModelSpec, correction: float, calibrator: CalibratorMap, n_features: int, n_ids: int) -> bytes:
    """The serialised graph of a trained model.

    Args:
        correction: added to the margin before the calibrator, ln of the share of non-clicks that were learnt from.
        n_features, n_ids: d and k, the widths of the inputs.
    Raises:
        ExportError: ONNX's checker refuses the graph, or the model has no columns at all.
    """
    if n_features + n_ids == 0:
        raise ExportError("a model without columns cannot be exported; declare at least one feature")
    parts = [_core(spec), calibrator_graph(calibrator, correction)]
    return assembled(parts, n_features, n_ids, {"": OPSET, ML_DOMAIN: ML_OPSET})


def with_calibrator(graph: bytes, correction: float, calibrator: CalibratorMap) -> bytes:
    """The same core, to the bit, behind another calibrator.

    Args:
        graph: as `export_graph` made it.
    Raises:
        ExportError: as `export_graph`.
    """
    model = onnx.ModelProto.FromString(graph)
    part = calibrator_graph(calibrator, correction)
    for kept, added in ((model.graph.node, part.nodes), (model.graph.initializer, part.constants)):
        core = [item for item in kept if not item.name.startswith("calibrator/")]
        del kept[:]
        kept.extend([*core, *added])
    return _checked(model)


def core_sha256(graph: bytes) -> str:
    """SHA-256 of the part that decides the score."""
    return _part_sha256(graph, "core/")


def calibrator_sha256(graph: bytes) -> str:
    """SHA-256 of the part that turns the score into a probability."""
    return _part_sha256(graph, "calibrator/")


def _core(spec: ModelSpec) -> Fragment:
    match spec:
        case TreeEnsembleSpec():
            return tree_core(spec)
        case LinearSpec():
            return linear_core(spec)
        case FactorisationMachineSpec():
            return factorisation_machine_core(spec)
        case DeepCrossSpec():
            return deep_cross_core(spec)
        case TwoTowerSpec():
            return two_tower_core(spec)


def assembled(parts: list[Fragment], n_features: int, n_ids: int, opsets: Mapping[str, int]) -> bytes:
    """The serialised graph of a core and a calibrator.

    Args:
        opsets: by domain, those that the parts' operators are of.
    Raises:
        ExportError: as `export_graph`.
    """
    inputs = []
    if n_features:
        inputs.append(onnx.helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", n_features]))
    if n_ids:
        inputs.append(onnx.helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", n_ids]))
    outputs = [onnx.helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["n"]) for name in ("raw_logit", "p_click")]
    graph = onnx.helper.make_graph(
        [node for part in parts for node in part.nodes],
        "clickserve",
        inputs,
        outputs,
        [constant for part in parts for constant in part.constants],
    )
    imports = [onnx.helper.make_opsetid(*opset) for opset in opsets.items()]
    model = onnx.helper.make_model(graph, ir_version=IR_VERSION, opset_imports=imports, producer_name="clickserve")
    return _checked(model)


def _checked(model: onnx.ModelProto) -> bytes:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported graph is not valid ONNX: {error}") from error
    return _canonical(model)


def _part_sha256(graph: bytes, prefix: str) -> str:
    """Hash of one part's nodes and constants, together with the opsets that give them meaning."""
    model = onnx.ModelProto.FromString(graph)
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    part.graph.input.extend(model.graph.input)
    part.graph.node.extend(node for node in model.graph.node if node.name.startswith(prefix))
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name.startswith(prefix))
    return hashlib.sha256(_canonical(part)).hexdigest()


def _canonical(model: onnx.ModelProto) -> bytes:
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised
