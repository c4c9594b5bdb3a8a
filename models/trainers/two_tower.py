"""Two towers: a linear model, and the inner product of an ad's vector and one of the user and the context.

Each tower reads its own side's columns through one hidden layer. What they leave of a pair is the shortest thing that a
user and an ad can have between them: r products. So an ad's vector is worked out when the ad changes, and the user's
once a request. The product is plain, not of normalised vectors: its size may say how sure it is, and the biases are
the linear model's, which also reads what belongs to the pair. The path is the number of passes over the rows; see
`models/fitting/net_search.py` for how it learns.

Where nobody said which columns are an ad's, or there are none, its vector is a constant, and the other tower a small
net.

Settings were chosen by the NE of the last fifth of three logs: sim-v1 of 300 000 impressions, seeds 21 and 22 (not
those of any proof), and MovieLens 100K. See `docs/adr/0011` for the figures.

Source: Huang et al. 2013, "Learning Deep Structured Semantic Models for Web Search using Clickthrough Data".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from models.encoder import Side
from models.fitting.dials import Setting, Space
from models.fitting.net_inputs import net_inputs
from models.fitting.net_margins import NetSpec
from models.fitting.net_model import NetModel, NetPath, fit_passes, fit_path
from models.fitting.net_search import Learnt, NetSteps, drawn
from models.plans.numpy_two_tower import tower_vector
from models.random_streams import random_stream
from models.specs import DenseLayer, Float32s, NetInputs, Tower, TwoTowerSpec
from models.trainers.trainer import TrainingSet

HIDDEN = 32
VECTOR = 16
STEPS = NetSteps(vector_step=0.01, first_spread=0.1)
FIRST_BIAS = 0.1
"""Spread of a vector before the first pass where its side says nothing; at zero neither tower could move."""


@dataclass(frozen=True)
class TwoTowerTrainer:
    """Two towers with frozen settings."""

    threads: int = 1
    steps: NetSteps = STEPS
    name: str = "two-tower"

    @property
    def space(self) -> Space:
        """See `NetSteps.space`."""
        return self.steps.space

    def tuned(self, settings: Mapping[str, Setting]) -> TwoTowerTrainer:
        """With these settings."""
        return replace(self, steps=self.steps.tuned(settings))

    def fit_path(self, fit: TrainingSet, held_out: TrainingSet, seed: int) -> NetPath:
        """Passes over `fit` until `held_out` has not improved for a while."""
        return fit_path(self._net(fit, seed), fit, held_out, self.steps, self.threads, seed)

    def fit(self, data: TrainingSet, step: int, growth: float, seed: int) -> NetModel:
        """Passes `step + 1` times over all rows; more rows make longer passes, not more of them."""
        return fit_passes(self._net(data, seed), data, step + 1, self.steps, self.threads, seed)

    def _net(self, data: TrainingSet, seed: int) -> _TwoTowers:
        sides = (Side.USER, Side.CONTEXT), (Side.AD,)
        query, ad = (net_inputs(data.encoded, self.steps.rank, data.layout, some) for some in sides)
        if data.layout is None:
            none = np.empty(0, dtype=np.int64)
            ad = NetInputs(none, none, none, self.steps.rank)
        return _TwoTowers({"query": query, "ad": ad}, seed)


class _TwoTowers:
    """See `NetShape`."""

    def __init__(self, inputs: dict[str, NetInputs], seed: int) -> None:
        self._inputs = inputs
        self.settings: dict[str, float | int | str | bool] = {"hidden": HIDDEN, "towers_meet_in": VECTOR}
        random = random_stream(seed, "two towers")
        self.first: dict[str, Float32s] = {}
        for name, read in inputs.items():
            self.first[f"{name}_hidden"] = drawn(random, read.width, HIDDEN)
            self.first[f"{name}_hidden_bias"] = np.zeros(HIDDEN, np.float32)
            self.first[f"{name}_out"] = drawn(random, HIDDEN, VECTOR)
            self.first[f"{name}_out_bias"] = random.normal(0.0, FIRST_BIAS, VECTOR).astype(np.float32)
        self._columns = {
            name: [torch.from_numpy(c) for c in (read.numbers, read.missing, read.ids)] for name, read in inputs.items()
        }

    def __call__(
        self, own: Mapping[str, torch.Tensor], lines: torch.Tensor, missing: torch.Tensor, vectors: torch.Tensor
    ) -> torch.Tensor:
        """See `Net`."""
        ends = []
        for name, (numbers, absent, ids) in self._columns.items():
            x = torch.cat([lines[:, numbers], missing[:, absent], vectors[:, ids].flatten(1)], 1)  # (n, width)
            hidden = torch.relu(x @ own[f"{name}_hidden"] + own[f"{name}_hidden_bias"])
            ends.append(hidden @ own[f"{name}_out"] + own[f"{name}_out_bias"])  # (n, r)
        return (ends[0] * ends[1]).sum(1)

    def spec(self, learnt: Learnt) -> NetSpec:
        """See `NetShape.spec`."""
        if not any(read.width for read in self._inputs.values()):
            return learnt.linear
        own = learnt.net
        query, ad = (_tower(name, read, own) for name, read in self._inputs.items())
        return TwoTowerSpec(learnt.linear, learnt.vectors_read_by(query.inputs, ad.inputs), query, ad)


def _tower(name: str, read: NetInputs, own: dict[str, Float32s]) -> Tower:
    hidden, out = (DenseLayer(own[f"{name}_{layer}"], own[f"{name}_{layer}_bias"]) for layer in ("hidden", "out"))
    tower = Tower(read, hidden, out)
    if read.width:
        return tower
    return Tower.same(tower_vector(tower, np.empty((1, 0)))[0].astype(np.float32), read.rank)
