"""The only encoder: from rows and context to the model's two input matrices, for training and serving alike.

A model reads `features` float32 (n, d) and `ids` int64 (n, k). Their columns come in blocks, in this order:

    user views | ad views | context | pairs

each block holding its float32 columns for `features` and its hashes for `ids`, in declared order. In serving the user
and context blocks have one row that is broadcast over the candidates; in training they have one row per impression. It
is the same code either way, so a model cannot be trained on one layout and served another.

Missing numbers are NaN, missing hashes 0; infinities are refused before they get here. Pure: no clock, file or network.
Cost while serving: one allocation per matrix, one copy per block, one operator call per pair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from feature_store.ids import MISSING_ID, hash_id
from feature_store.rows import Floats, Ids
from feature_store.schema import ContextFeature, FeatureView, PairFeature, Schema
from models.errors import EncodingError
from models.pairs import HASH_INPUTS, OPERATORS, pair_dtype

_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)

_BlockNames = tuple[tuple[str, ...], ...]
"""Column names of the user, ad and context blocks."""


class ModelInputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a model's columns come from: the part of the schema that it was trained on, kept in its manifest."""

    project: str
    views: tuple[FeatureView, ...]
    context: tuple[ContextFeature, ...]
    pairs: tuple[PairFeature, ...]
    hash_seed: int

    @classmethod
    def of(cls, schema: Schema) -> ModelInputs:
        """All views, context and pairs of a schema; user views before ad views."""
        return cls(
            project=schema.project,
            views=schema.views_of("user") + schema.views_of("ad"),
            context=schema.context,
            pairs=schema.pairs,
            hash_seed=schema.hash_seed,
        )

    @property
    def user_views(self) -> tuple[FeatureView, ...]:
        """Views read per request, by the user's id."""
        return tuple(view for view in self.views if view.entity == "user")

    @property
    def ad_views(self) -> tuple[FeatureView, ...]:
        """Views held in the item table, by the ad's id."""
        return tuple(view for view in self.views if view.entity == "ad")


class Block(msgspec.Struct, frozen=True):
    """Columns of one origin. floats: (m, F) float32; ids: (m, K) uint32; m is 1 or the number of rows."""

    floats: Floats
    ids: Ids

    def __len__(self) -> int:
        return len(self.floats)


class Side(IntEnum):
    """Where columns come from, in the order in which they lie."""

    USER = 0
    AD = 1
    CONTEXT = 2
    PAIR = 3


class Columns(NamedTuple):
    """Where one side's columns begin, and how many there are: numbers among `features`, hashes among `ids`."""

    first_float: int
    n_floats: int
    first_id: int
    n_ids: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of all four sides."""

    sides: tuple[Columns, Columns, Columns, Columns]

    def __getitem__(self, side: Side) -> Columns:
        return self.sides[side]

    @property
    def n_floats(self) -> int:
        """d, the width of `features`."""
        return sum(columns.n_floats for columns in self.sides)

    @property
    def n_ids(self) -> int:
        """k, the width of `ids`."""
        return sum(columns.n_ids for columns in self.sides)

    @property
    def has_pairs(self) -> bool:
        """Whether any feature is of user or context and ad together."""
        return self[Side.PAIR].n_floats + self[Side.PAIR].n_ids > 0


class Encoded(NamedTuple):
    """What a model reads. features: (n, d) float32; ids: (n, k) int64."""

    features: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64]


class EncodedContext(NamedTuple):
    """A request's context as a block of one row, and which of its keys were absent or unknown to the model."""

    block: Block
    missing: bool
    unknown: bool


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a pair: which block (0 user, 1 ad, 2 context) and which of its columns."""

    block: int
    columns: slice


@dataclass(frozen=True, slots=True)
class _Pair:
    feature: PairFeature
    left: _Side
    right: _Side


class Encoder:
    """Lays out a model's columns. Built once per model; thread-safe, because it never changes."""

    def __init__(self, inputs: ModelInputs) -> None:
        """Raises EncodingError where a pair names a column that does not exist or has the wrong dtype."""
        self.inputs = inputs
        self._context_names = frozenset(feature.name for feature in inputs.context)
        self._context_floats = tuple(f for f in inputs.context if f.dtype == "float32")
        self._context_ids = tuple(f for f in inputs.context if f.dtype == "id")
        float_blocks = (
            tuple(name for view in inputs.user_views for name in view.float_columns),
            tuple(name for view in inputs.ad_views for name in view.float_columns),
            tuple(f"context.{f.name}" for f in self._context_floats),
        )
        id_blocks = (
            tuple(name for view in inputs.user_views for name in view.id_columns),
            tuple(name for view in inputs.ad_views for name in view.id_columns),
            tuple(f"context.{f.name}" for f in self._context_ids),
        )
        self._pairs = tuple(_resolve(pair, float_blocks, id_blocks) for pair in inputs.pairs)
        number_pairs = (f"pair.{pair.name}" for pair in inputs.pairs if pair_dtype(pair) == "float32")
        hash_pairs = (f"pair.{pair.name}" for pair in inputs.pairs if pair_dtype(pair) == "id")
        float_sides, id_sides = (*float_blocks, tuple(number_pairs)), (*id_blocks, tuple(hash_pairs))
        self.float_names = tuple(chain.from_iterable(float_sides))
        self.id_names = tuple(chain.from_iterable(id_sides))
        self.layout = _layout(float_sides, id_sides)
        duplicates = {name for names in (self.float_names, self.id_names) for name in names if names.count(name) > 1}
        if duplicates:
            raise EncodingError(f"columns {sorted(duplicates)} are defined twice; give each feature a name of its own")

    def encode_context(self, context: Mapping[str, object]) -> EncodedContext:
        """One request's context; absent or unusable values become the declared default, or missing."""
        floats, ids = [], []
        missing = False
        for feature in self._context_floats:
            number = context_number(context.get(feature.name))
            if number is None:
                missing, number = True, math.nan if feature.default is None else float(feature.default)
            floats.append(number)
        for feature in self._context_ids:
            hashed = hash_id(context.get(feature.name), self.inputs.hash_seed)
            if hashed == MISSING_ID:
                missing, hashed = True, hash_id(feature.default, self.inputs.hash_seed)
            ids.append(hashed)
        block = Block(np.array([floats], dtype=np.float32), np.array([ids], dtype=np.uint32))
        return EncodedContext(block, missing, not context.keys() <= self._context_names)

    def encode(self, user: Block, ads: Block, context: Block) -> Encoded:
        """The model's matrices for n rows, n being the longest block (0 where one has no rows); one row is broadcast.

        Raises:
            EncodingError: the blocks disagree about n.
        """
        n = n_rows(user, ads, context)
        features = np.empty((n, len(self.float_names)), dtype=np.float32)
        ids = np.empty((n, len(self.id_names)), dtype=np.int64)
        return self.encode_into(user, ads, context, Encoded(features, ids))

    def encode_into(self, user: Block, ads: Block, context: Block, matrices: Encoded) -> Encoded:
        """The same into matrices of `n_rows` rows, every value of which is written; answers them."""
        blocks = (user, ads, context)
        features, ids = matrices
        for columns, block in zip(self.layout.sides, (*blocks, self.encode_pairs(*blocks)), strict=True):
            features[:, columns.first_float : columns.first_float + columns.n_floats] = block.floats
            ids[:, columns.first_id : columns.first_id + columns.n_ids] = block.ids
        return matrices

    def encode_pairs(self, user: Block, ads: Block, context: Block) -> Block:
        """Features of user or context and ad together, one row per pair (one where all blocks have one row)."""
        blocks = (user, ads, context)
        n = n_rows(*blocks)
        columns = self.layout[Side.PAIR]
        floats = np.empty((n, columns.n_floats), dtype=np.float32)
        ids = np.empty((n, columns.n_ids), dtype=np.uint32)
        float_at = id_at = 0
        for pair in self._pairs:
            hashed = pair.feature.op in HASH_INPUTS
            left, right = (_columns(blocks[side.block], side.columns, hashed) for side in (pair.left, pair.right))
            result = OPERATORS[pair.feature.op](left, right)[:, 0]
            if pair_dtype(pair.feature) == "id":
                ids[:, id_at] = result
                id_at += 1
            else:
                floats[:, float_at] = result
                float_at += 1
        return Block(floats, ids)


