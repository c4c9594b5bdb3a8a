"""All models of a ladder on the same later impressions: figures with intervals, and paired differences.

Whole users are redrawn once, and every model's loss comes from the same draws, so that any two models can be compared
in pairs (`models/evaluation/comparison.py` says why). Intervals speak of chance in the impressions; the spread over
seeds is told beside them, and a difference that changes its sign from seed to seed is never called beyond doubt.

Cost: one pass of each model, all metrics of one model per learner, 400 draws per user.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt

from models.comparing.figures import Contender, Difference, Ladder, Trained
from models.evaluation import metrics
from models.evaluation.attainable import share_of_attainable_gain
from models.evaluation.cells import percentiles
from models.evaluation.intervals import all_metrics, user_codes
from models.evaluation.redrawn_totals import redrawn_losses
from models.evaluation.units import Units, widest
from models.evaluation.user_auc import n_counting
from models.logs.frame import TrainingFrame
from models.logs.truth import truth_of
from models.random_streams import random_stream
from models.training import Progress

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """One published model, and what it promised for each of the n impressions that judge."""

    trained: Trained
    p_click: Float64s


def judge(frame: TrainingFrame, models: Mapping[str, Sequence[Scored]], on_progress: Progress, seed: int = 0) -> Ladder:
    """Figures of every learner and all paired differences.

    Args:
        frame: n impressions later than all that the models learnt from.
        models: by learner, from simple to complex, one model a seed; every learner has the same seeds.
        seed: decides the bootstrap.
    Raises:
        MetricError: the impressions have only one kind of label.
    """
    clicked, users = frame.clicked, user_codes(frame.users.codes)
    truth = truth_of(frame)
    contenders = []
    for number, (learner, scored) in enumerate(models.items()):
        on_progress("judging", number / len(models))
        entropies = [metrics.normalized_entropy(clicked, each.p_click) for each in scored]
        middle = scored[sorted(range(len(scored)), key=entropies.__getitem__)[len(scored) // 2]]
        contenders.append(
            Contender(
                learner=learner,
                trained=middle.trained,
                metrics=all_metrics(clicked, middle.p_click, users, seed),
                entropy_by_seed={each.trained.seed: ne for each, ne in zip(scored, entropies, strict=True)},
                wall_s=statistics.median(each.trained.wall_s for each in scored),
                cpu_s=statistics.median(each.trained.cpu_s for each in scored),
                gauc_users=n_counting(clicked, users),
                share_of_attainable_gain=None
                if truth is None
                else share_of_attainable_gain(clicked, middle.p_click, truth.attainable_p, users),
            )
        )
    return Ladder(
        impressions=len(frame),
        clicks=int(np.count_nonzero(clicked)),
        contenders=tuple(contenders),
        differences=_differences(clicked, users, models, contenders, seed),
        attainable=None if truth is None else all_metrics(clicked, truth.attainable_p, users)["normalized_entropy"],
    )


def _differences(
    clicked: npt.NDArray[np.bool_],
    users: npt.NDArray[np.int64] | None,
    models: Mapping[str, Sequence[Scored]],
    contenders: Sequence[Contender],
    seed: int,
) -> tuple[Difference, ...]:
    """Of every learner to every other one, from the same draws."""
    units = Units.of(clicked, users)
    losses = []
    for contender in contenders:
        middle = next(s for s in models[contender.learner] if s.trained.seed == contender.trained.seed)
        losses.append(metrics.log_losses(clicked, middle.p_click))
    totals = [redrawn_losses(clicked, losses, codes, random_stream(seed, "ladder")) for codes in units.drawings]
    value, drawings = _entropies(totals[0][0][None, :])[0], [_entropies(redrawn) for _, redrawn in totals]
    most = metrics.LARGEST_LOSS / float(metrics.entropy(float(clicked.mean())))
    n, clicks = len(clicked), int(np.count_nonzero(clicked))
    found = []
    for new, old in permutations(range(len(contenders)), 2):
        difference = float(value[new] - value[old])
        ends = widest((percentiles(drawn[:, new] - drawn[:, old]) for drawn in drawings), (-most, most))
        ours, theirs = contenders[new].entropy_by_seed, contenders[old].entropy_by_seed
        found.append(
            Difference(
                learner=contenders[new].learner,
                other=contenders[old].learner,
                entropy=units.interval(difference, ends, n, clicks),
                seeds_agree=len({np.sign(ours[s] - theirs[s]) for s in ours.keys() & theirs.keys()}) == 1,
            )
        )
    return tuple(found)


def _entropies(totals: Float64s) -> Float64s:
    """(R, k) normalized entropies from (R, 2 + k) totals of impressions, clicks and each model's losses."""
    n, clicks = totals[:, 0], totals[:, 1]
    entropies: Float64s = totals[:, 2:] / (n * metrics.entropy(clicks / n))[:, None]
    return entropies
