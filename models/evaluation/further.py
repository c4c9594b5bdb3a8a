"""What else can be asked of an evaluated model: at thresholds, and beside another model."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from models.evaluation.comparison import Comparison
from models.evaluation.evaluate import Evaluation, compare_with
from models.evaluation.intervals import user_codes
from models.evaluation.thresholds import AtThreshold, at_thresholds
from models.logs.frame import TrainingFrame
from models.registry.predictor import Predictor


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person wants to know beyond the figures of the whole sample."""

    thresholds: tuple[float, ...] = ()
    against: Predictor | None = None


class Further(msgspec.Struct, frozen=True):
    """The answers; field names are keys of the document of `clickserve evaluate`."""

    thresholds: tuple[AtThreshold, ...]
    against: Comparison | None


def further(evaluation: Evaluation, frame: TrainingFrame, asked: Asked, seed: int = 0) -> Further:
    """Answers what was asked.

    Args:
        evaluation: of the same frame.
        seed: decides the bootstraps.
    Raises:
        EncodingError: the frame's columns are not those of the other model.
    """
    users = user_codes(frame.users.codes)
    return Further(
        thresholds=at_thresholds(evaluation.clicked, evaluation.p_click, asked.thresholds, users, seed),
        against=None if asked.against is None else compare_with(asked.against, frame, evaluation, seed),
    )
