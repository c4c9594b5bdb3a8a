"""Nets with drawn weights: what exports, plans and services must do with a net, shown without torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from models.encoder import Encoded, Layout, Side
from models.fitting.net_inputs import net_inputs
from models.fitting.net_margins import net_margins
from models.specs import (
    CrossLayer,
    DeepCrossSpec,
    DenseLayer,
    Float32s,
    Float64s,
    LinearSpec,
    NetInputs,
    Tower,
    TwoTowerSpec,
)
from models.trainers.logistic import LogisticTrainer
from models.trainers.trainer import TrainingSet
from tests.ensembles import AWKWARD, RandomModel, after_the_margin, awkward_rows, layouts, linear_spec

NETS = ("two-tower", "dcn")


@st.composite
def net_models(draw: st.DrawFn, kind: str) -> RandomModel:
    """A linear model of any layout with a net beside it that reads some of the columns that it may."""
    layout = draw(layouts())
    pool = draw(st.lists(st.sampled_from(AWKWARD[:-2]) | st.floats(-2, 2), min_size=1, max_size=6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    linear = linear_spec(random, layout, np.array([*pool, math.inf]), 2, limit=5.0)
    spec = drawn_net(kind, random, linear, [_some(random, layout, sides) for sides in _sides(kind)])
    rows = awkward_rows(random, layout, np.array(pool), [])
    return RandomModel(spec, layout, *after_the_margin(draw, random, layout, rows), rows)


def drawn_net(
    kind: str, random: np.random.Generator, linear: LinearSpec, read: list[NetInputs], spread: float = 0.3
) -> DeepCrossSpec | TwoTowerSpec | LinearSpec:
    """A net that reads these columns: one of all, or two of the query and the ad; none where nothing is read."""

    def weights(*shape: int) -> Float32s:
        return random.normal(0.0, spread, shape).astype(np.float32)

    def dense(n_in: int, n_out: int) -> DenseLayer:
        return DenseLayer(weights(n_in, n_out), weights(n_out))

    def tower(inputs: NetInputs, h: int, r: int) -> Tower:
        if not inputs.width:
            return Tower.same(weights(r), inputs.rank)
        return Tower(inputs, dense(inputs.width, h), dense(h, r))

    if not any(inputs.width for inputs in read):
        return linear
    h, r = (int(random.integers(1, 5)) for _ in range(2))
    vectors = weights(int(linear.id_sizes.sum()), read[0].rank)
    if kind == "two-tower":
        query, ad = (tower(inputs, h, r) for inputs in read)
        return TwoTowerSpec(linear, vectors, query, ad)
    width = read[0].width
    crosses = tuple(CrossLayer(weights(width, r), weights(r, width), weights(width)) for _ in range(2))
    return DeepCrossSpec(linear, read[0], vectors, crosses, (dense(width, h), dense(h, r)), weights(width + r))


@dataclass(frozen=True)
class DrawnNetTrainer:
    """Learns the linear model and draws the net beside it: everything behind a trainer works as with a learnt one."""

    kind: str

    @property
    def name(self) -> str:
        return self.kind

    def fit_path(self, fit: TrainingSet, held_out: TrainingSet, seed: int) -> DrawnNetPath:
        model = self.fit(fit, 0, 1.0, seed)
        return DrawnNetPath(model, np.array([0.1]))

    def fit(self, data: TrainingSet, step: int, growth: float, seed: int) -> DrawnNetModel:
        linear = LogisticTrainer().fit(data, 3, growth, seed).spec
        read = [net_inputs(data.encoded, 3, data.layout, sides) for sides in _sides(self.kind)]
        net = drawn_net(self.kind, np.random.default_rng(seed), linear, read, spread=0.15)
        return DrawnNetModel(net, {}, {})


@dataclass(frozen=True)
class DrawnNetModel:
    spec: DeepCrossSpec | TwoTowerSpec | LinearSpec
    parameters: dict[str, float | int | str | bool]
    importance: dict[str, float]

    def raw_logit(self, encoded: Encoded) -> Float64s:
        return net_margins(self.spec, encoded)


@dataclass(frozen=True)
class DrawnNetPath:
    model: DrawnNetModel
    held_out_loss: Float64s

    def raw_logit(self, step: int, encoded: Encoded) -> Float64s:
        return self.model.raw_logit(encoded)


def _sides(kind: str) -> tuple[tuple[Side, ...], ...]:
    return ((Side.USER, Side.CONTEXT), (Side.AD,)) if kind == "two-tower" else (tuple(Side),)


def _some(random: np.random.Generator, layout: Layout, sides: Iterable[Side]) -> NetInputs:
    """About two of three columns of these sides."""
    sides = tuple(sides)

    def drawn(first: str, n: str) -> np.ndarray:
        spans = (range(getattr(layout[s], first), getattr(layout[s], first) + getattr(layout[s], n)) for s in sides)
        columns = np.array([column for span in spans for column in span], dtype=np.int64)
        return columns[random.random(len(columns)) < 0.67]

    numbers, missing = drawn("first_float", "n_floats"), drawn("first_float", "n_floats")
    return NetInputs(numbers, missing, drawn("first_id", "n_ids"), 2)
