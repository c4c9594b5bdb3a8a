"""Learning a net beside a linear model, in torch: passes over mini-batches, and a copy of the weights after each.

The margin is that of a linear model plus that of a net, both learnt together from the base rate. Three kinds of
weights, three kinds of steps: the linear model's and the hashes' vectors by AdaGrad, which gives what is rarely seen
large steps and touches only what a batch holds; the net's own by Adam. Vectors of hashes that were never seen are zero
and say nothing; those of the others start at zero or near it; the net's own weights are drawn. What a pass ends with is
the mean of the weights over its last half, which is calmer than any of them (Polyak and Juditsky 1992).

Repeatable: everything drawn is drawn by NumPy from the seed, torch runs its deterministic kernels, and the number of
threads is the caller's. The only module beside the trainers that knows torch, which serving never loads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from models.encoder import Encoded
from models.fitting.dials import Real, Setting, Space, Whole
from models.fitting.ftrl import DesignedRows, scale_of_heard
from models.fitting.linear_design import LinearDesign
from models.random_streams import random_stream
from models.specs import Float32s, Float64s, LinearSpec, NetInputs
from models.trainers.trainer import TrainingSet

SCORED_ROWS = 8_192
NEWTON_STEPS = 5


@dataclass(frozen=True, slots=True)
class NetSteps:
    """How fast to learn. Steps of AdaGrad for weights and vectors, of Adam for the net; penalties for each row."""

    batch_rows: int = 512
    weight_step: float = 0.05
    vector_step: float = 0.03
    net_step: float = 1e-3
    net_decay: float = 1e-3
    penalty: float = 2e-5
    rank: int = 8
    first_spread: float = 0.0
    """Of the vectors of seen hashes before the first pass. At zero a product of two towers never learns what two
    hashes say together, because each tower's gradient is the other's vector; a net over both can start there."""

    @property
    def space(self) -> Space:
        """What a search may turn; how the linear part learns is left as it is, because its penalty tames it."""
        return {
            "rank": Whole(2, 16, self.rank),
            "net_step": Real(1e-4, 1e-2, self.net_step),
            "net_decay": Real(1e-5, 1e-1, self.net_decay),
            "vector_step": Real(0.003, 0.1, self.vector_step),
            "penalty": Real(1e-6, 1e-3, self.penalty),
        }

    def tuned(self, settings: Mapping[str, Setting]) -> Self:
        """With some of the dials set otherwise."""
        fields: dict[str, Any] = dict(settings)
        return replace(self, **fields)


class NetRows:
    """n rows as torch reads them.

    lines: (n, d) z of each number; missing: (n, d) 1 where it is missing. bins: (n, d) and tables: (n, k) places among
    the bins and in the tables of hashes.
    """

    def __init__(self, design: LinearDesign, encoded: Encoded) -> None:
        rows = DesignedRows.of(design, encoded)
        d = rows.lines.shape[1]
        self.lines = torch.from_numpy(rows.lines.astype(np.float32))
        self.missing = torch.from_numpy(np.isnan(encoded.features).astype(np.float32))
        places = rows.places.astype(np.int64) - d
        self.bins = torch.from_numpy(np.ascontiguousarray(places[:, :d]))
        self.tables = torch.from_numpy(np.ascontiguousarray(places[:, d:] - d * design.n_bins))

    def __len__(self) -> int:
        return len(self.lines)


Net = Callable[[Mapping[str, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Weights by name, lines (n, d), missing (n, d) and vectors of hashes (n, k, e) -> (n,) what the net adds."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """Weights after a pass. vectors: (sum of sizes, e); net: the net's own by name."""

    linear: LinearSpec
    vectors: Float32s
    net: dict[str, Float32s]

    def vectors_read_by(self, *inputs: NetInputs) -> Float32s:
        """The rows up to the end of the last table that a net reads; those of pairs lie behind all others."""
        ids = np.concatenate([read.ids for read in inputs])
        return self.vectors[: (self.linear.id_offsets[ids] + self.linear.id_sizes[ids]).max(initial=0)]


