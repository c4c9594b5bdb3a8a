"""The contract of `Predictor.score_ads`: n ads; of users n rows or one for all, of contexts likewise; in every plan.

The reference is ONNX Runtime on whole rows, laid out by hand. Models are published by the real parts and look at
numbers and hashes of user, ad and context, and at a pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.ids import hash_ids
from models.encoder import Block, Side
from models.errors import EncodingError
from models.plans import factorised
from models.plans.agreement import agreement
from models.plans.choice import PlanChoice
from models.plans.kernel import compiled_kernels_trouble
from models.plans.parts import AdParts
from models.plans.plan import Scores
from models.registry.predictor import AdColumns, Predictor
from models.registry.registry import Registry
from service.candidates import GivenAds
from tests.artifacts import DEVICES, HASH_SEED, served_by
from tests.learning import EVERY_LEARNER
from tests.nets import NETS, DrawnNetTrainer

DEVICE_HASHES = hash_ids(np.array([*DEVICES, "watch"]), HASH_SEED).reshape(-1, 1)
KERNELS = ("numpy",) if compiled_kernels_trouble() else ("compiled", "numpy")
BAD_SHAPES = [
    (2, 1, 5),
    (1, 2, 5),
    (2, 5, 5),
    (5, 2, 5),
    (2, 3, 5),
    (2, 2, 1),
    (2, 1, 1),
    (1, 2, 1),
    (0, 1, 5),
    (2, 1, 0),
]
"""Rows of user, context and ads."""


@dataclass(frozen=True, slots=True)
class Published:
    """One model in every plan, and the users and ads that it was trained on."""

    plans: dict[str, Predictor]
    users: Block
    ads: Block

    def drawn(self, random: np.random.Generator, n_users: int, n_contexts: int, n_ads: int) -> tuple[Block, ...]:
        """Blocks of users, contexts and ads with numbers and hashes missing here and there."""
        user, ads = (_drawn(random, block, n) for block, n in ((self.users, n_users), (self.ads, n_ads)))
        devices = DEVICE_HASHES[random.integers(0, len(DEVICE_HASHES), n_contexts)]
        return user, Block(np.empty((n_contexts, 0), np.float32), devices), ads

    def whole_rows(self, user: Block, context: Block, ads: Block) -> Scores:
        """What ONNX Runtime answers where each ad has a user and a context of its own."""
        generic, n = self.plans["generic"], len(ads)
        return generic.score(_repeated(user, n), ads, _repeated(context, n))


class KeptAds(GivenAds):
    """Ads as the item table hands them over: their parts in base and delta, and some that it does not hold."""

    def __init__(self, predictor: Predictor, block: Block, random: np.random.Generator) -> None:
        super().__init__(block)
        plan, n = predictor.factorised, len(block)
        assert plan is not None
        order, split = random.permutation(n), int(random.integers(0, n + 1))
        kept = plan.part(Side.AD, Block(block.floats[order], block.ids[order]))
        self._unlisted = np.flatnonzero(random.random(n) < 0.2)
        kept[np.isin(order, self._unlisted)] = 0
        self._parts = AdParts(kept[:split].copy(), kept[split:].copy(), split, np.argsort(order))

    def parts(self) -> AdParts:  # type: ignore[override]
        """See `AdColumns.parts`."""
        return self._parts

    def unlisted_rows(self) -> tuple[npt.NDArray[np.int64], Block] | None:  # type: ignore[override]
        """See `AdColumns.unlisted_rows`."""
        if not len(self._unlisted):
            return None
        block = self.block()
        return self._unlisted, Block(block.floats[self._unlisted], block.ids[self._unlisted])


DRAWN_NETS = [pytest.param(DrawnNetTrainer(kind), id=f"{kind}, drawn") for kind in NETS]


@pytest.fixture(scope="module", params=[*EVERY_LEARNER, *DRAWN_NETS])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """One model of each learner, in ONNX Runtime, in both kernels, and in NumPy without its large table."""
    project = served_by(tmp_path_factory, request.param)
    artifact = Registry(project.registry_dir).get(project.version)
    plans = {"generic": Predictor(artifact, PlanChoice("generic"))}
    for kernel in KERNELS:
        plans[kernel] = Predictor(artifact, PlanChoice(kernel=kernel))  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factorised, "MAX_TABLE_BYTES", 0)
        plans["numpy, test by test"] = Predictor(artifact, PlanChoice(kernel="numpy"))
    assert all(predictor.fallback is None for predictor in plans.values())
    return Published(plans, *(Block(known.floats, known.ids) for known in (project.users, project.ads)))


@settings(max_examples=60)
@given(st.integers(0, 40), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
def test_one_row_stands_for_all_ads_in_every_plan(
    published: Published, n: int, one_user: bool, one_context: bool, seed: int
) -> None:
    """1/1, 1/n, n/1 and n/n rows of users and contexts, with ads as columns and as kept parts: the same answers."""
    random = np.random.default_rng(seed)
    user, context, ads = published.drawn(random, 1 if one_user else n, 1 if one_context else n, n)
    wanted = published.whole_rows(user, context, ads)

    for name, predictor in published.plans.items():
        forms: list[AdColumns] = [GivenAds(ads)]
        if predictor.factorised is not None:
            forms.append(KeptAds(predictor, ads, random))
        for form in forms:
            answered = predictor.score_ads(user, context, form)

            assert answered.raw_logit.shape == answered.p_click.shape == (n,)
            assert agreement(wanted, answered).holds, f"{name}, {type(form).__name__}"


@pytest.mark.parametrize(("n_users", "n_contexts", "n_ads"), BAD_SHAPES)
def test_other_numbers_of_rows_are_refused_by_every_plan(
    published: Published, n_users: int, n_contexts: int, n_ads: int
) -> None:
    """Laid side by side by force, they would give one ad the answer of another."""
    user, context, ads = published.drawn(np.random.default_rng(0), n_users, n_contexts, n_ads)

    for predictor in published.plans.values():
        with pytest.raises(EncodingError, match="cannot be laid"):
            predictor.score_ads(user, context, GivenAds(ads))


@pytest.mark.parametrize(("n_out", "n_rows"), [(1, 3), (3, 1), (2, 3), (0, 1)])
def test_no_kernel_adds_to_parts_of_other_rows(published: Published, n_out: int, n_rows: int) -> None:
    """NumPy would repeat one row for all, or work out the first alone, and say nothing."""
    _, context, _ = published.drawn(np.random.default_rng(0), 1, n_rows, 1)

    for predictor in published.plans.values():
        if (plan := predictor.factorised) is not None:
            with pytest.raises(ValueError, match="partial: "):
                plan.part(Side.CONTEXT, context, onto=plan.empty(n_out))


def _drawn(random: np.random.Generator, known: Block, n: int) -> Block:
    rows = random.integers(0, len(known), n)
    floats, ids = known.floats[rows], known.ids[rows]
    floats[random.random(floats.shape) < 0.1] = np.nan
    ids[random.random(ids.shape) < 0.1] = 0
    return Block(floats, ids)


def _repeated(block: Block, n: int) -> Block:
    """A block of n rows; one row n times over."""
    return block if len(block) == n else Block(np.repeat(block.floats, n, axis=0), np.repeat(block.ids, n, axis=0))
