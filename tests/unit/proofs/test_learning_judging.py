"""What the proofs of learning judge by: a judge that cannot say no proves nothing."""

from __future__ import annotations

import ast

import numpy as np
import pytest

from models.encoder import Encoded
from models.fitting.ftrl import DesignedRows
from models.fitting.linear_design import LinearDesign
from tests.conftest import REPOSITORY
from tests.proofs.learning_exports import TOP, inversions
from tests.proofs.learning_refusals import FLAWS
from tests.proofs.parity_oracle import Counting, smoothed
from tests.proofs.parity_project import HOUR_MS, MIDNIGHT_MS, ParityLog
from tests.proofs.vowpal_wabbit import RowText

BOUND = 1e-6


@pytest.mark.parametrize("place", range(TOP))
def test_each_of_the_first_ten_that_stands_above_a_better_one_counts(place: int) -> None:
    """Also where the better one was left out of the ten; further down nobody looks."""
    answered = np.linspace(0.9, 0.1, 40)

    assert inversions(answered, BOUND) == 0
    better = answered.copy()
    better[30] = answered[place] + 2 * BOUND
    assert inversions(better, BOUND) == TOP - place


def test_scores_within_the_bound_may_stand_either_way() -> None:
    """Two programs round the last bits in their own ways."""
    assert inversions(np.array([0.5, 0.5 + BOUND / 2, 0.4]), BOUND) == 0


def test_every_flaw_names_tests_that_exist() -> None:
    """A test that was renamed is not a test that passed."""
    tree = ast.parse((REPOSITORY / "tests/e2e/test_bad_logs.py").read_text())
    there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}

    assert {name for tests in FLAWS.values() for name in tests} <= there


def test_rows_are_told_to_vowpal_wabbit_as_the_design_has_them() -> None:
    """Label, importance, base; then every column by its number, and the intercept last."""
    features = np.array([[1.0], [3.0], [np.nan]], dtype=np.float32)
    encoded = Encoded(features, np.array([[7], [8], [7]], dtype=np.int64))
    design = LinearDesign.of(encoded)
    rows = DesignedRows.of(design, encoded)
    text = RowText(design, level=-1.5)

    lines = bytes(text.of(rows, np.array([True, False, False]), np.array([True, True, False]))).decode().splitlines()

    assert [line.partition(" |f ")[0] for line in lines] == ["1 1 -1.5", "-1 1 -1.5", "-1 0 -1.5"]
    matrix = design.matrix(encoded).toarray()
    for line, wanted in zip(lines, matrix, strict=True):
        told = np.zeros(design.n_weights + 1)
        for column in line.partition(" |f ")[2].split():
            number, _, value = column.partition(":")
            told[int(number)] = float(value or 1)
        assert told[-1] == 1
        assert told[:-1] == pytest.approx(wanted, rel=1e-6)


def test_counting_sees_whole_steps_and_arrived_clicks_only() -> None:
    """An impression of the as-of moment is not yet known, nor a click on its way; two hours ago weighs a quarter."""
    time_ms = MIDNIGHT_MS + np.array([HOUR_MS // 2, 5 * HOUR_MS // 2, 3 * HOUR_MS])
    click_time_ms = np.array([MIDNIGHT_MS + HOUR_MS, MIDNIGHT_MS + 3 * HOUR_MS, -1])
    log = ParityLog({}, time_ms, click_time_ms, {}, {})

    counting = Counting(log, np.zeros(3, dtype=np.int64), 1, HOUR_MS, MIDNIGHT_MS + 3 * HOUR_MS)

    assert counting.count("impressions").tolist() == [2]
    assert counting.count("impressions", 1).tolist() == [1]
    assert counting.count("clicks").tolist() == [1]
    assert counting.decayed("clicks", 1).tolist() == [0.25]
    assert counting.everyone() == 0.5
    assert smoothed(counting.count("clicks"), counting.count("impressions"), 2, 0.25).tolist() == [0.375]