def n_rows(user: Block, ads: Block, context: Block) -> int:
    """Rows of the matrices of these blocks: those of the longest, and 0 where one has none.

    Raises:
        EncodingError: a block has neither one row nor as many.
    """
    sizes = (len(user), len(ads), len(context))
    n = 0 if 0 in sizes else max(sizes)
    if any(size not in (1, n) for size in sizes):
        raise EncodingError(f"blocks of {list(sizes)} rows cannot be laid side by side")
    return n


def context_number(value: object) -> float | None:
    """The number a float32 context feature reads: numbers and booleans; None for anything else, NaN and infinities."""
    if type(value) is float:  # what JSON mostly brings; the rest is the same, slower
        return value if abs(value) <= _LARGEST_FLOAT32 else None
    if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        try:
            number = float(value)
        except OverflowError:
            return None
        # Also false for NaN. Compared before the cast, because a cast that overflows warns at every request.
        return number if abs(number) <= _LARGEST_FLOAT32 else None
    return None


def _layout(float_sides: Sequence[tuple[str, ...]], id_sides: Sequence[tuple[str, ...]]) -> Layout:
    sides, first_float, first_id = [], 0, 0
    for floats, ids in zip(float_sides, id_sides, strict=True):
        sides.append(Columns(first_float, len(floats), first_id, len(ids)))
        first_float, first_id = first_float + len(floats), first_id + len(ids)
    user, ad, context, pair = sides
    return Layout((user, ad, context, pair))


def _columns(block: Block, columns: slice, hashed: bool) -> npt.NDArray[np.float32] | npt.NDArray[np.uint32]:
    return block.ids[:, columns] if hashed else block.floats[:, columns]


def _resolve(pair: PairFeature, float_blocks: _BlockNames, id_blocks: _BlockNames) -> _Pair:
    """Finds both sides of a pair among the columns its operator works on."""
    pair_dtype(pair)
    blocks = id_blocks if pair.op in HASH_INPUTS else float_blocks
    sides = []
    for side in (pair.left, pair.right):
        found = [
            _Side(i, slice(at[0], at[-1] + 1))
            for i, names in enumerate(blocks)
            if (at := [j for j, name in enumerate(names) if name == side or name.startswith(f"{side}[")])
        ]
        if not found:
            kind = "hashes" if pair.op in HASH_INPUTS else "numbers"
            raise EncodingError(
                f"pair {pair.name!r}: {pair.op} works on {kind}, and there is no such column {side!r}; "
                f"known are {sorted(chain.from_iterable(blocks))}"
            )
        sides.append(found[0])
    left, right = sides
    wide = [side.columns.stop - side.columns.start for side in sides]
    if wide[1] != 1 or (wide[0] != 1 and pair.op != "lookup"):
        raise EncodingError(f"pair {pair.name!r}: {pair.op} cannot work on columns of widths {wide[0]} and {wide[1]}")
    return _Pair(pair, left, right)
