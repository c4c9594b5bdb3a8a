"""The parity proof: the graph in ONNX Runtime answers as the trainer does.

The trainer's float64 margins, followed by the reference correction and calibrator in NumPy, are compared with the graph
on two kinds of rows:

- random rows that know the columns: values seen in training, values between and beyond them, NaN; hashes seen in
  training, hashes the model knows, unseen ones, and 0 for missing;
- rows at every point where the answer may jump (`models/plans/jumps.py`).

What is asserted (design of the artifact): |p - p'| <= 1e-6, |logit - logit'| <= 2e-6 * max(1, |logit|), and no two
scores that differ by more than 1e-6 change places. Some rows are scored in other company as well (`groupings.py`), and
the largest |p - p'| is that of all groupings. A model without a proof that holds is not published or loaded.
Cost: about 2 s for 100 000 rows of a model of 200 trees.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.calibrator import CalibratorMap, p_click_of
from models.encoder import Encoded
from models.errors import ExportError
from models.export.graph import core_sha256
from models.export.groupings import regrouped
from models.plans.agreement import LOGIT_BOUND, P_BOUND, agreement
from models.plans.generic import GenericPlan
from models.plans.jumps import LARGEST, Jumping, jump_rows
from models.plans.plan import Scores
from models.random_streams import random_stream
from models.registry.manifest import Proof
from models.trainers.trainer import TrainedModel

RANDOM_ROWS = 100_000
MISSING_SHARE = 0.1


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
    at_jumps = jump_rows(examples, model.spec, random, calibrator.segments)
    rows = stacked([ordinary, at_jumps])
    raw_logit = model.raw_logit(rows)
    wanted = Scores(raw_logit, p_click_of(raw_logit, correction, calibrator, calibrator.segments_of(rows.features)))
    plan = GenericPlan(graph)
    found = agreement(wanted, plan.score(rows.features, rows.ids))
    others = regrouped(lambda batch: plan.score(batch.features, batch.ids).p_click, rows, random)
    regrouped_errors = np.nan_to_num(np.abs(others.p_click - wanted.p_click[others.places]), nan=np.inf)
    return Proof(
        rows=len(ordinary.features),
        threshold_rows=len(at_jumps.features),
        max_p_error=max(found.max_p_error, float(regrouped_errors.max())),
        max_logit_error=found.max_logit_error,
        inversions=found.inversions,
        p_bound=P_BOUND,
        logit_bound=LOGIT_BOUND,
        core_sha256=core_sha256(graph),
    )


def random_rows(examples: Encoded, spec: Jumping, n: int, random: np.random.Generator) -> Encoded:
    """n rows whose columns are drawn one by one: half as seen, the rest between, beyond, known, unseen or missing."""
    seen = random.integers(0, len(examples.features), size=n)
    features = examples.features[seen].copy()
    for column in range(features.shape[1]):
        low, high = _range(examples.features[:, column])
        lowest, highest = max(-LARGEST, low - (high - low)), min(LARGEST, high + (high - low))
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


def stacked(parts: Sequence[Encoded]) -> Encoded:
    """Rows of several matrices below each other."""
    return Encoded(np.concatenate([part.features for part in parts]), np.concatenate([part.ids for part in parts]))


def _range(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
