"""What becomes of a missing number in trees that nobody taught where it goes.

A converter writes for each node on which side a missing number goes. Where no node of any tree says so, the trainer
knew of none (GradientBoosting of scikit-learn refuses them) or its converter dropped what it knew (RandomForest in
skl2onnx 1.20), and the runtime compares with NaN, which is never true: the row takes the other branch everywhere. That
is an answer, and the same one in the served graph, but not the trainer's. A declared default keeps such rows away.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx

from models.encoder import Encoder
from models.export.foreign_wiring import default_numbers
from models.export.wrapping import Wiring

NAMED = 3
_SIDES = "nodes_missing_value_tracks_true"


def untaught_warning(model: onnx.ModelProto, split: Collection[int], wiring: Wiring, encoder: Encoder) -> str | None:
    """What to know of missing numbers; None where the trees say where they go, or each number has a default.

    Args:
        split: our columns that trees compare; empty where that cannot be read, and then all count that are read.
    """
    trees = [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]
    if not trees or any(_sends_missing(node) for node in trees):
        return None
    read = split or np.unique(np.concatenate(list(wiring.columns.positions.values()))).tolist()
    can_miss = np.isnan(wiring.columns.fills) & np.isnan(default_numbers(encoder))
    names = [encoder.float_names[place] for place in sorted(read) if can_miss[place]]
    if not names:
        return None
    listed = ", ".join([*names[:NAMED], *(["…"] if len(names) > NAMED else [])])
    return (
        f"no tree says where a missing number goes, as where training saw none: with {listed} missing, answers are not "
        "the trainer's; give each a default, such as { default = 0.0 }"
    )


def _sends_missing(node: onnx.NodeProto) -> bool:
    """Whether any node of these trees sends missing numbers along its true branch."""
    return any(any(attribute.ints) for attribute in node.attribute if attribute.name == _SIDES)
