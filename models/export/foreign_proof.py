"""The proof of an import: the served graph answers as the original does, in ONNX Runtime, row by row.

Nobody gives us rows of the training, so they are made: around the thresholds of the original's trees, or around the
means of its scaler, small and large, with NaN where the original takes it; and rows at every threshold and one float32
to either side. The original runs from its own bytes, ZipMap and all.

Before that, the original must answer each row by itself: the same rows alone, reversed and shuffled get the same
probability, or an ad's would depend on which other ads are asked about.

Asserted: |p - p'| <= 1e-6 everywhere; |logit - logit'| <= 1e-5 * max(1, |logit|) where p lies between 1 % and 99 %
(nearer to 0 and 1 a float32 probability has too few digits to tell a margin); no inversion among probabilities that
differ by more than 1e-6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.encoder import Encoded
from models.errors import ImportRefused
from models.export.foreign_answer import Chosen
from models.export.foreign_graph import ForeignGraph
from models.export.graph import core_sha256
from models.export.groupings import regrouped
from models.export.proof import random_rows, stacked
from models.export.wrapping import Wiring, log_odds
from models.plans.agreement import P_BOUND, inversions
from models.plans.generic import CHUNK_ROWS, GenericPlan
from models.plans.jumps import LARGEST, jump_rows
from models.registry.manifest import Proof
from models.specs import Float64s, Int64s, LinearSpec

LOGIT_BOUND = 1e-5
"""Of the original, which adds up in float32."""
TOLD_P = 0.01
SPARED_ROWS = 1
"""Where sums before a threshold are rounded otherwise in another batch, one row in a thousand may change its branch."""
EXAMPLES = 4_000
RANDOM_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class CutPoints:
    """Where the original's answer may jump."""

    cuts: Mapping[int, Float64s]

    def cut_points(self) -> Mapping[int, Float64s]:
        """By float column."""
        return self.cuts

    def known_ids(self) -> dict[int, Int64s]:
        """None: imported graphs read numbers alone."""
        return {}


@dataclass(frozen=True, slots=True)
class ProofRows:
    """examples: ordinary rows without missing values; ordinary: those and others; at_jumps: at thresholds."""

    examples: Encoded
    ordinary: Encoded
    at_jumps: Encoded


def example_rows(wiring: Wiring, cuts: CutPoints, linear: LinearSpec | None, random: np.random.Generator) -> Encoded:
    """Rows without missing values, in the region where the original's answer changes."""
    d, k = len(wiring.columns.fills), wiring.columns.n_ids
    centre, spread = np.zeros(d), np.ones(d)
    if linear is not None:
        centre, spread = linear.mean, linear.spread / np.maximum(1.0, np.abs(linear.slope))
    features = centre + spread * random.normal(size=(EXAMPLES, d)) * 10.0 ** random.uniform(-2, 1, size=(EXAMPLES, 1))
    for column, values in cuts.cuts.items():
        usual = values[np.abs(values) < LARGEST]
        if len(usual):
            margin = max(float(np.ptp(usual)), abs(float(usual[0])), 1e-3) / 10
            near = random.choice(usual, EXAMPLES) + random.normal(size=EXAMPLES) * margin
            features[:, column] = near.clip(-LARGEST, LARGEST)
    return _readable(Encoded(features.astype(np.float32), np.zeros((EXAMPLES, k), dtype=np.int64)), wiring)


def proof_rows(examples: Encoded, wiring: Wiring, cuts: CutPoints, random: np.random.Generator) -> ProofRows:
    """All rows of a proof."""
    ordinary = random_rows(examples, cuts, RANDOM_ROWS, random)
    return ProofRows(examples, _readable(ordinary, wiring), _readable(jump_rows(examples, cuts, random), wiring))


