"""A stranger's way by each quick start, every command and file as the page has it: from what they own to an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.e2e.service_process import DEADLINE_S, ServiceProcess
from tests.snippets import page, run_block, served, write_files

OWN_LOG = page("docs/quickstart-log.md")
OWN_FEATURES = page("docs/quickstart-features.md")
OWN_MODEL = page("docs/import-model.md")


def ranked(running: ServiceProcess, **body: object) -> dict[str, Any]:
    """What the service answers over HTTP."""
    with urlopen(f"{running.url}/v1/rank", json.dumps(body).encode(), timeout=DEADLINE_S) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


@pytest.mark.timeout(240)
def test_a_strangers_log_becomes_a_ranked_answer_and_a_load_test(tmp_path: Path) -> None:
    """One file written, no code; the log's columns have names that we never chose."""
    write_files(OWN_LOG, tmp_path)
    run_block("make-log", tmp_path, OWN_LOG)

    trained = run_block("train", tmp_path, OWN_LOG)
    with served("serve", tmp_path, OWN_LOG) as running:
        answer = run_block("rank", tmp_path, OWN_LOG, running.port)
        measured = run_block("bench", tmp_path, OWN_LOG, running.port, exits=(0, 1))  # 1: too busy a machine to judge

        results = ranked(running, user_id="r7", candidates=["s1", "s2", "s3"], context={"surface": "home"})

    assert "all is well" in trained
    assert all(story in answer for story in ("s1", "s2", "s3"))
    assert '"degraded":[]' in answer
    assert results["degraded"] == []
    assert all(0 < result["p_click"] < 1 for result in results["results"])
    assert "runs/bench/report.html" in measured
    assert (tmp_path / "runs/bench/report.html").stat().st_size > 0


@pytest.mark.timeout(240)
def test_a_strangers_features_are_served_and_stay_fresh(tmp_path: Path) -> None:
    """Rows of another pipeline, no log: the trainer's own probabilities, before and after a newer row."""
    write_files(OWN_FEATURES, tmp_path)
    printed = [line.split() for line in run_block("pipeline", tmp_path, OWN_FEATURES).splitlines()]
    question = {"user_id": "m7", "candidates": [ad_id for ad_id, *_ in printed]}

    stored = run_block("store", tmp_path, OWN_FEATURES)
    with served("serve", tmp_path, OWN_FEATURES) as running:
        run_block("rank", tmp_path, OWN_FEATURES, running.port)
        first = ranked(running, **question)
        run_block("refresh", tmp_path, OWN_FEATURES, running.port)
        second = ranked(running, **question)

    assert "all is well" in stored
    for i, answer in enumerate((first, second), start=1):
        wanted = {ad_id: pytest.approx(float(said[i - 1]), abs=1e-6) for ad_id, *said in printed}
        assert {result["ad_id"]: result["p_click"] for result in answer["results"]} == wanted
        assert answer["degraded"] == []


@pytest.mark.timeout(240)
def test_a_strangers_model_becomes_a_ranked_answer(tmp_path: Path) -> None:
    """From skl2onnx to the trainer's own probabilities over HTTP."""
    write_files(OWN_MODEL, tmp_path)
    trained = run_block("train", tmp_path, OWN_MODEL)
    run_block("import", tmp_path, OWN_MODEL)
    with served("import-service", tmp_path, OWN_MODEL) as running:
        said = run_block("import-ask", tmp_path, OWN_MODEL, running.port)

        answer = ranked(running, user_id="m7", candidates=["b1", "b2", "b3"], context={"hour": 20})

    wanted = {ad_id: pytest.approx(float(p), abs=1e-6) for ad_id, p in map(str.split, trained.splitlines())}
    assert {result["ad_id"]: result["p_click"] for result in answer["results"]} == wanted
    assert answer["degraded"] == []
    assert all(ad_id in said for ad_id in wanted)
