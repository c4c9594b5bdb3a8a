"""Vowpal Wabbit as a reference: FTRL-proximal row by row, on the very weights that our learner has.

It is given the columns of the design by their numbers, so nothing is hashed a second time, and the log-odds to begin
from as the base of every row. What it promises for a row was said before the row was learnt. A row that is only to be
scored comes with importance 0, which moves nothing. Its own constant, its held-out rows and further passes are off; the
intercept is a column like others, penalised as they are (ours is not: one weight of many thousands).

Rows go through a pipe, as text that Arrow makes a column at a time: a disk would need half a kilobyte a row.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.fitting.ftrl import DesignedRows, FtrlSettings, scale_of_heard
from models.fitting.linear_design import LinearDesign
from tests.proofs.claim import REPOSITORY

Bools = npt.NDArray[np.bool_]

INSTALL = ".venv/bin/python -m pip install --no-deps --require-hashes -r requirements/reference.lock"
TEXT = pa.large_string()
_PROGRAM = "import sys; from vowpalwabbit import Workspace; Workspace(sys.argv[1]).finish()"


def is_installed() -> bool:
    """Whether the wheel can be imported."""
    return importlib.util.find_spec("vowpalwabbit") is not None


class VowpalWabbit:
    """A process that learns the rows it is given, once, in their order.

    Its one thread stands aside while the caller lays out rows, and the caller while it learns: about one core of both.
    """

    def __init__(self, folder: Path, design: LinearDesign, settings: FtrlSettings, level: float) -> None:
        """`level`: the log-odds that every row begins from."""
        self._promised, pipe = folder / "promised", folder / "rows"
        self._text = RowText(design, level)
        os.mkfifo(pipe)
        bits = int(design.n_weights + 1).bit_length()
        arguments = (
            f"--ftrl --ftrl_alpha {settings.alpha} --ftrl_beta {settings.beta} --l1 {settings.l1} --l2 {settings.l2} "
            f"--loss_function logistic --noconstant --holdout_off --passes 1 -b {bits} "
            f"--data {pipe} --no_stdin --predictions {self._promised} --quiet"
        )
        self._process = subprocess.Popen([sys.executable, "-c", _PROGRAM, arguments], cwd=REPOSITORY)
        self._pipe = pipe.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._pipe.closed:
            self._pipe.close()
        if kind is not None:
            self._process.kill()
        self._process.wait()

    def learn(self, rows: DesignedRows, clicked: Bools, taught: Bools) -> None:
        """Rows that follow the ones before; `taught` are learnt, the others scored."""
        self._pipe.write(self._text.of(rows, clicked, taught))

    def margins(self) -> npt.NDArray[np.float64]:
        """Waits for the end; (n,) log-odds of all rows, each promised before it was learnt.

        Raises:
            RuntimeError: the process failed.
        """
        self._pipe.close()
        if status := self._process.wait():
            raise RuntimeError(f"Vowpal Wabbit ended with {status}")
        return np.loadtxt(self._promised)


class RowText:
    """Rows of a design as lines of its text format: `LABEL IMPORTANCE BASE |f COLUMN:VALUE …`."""

    def __init__(self, design: LinearDesign, level: float) -> None:
        self._labels = pa.array(
            [f"{label} {importance} {level!r} |f" for label in (-1, 1) for importance in (0, 1)], TEXT
        )
        scale = scale_of_heard(design).tolist()
        self._columns = pa.array([f" {i}:{value}" if value else "" for i, value in enumerate(scale)], TEXT)
        self._intercept = f" {design.n_weights}\n"

    def of(self, rows: DesignedRows, clicked: Bools, taught: Bools) -> memoryview:
        """All rows, one a line."""
        parts: list[Any] = [self._labels.take(pa.array(2 * clicked.astype(np.int8) + taught))]
        parts += self._lines(rows)
        parts += [self._columns.take(pa.array(np.ascontiguousarray(places))) for places in rows.places.T]
        lines = pc.binary_join_element_wise(*parts, pa.scalar(self._intercept, TEXT), pa.scalar("", TEXT))
        return memoryview(lines.buffers()[2])

    def _lines(self, rows: DesignedRows) -> Iterator[Any]:
        for i, values in enumerate(rows.lines.T):
            numbers = pa.array(values.astype(np.float32)).cast(TEXT)
            yield pc.binary_join_element_wise(pa.scalar(f" {i}:", TEXT), numbers, pa.scalar("", TEXT))
