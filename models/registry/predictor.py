"""A model ready to answer: a verified artifact, its encoder and a plan that reproduced the golden rows."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np

from models.encoder import Block, Encoded, Encoder, Side, n_rows
from models.errors import ArtifactDamaged, EncodingError, ExplanationError, NoFactorisedForm, PlanError
from models.explanation.contributions import NOT_ADDITIVE, Contributions, contributions_of, why_unexplainable
from models.plans.bound_rows import REUSED_ROWS
from models.plans.choice import PlanChoice
from models.plans.derivation import derived_plan
from models.plans.factorised import FactorisedPlan
from models.plans.generic import GenericPlan
from models.plans.parts import AdParts
from models.plans.plan import ScorePlan, Scores
from models.plans.source import PlanSource, plan_source
from models.registry.artifact import ModelArtifact
from models.segments import Int32s
from models.specs import Int64s

GENERIC_CHUNK_ROWS = REUSED_ROWS
"""Rows of one run of ONNX Runtime: large enough that a usual request is one run, small enough to be called off."""
FACTORISED_CHUNK_ROWS = 1_024
"""Pairs of one call of a factorised plan: a fraction of a millisecond."""


class AdColumns(Protocol):
    """n ads of a request, as a plan wants them."""

    def block(self) -> Block:
        """Their columns, n rows."""

    def parts(self) -> AdParts | None:
        """What the plan keeps of them, where it was computed before."""

    def unlisted_rows(self) -> tuple[Int64s, Block] | None:
        """Places and columns of those that `parts` knows nothing of, where there are any."""


class Predictor:
    """Scores users, ads and contexts with one published model; safe to share between threads."""

    def __init__(self, artifact: ModelArtifact, choice: PlanChoice | None = None) -> None:
        """Loads the graph, replays the golden rows, and derives the plan that serves it.

        Raises:
            PlanError: ONNX Runtime cannot load the graph.
            ArtifactDamaged: the manifest's columns are not the graph's, or the golden rows get other answers here.
        """
        choice = choice or PlanChoice()
        self.manifest = artifact.manifest
        self.reference = artifact.reference
        self.encoder = Encoder(artifact.manifest.inputs)
        self.generic = GenericPlan(artifact.graph)
        columns = (len(self.encoder.float_names), len(self.encoder.id_names))
        if columns != (self.generic.n_features, self.generic.n_ids):
            raise ArtifactDamaged(
                f"{artifact.path}: the manifest describes {columns[0]} numbers and {columns[1]} hashes, the graph "
                f"reads {self.generic.n_features} and {self.generic.n_ids}; publish the model again"
            )
        _replay_golden(artifact, self.generic)
        self.factorised: FactorisedPlan | None = None
        self.fallback: str | None = None
        """Why ONNX Runtime serves although a plan was wanted; None where all is as it should be."""
        self.source: PlanSource | None = None
        """The graph as arithmetic, where it can be read so."""
        self.unexplainable: str | None = None
        """Why answers cannot be taken apart; None where they can."""
        try:
            self.source = plan_source(artifact.graph)
            self.unexplainable = why_unexplainable(self.source.spec, is_imported=artifact.manifest.imported is not None)
            if choice.plan == "auto":
                examples = Encoded(artifact.golden.features, artifact.golden.ids)
                self.factorised = derived_plan(self.source, self.encoder.layout, choice.kernel, self.generic, examples)
        except NoFactorisedForm:  # ONNX Runtime is how it is meant to be served
            self.unexplainable = NOT_ADDITIVE
        except PlanError as error:
            if self.source is None:
                self.unexplainable = str(error)
            if choice.plan == "auto":
                self.fallback = str(error)

    @property
    def chunk_rows(self) -> int:
        """Pairs to score in one go, between two looks at the clock."""
        return GENERIC_CHUNK_ROWS if self.factorised is None else FACTORISED_CHUNK_ROWS

    @property
    def plan(self) -> ScorePlan:
        """What scores whole rows."""
        return self.factorised or self.generic

    @cached_property
    def contributions(self) -> Contributions:
        """Takes answers apart. Made when first asked for: trees take tens of milliseconds.

        Raises:
            ExplanationError: the model is `unexplainable`.
        """
        if self.source is None or self.unexplainable is not None:
            raise ExplanationError(self.unexplainable or "the graph cannot be read")
        return contributions_of(self.source.spec, self.encoder.layout.n_ids)

    def score(self, user: Block, ads: Block, context: Block) -> Scores:
        """Scores n rows, n being the longest block; blocks of one row are shared by all.

        Raises:
            EncodingError: the blocks disagree about n.
        """
        return self.plan.score(*self.encoder.encode(user, ads, context))

    def score_ads(self, user: Block, context: Block, ads: AdColumns) -> Scores:
        """Scores n ads; user and context have n rows each, or one that all ads share.

        Raises:
            EncodingError: user or context has other rows than 1 or n.
            PlanError: a foreign graph, which may do anything, gives an ad no probability.
        """
        plan = self.factorised
        if plan is None:
            block = ads.block()
            n = n_rows(user, block, context)
            _check_shared(n, len(block))
            scores = self.generic.score_filled(n, lambda rows: self.encoder.encode_into(user, block, context, rows))
            _check_numbers(scores)
            return scores
        shared = plan.shared(user, context)
        parts = _kept_parts(plan, ads)
        if len(shared) != 1:
            _check_shared(len(shared), len(parts.rows))
        if self.encoder.layout.has_pairs:
            pairs = self.encoder.encode_pairs(user, ads.block(), context)
            parts = AdParts.of(plan.part(Side.PAIR, pairs, onto=parts.copied()))
        return plan.join(shared, parts, _segments(plan, user, context, ads))


def _check_numbers(scores: Scores) -> None:
    """Whoever reads an answer takes NaN for a candidate that was not scored, so no other NaN may leave."""
    finite = np.isfinite(scores.p_click)
    if not finite.all():
        raise PlanError(f"the graph gives {np.count_nonzero(~finite)} of {len(finite)} rows no probability")


def _check_shared(n_shared: int, n_ads: int) -> None:
    """Raises EncodingError where user and context together have other rows than the ads."""
    if n_shared != n_ads:
        raise EncodingError(f"{n_shared} rows of user and context cannot be laid beside {n_ads} ads")


def _kept_parts(plan: FactorisedPlan, ads: AdColumns) -> AdParts:
    """What was kept of the ads, completed by what has to be worked out for this request."""
    parts = ads.parts()
    if parts is None:
        return AdParts.of(plan.part(Side.AD, ads.block()))
    if (unlisted := ads.unlisted_rows()) is not None:
        places, block = unlisted
        copied = parts.copied()
        copied[places] = plan.part(Side.AD, block)
        return AdParts.of(copied)
    return parts


def _segments(plan: FactorisedPlan, user: Block, context: Block, ads: AdColumns) -> Int32s | None:
    """The segment of each ad, or of all, where the calibrator asks for it. Of ads: costs a copy of their columns."""
    if plan.segment_side is None:
        return None
    if plan.segment_side is Side.AD:
        return plan.segments_of(ads.block())
    return plan.segments_of(user if plan.segment_side is Side.USER else context)


def _replay_golden(artifact: ModelArtifact, plan: ScorePlan) -> None:
    """A graph may be intact and still answer otherwise on another machine or another ONNX Runtime."""
    golden, proof = artifact.golden, artifact.manifest.proof
    scores = plan.score(golden.features, golden.ids)
    p_error = np.abs(scores.p_click - golden.p_click)
    logit_error = np.abs(scores.raw_logit - golden.raw_logit) / np.maximum(1.0, np.abs(golden.raw_logit))
    # Written as "not all within", so that a NaN counts as wrong.
    if not (np.all(p_error <= proof.p_bound) and np.all(logit_error <= proof.logit_bound)):
        raise ArtifactDamaged(
            f"{artifact.path}: the golden rows get other answers on this machine than where the model was published: "
            f"|Δp| up to {p_error.max():.2g} (bound {proof.p_bound:.2g}); "
            f"it was published with onnxruntime {artifact.manifest.libraries.get('onnxruntime', 'unknown')}"
        )
