"""Too good is a leak until proven otherwise: an alarm on figures that no click model reaches, and where to look first.

A column that knows the outcome (a row written after the click and stamped before it, a status that only clicked
impressions get) passes every other check: the model is proven, calibrated and useless. What gives it away is that
clicks are mostly chance. The alarm rests on the ends of the intervals, so that luck on a short tail does not ring it.

It names the columns that order the held-out impressions best by themselves, because a leak is mostly one column.
Cost: nothing without an alarm; with one, a sort of the held-out impressions per column.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.evaluation import metrics
from models.evaluation.intervals import all_metrics
from models.registry.manifest import Interval, Suspect, Suspicion
from models.trainers.trainer import TrainingSet

AUC_TOO_GOOD = 0.98
"""The best published click models reach 0.815 on Criteo and 0.65 on Taobao (leaderboards of reczoo/BARS)."""

NE_TOO_GOOD = 0.2
"""The best of them keeps 0.77 of the base rate's log loss on Criteo; 0.2 claims that clicks are hardly chance."""

SUSPECTS = 3


def suspicion_of(figures: dict[str, Interval], fit: TrainingSet, held_out: TrainingSet, seed: int) -> Suspicion | None:
    """The alarm, or None where the figures are credible.

    Args:
        figures: of the model on the held-out impressions.
        fit: earlier impressions; they tell the click rate of each hash of an id column.
        held_out: the impressions that judged the model; both kinds of label.
    """
    area, entropy = figures["auc"], figures["normalized_entropy"]
    reasons = []
    if area.low > AUC_TOO_GOOD:
        reasons.append(f"AUC is at least {area.low:.4f}, and above {AUC_TOO_GOOD} no click model is believed")
    if entropy.high < NE_TOO_GOOD:
        reasons.append(f"NE is at most {entropy.high:.4f}, and below {NE_TOO_GOOD} no click model is believed")
    if not reasons:
        return None
    return Suspicion(tuple(reasons), _suspects(fit, held_out, seed))


def _suspects(fit: TrainingSet, held_out: TrainingSet, seed: int) -> tuple[Suspect, ...]:
    """The columns with the largest AUC of their own, in whichever direction they order."""
    scores = {name: _number_score(held_out, i) for i, name in enumerate(held_out.float_names)}
    scores |= {name: _id_score(fit, held_out, i) for i, name in enumerate(held_out.id_names)}
    areas = {name: metrics.auc(held_out.clicked, score) for name, score in scores.items()}
    worst = sorted(areas, key=lambda name: -max(areas[name], 1.0 - areas[name]))[:SUSPECTS]
    return tuple(
        Suspect(name, _own_auc(held_out, scores[name] if areas[name] >= 0.5 else -scores[name], seed)) for name in worst
    )


def _own_auc(held_out: TrainingSet, score: npt.NDArray[np.float64], seed: int) -> Interval:
    """AUC of any score: its ranks, squeezed into (0, 1), order alike."""
    as_probability = metrics.mid_ranks(score) / (len(score) + 1)
    return all_metrics(held_out.clicked, as_probability, held_out.user_codes, seed)["auc"]


def _number_score(rows: TrainingSet, column: int) -> npt.NDArray[np.float64]:
    """The number itself; missing stands below all, because being missing may be what leaks."""
    numbers = rows.encoded.features[:, column].astype(np.float64)
    return np.where(np.isnan(numbers), -np.inf, numbers)


def _id_score(fit: TrainingSet, held_out: TrainingSet, column: int) -> npt.NDArray[np.float64]:
    """The hash's click rate among the earlier impressions; the mean rate where it is new."""
    hashes, codes = np.unique(fit.encoded.ids[:, column], return_inverse=True)
    rates = np.bincount(codes, fit.clicked) / np.bincount(codes)
    asked = held_out.encoded.ids[:, column]
    place = np.minimum(np.searchsorted(hashes, asked), len(hashes) - 1)
    return np.where(hashes[place] == asked, rates[place], fit.clicked.mean())
