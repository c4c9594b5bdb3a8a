"""Policies of a model on a log: each candidate scored as of its round, and probabilities that are ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from feature_store.definition import parse_project
from feature_store.offline.offline_store import OfflineStore
from models.evaluation.evaluate import score_frame
from models.evaluation.policies import EPSILON, candidate_scores, candidates_of, model_policies
from models.evaluation.policy_values import policy_values
from models.logs.frame import TrainingFrame, build_frame
from models.logs.reader import read_log
from models.registry.predictor import Predictor
from models.registry.registry import Registry
from models.training import TrainOptions
from service.training_jobs import train_and_publish
from tests.logs import HOUR_MS, SHOP, parquet

VIEWS = """
propensity = "chance"
[context.place]
dtype = "id"
[views.counts]
entity = "ad"
ttl = "90d"
step = "1h"
[views.counts.features]
rate = { ctr = "all", prior_impressions = 20 }
shown = { impressions = "24h" }
"""
AISLES = {"left": [0, 1, 2], "right": [3, 4, 5, 6]}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Predictor, TrainingFrame]:
    """A log in which each aisle shows its own ads, likelier ones with their propensity, and a model of it."""
    folder = tmp_path_factory.mktemp("policies")
    random = np.random.default_rng(0)
    n = 3_000
    at = np.sort(random.integers(0, 60 * HOUR_MS, size=n)) + 10 * HOUR_MS
    aisle = random.choice(["left", "right"], size=n)
    ad, chance = np.empty(n, dtype=int), np.empty(n)
    for name, ads in AISLES.items():
        rows, p = np.flatnonzero(aisle == name), np.arange(1, len(ads) + 1) / np.arange(1, len(ads) + 1).sum()
        drawn = random.choice(len(ads), size=len(rows), p=p)
        ad[rows], chance[rows] = np.array(ads)[drawn], p[drawn]
    hit = random.random(n) < 0.1 + 0.05 * ad
    columns = {
        "who": [f"u{i}" for i in random.integers(200, size=n)],
        "what": [f"a{i}" for i in ad],
        "at": at,
        "hit": hit,
        "hit_at": pa.array(at + 60_000, mask=~hit),
        "place": random.choice(["top", "side"], size=n),
        "aisle": aisle,
        "chance": np.where(random.random(n) < 0.01, np.nan, chance),
    }
    columns["chance"] = pa.array(columns["chance"], mask=np.isnan(columns["chance"]))
    path = parquet(folder / "log.parquet", columns)
    project = parse_project(SHOP + VIEWS, origin="features.toml", folder=folder)
    frame = build_frame(read_log(f"parquet:{path}", project, workdir=folder / "work"))
    registry = Registry(folder / "registry", "default")
    options = TrainOptions()
    train_and_publish(
        frame,
        learner="logistic",
        registry=registry,
        source="parquet:log",
        options=options,
        seed=0,
        on_progress=lambda what, share: None,
    )
    return registry.load(registry.newest()), frame


def test_candidates_are_the_ads_that_the_log_shows_there(judged: tuple[Predictor, TrainingFrame]) -> None:
    """A part of the log keeps the candidates of the whole."""
    _, frame = judged
    part = frame.part(0.9, 1)

    candidates = candidates_of(part, frame, "aisle")

    aisle = part.log_column("aisle")
    for row in range(len(part)):
        names = {frame.ads.values[code] for code in candidates.ads[candidates.set_of[row]]}
        assert names == {f"a{i}" for i in AISLES[aisle.values[aisle.codes[row]]]}
    assert candidates_of(part, frame, None).sizes.tolist() == [7] * len(part)


def test_the_shown_ad_is_scored_as_its_impression_was(judged: tuple[Predictor, TrainingFrame]) -> None:
    """Candidates and impressions go through the same join, so a shown ad's score is the evaluation's own."""
    predictor, frame = judged
    part = frame.part(0.5, 1)
    rows, ads = np.arange(len(part)), np.arange(len(frame.ads.values))

    with OfflineStore(frame.log.project, frame.log, frame.log.path.parent) as store:
        scores = candidate_scores(predictor, part, store, rows, ads)

    assert scores.shape == (len(part), 7)
    expected = score_frame(predictor, part, slice(0, len(part))).p_click
    np.testing.assert_allclose(scores[rows, part.ads.codes], expected, rtol=1e-12)
    assert np.unique(scores[:100], axis=0).shape[0] > 1  # of its time: rates change with the hours


def test_a_models_policies_are_probabilities_over_its_candidates(judged: tuple[Predictor, TrainingFrame]) -> None:
    """Over all candidates each adds up to 1: seen by pretending that each of them in turn was the shown one."""
    predictor, frame = judged
    part = frame.part(0.8, 1)
    candidates = candidates_of(part, frame, None)
    greedy, softmax = np.zeros(len(part)), np.zeros(len(part))

    for ad in range(7):
        shown = part.ads._replace(codes=np.full(len(part), ad, dtype=np.int32))
        found = model_policies(predictor, replace(part, ads=shown), candidates)
        assert found.epsilon_greedy.min() >= EPSILON / 7 * (1 - 1e-12)
        greedy, softmax = greedy + found.epsilon_greedy, softmax + found.softmax

    np.testing.assert_allclose(greedy, 1.0)
    np.testing.assert_allclose(softmax, 1.0)


def test_estimates_over_the_right_candidates_are_credible(judged: tuple[Predictor, TrainingFrame]) -> None:
    """Over all ads of the log they are not, and say so; rounds without a propensity are counted and left out."""
    predictor, frame = judged

    right = policy_values(predictor, frame, frame, candidates_by="aisle")
    wrong = policy_values(predictor, frame, frame)

    assert right is not None
    assert wrong is not None
    assert (right.fewest_candidates, right.most_candidates) == (3, 4)
    assert right.rounds + right.rounds_without_propensity == 3_000
    assert 0 < right.rounds_without_propensity < 100
    assert [each.policy for each in right.policies] == ["logging", "uniform", "epsilon_greedy", "softmax"]
    assert all(each.credible for each in right.policies)
    assert [each.policy for each in wrong.policies if each.credible] == ["logging"]
    logging, greedy = right.policies[0].estimate, right.policies[2].estimate
    usable = ~np.isnan(frame.propensity)
    assert logging.ips.value == pytest.approx(frame.clicked[usable].mean())
    assert greedy.ips.value > logging.ips.value  # the clicks were drawn to make it so


def test_a_log_without_propensities_judges_no_policy(judged: tuple[Predictor, TrainingFrame]) -> None:
    """Nothing is assumed about how ads were chosen."""
    predictor, frame = judged

    assert policy_values(predictor, replace(frame, propensity=np.full(len(frame), np.nan)), frame) is None
