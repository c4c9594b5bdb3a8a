"""Nets learnt with torch: what they find that a sum cannot, and what they do not guess."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibrator import sigmoid
from models.encoder import Columns, Encoded, Layout
from models.errors import TrainingError
from models.evaluation.metrics import auc
from models.fitting.net_inputs import net_inputs
from models.specs import DeepCrossSpec, TwoTowerSpec
from models.trainers import trainer_named
from models.trainers.trainer import TrainingSet
from tests.learning import NEEDS_TORCH, made_impressions, take_torch_away
from tests.nets import NETS

N_KINDS = 8
NOTHING = Columns(0, 0, 1, 0)
LAYOUT = Layout((Columns(0, 0, 0, 1), Columns(0, 0, 1, 1), Columns(0, 0, 2, 0), Columns(0, 0, 2, 0)))
"""One hash of the user, his segment; one of the ad, its category."""


def planted(n: int, seed: int) -> TrainingSet:
    """Impressions whose click depends on segment and category together, and on neither alone."""
    random = np.random.default_rng(seed)
    segment, category = random.integers(0, N_KINDS, size=(2, n))
    likes = (segment + category) % N_KINDS < N_KINDS // 2
    clicked = random.random(n) < sigmoid(np.where(likes, 1.5, -1.5))
    hashes = np.random.default_rng(1).integers(1, 1 << 32, size=(2, N_KINDS))
    ids = np.column_stack([hashes[0, segment], hashes[1, category]])
    names = ("user_profile.segment", "ad_profile.category")
    return TrainingSet(
        Encoded(np.empty((n, 0), np.float32), ids), clicked, np.arange(n, dtype=np.int64), (), names, layout=LAYOUT
    )


@NEEDS_TORCH
@pytest.mark.parametrize("learner", NETS)
def test_a_net_learns_which_segment_likes_which_category(learner: str) -> None:
    """A sum of two columns cannot say it at any weights."""
    log, later = planted(12_000, seed=2), planted(5_000, seed=3)

    net, line = (trainer_named(name).fit(log, step, 1.0, seed=0) for name, step in ((learner, 5), ("logistic", 3)))

    areas = [auc(later.clicked, model.raw_logit(later.encoded)) for model in (net, line)]
    assert areas[0] > 0.78, "what is planted can be known to 0.82"
    assert areas[1] < 0.56


@NEEDS_TORCH
def test_towers_read_their_own_sides() -> None:
    """An ad's vector that read the user would have to be worked out for every request."""
    spec = trainer_named("two-tower").fit(planted(2_000, seed=2), 0, 1.0, seed=0).spec

    assert isinstance(spec, TwoTowerSpec)
    assert (spec.query.inputs.ids.tolist(), spec.ad.inputs.ids.tolist()) == ([0], [1])


@NEEDS_TORCH
@pytest.mark.parametrize("learner", NETS)
def test_a_hash_that_training_never_saw_says_nothing(learner: str) -> None:
    """Its vector is zero, so all unseen hashes are alike, whatever the rest of the row."""
    log = made_impressions(3_000, seed=1)
    model = trainer_named(learner).fit(log, 2, 1.0, seed=0)
    assert isinstance(model.spec, (DeepCrossSpec, TwoTowerSpec))
    linear = model.spec.linear
    seen = np.unique(linear.id_offsets + log.encoded.ids % linear.id_sizes)

    unseen = np.setdiff1d(np.arange(len(model.spec.id_vectors)), seen)

    assert len(unseen) > 0
    assert not model.spec.id_vectors[unseen].any()
    assert model.spec.id_vectors[seen].any(axis=1).all()


@NEEDS_TORCH
@pytest.mark.parametrize("learner", NETS)
def test_what_never_varied_in_training_moves_no_score(learner: str) -> None:
    """Its weights would be as they were drawn: a number that was never missing, a hash that was always the same."""
    log = made_impressions(3_000, seed=1)
    log.encoded.ids[:, 0], log.encoded.features[:, 1] = 77, 5.0
    model = trainer_named(learner).fit(log, 2, 1.0, seed=0)
    row = log.take(slice(0, 1)).encoded
    other_hash, missing = (Encoded(row.features.copy(), row.ids.copy()) for _ in range(2))
    other_hash.ids[:, 0], missing.features[:, 1] = 78, np.nan

    margins = [model.raw_logit(rows)[0] for rows in (row, other_hash, missing)]

    assert margins[1:] == pytest.approx([margins[0]] * 2, abs=1e-6)


@NEEDS_TORCH
def test_torch_is_left_as_it_was() -> None:
    """Threads and kernels are settings of the whole process, which a host may have set for itself."""
    import torch

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()

    trainer_named("dcn").fit(made_impressions(500), 0, 1.0, seed=0)

    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


@NEEDS_TORCH
@pytest.mark.parametrize("learner", NETS)
def test_another_seed_makes_another_net(learner: str) -> None:
    """Else the spread between seeds, which `compare` prints, would be that of nothing."""
    log = made_impressions(1_000)

    one, other = (trainer_named(learner).fit(log, 0, 1.0, seed=seed).raw_logit(log.encoded) for seed in (0, 1))

    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("learner", NETS)
def test_without_torch_a_net_cannot_be_learnt_and_the_command_that_mends_it_is_said(
    learner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else needs it, so no lock installs it."""
    take_torch_away(monkeypatch)

    with pytest.raises(TrainingError, match=rf"{learner} needs torch to train .*pip install -r requirements/deep"):
        trainer_named(learner)


def test_a_net_reads_what_varies() -> None:
    """Numbers that differ, absences of numbers that are known elsewhere, hashes that differ; of some sides only."""
    nan = np.nan
    features = np.array([[1, 1, nan, 3, nan], [2, 1, nan, nan, nan], [2, 1, 4, 3, nan]], np.float32)
    ids = np.array([[5, 7], [5, 8], [5, 7]])
    layout = Layout((Columns(0, 3, 0, 1), Columns(3, 2, 1, 1), Columns(5, 0, 2, 0), Columns(5, 0, 2, 0)))

    whole, ad = net_inputs(Encoded(features, ids), 4), net_inputs(Encoded(features, ids), 4, layout, [1])  # type: ignore[list-item]

    assert [whole.numbers.tolist(), whole.missing.tolist(), whole.ids.tolist()] == [[0], [2, 3], [1]]
    assert [ad.numbers.tolist(), ad.missing.tolist(), ad.ids.tolist()] == [[], [3], [1]]
    assert (whole.width, ad.width) == (1 + 2 + 4, 1 + 4)
