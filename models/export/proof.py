"""The parity proof: the graph in ONNX Runtime answers as the trainer does.

The trainer's float64 margins, followed by the reference correction and calibrator in NumPy, are compared with the graph
on two kinds of rows:

- random rows that know the columns: values seen in training, values between and beyond them, NaN; hashes seen in
  training, hashes the model knows, unseen ones, and 0 for missing;
- rows at every point where the answer may jump: each cut point of each column as float32, and its float32 neighbours on
  both sides; each hash the model knows.

What is asserted (design of the artifact): |p - p'| <= 1e-6, |logit - logit'| <= 2e-6 * max(1, |logit|), and no two
scores that differ by more than 1e-6 change places. A model without a proof that holds is not published or loaded.
Cost: about 2 s for 100 000 rows of a model of 200 trees.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.calibrator import CalibratorMap, Float64s, p_click_of
from models.encoder import Encoded
from models.errors import ExportError
from models.export.graph import core_sha256
from models.plans.generic import GenericPlan
from models.random_streams import random_stream
from models.registry.manifest import Proof
from models.specs import ModelSpec
from models.trainers.trainer import TrainedModel

RANDOM_ROWS = 100_000
P_BOUND = 1e-6
LOGIT_BOUND = 2e-6
"""Relative to max(1, |logit|)."""
CLEARLY_DIFFERENT = 1e-6
MISSING_SHARE = 0.1

_LARGEST = float(np.finfo(np.float32).max) / 2
"""Half the largest float32: differences of two such values are finite, and infinities never reach a graph."""


def prove(
    graph: bytes, model: TrainedModel, correction: float, calibrator: CalibratorMap, examples: Encoded, seed: int
) -> Proof:
    """Compares graph and trainer.

    Args:
        graph: the serialised graph.
        model: the trainer's own model.
        correction, calibrator: what the graph should do after the margin.
        examples: rows of the training data, from which the columns' ranges are learnt.
    Raises:
        ExportError: there are no examples to learn the columns from.
    """
    if len(examples.features) == 0:
        raise ExportError("a proof needs example rows to know the columns' ranges; give at least one")
    random = random_stream(seed, "proof rows")
    ordinary = random_rows(examples, model.spec, RANDOM_ROWS, random)
    at_jumps = jump_rows(examples, model.spec, random)
    rows = stacked([ordinary, at_jumps])
    answered = GenericPlan(graph).score(rows.features, rows.ids)
    raw_logit = model.raw_logit(rows)
    p_click = p_click_of(raw_logit, correction, calibrator)
    return Proof(
        rows=len(ordinary.features),
        threshold_rows=len(at_jumps.features),
        max_p_error=_largest(np.abs(answered.p_click - p_click)),
        max_logit_error=_largest(np.abs(answered.raw_logit - raw_logit) / np.maximum(1.0, np.abs(raw_logit))),
        inversions=inversions(raw_logit, answered.raw_logit) + inversions(p_click, answered.p_click),
        p_bound=P_BOUND,
        logit_bound=LOGIT_BOUND,
        core_sha256=core_sha256(graph),
    )


def random_rows(examples: Encoded, spec: ModelSpec, n: int, random: np.random.Generator) -> Encoded:
    """n rows whose columns are drawn one by one: half as seen, the rest between, beyond, known, unseen or missing."""
    seen = random.integers(0, len(examples.features), size=n)
    features = examples.features[seen].copy()
    for column in range(features.shape[1]):
        low, high = _range(examples.features[:, column])
        lowest, highest = max(-_LARGEST, low - (high - low)), min(_LARGEST, high + (high - low))
        drawn = random.uniform(lowest, highest, size=n).astype(np.float32)
        elsewhere = random.random(n) < 0.5
        features[elsewhere, column] = drawn[elsewhere]
        features[random.random(n) < MISSING_SHARE, column] = np.nan
    ids = examples.ids[seen].copy()
    known_ids = spec.known_ids()
    for column in range(ids.shape[1]):
        unseen = random.random(n) < 0.2
        ids[unseen, column] = random.integers(1, 1 << 32, size=np.count_nonzero(unseen))
        if column in known_ids:
            known = random.random(n) < 0.3
            ids[known, column] = random.choice(known_ids[column], size=np.count_nonzero(known))
        ids[random.random(n) < MISSING_SHARE, column] = 0
    return Encoded(features, ids)


def jump_rows(examples: Encoded, spec: ModelSpec, random: np.random.Generator) -> Encoded:
    """Example rows with one column moved to a point where the answer may jump."""
    at_cuts = [(column, _with_neighbours(cuts)) for column, cuts in spec.cut_points().items()]
    at_hashes = list(spec.known_ids().items())
    n_cuts = sum(len(values) for _, values in at_cuts)
    base = random.integers(0, len(examples.features), size=n_cuts + sum(len(keys) for _, keys in at_hashes))
    features, ids = examples.features[base].copy(), examples.ids[base].copy()
    start = 0
    for column, values in at_cuts:
        features[start : start + len(values), column] = values
        start += len(values)
    for column, keys in at_hashes:
        ids[start : start + len(keys), column] = keys
        start += len(keys)
    return Encoded(features, ids)


def stacked(parts: Sequence[Encoded]) -> Encoded:
    """Rows of several matrices below each other."""
    return Encoded(np.concatenate([part.features for part in parts]), np.concatenate([part.ids for part in parts]))


def inversions(reference: Float64s, answered: Float64s) -> int:
    """Rows that the answer puts below another row, though the reference puts them clearly above it."""
    order = np.argsort(reference, kind="stable")
    ordered, seen = reference[order], answered[order]
    best_so_far = np.maximum.accumulate(seen)
    # For each row: how many rows are clearly below it.
    below = np.searchsorted(ordered, ordered - CLEARLY_DIFFERENT, side="left")
    compared = below > 0
    return int(np.count_nonzero(best_so_far[below[compared] - 1] > seen[compared]))


def _with_neighbours(cuts: Float64s) -> npt.NDArray[np.float32]:
    """Each cut as float32, and one step to either side."""
    nearest = cuts.astype(np.float32)
    around = [np.nextafter(nearest, np.float32(-np.inf)), nearest, np.nextafter(nearest, np.float32(np.inf))]
    return np.concatenate(around).clip(-_LARGEST, _LARGEST)


def _range(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def _largest(errors: Float64s) -> float:
    """The largest error; a NaN anywhere counts as infinite, because it compares as within every bound."""
    return float("inf") if np.isnan(errors).any() else float(errors.max())
