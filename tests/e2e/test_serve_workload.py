"""`clickserve bench serve-workload` as a stranger types it: it builds, serves, and is quick the second time."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.e2e.service_process import DEADLINE_S
from tests.reference_workload import build, command, small_workload
from tests.stores import HurtableServer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a small workload has been built, with an embedded server of its own."""
    return small_workload(tmp_path_factory, tmp_path_factory.mktemp("workload") / "built")


def url_once_ready(process: subprocess.Popen[str]) -> str:
    """Reads the log up to the line that says ready; fails where the service ends before it."""
    assert process.stderr is not None
    url, said = "", []
    for text in process.stderr:
        said.append(text)
        if not text.startswith("{"):
            continue  # progress of the build
        line = json.loads(text)
        url = line.get("url", url)
        if line["msg"] == "ready":
            return url
    raise AssertionError("".join(said))


def test_it_serves_every_entity_of_the_workload(folder: Path) -> None:
    """A load generator of anybody's finds a user, ads and context that are all known."""
    body = {"user_id": "u199", "candidates": ["a0", "a299"], "context": {"c0": 1, "c1": 0.5, "c2": -1, "c3": 0}}

    with subprocess.Popen([*command(folder), "--port", "0"], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as run:
        try:
            url = url_once_ready(run)
            with urllib.request.urlopen(f"{url}/v1/rank", json.dumps(body).encode(), timeout=DEADLINE_S) as got:
                answer = json.load(got)
            run.send_signal(signal.SIGTERM)
            run.communicate(timeout=DEADLINE_S)
        finally:
            run.kill()

    assert answer["features"]["missing"] == 0
    assert not {"user_missing", "ad_missing", "context_missing", "context_unknown"} & set(answer["degraded"])
    assert run.returncode == 0


def test_the_trees_are_as_many_and_as_large_as_asked_and_use_every_column(folder: Path) -> None:
    """A model of another size, or one that never looks at the user, would be measured under the same name."""
    text = (folder / "lightgbm.txt").read_text()

    trees = [
        dict(line.split("=", 1) for line in part.splitlines() if "=" in line) for part in text.split("\nTree=")[1:]
    ]
    assert [tree["num_leaves"] for tree in trees] == ["31"] * 20
    assert {int(column) for tree in trees for column in tree["split_feature"].split()} == set(range(40))


def test_a_fresh_redis_gets_the_rows_and_the_model_stays(folder: Path, tmp_path: Path) -> None:
    """Training again would give another version, and minutes of waiting."""
    champion = folder / "registry" / "default" / "champion"
    version, trained = champion.read_text(), champion.stat().st_mtime_ns
    store = HurtableServer(tmp_path / "valkey")

    try:
        build(folder, "--redis", store.url)
    finally:
        store.close()

    facts = json.loads((folder / "baseline.json").read_text())
    assert facts["redis_url"] == store.url
    assert (champion.read_text(), champion.stat().st_mtime_ns) == (version, trained)
