"""Compiled kernels given anything at all: a ValueError, TypeError or BufferError, and never memory that is not theirs.

All of it runs a second time in a process of its own under Python's development mode, whose allocator notices writes
beyond an array.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.calibrator import CalibratorMap, CalibratorPieces
from models.plans.kernel import compiled_kernels_trouble, linear_kernel, tree_kernel
from models.plans.tree_tables import TreeTables, tree_tables
from models.segments import SegmentLines
from models.specs import CodeMap, LinearSpec
from tests.conftest import REPOSITORY
from tests.ensembles import PIECEWISE, SCALES, SHIFTS, ensemble, grown

pytestmark = pytest.mark.skipif(
    compiled_kernels_trouble(), reason="the compiled kernels were not built; the NumPy ones check less"
)

REFUSED = (ValueError, TypeError, BufferError)
N_FLOATS, N_IDS, N_TREES = 3, 2, 4
SEGMENTED = replace(PIECEWISE, segments=SegmentLines(0, SCALES, SHIFTS))


def made_tables(stride: int = 3, n_leaves: int = 9) -> TreeTables:
    """Four trees over three numbers and one of two hashes."""
    random = np.random.default_rng(0)
    maps = (CodeMap(1, np.array([5, 9]), np.array([-0.5, 0.5], np.float32)),)
    trees = [grown(random, n_leaves, N_FLOATS + 1, np.linspace(-1, 1, 7)) for _ in range(N_TREES)]
    return tree_tables(ensemble(random, trees, N_FLOATS, maps, exact=True), N_IDS, 0.0, SEGMENTED, stride=stride)


def made_linear() -> LinearSpec:
    """Three numbers and two hashes."""
    random = np.random.default_rng(0)
    return LinearSpec(
        *(0.5, random.normal(size=3), random.uniform(1, 2, size=3), random.normal(size=3), 5.0),
        np.sort(random.normal(size=(3, 4)), axis=1),
        random.normal(size=(3, 6)),
        *(np.array([4, 5]), np.array([0, 4]), random.normal(size=9)),
    )


TREES = made_tables()
LINEAR = made_linear()


def kernel(kind: str) -> Any:
    return tree_kernel("compiled", TREES) if kind == "trees" else linear_kernel("compiled", LINEAR, 0.0, SEGMENTED)


def words(kind: str, m: int) -> np.ndarray:
    """(m, width) parts of that kernel that rule nothing out."""
    return np.full((m, N_TREES), 2**32 - 1, np.uint32) if kind == "trees" else np.zeros((m, 1))


def good_partial(kind: str, m: int = 5) -> list[Any]:
    return [np.zeros((m, N_FLOATS), np.float32), 0, np.zeros((m, N_IDS), np.uint32), 0, words(kind, m)]


def good_score(kind: str, n: int = 5) -> list[Any]:
    segments = (np.arange(n) % len(SCALES)).astype(np.int32)
    return [words(kind, 1), words(kind, 3), words(kind, 2), 3, np.arange(n) % 5, np.zeros(n), np.zeros(n), segments]


both = pytest.mark.parametrize("kind", ["trees", "linear"])


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def unaligned(array: np.ndarray) -> np.ndarray:
    """The same values one byte beside where they belong."""
    content = bytearray(b"\0" + array.tobytes())
    return np.frombuffer(memoryview(content)[1:], array.dtype).reshape(array.shape)


def odd_arrays(good: np.ndarray) -> list[Any]:
    """What is not that array: other types, shapes, orders, places and things."""
    kinds = [kind for kind in ("f2", "f4", "f8", "i4", "i8", "u4", "u8", "?") if np.dtype(kind) != good.dtype]
    backwards = np.concatenate([good, good])[::-1][: len(good)]
    return [
        *(np.zeros(good.shape, kind) for kind in (*kinds, good.dtype.newbyteorder(">"), object, "S0", "M8[s]")),
        *(good[..., None], good.ravel()[:0], good[:-1], good.reshape(-1)[0], unaligned(good)),
        *([] if backwards.flags.c_contiguous else [backwards]),
        *(None, 3, 0.5, "text", b"", b"bytes" * 8, [1, 2], good.tolist(), memoryview(b"x" * 64)),
    ]


def calls_with_one_odd_argument(good: list[Any]) -> list[list[Any]]:
    """The call with each argument in turn exchanged."""
    numbers = [2**63, -(2**63) - 1, -1, 99, 2**62, 0.5, "1", None]
    return [
        [*good[:i], other, *good[i + 1 :]]
        for i, argument in enumerate(good)
        for other in (odd_arrays(argument) if isinstance(argument, np.ndarray) else numbers)
    ]


@both
def test_good_arguments_are_accepted(kind: str) -> None:
    """Or all refusals below would prove nothing."""
    assert kernel(kind).partial(*good_partial(kind)) is None
    assert kernel(kind).score(*good_score(kind)) is None


@both
@pytest.mark.parametrize("method", ["partial", "score"])
def test_one_odd_argument_is_refused(kind: str, method: str) -> None:
    """Each argument, each way of being wrong."""
    good = good_partial(kind) if method == "partial" else good_score(kind)

    accepted = []
    for call in calls_with_one_odd_argument(good):
        try:
            getattr(kernel(kind), method)(*call)
        except REFUSED:
            continue
        accepted.append(call)

    if method == "score":
        accepted = [call for call in accepted if call[7] is not None]  # None: no pair has a segment
    assert [_shapes(call) for call in accepted] == []


def _shapes(call: list[Any]) -> list[Any]:
    return [(a.dtype.str, a.shape) if isinstance(a, np.ndarray) else a for a in call]


@both
@pytest.mark.parametrize("method", ["partial", "score"])
def test_fewer_or_more_arguments_are_refused(kind: str, method: str) -> None:
    """Also by name, and none at all."""
    good = good_partial(kind) if method == "partial" else good_score(kind)
    call = getattr(kernel(kind), method)

    for arguments in (*(good[:n] for n in range(len(good))), [*good, 0], good * 20):
        with pytest.raises(TypeError, match="takes"):
            call(*arguments)
    with pytest.raises(TypeError):
        call(*good[:-1], out=good[-1])


@both
def test_answers_are_not_written_into_a_read_only_array(kind: str) -> None:
    """Parts mapped from disk are read-only, and shared by all workers."""
    for method, places in (("partial", (4,)), ("score", (5, 6))):
        for place in places:
            arguments = good_partial(kind) if method == "partial" else good_score(kind)
            arguments[place] = read_only(arguments[place])

            with pytest.raises(REFUSED):
                getattr(kernel(kind), method)(*arguments)


@both
@pytest.mark.parametrize("row", [-1, 5, 2**62, -(2**63), 2**63 - 1])
def test_a_row_that_does_not_exist_is_refused(kind: str, row: int) -> None:
    """Wherever it stands among good ones; nothing is answered then."""
    for place in (0, 2, 4):
        arguments = good_score(kind)
        arguments[4][place] = row
        arguments[5][:] = arguments[6][:] = 7.0

        with pytest.raises(ValueError, match="does not exist"):
            kernel(kind).score(*arguments)
        assert set(arguments[5]) == set(arguments[6]) == {7.0}


@both
def test_answers_over_the_row_numbers_are_refused(kind: str) -> None:
    """They were checked before; the answer to the first pair would become the row number of the second."""
    for place in (5, 6):
        memory = np.zeros(6, np.int64)
        arguments = good_score(kind)
        arguments[4] = memory[:5]
        arguments[place] = memory.view(np.float64)[1:]

        with pytest.raises(ValueError, match="over the row numbers"):
            kernel(kind).score(*arguments)


@both
@pytest.mark.parametrize("segment", [-1, len(SCALES), 2**31 - 1, -(2**31)])
def test_a_segment_that_does_not_exist_is_refused(kind: str, segment: int) -> None:
    """Its line would be read from behind the table."""
    for segments in (np.full(1, segment, np.int32), np.array([0, 1, segment, 2, 3], np.int32)):
        arguments = good_score(kind)
        arguments[5][:] = arguments[6][:] = 7.0

        with pytest.raises(ValueError, match="segment that does not exist"):
            kernel(kind).score(*arguments[:7], segments)
        assert set(arguments[5]) == set(arguments[6]) == {7.0}


@both
def test_answers_over_the_segments_are_refused(kind: str) -> None:
    """They were checked before; an answer would become the segment of a later pair."""
    for place in (5, 6):
        arguments = good_score(kind)
        arguments[7] = arguments[place].view(np.int32)[:5]

        with pytest.raises(ValueError, match="no answer is written over them"):
            kernel(kind).score(*arguments)


@both
@pytest.mark.parametrize(
    ("first_float", "first_id"), [(1, 0), (0, 1), (2**63 - 1, 0), (0, 2**63 - 1), (-1, 0), (0, -1)]
)
def test_columns_beyond_the_models_are_refused(kind: str, first_float: int, first_id: int) -> None:
    """A sum of start and width could overflow and look small."""
    arguments = good_partial(kind)
    arguments[1], arguments[3] = first_float, first_id

    with pytest.raises(ValueError, match="do not fit the model"):
        kernel(kind).partial(*arguments)


@both
def test_no_rows_and_no_columns_are_fine(kind: str) -> None:
    """A user without features, an empty refresh, a request whose ads are all gone."""
    nothing = [np.empty((2, 0), np.float32), N_FLOATS, np.empty((2, 0), np.uint32), N_IDS, words(kind, 2)]
    before = nothing[4].copy()

    kernel(kind).partial(*nothing)
    kernel(kind).partial(*good_partial(kind, m=0))
    kernel(kind).score(*good_score(kind, n=0))

    np.testing.assert_array_equal(nothing[4], before)


TABLES = [field.name for field in fields(TreeTables) if field.name not in ("stride", "calibrator")]


@pytest.mark.parametrize("name", [*TABLES, *CalibratorPieces._fields])
def test_a_table_of_the_trees_that_does_not_fit_is_refused(name: str) -> None:
    """Each table shortened, lengthened, of another type, and with values far outside, in turn."""
    good = getattr(TREES if name in TABLES else TREES.calibrator, name)
    out_of_range = [] if good.dtype.kind == "f" or name in ("test_mask", "rows", "keys") else [-1, 10**6]
    if good.dtype == np.int64:
        out_of_range += [2**63 - 1, -(2**63)]
    if name == "code_column":
        out_of_range = [10**6, 2**63 - 1]  # below 0 stands for "no code map"
    wrong = [good[:0], good[:-1], np.concatenate([good, good]), *odd_arrays(good)]
    if name == "code_column":  # its length says how many hashes the model reads
        wrong = [table for table in wrong if getattr(table, "dtype", None) != good.dtype]
    for value in out_of_range:
        for place in (0, len(good) // 2, -1):
            changed = good.copy()
            changed[place] = value
            wrong.append(changed)

    for table in wrong:
        if isinstance(table, np.ndarray) and table.tobytes() == good.tobytes() and table.flags.aligned:
            continue  # the same values in another shape
        with pytest.raises(REFUSED):
            tree_kernel("compiled", with_table(name, table))


def with_table(name: str, table: Any) -> TreeTables:
    """The good tables with one exchanged."""
    if name in TABLES:
        return replace(TREES, **{name: table})
    return replace(TREES, calibrator=TREES.calibrator._replace(**{name: table}))


@pytest.mark.parametrize("stride", [0, -1, -(2**63), 2**63, 4, 2**62])
def test_a_stride_that_the_rows_do_not_have_is_refused(stride: int) -> None:
    """Division by zero, and rows that would lie elsewhere."""
    with pytest.raises((*REFUSED, OverflowError)):
        tree_kernel("compiled", replace(TREES, stride=stride))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id_sizes", np.array([0, 5])), ("id_sizes", np.array([-4, 5])), ("id_sizes", np.array([4, 6])),
        ("id_sizes", np.array([4])), ("id_sizes", np.array([4, 2**63 - 1])), ("id_offsets", np.array([-1, 4])),
        ("id_offsets", np.array([0, 5])), ("id_offsets", np.array([0, 2**63 - 1])), ("id_offsets", np.array([0.0, 4])),
        ("mean", np.zeros(2)), ("mean", np.zeros(3, np.float32)), ("mean", np.zeros(3, np.int64)),
        ("spread", np.ones(4)), ("slope", np.ones(0)), ("edges", np.zeros((3, 3))), ("edges", np.zeros(13)),
        ("bin_weights", np.zeros((3, 5))), ("id_weights", np.zeros(8)), ("id_weights", np.zeros(9, np.int64)),
    ],
)  # fmt: skip
def test_a_table_of_the_linear_model_that_does_not_fit_is_refused(name: str, value: np.ndarray) -> None:
    """A size of zero would divide by it; an offset beyond the weights would read beyond them."""
    with pytest.raises(ValueError, match=r"fit|outside|kind|8 bytes"):
        linear_kernel("compiled", replace(LINEAR, **{name: value}), 0.0, CalibratorMap.identity())


@pytest.mark.parametrize("name", ["models.plans._trees.TreeKernel", "models.plans._linear.LinearKernel"])
def test_a_kernel_of_anything_else_is_refused(name: str) -> None:
    """Nothing, numbers, names, and a kernel that was never made."""
    module, _, kind = name.rpartition(".")
    made = getattr(importlib.import_module(module), kind)

    for arguments in ((), (1,), tuple(range(15)), tuple(range(17)), ("x",) * 17, (None,) * 15):
        with pytest.raises(TypeError):
            made(*arguments)
    with pytest.raises(TypeError):
        made(tables=TREES)
    with pytest.raises(TypeError):
        made.__new__(made)


@settings(max_examples=200)
@given(st.data())
def test_arguments_at_random_never_do_harm(data: st.DataObject) -> None:
    """Several odd ones at once: what one check lets pass must not trip the next."""
    kind = data.draw(st.sampled_from(["trees", "linear"]))
    method, good = data.draw(st.sampled_from([("partial", good_partial(kind)), ("score", good_score(kind))]))
    odd = [other for argument in good if isinstance(argument, np.ndarray) for other in odd_arrays(argument)]
    pool = [0, 1, 5, -1, 2**63, *good, *odd]
    numbers = data.draw(st.lists(st.integers(0, len(pool) - 1), min_size=len(good), max_size=len(good)))
    kept = data.draw(st.lists(st.booleans(), min_size=len(good), max_size=len(good)))

    arguments = [a if keep else pool[number] for a, keep, number in zip(good, kept, numbers, strict=True)]

    try:
        getattr(kernel(kind), method)(*arguments)
    except REFUSED as error:
        refusal = str(error)
        assert refusal


def test_all_of_this_again_under_a_watchful_allocator() -> None:
    """A write beyond an array need not crash at once; Python's development mode looks for it when memory is freed."""
    if sys.flags.dev_mode:
        pytest.skip("this is that process")

    done = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
