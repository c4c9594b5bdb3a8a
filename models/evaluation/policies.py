"""Policies that can be judged on a log, as the probability with which each would have shown the logged ad.

A model ranks candidates, so what it would have shown depends on what there was to choose from. The log does not say:
the candidates of a round are taken to be all ads that the log ever shows where the round's value of one column
(`--candidates-by`, a campaign, a slot) is the same. `OffPolicy.credible` tells where that is not so.

    uniform         each candidate alike
    epsilon_greedy  the model's best candidate, and with probability 0.1 any of them alike
    softmax         in proportion to the odds p / (1 - p) that the model gives each candidate

Candidates are scored as serving would have at that moment: the round's own user and context, and each ad's features as
of then. Every impression is a round of its own, also where several ads were shown beside each other.
Cost: one scored pair per round and candidate; beyond four million pairs only `uniform` is judged.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from feature_store.offline.offline_store import OfflineStore
from models.encoder import Block
from models.evaluation.metrics import CLIP, Float64s
from models.logs.frame import TrainingFrame
from models.registry.predictor import Predictor

EPSILON = 0.1
MOST_PAIRS = 4_000_000
PAIRS_AT_A_TIME = 262_144

Codes = npt.NDArray[np.int64]


class Candidates(NamedTuple):
    """What each of n rounds could have shown."""

    ads: tuple[Codes, ...]
    """By set: codes of its ads among the frame's, rising."""
    set_of: Codes
    """(n,) which set each round chooses from."""

    @property
    def sizes(self) -> Codes:
        """(n,) candidates of each round."""
        return np.array([len(ads) for ads in self.ads])[self.set_of]


def candidates_of(frame: TrainingFrame, whole: TrainingFrame, by: str | None) -> Candidates:
    """The candidates of a frame's rounds: ads that `whole`, the log it is a part of, shows with the same value of `by`.

    Raises:
        SchemaError: the log has no column `by`.
    """
    n_all = len(whole)
    of_all = np.zeros(n_all, dtype=np.int64) if by is None else whole.log_column(by).codes.astype(np.int64)
    values, set_of_all = np.unique(of_all, return_inverse=True)
    ads = tuple(np.unique(whole.ads.codes[set_of_all == i]).astype(np.int64) for i in range(len(values)))
    start = frame.first_row - whole.first_row
    return Candidates(tuple(each[each >= 0] for each in ads), set_of_all[start : start + len(frame)])


class ModelPolicies(NamedTuple):
    """(n,) probabilities with which policies of a model would have shown what the log shows."""

    epsilon_greedy: Float64s
    softmax: Float64s


def model_policies(predictor: Predictor, frame: TrainingFrame, candidates: Candidates) -> ModelPolicies:
    """Both policies of a model. Where a round's ad is unknown its probability means nothing."""
    greedy, softmax = np.empty(len(frame)), np.empty(len(frame))
    with OfflineStore(frame.log.project, frame.log, frame.log.path.parent) as store:
        for rows, ads in _chunks(candidates):
            if not len(ads):
                greedy[rows] = softmax[rows] = np.nan
                continue
            p_click = candidate_scores(predictor, frame, store, rows, ads)  # (rounds, candidates)
            shown = np.searchsorted(ads, np.maximum(frame.ads.codes[rows], ads[0]))
            best = p_click == p_click.max(axis=1, keepdims=True)  # ties share the first place
            first_place = best / best.sum(axis=1, keepdims=True)
            of_shown = (np.arange(len(rows)), shown)
            greedy[rows] = (1.0 - EPSILON) * first_place[of_shown] + EPSILON / len(ads)
            p = np.clip(p_click, CLIP, 1.0 - CLIP)
            odds = p / (1.0 - p)
            softmax[rows] = odds[of_shown] / odds.sum(axis=1)
    return ModelPolicies(greedy, softmax)


def _chunks(candidates: Candidates) -> list[tuple[Codes, Codes]]:
    """Rounds that choose from the same ads, not too many at a time."""
    found = []
    for i, ads in enumerate(candidates.ads):
        rounds = np.flatnonzero(candidates.set_of == i)
        step = max(1, PAIRS_AT_A_TIME // max(1, len(ads)))
        found += [(rounds[start : start + step], ads) for start in range(0, len(rounds), step)]
    return found


def candidate_scores(
    predictor: Predictor, frame: TrainingFrame, store: OfflineStore, rows: Codes, ads: Codes
) -> Float64s:
    """(m, K) p_click of K ads in each of m rounds, with each ad's features as of the round."""
    m, k = len(rows), len(ads)
    asked = [frame.ads.values[ad] if ad >= 0 else None for ad in ads.tolist()] * m
    when = np.repeat(frame.time_ms[rows], k)
    found = [store.at(view, asked, when) for view in frame.inputs.ad_views]
    floats = [np.empty((m * k, 0), dtype=np.float32), *(each.floats for each in found)]
    ids = [np.empty((m * k, 0), dtype=np.uint32), *(each.ids for each in found)]
    pairs = np.repeat(rows, k)
    user, context = (Block(block.floats[pairs], block.ids[pairs]) for block in (frame.user, frame.context))
    encoded = predictor.encoder.encode(
        user, Block(np.concatenate(floats, axis=1), np.concatenate(ids, axis=1)), context
    )
    return predictor.plan.score(*encoded).p_click.reshape(m, k)
