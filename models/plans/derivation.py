"""From a graph to the plan that serves it: derived, held against ONNX Runtime, or refused with the reason.

A derived plan must reproduce ONNX Runtime on the golden rows and on rows at every point where the answer may jump
(`jumps.py`), within the bounds of a proof. Cost: one run of ONNX Runtime over three rows per threshold, 0.1 s for 200
trees of 31 leaves.
"""

from __future__ import annotations

import numpy as np

from models.encoder import Encoded, Layout
from models.errors import PlanError
from models.plans.agreement import agreement
from models.plans.choice import KernelChoice
from models.plans.factorised import FactorisedPlan, factorised_plan
from models.plans.generic import GenericPlan
from models.plans.jumps import jump_rows
from models.plans.kernel import kernel_name
from models.plans.source import PlanSource


def derived_plan(
    source: PlanSource, layout: Layout, kernel: KernelChoice, reference: GenericPlan, examples: Encoded
) -> FactorisedPlan:
    """The factorised plan of what was read from a graph, certified.

    Args:
        reference: the same graph in ONNX Runtime.
        examples: some ordinary rows, the golden ones.
    Raises:
        PlanError: the graph has no factorised form, or the plan does not answer as ONNX Runtime does, or there are no
            examples to see it on.
    """
    if not len(examples.features):
        raise PlanError("there are no golden rows to hold a plan against ONNX Runtime on")
    plan = factorised_plan(source, layout, kernel_name(kernel))
    jumps = jump_rows(examples, source.spec, np.random.default_rng(0), source.calibrator.segments)
    for some in (examples, jumps):
        found = agreement(reference.score(some.features, some.ids), plan.score(some.features, some.ids))
        if not found.holds:
            raise PlanError(
                f"the plan ({plan.name}) answers otherwise than ONNX Runtime on {len(some.features)} rows: |Δp| up to "
                f"{found.max_p_error:.2g}, |Δlogit| up to {found.max_logit_error:.2g}, {found.inversions} inversions"
            )
    return plan
