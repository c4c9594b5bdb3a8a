"""A ladder judged: which seed stands for a learner, and when a difference between two is beyond doubt."""

from __future__ import annotations

import numpy as np
import pytest

from models.comparing.figures import Ladder, Trained
from models.comparing.judging import Scored, judge
from models.evaluation import metrics
from models.evaluation.comparison import entropy_difference
from models.evaluation.intervals import user_codes
from models.logs.frame import TrainingFrame, build_frame
from tests.logs import random_columns, shop_log

N = 4_000
PLACES = """
[context]
place = { dtype = "id" }
"""


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> TrainingFrame:
    """Impressions of many users."""
    folder = tmp_path_factory.mktemp("judging")
    return build_frame(shop_log(folder, PLACES, random_columns(3, N, n_users=500)))


def knowing(frame: TrainingFrame, share: float, seed: int) -> np.ndarray:
    """Promises that know this much of what came, with noise of their own."""
    noise = np.random.default_rng(seed).normal(0.0, 0.3, len(frame))
    logit = np.log(2 / 3) + share * (2.0 * frame.clicked - 0.8) + noise
    return 1.0 / (1.0 + np.exp(-logit))


def judged(frame: TrainingFrame, models: dict[str, list[np.ndarray]]) -> Ladder:
    scored = {
        learner: [
            Scored(Trained(learner, seed, f"v{seed}", "f", 1, wall_s=float(seed), cpu_s=1.0), p)
            for seed, p in enumerate(promises, start=1)
        ]
        for learner, promises in models.items()
    }
    return judge(frame, scored, lambda _text, _share: None)


def test_the_median_seed_stands_for_its_learner(frame: TrainingFrame) -> None:
    """Not the luckiest one; and of an even number the worse of the middle two."""
    shares = [0.3, 0.1, 0.2, 0.4]
    promises = [knowing(frame, share, seed=7) for share in shares]

    odd = judged(frame, {"m": promises[:3]}).contenders[0]
    even = judged(frame, {"m": promises}).contenders[0]

    assert (odd.trained.seed, even.trained.seed) == (3, 3)
    assert odd.entropy.value == odd.entropy_by_seed[3] == metrics.normalized_entropy(frame.clicked, promises[2])
    assert odd.wall_s == 2.0


def test_a_difference_is_that_of_two_models_alone(frame: TrainingFrame) -> None:
    """Drawing users once for all models must not change what is drawn for two."""
    new, old = knowing(frame, 0.3, seed=1), knowing(frame, 0.2, seed=2)

    found = judged(frame, {"old": [old], "new": [new]}).difference("new", "old")

    alone = entropy_difference(frame.clicked, new, old, user_codes(frame.users.codes))
    assert found.entropy.value == pytest.approx(alone.value, abs=1e-12)
    assert found.entropy.low == pytest.approx(alone.low, rel=0.15)  # other draws of the same users
    assert found.better
    assert found.verdict == "better"


def test_a_difference_that_one_seed_contradicts_is_not_beyond_doubt(frame: TrainingFrame) -> None:
    """The interval of the median seeds alone would say yes."""
    old = [knowing(frame, 0.2, seed) for seed in (1, 2, 3)]
    new = [knowing(frame, share, seed) for seed, share in ((4, 0.3), (5, 0.31), (6, 0.1))]

    found = judged(frame, {"old": old, "new": new}).difference("new", "old")

    assert found.entropy.high < 0
    assert not found.better
    assert found.verdict == "cannot be told apart"


def test_equal_models_are_not_told_apart(frame: TrainingFrame) -> None:
    """Also with zero in every draw."""
    p = knowing(frame, 0.2, seed=1)

    found = judged(frame, {"a": [p], "b": [p]}).difference("b", "a")

    assert (found.entropy.low, found.entropy.value, found.entropy.high) == (0.0, 0.0, 0.0)
    assert found.verdict == "cannot be told apart"
