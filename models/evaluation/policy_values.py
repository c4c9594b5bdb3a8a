"""What click rate policies of a model would have, where the log holds propensities: the estimates and their conditions.

Four policies: the logging one, whose estimate is the log's own click rate and shows that the sum is right; any of the
candidates alike; and the two of `policies.py` that follow the model.
"""

from __future__ import annotations

import msgspec
import numpy as np

from models.evaluation.intervals import user_codes
from models.evaluation.metrics import Float64s
from models.evaluation.off_policy import OffPolicy, off_policy
from models.evaluation.policies import MOST_PAIRS, Candidates, candidates_of, model_policies
from models.logs.frame import TrainingFrame
from models.registry.predictor import Predictor


class PolicyValue(msgspec.Struct, frozen=True):
    """The estimate for one policy, by name."""

    policy: str
    estimate: OffPolicy
    credible: bool
    """Whether the interval of the mean weight holds 1; an estimate without is about other ads than the log's."""


class PolicyValues(msgspec.Struct, frozen=True):
    """All estimates on one log."""

    rounds: int
    rounds_without_propensity: int
    """Left out."""
    candidates_by: str | None
    fewest_candidates: int
    most_candidates: int
    clip: float | None
    policies: tuple[PolicyValue, ...]
    why_no_model_policies: str
    """Empty where the model's policies are among them."""


def policy_values(
    predictor: Predictor,
    frame: TrainingFrame,
    whole: TrainingFrame,
    *,
    candidates_by: str | None = None,
    clip: float | None = None,
    seed: int = 0,
) -> PolicyValues | None:
    """Estimates for all policies; None where the log holds no propensity.

    Args:
        frame: the rounds; `whole` the log it is a part of, whose ads are the candidates.
        candidates_by: column of the log that decides which ads a round could have shown; None takes all of the log.
        clip: weights above it count as this much; None leaves them.
    Raises:
        SchemaError: the log has no column `candidates_by`.
    """
    usable = ~np.isnan(frame.propensity) & (frame.ads.codes >= 0)
    rounds = int(np.count_nonzero(usable))
    if not rounds:
        return None
    candidates = candidates_of(frame, whole, candidates_by)
    sizes = candidates.sizes
    targets: dict[str, Float64s] = {"logging": frame.propensity, "uniform": 1.0 / np.maximum(sizes, 1)}
    why_not = _too_dear(candidates)
    if not why_not:
        targets |= model_policies(predictor, frame, candidates)._asdict()
    users = user_codes(frame.users.codes)
    whose = None if users is None else users[usable]
    found = []
    for policy, target in targets.items():
        clicked, propensity = frame.clicked[usable], frame.propensity[usable]
        estimate = off_policy(clicked, propensity, target[usable], whose, clip=clip, seed=seed)
        found.append(PolicyValue(policy, estimate, estimate.credible))
    return PolicyValues(
        rounds=rounds,
        rounds_without_propensity=len(frame) - rounds,
        candidates_by=candidates_by,
        fewest_candidates=int(sizes[usable].min()),
        most_candidates=int(sizes[usable].max()),
        clip=clip,
        policies=tuple(found),
        why_no_model_policies=why_not,
    )


def _too_dear(candidates: Candidates) -> str:
    """Why nobody scores every candidate of every round; empty where it is done."""
    pairs = int(candidates.sizes.sum())
    if pairs <= MOST_PAIRS:
        return ""
    return (
        f"{pairs:,} candidates would have to be scored, and {MOST_PAIRS:,} are the most; take fewer rounds (--rows) or "
        "name the column that decides what a round could show (--candidates-by)"
    )
