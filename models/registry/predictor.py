"""A model ready to answer: a verified artifact, its encoder and a plan that reproduced the golden rows."""

from __future__ import annotations

import numpy as np

from models.encoder import Block, Encoder
from models.errors import ArtifactDamaged
from models.plans.generic import GenericPlan
from models.plans.plan import ScorePlan, Scores
from models.registry.artifact import ModelArtifact


class Predictor:
    """Scores users, ads and contexts with one published model; safe to share between threads."""

    def __init__(self, artifact: ModelArtifact) -> None:
        """Loads the graph and replays the golden rows.

        Raises:
            PlanError: ONNX Runtime cannot load the graph.
            ArtifactDamaged: the manifest's columns are not the graph's, or the golden rows get other answers here.
        """
        self.manifest = artifact.manifest
        self.encoder = Encoder(artifact.manifest.inputs)
        plan = GenericPlan(artifact.graph)
        columns = (len(self.encoder.float_names), len(self.encoder.id_names))
        if columns != (plan.n_features, plan.n_ids):
            raise ArtifactDamaged(
                f"{artifact.path}: the manifest describes {columns[0]} numbers and {columns[1]} hashes, the graph "
                f"reads {plan.n_features} and {plan.n_ids}; publish the model again"
            )
        _replay_golden(artifact, plan)
        self.plan: ScorePlan = plan

    def score(self, user: Block, ads: Block, context: Block) -> Scores:
        """Scores n rows, n being the longest block; blocks of one row are shared by all.

        Raises:
            EncodingError: the blocks disagree about n.
        """
        return self.plan.score(*self.encoder.encode(user, ads, context))


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