class NetSearch:
    """The weights of one design and one net while they learn."""

    def __init__(
        self,
        design: LinearDesign,
        data: TrainingSet,
        net: Net,
        first: dict[str, Float32s],
        steps: NetSteps,
        seed: int,
    ) -> None:
        """`first`: the net's weights to start from, by name."""
        self._design, self._net, self._steps = design, net, steps
        self._rows = NetRows(design, data.encoded)
        self._clicked = torch.from_numpy(data.clicked.astype(np.float32))
        self._random = random_stream(seed, "order of rows")
        d, size = len(design.mean), int(design.id_sizes.sum())
        scale = torch.from_numpy(scale_of_heard(design)[d:].astype(np.float32))
        self._bin_scale, self._table_scale = scale[: d * design.n_bins], scale[d * design.n_bins :]
        rate = data.clicks / len(data)
        self._flat = {
            "level": torch.tensor([np.log(rate / (1 - rate))], dtype=torch.float32),
            "slope": torch.zeros(d),
            "bins": torch.zeros(d * design.n_bins),
        }
        self._flat_squares = {name: torch.ones_like(weights) for name, weights in self._flat.items()}
        self._table = torch.zeros(size, 1 + steps.rank)  # weight, then vector
        seen = np.unique(self._rows.tables.numpy())
        spread = self._random.normal(0.0, steps.first_spread, (len(seen), steps.rank)).astype(np.float32)
        self._table[torch.from_numpy(seen), 1:] = torch.from_numpy(spread)
        self._table_squares = torch.ones(size, 1 + steps.rank)
        self._table_step = torch.tensor([steps.weight_step, *[steps.vector_step] * steps.rank])
        self._mark = np.zeros(size, dtype=np.int64)
        self._own = {name: torch.from_numpy(weights.copy()) for name, weights in first.items()}
        for weights in (*self._flat.values(), *self._own.values()):
            weights.requires_grad_(True)
        self._adam = torch.optim.AdamW(list(self._own.values()), lr=steps.net_step, weight_decay=steps.net_decay)

    def run_pass(self) -> Learnt:
        """Every row once, in a new order."""
        order = self._random.permutation(len(self._rows))
        starts = range(0, len(order), self._steps.batch_rows)
        mean = _Mean()
        for number, start in enumerate(starts):
            self._learn(np.sort(order[start : start + self._steps.batch_rows]))
            if number >= len(starts) // 2:
                mean.add({**self._flat, **self._own})
        return self._levelled(mean.of(self._flat), mean.of(self._own))

    def _learn(self, batch: npt.NDArray[np.int64]) -> None:
        at = torch.from_numpy(batch)
        tables = self._rows.tables[at]
        touched, inverse = self._distinct(tables)
        rows = self._table[touched].requires_grad_(True)
        margins = self._margins(
            self._flat, self._own, rows, self._table_scale[touched], at, inverse.reshape(tables.shape)
        )
        loss = torch.nn.functional.binary_cross_entropy_with_logits(margins, self._clicked[at], reduction="sum")
        self._adam.zero_grad()
        for weights in self._flat.values():
            weights.grad = None
        loss.backward()
        with torch.no_grad():
            for name, weights in self._flat.items():
                if weights.grad is not None:
                    penalty = 0.0 if name == "level" else self._steps.penalty
                    self._flat_squares[name] += (gradient := weights.grad + penalty * weights) ** 2
                    weights -= self._steps.weight_step * gradient / self._flat_squares[name].sqrt()
            if rows.grad is not None and len(touched):
                gradient = rows.grad + self._steps.penalty * rows
                squares = self._table_squares[touched] + gradient**2
                self._table_squares[touched] = squares
                self._table[touched] = rows - self._table_step * gradient / squares.sqrt()
        self._adam.step()

    def _margins(
        self,
        flat: Mapping[str, torch.Tensor],
        own: Mapping[str, torch.Tensor],
        table: torch.Tensor,
        table_scale: torch.Tensor,
        at: torch.Tensor | slice,
        tables: torch.Tensor,
    ) -> torch.Tensor:
        """(n,) margins of some rows; `tables` (n, k) are the places of their hashes in `table`."""
        found = torch.nn.functional.embedding(tables, table)  # (n, k, 1 + e)
        lines = self._rows.lines[at]
        bins = torch.nn.functional.embedding(self._rows.bins[at], (self._bin_scale * flat["bins"])[:, None])
        weights = (found[:, :, 0] * table_scale[tables]).sum(1) + bins[:, :, 0].sum(1) + lines @ flat["slope"]
        return flat["level"] + weights + self._net(own, lines, self._rows.missing[at], found[:, :, 1:])

    def _levelled(self, flat: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> Learnt:
        """Weights whose promised clicks add up to those of the rows: the last batches decide the level too much."""
        with torch.no_grad():
            parts = [slice(start, start + SCORED_ROWS) for start in range(0, len(self._rows), SCORED_ROWS)]
            margins = torch.cat(
                [
                    self._margins(flat, own, self._table, self._table_scale, part, self._rows.tables[part])
                    for part in parts
                ]
            ).double()
            shift, clicks = torch.zeros(1, dtype=torch.float64), self._clicked.double().sum()
            for _ in range(NEWTON_STEPS):
                p_click = torch.sigmoid(margins + shift)
                shift += (clicks - p_click.sum()) / (p_click * (1 - p_click)).sum()
        weights = [flat["slope"], flat["bins"], self._table[:, 0] * (self._table_scale > 0)]
        linear: Float64s = torch.cat(weights).detach().numpy().astype(np.float64)
        return Learnt(
            self._design.spec(linear, float(flat["level"]) + float(shift)),
            self._table[:, 1:].numpy().copy(),
            {name: weights.detach().numpy().copy() for name, weights in own.items()},
        )

    def _distinct(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The places that occur, and where among them each of the flattened places is; linear, not sorted."""
        flat = places.numpy().ravel()
        order = np.arange(len(flat))
        self._mark[flat] = order  # of equal places the last one stays
        touched = flat[self._mark[flat] == order]
        self._mark[touched] = order[: len(touched)]
        return torch.from_numpy(touched), torch.from_numpy(self._mark[flat])


class _Mean:
    """The mean of weights over time."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._n = 0

    def add(self, weights: Mapping[str, torch.Tensor]) -> None:
        self._n += 1
        for name, values in weights.items():
            if name in self._sums:
                self._sums[name] += values.detach()
            else:
                self._sums[name] = values.detach().clone()

    def of(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: self._sums[name] / self._n for name in weights}


def drawn(random: np.random.Generator, n_in: int, n_out: int) -> Float32s:
    """(n_in, n_out) weights under which sums keep their spread."""
    return random.normal(0.0, max(1, n_in) ** -0.5, (n_in, n_out)).astype(np.float32)


@contextmanager
def repeatable_torch(threads: int) -> Iterator[None]:
    """Deterministic kernels and so many threads, until it ends."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
