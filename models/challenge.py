"""A new model against the champion, on impressions that neither has learnt from.

The new model's side is the one that judged it: learnt from the first part of the log, measured on the tail. The
champion is scored on those rows of the tail that are later than its own training; earlier ones it has seen with their
clicks, and would win unfairly. Where there are too few of them, or the champion reads other columns, the manifest says
so and the gate falls back on intervals that must not touch.
"""

from __future__ import annotations

import numpy as np

from models.calibrator import Float64s
from models.errors import EncodingError, PlanError, RegistryError
from models.evaluation.comparison import entropy_difference
from models.evaluation.evaluate import check_columns, score_frame
from models.evaluation.intervals import user_codes
from models.logs.frame import Frame
from models.registry.manifest import Challenge, Label, Manifest
from models.registry.registry import Registry
from models.training import MIN_CLICKS


def challenge(registry: Registry, champion: str, frame: Frame, held_out_p: Float64s, seed: int) -> Challenge:
    """How a new model compares with the champion, or why it cannot be compared.

    Args:
        champion: version of the champion.
        frame: the impressions that the new model was made from.
        held_out_p: (m,) what the side of it that judged it promised for the last m of them.
        seed: decides the bootstrap.
    """
    try:
        predictor = registry.load(champion)
        check_columns(predictor.manifest.inputs, frame.inputs)
    except (RegistryError, PlanError, EncodingError) as error:
        return Challenge(champion, why_not=str(error))
    if (why_not := _incomparable(predictor.manifest, frame)) is not None:
        return Challenge(champion, why_not=why_not)
    n = len(frame)
    start = max(n - len(held_out_p), _unseen_from(predictor.manifest, frame))
    clicked = frame.clicked[start:]
    clicks = int(np.count_nonzero(clicked))
    if min(clicks, len(clicked) - clicks) < MIN_CLICKS:
        why_not = (
            f"only {len(clicked):,} held-out impressions with {clicks:,} clicks are later than its training; "
            f"{MIN_CLICKS} clicks and as many non-clicks are needed"
        )
        return Challenge(champion, why_not=why_not)
    return Challenge(
        champion,
        entropy_difference(
            clicked,
            held_out_p[start - n :],
            score_frame(predictor, frame, slice(start, n)).p_click,
            user_codes(frame.users_at(slice(start, n))),
            seed,
        ),
    )


def _unseen_from(champion: Manifest, frame: Frame) -> int:
    """The first impression later than the champion's training."""
    assert champion.trained_on is not None  # it was comparable
    return int(np.searchsorted(frame.time_ms, champion.trained_on.last_ms, side="right"))


def _incomparable(champion: Manifest, frame: Frame) -> str | None:
    label = Label(frame.log.project.label.name, frame.log.project.label.window_ms)
    if champion.label != label:
        return "it predicts another label"
    if champion.trained_on is None:
        return "it was imported, and nobody knows which impressions it was trained on"
    if not (frame.log.has_time and champion.trained_on.has_times):
        return "without times nobody can tell which impressions it was trained on"
    return None
