"""Nets behind the contract of a trainer: the path of their passes, and the finished model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch

from models.encoder import Encoded
from models.evaluation.metrics import log_loss_of_logit
from models.fitting.dials import defaults
from models.fitting.linear_design import LinearDesign
from models.fitting.net_margins import NetSpec, net_margins
from models.fitting.net_search import Learnt, NetSearch, NetSteps, repeatable_torch
from models.random_streams import random_stream
from models.specs import Float32s, Float64s
from models.trainers.trainer import TrainingSet

MAX_PASSES = 8
"""Logs of a hundred thousand rows and more are best after two to five; each costs as much as the first."""
PATIENCE = 2
"""Passes without progress on the held-out rows after which the path ends."""
IMPORTANCE_ROWS = 10_000


class NetShape(Protocol):
    """One kind of net, made for the columns of one training set."""

    first: dict[str, Float32s]
    """Weights to start from, by name."""
    settings: dict[str, float | int | str | bool]
    """For the manifest."""

    def __call__(
        self, own: Mapping[str, torch.Tensor], lines: torch.Tensor, missing: torch.Tensor, vectors: torch.Tensor
    ) -> torch.Tensor:
        """See `Net`."""

    def spec(self, learnt: Learnt) -> NetSpec:
        """The model that these weights make."""


def fit_path(
    net: NetShape, fit: TrainingSet, held_out: TrainingSet, steps: NetSteps, threads: int, seed: int
) -> NetPath:
    """Passes over `fit` until `held_out` has not improved for a while."""
    specs: list[NetSpec] = []
    losses: list[float] = []
    with repeatable_torch(threads):
        search = NetSearch(LinearDesign.of(fit.encoded), fit, net, net.first, steps, seed)
        while len(losses) < MAX_PASSES and len(losses) - PATIENCE <= int(np.argmin(losses or [0.0])):
            specs.append(net.spec(search.run_pass()))
            losses.append(log_loss_of_logit(held_out.clicked, net_margins(specs[-1], held_out.encoded)))
    return NetPath(specs, np.array(losses))


def fit_passes(net: NetShape, data: TrainingSet, passes: int, steps: NetSteps, threads: int, seed: int) -> NetModel:
    """So many passes over all rows."""
    with repeatable_torch(threads):
        search = NetSearch(LinearDesign.of(data.encoded), data, net, net.first, steps, seed)
        learnt = [search.run_pass() for _ in range(passes)][-1]
    parameters = net.settings | defaults(steps.space)
    parameters |= {"passes": passes, "library": f"torch {torch.__version__}"}
    return NetModel(net.spec(learnt), data, parameters, seed)


class NetPath:
    """Weights after each pass and their held-out loss."""

    def __init__(self, specs: list[NetSpec], held_out_loss: Float64s) -> None:
        self._specs = specs
        self.held_out_loss = held_out_loss

    def raw_logit(self, step: int, encoded: Encoded) -> Float64s:
        """(n,) margins after that pass."""
        return net_margins(self._specs[step], encoded)


class NetModel:
    """A finished net; torch is left behind."""

    def __init__(
        self, spec: NetSpec, data: TrainingSet, parameters: dict[str, float | int | str | bool], seed: int
    ) -> None:
        self.spec: NetSpec = spec
        self.parameters = parameters
        self.importance = _importance(spec, data, seed)

    def raw_logit(self, encoded: Encoded) -> Float64s:
        """(n,) margins, summed in float64."""
        return net_margins(self.spec, encoded)


def _importance(spec: NetSpec, data: TrainingSet, seed: int) -> dict[str, float]:
    """Share of each column in what margins move by, on average, where the column is another row's."""
    random = random_stream(seed, "importance")
    chosen = np.sort(random.permutation(len(data))[:IMPORTANCE_ROWS])
    rows = data.take(chosen).encoded
    margins, others = net_margins(spec, rows), random.permutation(len(chosen))
    moved = []
    for matrix in rows:
        for column in range(matrix.shape[1]):
            own = matrix[:, column].copy()
            matrix[:, column] = own[others]
            moved.append(float(np.square(net_margins(spec, rows) - margins).mean()))
            matrix[:, column] = own
    total = sum(moved) or 1.0
    rounding = np.finfo(np.float64).eps * total
    return {name: m / total for name, m in zip(data.float_names + data.id_names, moved, strict=True) if m > rounding}
