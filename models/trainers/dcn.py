"""Deep cross network: a linear model, and beside it a net that multiplies columns with each other (DCN-V2).

Cross layers make products of any columns, one degree more a layer, through a narrow middle; hidden layers beside them
bend what products cannot. The path is the number of passes over the rows; stopping early is what keeps the vectors of
rare hashes small. See `models/fitting/net_search.py` for how it learns.

Settings were chosen as those of `two_tower.py`; see `docs/adr/0011` for the figures.

Source: Wang et al. 2021, "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank
Systems".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from models.fitting.dials import Setting, Space
from models.fitting.net_inputs import net_inputs
from models.fitting.net_margins import NetSpec
from models.fitting.net_model import NetModel, NetPath, fit_passes, fit_path
from models.fitting.net_search import Learnt, NetSteps, drawn
from models.random_streams import random_stream
from models.specs import CrossLayer, DeepCrossSpec, DenseLayer, Float32s, NetInputs
from models.trainers.trainer import TrainingSet

CROSSES = 2
CROSS_RANK = 16
HIDDEN = (64, 32)
STEPS = NetSteps()


@dataclass(frozen=True)
class DeepCrossTrainer:
    """A deep cross network with frozen settings."""

    threads: int = 1
    steps: NetSteps = STEPS
    name: str = "dcn"

    @property
    def space(self) -> Space:
        """See `NetSteps.space`."""
        return self.steps.space

    def tuned(self, settings: Mapping[str, Setting]) -> DeepCrossTrainer:
        """With these settings."""
        return replace(self, steps=self.steps.tuned(settings))

    def fit_path(self, fit: TrainingSet, held_out: TrainingSet, seed: int) -> NetPath:
        """Passes over `fit` until `held_out` has not improved for a while."""
        return fit_path(self._net(fit, seed), fit, held_out, self.steps, self.threads, seed)

    def fit(self, data: TrainingSet, step: int, growth: float, seed: int) -> NetModel:
        """Passes `step + 1` times over all rows; more rows make longer passes, not more of them."""
        return fit_passes(self._net(data, seed), data, step + 1, self.steps, self.threads, seed)

    def _net(self, data: TrainingSet, seed: int) -> _DeepCross:
        return _DeepCross(net_inputs(data.encoded, self.steps.rank), seed)


class _DeepCross:
    """See `NetShape`."""

    def __init__(self, inputs: NetInputs, seed: int) -> None:
        self.inputs = inputs
        self.settings: dict[str, float | int | str | bool] = {
            "crosses": CROSSES,
            "cross_rank": CROSS_RANK,
            "hidden": ",".join(map(str, HIDDEN)),
        }
        random = random_stream(seed, "deep cross net")
        width = inputs.width
        self.first: dict[str, Float32s] = {}
        for i in range(CROSSES):
            self.first[f"narrow_{i}"] = drawn(random, width, CROSS_RANK)
            self.first[f"wide_{i}"] = drawn(random, CROSS_RANK, width)
            self.first[f"cross_bias_{i}"] = np.zeros(width, np.float32)
        before = width
        for i, after in enumerate(HIDDEN):
            self.first[f"hidden_{i}"] = drawn(random, before, after)
            self.first[f"hidden_bias_{i}"] = np.zeros(after, np.float32)
            before = after
        self.first["out"] = drawn(random, width + before, 1)[:, 0] * np.float32(0.1)
        self._columns = [torch.from_numpy(c) for c in (inputs.numbers, inputs.missing, inputs.ids)]

    def __call__(
        self, own: Mapping[str, torch.Tensor], lines: torch.Tensor, missing: torch.Tensor, vectors: torch.Tensor
    ) -> torch.Tensor:
        """See `Net`."""
        numbers, absent, ids = self._columns
        x0 = torch.cat([lines[:, numbers], missing[:, absent], vectors[:, ids].flatten(1)], 1)  # (n, width)
        x, h = x0, x0
        for i in range(CROSSES):
            x = x0 * (x @ own[f"narrow_{i}"] @ own[f"wide_{i}"] + own[f"cross_bias_{i}"]) + x
        for i in range(len(HIDDEN)):
            h = torch.relu(h @ own[f"hidden_{i}"] + own[f"hidden_bias_{i}"])
        return torch.cat([x, h], 1) @ own["out"]

    def spec(self, learnt: Learnt) -> NetSpec:
        """See `NetShape.spec`."""
        if not self.inputs.width:
            return learnt.linear
        own = learnt.net
        return DeepCrossSpec(
            learnt.linear,
            self.inputs,
            learnt.vectors_read_by(self.inputs),
            tuple(CrossLayer(own[f"narrow_{i}"], own[f"wide_{i}"], own[f"cross_bias_{i}"]) for i in range(CROSSES)),
            tuple(DenseLayer(own[f"hidden_{i}"], own[f"hidden_bias_{i}"]) for i in range(len(HIDDEN))),
            own["out"],
        )
