"""Made impressions to learn from, with known log-odds; small enough that a model of them is trained in a second."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pytest

from feature_store.schema import ContextFeature
from models.encoder import Encoded, ModelInputs
from models.registry.manifest import Calibrator, Interval, Label, Manifest, Proof, TrainedOn
from models.trainers import DEEP_LEARNERS, HEURISTICS, LEARNERS, TORCH
from models.trainers.trainer import TrainingSet

NEEDS_TORCH = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason=f"learning a net needs torch, serving one does not: {TORCH}"
)


def params(learners: Iterable[str]) -> list[object]:
    """Learners to run a test for; those whose library is not here are skipped with the reason."""
    return [pytest.param(name, marks=[NEEDS_TORCH] if name in DEEP_LEARNERS else []) for name in learners]


EVERY_LEARNER = params(LEARNERS)
ABLE_LEARNERS = params(name for name in LEARNERS if name not in HEURISTICS)
"""Those from which a test may demand that they find what there is to find."""
ADDITIVE_LEARNERS = tuple(name for name in LEARNERS if name not in DEEP_LEARNERS)
"""Those whose answers can be taken apart."""

FLOAT_NAMES = ("context.price", "context.age", "context.noise")
ID_NAMES = ("context.site", "context.rare")
INPUTS = ModelInputs(
    project="made",
    views=(),
    context=(
        *(ContextFeature(name=name.partition(".")[2]) for name in FLOAT_NAMES),
        *(ContextFeature(name=name.partition(".")[2], dtype="id") for name in ID_NAMES),
    ),
    pairs=(),
    hash_seed=0,
)

N_SITES = 40
N_RARE = 3_000


def take_torch_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where nobody installed it."""
    for module in [name for name in sys.modules if name.startswith(("models.trainers.", "models.fitting.net_"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torch", None)


def made_impressions(n: int, *, seed: int = 0, level: float = -1.5, signal: float = 1.0) -> TrainingSet:
    """n impressions whose click depends on price (only where it is positive), age and site.

    Args:
        level: log-odds of an average impression.
        signal: 0 makes clicks independent of every column.
    """
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, 3)).astype(np.float32)
    site = random.integers(0, N_SITES, size=n)
    ids = np.column_stack([_hashes(N_SITES, 1)[site], _hashes(N_RARE, 2)[random.integers(0, N_RARE, size=n)]])
    site_effect = np.random.default_rng(99).normal(scale=0.8, size=N_SITES)
    log_odds = level + signal * (1.5 * np.maximum(features[:, 0], 0.0) - 0.6 + 0.7 * features[:, 1] + site_effect[site])
    clicked = random.random(n) < 1.0 / (1.0 + np.exp(-log_odds))
    features[random.random(n) < 0.1, 2] = np.nan
    ids[random.random(n) < 0.05, 0] = 0
    return TrainingSet(Encoded(features, ids), clicked, np.arange(n, dtype=np.int64), FLOAT_NAMES, ID_NAMES)


def made_manifest(**changes: object) -> Manifest:
    """A manifest of a good model; `changes` replace its fields."""
    good = Manifest(
        name="",
        version="",
        created_ms=1_763_690_000_000,
        learner="gbdt",
        inputs=INPUTS,
        label=Label("click"),
        trained_on=TrainedOn("made", 1_000, 100, 0, 999),
        reference_position="mean over the log's positions",
        calibrator=Calibrator("identity"),
        metrics={"normalized_entropy": interval(0.9, 0.02), "calibration_ratio": interval(1.0, 0.05)},
        seed=0,
        parameters={},
        core_sha256="c0" * 32,
        calibrator_sha256="ca" * 32,
        proof=made_proof("c0" * 32),
        files={},
        libraries={"onnxruntime": "1.31.1"},
        better_than_base_rate=True,
    )
    fields = {name: getattr(good, name) for name in good.__struct_fields__}
    return Manifest(**(fields | changes))  # type: ignore[arg-type]


def made_proof(core_sha256: str, max_p_error: float = 0.0) -> Proof:
    """A proof that holds while its error is at most 1e-6."""
    return Proof(
        rows=10,
        threshold_rows=0,
        max_p_error=max_p_error,
        max_logit_error=0.0,
        inversions=0,
        p_bound=1e-6,
        logit_bound=2e-6,
        core_sha256=core_sha256,
    )


def interval(value: float, half: float) -> Interval:
    """An interval around a value, of 1 000 impressions with 100 clicks."""
    return Interval(value=value, low=value - half, high=value + half, n=1_000, clicks=100)


def _hashes(n: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(1, 1 << 32, size=n)
