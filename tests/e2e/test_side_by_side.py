"""Commands that work in one folder on one log at the same time, each as if it were alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import REPOSITORY
from tests.logs import HOUR_MS, parquet

FEATURES = """
[project]
name = "shared"
[log]
user_id = "user"
ad_id = "ad"
time = {{ column = "at", unit = "ms" }}
clicked = {clicked}
[context.place]
dtype = "id"
"""
AS_CLICKED = FEATURES.format(clicked='"clicked"')
THE_OTHER_WAY = FEATURES.format(clicked='{ sql = "NOT clicked" }')
N, N_TORN = 4_000, 3
N_AT_ONCE = 4


def write_log(folder: Path) -> tuple[Path, int]:
    """A log whose last rows cannot be used, and its clicks."""
    random = np.random.default_rng(7)
    clicked = random.random(N) < 0.2
    at = np.arange(N) * 1_000 + 10 * HOUR_MS
    at[-N_TORN:] = -1
    columns = {
        "user": [f"u{i}" for i in random.integers(0, 40, N)],
        "ad": [f"a{i}" for i in random.integers(0, 9, N)],
        "place": [f"p{i}" for i in random.integers(0, 3, N)],
        "at": at,
        "clicked": clicked,
    }
    return parquet(folder / "log.parquet", columns), int(clicked[:-N_TORN].sum())


def start(folder: Path, number: int, log: Path, features: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "service", "train", "--model", "base-rate", "--json", "--workdir", "work"]
    command += ["--data", f"parquet:{log}", "--features", str(features), "--registry", f"registry-{number}"]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_commands_with_different_definitions_learn_each_from_its_own_labels(tmp_path: Path) -> None:
    """One log and one folder, and two opinions of what a click is: nobody may be taught by the other's."""
    log, clicks = write_log(tmp_path)
    definitions = [tmp_path / "as-clicked.toml", tmp_path / "the-other-way.toml"]
    for path, text in zip(definitions, (AS_CLICKED, THE_OTHER_WAY), strict=True):
        path.write_text(text)

    running = [start(tmp_path, i, log, definitions[i % 2]) for i in range(N_AT_ONCE)]
    answers = [process.communicate() for process in running]

    assert [process.returncode for process in running] == [0] * N_AT_ONCE, [said for _, said in answers]
    n = N - N_TORN
    for i, (document, _) in enumerate(answers):
        seen: dict[str, Any] = json.loads(document)
        manifest = json.loads((tmp_path / seen["path"] / "manifest.json").read_text())
        assert manifest["trained_on"]["clicks"] == (clicks, n - clicks)[i % 2]
    left = sorted((tmp_path / "work").iterdir())
    assert [path.suffixes for path in left] == [[".rejected", ".csv"]] * 2  # one for each definition, and no rows
    assert [len(path.read_text().splitlines()) for path in left] == [1 + N_TORN] * 2
