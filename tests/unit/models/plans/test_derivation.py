"""A plan serves only what it was held against: derived, certified, or refused with the reason."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import models.plans
from models.calibrator import CalibratorMap
from models.encoder import Columns, Encoded, Layout
from models.errors import PlanError
from models.export.graph import export_graph
from models.plans import kernel
from models.plans.derivation import derived_plan
from models.plans.generic import GenericPlan
from models.plans.source import PlanSource, plan_source
from models.specs import TreeEnsembleSpec
from tests.ensembles import ensemble, grown

NOTHING = Columns(0, 0, 0, 0)
LAYOUT = Layout((Columns(0, 2, 0, 0), NOTHING, NOTHING, NOTHING))
SLIGHTLY_HIGHER = CalibratorMap("platt", 1e-5, np.empty(0), np.ones(1))


def made_trees(n_leaves: int = 9) -> TreeEnsembleSpec:
    """Five trees over two numbers."""
    random = np.random.default_rng(0)
    trees = [grown(random, n_leaves, 2, random.normal(size=20)) for _ in range(5)]
    return ensemble(random, trees, 2, (), exact=False)


def graph(spec: TreeEnsembleSpec, calibrator: CalibratorMap | None = None) -> bytes:
    return export_graph(spec, 0.0, calibrator or CalibratorMap.identity(), 2, 0)


def source(spec: TreeEnsembleSpec, calibrator: CalibratorMap | None = None) -> PlanSource:
    return plan_source(graph(spec, calibrator))


def rows(n: int) -> Encoded:
    """Ordinary ones."""
    return Encoded(np.random.default_rng(1).normal(size=(n, 2)).astype(np.float32), np.empty((n, 0), np.int64))


def test_a_plan_that_answers_as_onnx_runtime_is_certified() -> None:
    """And then answers rows it never saw."""
    content = graph(made_trees())
    reference = GenericPlan(content)

    plan = derived_plan(plan_source(content), LAYOUT, "auto", reference, rows(50))

    np.testing.assert_allclose(plan.score(*rows(500)).p_click, reference.score(*rows(500)).p_click, rtol=0, atol=1e-6)


def test_one_leaf_that_differs_is_found() -> None:
    """The rows beside the thresholds reach every leaf that can be reached, whatever the golden rows do."""
    spec = made_trees(n_leaves=2)
    other = spec.leaf_value.copy()
    other[np.flatnonzero(spec.column < 0)[-1]] += 1e-3

    with pytest.raises(PlanError, match=r"answers otherwise than ONNX Runtime on \d+ rows: \|Δp\| up to"):
        derived_plan(source(replace(spec, leaf_value=other)), LAYOUT, "auto", GenericPlan(graph(spec)), rows(1))


def test_a_threshold_one_step_away_is_found() -> None:
    """No ordinary row lies there: only the rows beside each threshold see it."""
    spec = made_trees()
    split = int(np.flatnonzero(spec.column >= 0)[0])
    moved = spec.threshold.copy()
    moved[split] = np.nextafter(np.float32(moved[split]), np.float32(np.inf)) * (1 + 1e-6)

    with pytest.raises(PlanError, match="answers otherwise"):
        derived_plan(source(replace(spec, threshold=moved)), LAYOUT, "auto", GenericPlan(graph(spec)), rows(10))


def test_another_calibrator_is_found() -> None:
    """A probability that is off by 2e-6 may meet a bid."""
    spec = made_trees()

    with pytest.raises(PlanError, match="answers otherwise"):
        derived_plan(source(spec, SLIGHTLY_HIGHER), LAYOUT, "auto", GenericPlan(graph(spec)), rows(50))


def test_nothing_is_certified_on_no_rows() -> None:
    """It would hold for any plan at all."""
    content = graph(made_trees())

    with pytest.raises(PlanError, match="no golden rows"):
        derived_plan(plan_source(content), LAYOUT, "auto", GenericPlan(content), rows(0))


def test_trees_of_more_than_64_leaves_stay_with_onnx_runtime() -> None:
    """The reason names the number, which is what the owner of the model can change."""
    content = graph(made_trees(n_leaves=65))

    with pytest.raises(PlanError, match="a tree of 65 leaves; factorised trees have at most 64"):
        derived_plan(plan_source(content), LAYOUT, "auto", GenericPlan(content), rows(50))


@pytest.mark.parametrize(
    ("source", "trouble"),
    [
        (None, "were not built"),
        ("raise ImportError('invalid ELF header')", r"cannot be loaded \(invalid ELF header\)"),
        ("SIGNATURE = 1", "were built from older sources"),
    ],
)
def test_compiled_kernels_that_cannot_serve_are_missed_aloud(
    source: str | None, trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where they were asked for by name; else NumPy serves: another Python, an older libc or a pull without setup
    must not stop a service, nor send it to ONNX Runtime."""
    if source is not None:
        (tmp_path / "_trees.py").write_text(source)
    monkeypatch.setattr(models.plans, "__path__", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "models.plans._trees", raising=False)

    assert kernel.kernel_name("auto") == kernel.kernel_name("numpy") == "numpy"
    with pytest.raises(PlanError, match=f"the compiled kernels {trouble}; install a C compiler"):
        kernel.kernel_name("compiled")
