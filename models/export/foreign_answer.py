"""Which number of a foreign graph's answer is the probability of a click.

One output of real numbers with two columns is the answer of a binary classifier, and its second column that of the
second class, as in scikit-learn's `predict_proba(x)[:, 1]`; one column is the probability itself. Everything else needs
a word from the owner (`NAME:COLUMN`), or is no probability at all and refused.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.errors import ImportRefused
from models.export.foreign_graph import Answers

_SUM_TOLERANCE = 1e-4
_RANGE_TOLERANCE = 1e-6


class Chosen(NamedTuple):
    """One column of one output; `label` is the class it speaks of, where the graph names classes."""

    output: str
    column: int
    label: str


def chosen_output(candidates: tuple[str, ...], others: tuple[str, ...], asked: str | None) -> tuple[str, str | None]:
    """The output that holds the probability, and the column that was asked for.

    Args:
        candidates: outputs that could.
        others: those that could not.
        asked: `NAME` or `NAME:COLUMN`; None where nothing was said.
    Raises:
        ImportRefused: there is none, there are several, or what was asked for is none of them.
    """
    if not candidates:
        raise ImportRefused(
            f"no output holds real numbers: {', '.join(others) or 'there is none'}; export the model with its "
            "probabilities, not with labels alone"
        )
    if asked is None:
        if len(candidates) > 1:
            raise ImportRefused(
                f"outputs {', '.join(candidates)} could each be the probability of a click; name the one that is with "
                f"--probability NAME, such as --probability {candidates[-1]}; of classes 0 and 1 it is that of class 1"
            )
        return candidates[0], None
    if asked in candidates:
        return asked, None
    name, _, column = asked.rpartition(":")
    if name not in candidates:
        raise ImportRefused(
            f"--probability {asked}: there is no such output of real numbers; there are {', '.join(candidates)}"
        )
    return name, column


def chosen_column(output: str, answers: Answers, asked: str | None) -> Chosen:
    """The column of an output; by class where the graph names classes (a ZipMap), else by place from 0.

    Raises:
        ImportRefused: it has more than two columns, or not the one that was asked for.
    """
    n_columns = answers.columns.shape[1]
    names = [str(label) for label in answers.labels] or [str(place) for place in range(n_columns)]
    if n_columns > 2:
        raise ImportRefused(
            f"output {output!r} has {n_columns} columns ({', '.join(names[:5])}…): it tells classes apart, and a click "
            "is one of two; train the model on clicked or not"
        )
    if n_columns == 0:
        raise ImportRefused(f"output {output!r} has no columns")
    wanted = names[-1] if asked is None else asked
    if wanted not in names:
        known = f"it has one; say --probability {output}" if n_columns == 1 else f"there are {', '.join(names)}"
        raise ImportRefused(f"--probability {output}:{asked}: there is no such column; {known}")
    column = names.index(wanted)
    return Chosen(output, column, names[column] if answers.labels else "")


def refuse_improbable(chosen: Chosen, answers: Answers) -> None:
    """Raises ImportRefused unless what was answered can be probabilities.

    Args:
        answers: to rows without missing values.
    """
    p: npt.NDArray[np.float64] = answers.columns[:, chosen.column]
    if np.isnan(answers.columns).any():
        raise ImportRefused(f"output {chosen.output!r} is NaN for rows of ordinary numbers; mend the graph")
    low, high = float(p.min(initial=0.0)), float(p.max(initial=0.0))
    if low < -_RANGE_TOLERANCE or high > 1 + _RANGE_TOLERANCE:
        raise ImportRefused(
            f"output {chosen.output!r} takes values from {low:.4g} to {high:.4g}: a raw margin or a regression, no "
            "probability; export the classifier's probabilities (skl2onnx: without raw_scores), or put a Sigmoid "
            "behind a margin of log-odds"
        )
    total = answers.columns.sum(axis=1)
    if answers.columns.shape[1] == 2 and np.abs(total - 1).max(initial=0.0) > _SUM_TOLERANCE:
        raise ImportRefused(
            f"the two columns of output {chosen.output!r} add up to {total.min():.4g} to {total.max():.4g} instead of "
            "1: raw margins or two answers; export the classifier's probabilities"
        )
