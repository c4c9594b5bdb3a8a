"""The claims of the hot path: a ranked answer in under a millisecond, and the same answer as the graph gives."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from models.plans.kernel import compiled_kernels_are_built
from tests.ensembles import RandomModel, linear_models, tree_models
from tests.proofs.claim import Claim, Outcome
from tests.property.test_plans import STRIDES, plans_agree

ENSEMBLES, LINEAR_MODELS = 10_000, 2_000


def plans_reproduce_the_graph(scratch: Path) -> Outcome:
    """Ten thousand random ensembles in every kernel and stride, beside ONNX Runtime and a plain walk."""
    if not compiled_kernels_are_built():
        return Outcome("the compiled kernels were not built, half of the claim cannot run", False, {})
    kinds = {
        "trees, exact": (tree_models(exact=True), ENSEMBLES // 2),
        "trees": (tree_models(exact=False), ENSEMBLES // 2),
        "linear": (linear_models(), LINEAR_MODELS),
    }
    agreed = {}
    for kind, (models, n) in kinds.items():
        try:
            agreed[kind] = _agreeing(models, n)
        except AssertionError as error:
            return Outcome(f"{kind}: {str(error).strip()[:500]}", False, {"agreed": agreed})
    words = ", ".join(f"{n:,} {kind}" for kind, n in agreed.items())
    holds = agreed["trees, exact"] + agreed["trees"] >= ENSEMBLES
    return Outcome(f"agree: {words}; strides {STRIDES}, both kernels", holds, {"agreed": agreed, "strides": STRIDES})


def _agreeing(models: SearchStrategy[RandomModel], n: int) -> int:
    """How many models agreed, n or more; raises AssertionError with the simplest that does not."""
    seen = 0

    @settings(max_examples=n, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False)
    @given(models)
    def check(model: RandomModel) -> None:
        nonlocal seen
        plans_agree(model)
        seen += 1

    check()
    return seen


CLAIMS = [
    Claim(
        "plans-agree",
        "make prove PART=hot-path",
        "10 000 random ensembles: both kernels, strides 1, 3 and 16, a plain walk and ONNX Runtime answer alike: "
        "margins to the bit where leaves add up exactly, else |Δlogit| ≤ 1e-12 of the walk and within the proof's "
        "bounds of ONNX Runtime; no inversions",
        plans_reproduce_the_graph,
    ),
]
