"""`clickserve bench turns` as a developer types it: two checkouts, started several times, compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest.comparing.sides import judged, read_side
from loadtest.machine import read_commit
from service import cli
from tests.artifacts import ServedProject
from tests.conftest import REPOSITORY
from tests.e2e.conftest import HurtableServer


@pytest.mark.timeout(180)
def test_a_checkout_against_itself_is_started_measured_and_compared(
    tmp_path: Path, project: ServedProject, store: HurtableServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two starts of five short turns each; what an earlier measurement left in the folder is no round of this one."""
    out = tmp_path / "out"
    (out / "a").mkdir(parents=True)
    (out / "a" / "report.json").write_text("of an earlier measurement")

    code = cli.run(
        [
            *(
                "bench",
                "turns",
                str(REPOSITORY),
                str(REPOSITORY),
                "--config",
                str(configured(tmp_path, project, store)),
            ),
            *("--starts", "2", "--turns", "5", "--turn", "0.1", "--rate", "200", "--warmup", "0", "--out", str(out)),
            *("--budgets", str(tmp_path / "budgets.toml"), "--tolerance", "1", "--json"),
        ]
    )

    said = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (said["in_turns"], said["a"]["rounds"], said["b"]["rounds"]) == (True, 2, 2)
    assert said["a"]["commit"] == read_commit(REPOSITORY)
    assert {figure["name"] for figure in said["figures"]} == {"p50", "answers in time", "server CPU per request"}
    for name in "ab":
        for report in read_side(out / name).rounds:
            assert judged(report).errors == {}
            assert judged(report).degraded.n_degraded == 0
            assert report.server_side is not None
            assert report.server_side.n_requests == judged(report).n_requests


def configured(folder: Path, project: ServedProject, store: HurtableServer) -> Path:
    """A configuration with a workload beside it, and budgets that any machine keeps."""
    (folder / "budgets.toml").write_text("[rank]\np99_ms = 5000.0\n[generator]\nlateness_p99_ms = 5000.0\n")
    workload = {
        "users": {"prefix": "u", "count": 5},
        "ads": {"prefix": "a", "count": 5},
        "n_candidates": 3,
        "context": {"device": ["phone"]},
        "distinct_bodies": 10,
    }
    (folder / "workload.json").write_text(json.dumps(workload))
    config = folder / "clickserve.toml"
    config.write_text(
        f'[registry]\ndir = "{project.registry_dir}"\n\n[redis]\nurl = "{store.url}"\n\n'
        f'[items]\nsnapshot_dir = "{folder / "items"}"\n\n'
        "[server]\ndrain_ms = 0\n\n[deadline]\ntotal_ms = 5000\nfeatures_ms = 2000\n\n[admission]\nqueue_ms = 1000\n"
    )
    return config
