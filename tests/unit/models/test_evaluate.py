"""Evaluation's honesty: whether the model knew the clicks it is judged by, and a file that is whole or not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.evaluation.evaluate import Evaluation, seen_in_training, write_predictions
from models.logs.frame import TrainingFrame, build_frame
from models.logs.reader import read_log
from models.registry.manifest import Manifest, Recalibrated, TrainedOn
from tests.conftest import REPOSITORY
from tests.learning import made_manifest
from tests.logs import shop_log

START_MS = 1_700_000_000_000


def evaluation(n: int = 3) -> Evaluation:
    """Impressions whose lines run backwards: the file is in the order of the input, not of time."""
    clicked = np.arange(n) % 2 == 0
    return Evaluation("v000001-c0c0c0c0", {}, (), clicked, np.linspace(0.25, 0.75, n), np.arange(n, 0, -1))


def timed_frame(folder: Path) -> TrainingFrame:
    """A hundred impressions, a second apart."""
    at = START_MS + np.arange(100) * 1_000
    columns = {"who": ["u"] * 100, "what": ["a"] * 100, "at": at, "hit": at % 2_000 == 0, "hit_at": at + 1}
    return build_frame(shop_log(folder, "[context.at]\n", columns))


def trained_on(first_ms: int, last_ms: int, source: str = "parquet:train") -> Manifest:
    log = TrainedOn(source, impressions=100, clicks=50, first_ms=first_ms, last_ms=last_ms)
    return made_manifest(trained_on=log)


@pytest.mark.parametrize(
    ("first_ms", "last_ms", "n_seen"),
    [(START_MS - 5_000, START_MS + 9_000, 10), (START_MS - 5_000, START_MS - 1, 0), (START_MS, START_MS + 10**9, 100)],
    ids=["the first ten", "none", "all"],
)
def test_impressions_of_the_training_period_are_counted(
    tmp_path: Path, first_ms: int, last_ms: int, n_seen: int
) -> None:
    """By time, whatever the file is called: a model remembers clicks, not names."""
    assert seen_in_training(trained_on(first_ms, last_ms), timed_frame(tmp_path), "parquet:elsewhere") == n_seen


def test_impressions_that_a_calibrator_was_fitted_to_count_as_well(tmp_path: Path) -> None:
    """Their promised clicks add up by construction: they cannot show whether the calibrator is right."""
    fresh = Recalibrated("v000001-c0c0c0c0", "parquet:fresh", 20, 9, START_MS + 20_000, START_MS + 39_000, {})
    manifest = msgspec.structs.replace(trained_on(START_MS, START_MS + 9_000), recalibrated=fresh)

    assert seen_in_training(manifest, timed_frame(tmp_path), "parquet:elsewhere") == 10 + 20


def test_without_times_only_the_same_log_can_be_recognised(tmp_path: Path) -> None:
    """Row 7 of one file is not row 7 of another."""
    lines = [f"{i % 2}\t" + "\t".join("1" for _ in range(39)) for i in range(100)]
    (tmp_path / "log.tsv").write_text("\n".join(lines) + "\n")
    frame = build_frame(read_log(f"criteo:{tmp_path / 'log.tsv'}", workdir=tmp_path / "work"))
    half = trained_on(1, 50, source="criteo:log.tsv")

    assert seen_in_training(half, frame, "criteo:log.tsv") == 50
    assert seen_in_training(half, frame, "criteo:other.tsv") is None
    assert seen_in_training(trained_on(START_MS, START_MS + 1), frame, "criteo:log.tsv") is None


def test_predictions_are_in_the_order_of_the_input(tmp_path: Path) -> None:
    """Replacing what an earlier run wrote, and leaving nothing beside it."""
    path = tmp_path / "out.csv"
    path.write_text("older")

    write_predictions(evaluation(), path)

    assert path.read_text() == "y,p\n1,0.75\n0,0.5\n1,0.25\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_refuses_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    """A file size limit of the operating system stands for a full disk: the same write fails in the same place."""
    path = tmp_path / "out.csv"
    path.write_text("older")
    code = """
import resource, sys
from pathlib import Path
from models.evaluation.evaluate import write_predictions
from tests.unit.models.test_evaluate import evaluation
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))
try:
    write_predictions(evaluation(10_000), Path(sys.argv[1]))
except OSError as error:
    print(error.strerror, error.filename)
"""

    ended = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert ended.stdout == f"File too large {path}\n"
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_is_written_to_and_not_replaced() -> None:
    """A rename onto /dev/null would take it away from the whole machine."""
    write_predictions(evaluation(), Path("/dev/null"))

    assert Path("/dev/null").is_char_device()
