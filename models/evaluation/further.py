"""What else can be asked of an evaluated model: group by group, at thresholds, beside another model, as a policy."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from models.evaluation.breakdown import Breakdown, breakdown
from models.evaluation.comparison import Comparison
from models.evaluation.evaluate import Evaluation, compare_with
from models.evaluation.grouping_columns import no_propensities
from models.evaluation.groups import groups_by, own_groups
from models.evaluation.intervals import user_codes
from models.evaluation.policy_values import PolicyValues, policy_values
from models.evaluation.thresholds import AtThreshold, at_thresholds
from models.logs.frame import TrainingFrame
from models.registry.predictor import Predictor


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person wants to know beyond the figures of the whole sample."""

    by: tuple[str, ...] = ()
    """Columns whose values become groups, beside those that every log has."""
    thresholds: tuple[float, ...] = ()
    against: Predictor | None = None
    candidates_by: str | None = None
    """Column of the log that decides which ads a round could have shown."""
    clip: float | None = None
    """Weights of rounds above it count as this much."""


class Further(msgspec.Struct, frozen=True):
    """The answers; field names are keys of the document of `clickserve evaluate`."""

    breakdowns: tuple[Breakdown, ...]
    thresholds: tuple[AtThreshold, ...]
    against: Comparison | None
    off_policy: PolicyValues | None
    """None where the log holds no propensities."""


def further(
    predictor: Predictor,
    evaluation: Evaluation,
    frame: TrainingFrame,
    whole: TrainingFrame,
    asked: Asked,
    seed: int = 0,
) -> Further:
    """Answers what was asked.

    Args:
        predictor: the model that was evaluated.
        evaluation: of the same frame.
        whole: the log that the frame is a part of.
        seed: decides the bootstraps.
    Raises:
        NoSuchColumn: no column of a name that was asked for, or one that makes no groups.
        EncodingError: the frame's columns are not those of the other model.
        NoPropensities: policies are to be judged, and the log holds no propensity.
    """
    users = user_codes(frame.users.codes)
    groups = (*own_groups(frame), *(groups_by(frame, by) for by in asked.by))
    values = policy_values(predictor, frame, whole, candidates_by=asked.candidates_by, clip=asked.clip, seed=seed)
    if values is None and (asked.candidates_by is not None or asked.clip is not None):
        raise no_propensities()  # the column that is named holds none
    return Further(
        breakdowns=tuple(breakdown(each, frame.clicked, evaluation.p_click, users, seed) for each in groups),
        thresholds=at_thresholds(evaluation.clicked, evaluation.p_click, asked.thresholds, users, seed),
        against=None if asked.against is None else compare_with(asked.against, frame, evaluation, seed),
        off_policy=values,
    )
