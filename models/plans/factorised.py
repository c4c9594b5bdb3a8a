"""Plans that score a pair from what was computed apart for its user, its ad and its context.

The user is worked out once per request, an ad once per change of its row; a pair costs what the two leave to be done:
one AND and one look-up per tree, two additions, or the length of a short vector. Features of the pair itself (crosses)
are worked out per pair, on top of the ad's part.

100 candidates, 200 trees of 31 leaves, 40 columns, one core: see `python -m loadtest.micro.plans`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.encoder import Block, Layout, Side
from models.errors import EncodingError, PlanError
from models.plans.kernel import Kernel, KernelName, linear_kernel, tree_kernel
from models.plans.numpy_fm import NumpyFactorisationMachineKernel
from models.plans.numpy_two_tower import NumpyTwoTowerKernel
from models.plans.parts import AdParts, Part
from models.plans.plan import Scores, check_matrices
from models.plans.source import PlanSource
from models.plans.tree_tables import tree_tables
from models.segments import Int32s, SegmentLines
from models.specs import DeepCrossSpec, FactorisationMachineSpec, LinearSpec, TwoTowerSpec

COMPILED_STRIDE, NUMPY_STRIDE = 16, 1
"""Tests between two stored rows of trees: the compiled kernel applies up to 15 tests one by one in less time than a
larger table costs in cache misses; NumPy pays for every step in Python."""
MAX_TABLE_BYTES = 64 << 20
"""Of stored rows, in every worker. Beyond it NumPy, too, applies tests one by one, and the stride doubles until the
rows fit."""


class FactorisedPlan:
    """A model split into parts; safe to share between threads."""

    def __init__(
        self,
        kernel: Kernel,
        layout: Layout,
        width: int,
        dtype: npt.DTypeLike,
        neutral: int,
        name: str,
        segments: SegmentLines | None = None,
    ) -> None:
        """`neutral` is the value of a part that no column has touched yet; `segments` are the calibrator's.

        Raises:
            PlanError: no column of a user, an ad or the context names the segment.
        """
        self.name = name
        self.width = width
        self.dtype = np.dtype(dtype)
        self._kernel = kernel
        self._layout = layout
        self._neutral = neutral
        self._segments = segments
        self.segment_side = None if segments is None else _side_of(segments.column, layout)
        """Whose column names the segment of a pair; None where none does."""

    def part(self, side: Side, block: Block, onto: Part | None = None) -> Part:
        """(m, width) the part of m rows of one side; with `onto`, (m, width) too, that part is added to and answered.

        Raises:
            ValueError: `onto` has other rows than the block.
        """
        part = self.empty(len(block)) if onto is None else onto
        columns = self._layout[side]
        self._kernel.partial(block.floats, columns.first_float, block.ids, columns.first_id, part)
        return part

    def shared(self, user: Block, context: Block) -> Part:
        """(1 or n, width) the parts of user and context together; a side of one row is worked out once for all n.

        Raises:
            EncodingError: both have more than one row, and not equally many.
        """
        n_user, n_context = len(user), len(context)
        if n_user == n_context:
            return self.part(Side.CONTEXT, context, onto=self.part(Side.USER, user))
        if n_context == 1:
            return self.part(Side.USER, user, onto=np.repeat(self.part(Side.CONTEXT, context), n_user, axis=0))
        if n_user == 1:
            return self.part(Side.CONTEXT, context, onto=np.repeat(self.part(Side.USER, user), n_context, axis=0))
        raise EncodingError(f"{n_user} rows of users and {n_context} of contexts cannot be laid side by side")

    def segments_of(self, block: Block) -> Int32s | None:
        """(m,) segments named by m rows of `segment_side`; None where there are none."""
        if self._segments is None or self.segment_side is None:
            return None
        first_float = self._layout[self.segment_side].first_float
        return self._segments.numbers(block.floats[:, self._segments.column - first_float])

    def join(self, shared: Part, ads: AdParts, segments: Int32s | None = None) -> Scores:
        """Scores n pairs.

        Args:
            shared: (1 or n, width) parts of user and context together.
            segments: (1 or n,) from `segments_of`.
        """
        n = len(ads.rows)
        scores = Scores(np.empty(n), np.empty(n))
        self._kernel.score(shared, *ads, *scores, segments)
        return scores

    def score(self, features: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]) -> Scores:
        """See `ScorePlan.score`. All columns count as one side's; nothing is shared."""
        check_matrices(features, ids, self._layout.n_floats, self._layout.n_ids)
        block = Block(np.ascontiguousarray(features), ids.astype(np.uint32))
        part = self.empty(len(features))
        self._kernel.partial(block.floats, 0, block.ids, 0, part)
        segments = None if self._segments is None else self._segments.numbers(features[:, self._segments.column])
        return self.join(self.empty(1), AdParts.of(part), segments)

    def empty(self, m: int) -> Part:
        """(m, width) parts that no column has touched yet."""
        part = np.empty((m, self.width), dtype=self.dtype)
        part.fill(self._neutral)
        return part


def factorised_plan(source: PlanSource, layout: Layout, kernel: KernelName) -> FactorisedPlan:
    """The plan of what was read from a graph.

    Raises:
        PlanError: a tree has more leaves than a word has bits, a tower reads the other side's columns, a deep cross
            net has no parts, or a feature of the pair names the segment.
    """
    segments = source.calibrator.segments
    if isinstance(source.spec, LinearSpec):
        kernel = kernel if source.spec.signed_log else "numpy"
        made = linear_kernel(kernel, source.spec, source.correction, source.calibrator)
        return FactorisedPlan(made, layout, 1, np.float64, 0, f"linear, {kernel}", segments)
    if isinstance(source.spec, FactorisationMachineSpec):
        made = NumpyFactorisationMachineKernel(source.spec, source.correction, source.calibrator)
        width = 1 + source.spec.id_vectors.shape[1]
        return FactorisedPlan(made, layout, width, np.float64, 0, "factorisation machine, numpy", segments)
    if isinstance(source.spec, TwoTowerSpec):
        towers = NumpyTwoTowerKernel(source.spec, source.correction, source.calibrator, layout)
        return FactorisedPlan(towers, layout, towers.width, np.float64, 0, "two towers, numpy", segments)
    if isinstance(source.spec, DeepCrossSpec):
        raise PlanError("a deep cross net has no factorised form")
    n_splits, n_trees = int(np.count_nonzero(source.spec.column >= 0)), int(source.spec.tree[-1]) + 1
    small = kernel == "numpy" and n_splits * n_trees * 8 <= MAX_TABLE_BYTES
    tables = tree_tables(
        source.spec,
        layout.n_ids,
        source.correction,
        source.calibrator,
        stride=NUMPY_STRIDE if small else COMPILED_STRIDE,
        max_row_bytes=MAX_TABLE_BYTES,
    )
    is_usual = tables.stride <= COMPILED_STRIDE
    return FactorisedPlan(
        tree_kernel(kernel, tables),
        layout,
        tables.n_trees,
        tables.word,
        int(np.iinfo(tables.word).max),
        f"trees, {kernel}" if is_usual else f"trees, {kernel}, stride {tables.stride}",
        segments,
    )


def _side_of(column: int, layout: Layout) -> Side:
    """Whose float column that is, where it is not the pair's: those are worked out after all others."""
    for side in (Side.USER, Side.AD, Side.CONTEXT):
        if 0 <= column - layout[side].first_float < layout[side].n_floats:
            return side
    raise PlanError(f"segments are named by column {column}, which is none of a user, an ad or the context")