def original_p(foreign: ForeignGraph, chosen: Chosen, wiring: Wiring, rows: Encoded) -> Float64s:
    """(n,) the original's probabilities."""
    edges = range(0, len(rows.features), CHUNK_ROWS)
    parts = [
        foreign.answers(chosen.output, wiring.fed(rows.features[at : at + CHUNK_ROWS])).columns[:, chosen.column]
        for at in edges
    ]
    return np.concatenate([np.empty(0), *parts])


def columns_that_must_be_known(foreign: ForeignGraph, chosen: Chosen, wiring: Wiring, examples: Encoded) -> list[int]:
    """Our columns of which a missing number would make the original answer NaN, or nothing."""
    read = np.unique(np.concatenate(list(wiring.columns.positions.values())))
    return [int(column) for column in read if _breaks(foreign, chosen, wiring, examples, int(column))]


def refuse_dependent_rows(
    foreign: ForeignGraph, chosen: Chosen, wiring: Wiring, rows: ProofRows, random: np.random.Generator
) -> None:
    """Raises ImportRefused where a row's answer depends on the other rows of its batch."""

    def answer(batch: Encoded) -> Float64s:
        return original_p(foreign, chosen, wiring, batch)

    for part in (rows.examples, rows.ordinary):
        together = answer(part)
        found = regrouped(answer, part, random)
        before = together[found.places]
        is_nan = np.isnan(before) & np.isnan(found.p_click)
        moved_by = np.where(is_nan, 0.0, np.nan_to_num(np.abs(found.p_click - before), nan=np.inf))
        if len(np.unique(found.places[moved_by > P_BOUND])) <= SPARED_ROWS:
            continue
        worst = int(np.argmax(moved_by))
        size = int(found.batch_sizes[worst])
        company = "alone" if size == 1 else f"in a batch of {size}"
        raise ImportRefused(
            f"output {chosen.output!r} depends on the other rows of the batch: one row's probability is "
            f"{found.p_click[worst]:.4g} {company} and {before[worst]:.4g} among {len(together):,} "
            "rows, so an ad's would depend on which other ads are asked about; export a graph that works row by row, "
            "for inference (no mean, sum or normalisation along the first axis)"
        )


def prove_import(graph: bytes, foreign: ForeignGraph, chosen: Chosen, wiring: Wiring, rows: ProofRows) -> Proof:
    """Compares a served graph with the original."""
    every = stacked([rows.ordinary, rows.at_jumps])
    wanted = original_p(foreign, chosen, wiring, every)
    given = GenericPlan(graph, quiet=True).score(every.features, every.ids)
    told = (wanted > TOLD_P) & (wanted < 1 - TOLD_P)
    logit = log_odds(wanted)
    logit_error = (np.abs(given.raw_logit - logit) / np.maximum(1.0, np.abs(logit)))[told]
    return Proof(
        rows=len(rows.ordinary.features),
        threshold_rows=len(rows.at_jumps.features),
        max_p_error=_largest(np.abs(given.p_click - wanted)),
        max_logit_error=_largest(logit_error),
        inversions=inversions(wanted, given.p_click),
        p_bound=P_BOUND,
        logit_bound=LOGIT_BOUND,
        core_sha256=core_sha256(graph),
    )


def _breaks(foreign: ForeignGraph, chosen: Chosen, wiring: Wiring, examples: Encoded, column: int) -> bool:
    if column in wiring.whole:
        return True
    features = examples.features[:16].copy()
    features[:, column] = np.nan
    try:
        answered = foreign.answers(chosen.output, wiring.fed(features)).columns
    except ImportRefused:
        return True
    return bool(np.isnan(answered).any())


def _readable(rows: Encoded, wiring: Wiring) -> Encoded:
    """Whole numbers where the original reads such."""
    whole = wiring.whole
    rows.features[:, whole] = np.rint(rows.features[:, whole].clip(-1e9, 1e9))
    return rows


def _largest(errors: Float64s) -> float:
    """A NaN anywhere counts as infinite."""
    return float("inf") if np.isnan(errors).any() else float(errors.max(initial=0.0))
