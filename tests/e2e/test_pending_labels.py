"""Impressions whose label is not known yet, through the commands that learn and judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from service import cli
from tests.logs import HOUR_MS, parquet

DAY_MS = 24 * HOUR_MS
START_MS = 1_700_000_000_000
N = 3_000
FEATURES = """
[project]
name = "late"
[log]
user_id = "user"
ad_id = "ad"
time = { column = "at", unit = "ms" }
click_time = { column = "click_at", unit = "ms" }
[label]
window = "1d"
[context.place]
dtype = "id"
"""


def write_log(folder: Path, days: float) -> list[str]:
    """The beginning of one and the same history, as it is known after so many days."""
    random = np.random.default_rng(8)
    at = START_MS + np.sort(random.integers(0, 20 * DAY_MS, N))
    clicked = random.random(N) < 0.3
    click_at = at + random.exponential(6 * HOUR_MS, N).astype(np.int64)
    end_ms = START_MS + days * DAY_MS
    shown, come = at <= end_ms, (clicked & (click_at <= end_ms))
    columns: dict[str, Any] = {
        "user": [f"u{i % 40}" for i in range(N)],
        "ad": [f"a{i % 7}" for i in range(N)],
        "at": at,
        "clicked": come,
        "click_at": pa.array(click_at, mask=~come),
        "place": [f"p{i}" for i in random.integers(3, size=N)],
    }
    path = parquet(folder / f"log-{days}.parquet", pa.table(columns).filter(pa.array(shown)).to_pydict())
    (folder / "features.toml").write_text(FEATURES)
    log = ["--data", f"parquet:{path}", "--features", str(folder / "features.toml")]
    return [*log, "--workdir", str(folder / "work"), "--registry", str(folder / "registry")]


def test_pending_impressions_are_counted_and_in_no_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A day's impressions wait for a day's clicks, in training, evaluation, recalibration and on both cards."""
    early, later = write_log(tmp_path, 10), write_log(tmp_path, 20)

    def told(command: list[str]) -> dict[str, Any]:
        assert cli.run([*command, "--json"]) == 0
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    trained = told(["train", "--model", "logistic", *early])
    judged = told(["evaluate", *later])
    fresh = told(["recalibrate", *later])
    assert cli.run(["evaluate", *later]) == 0
    said = capsys.readouterr().out

    for document in (trained, judged, fresh):
        assert 100 < document["pending_impressions"] < 200  # 150 a day
    assert judged["impressions"] + judged["pending_impressions"] == N
    assert f"pending: {judged['pending_impressions']} newest of 3,000 impressions are left out" in said
    assert trained["label"] == {"name": "click", "window_ms": DAY_MS}
    assert trained["click_delay"]["median_ms"] < 6 * HOUR_MS < trained["click_delay"]["p90_ms"]
    cards = [Path(document["path"], "card.md").read_text() for document in (trained, fresh)]
    assert f"| Pending | {trained['pending_impressions']} more left out" in cards[0]
    assert f"{fresh['pending_impressions']} impressions were left out as pending" in cards[1]
