"""The snippets of the README and of `docs/` are run as they stand, in the order a reader meets them.

A fenced block is run when a comment `<!-- runs: NAME -->` stands above it; `<!-- file: NAME -->` writes the block into
a file of that name. Only the port is changed, to one that is free.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from urllib.request import urlopen

import msgspec
import numpy as np
import pytest

from feature_store.definition import load_project
from tests.conftest import REPOSITORY
from tests.e2e.conftest import arguments, project, store
from tests.e2e.service_process import DEADLINE_S, service
from tests.loadtest.report_samples import report_of, run_of

__all__ = ["arguments", "project", "store"]

README = (REPOSITORY / "README.md").read_text()
PYTHON_CLIENT = (REPOSITORY / "docs/python-client.md").read_text()
BINARY_RANK = (REPOSITORY / "docs/binary-rank.md").read_text()
BENCH = (REPOSITORY / "docs/bench.md").read_text()
IMPORT_MODEL = (REPOSITORY / "docs/import-model.md").read_text()
BLOCK = re.compile(r"<!-- (runs|file|exists): (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)


def blocks(page: str = README) -> dict[str, str]:
    """Marked blocks of a page by name."""
    return {name: text for _, name, text in BLOCK.findall(page)}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README's own-log chapter starts from: a log nobody has seen, and features.toml."""
    folder = tmp_path_factory.mktemp("shop")
    write_shop_log(folder)
    (folder / "features.toml").write_text(blocks()["features.toml"])
    return folder


def test_the_features_toml_of_the_readme_is_valid(shop: Path) -> None:
    """It is the first thing a new user copies."""
    project = load_project(shop / "features.toml")

    assert [view.name for view in project.schema.views] == ["banner", "banner_clicks", "member_scores"]


@pytest.mark.timeout(240)
def test_a_strangers_log_becomes_a_ranked_answer_by_the_readme(shop: Path) -> None:
    """The promise of the chapter: one file written, no code."""
    run_block("own-log", shop)
    serve = shlex.split(blocks()["own-log-service"])
    assert serve[:2] == ["clickserve", "serve"]
    arguments = " ".join(serve[2:]).replace("--port 8080", "").split()
    with service(*arguments, cwd=shop) as running:
        running.wait_for("ready")

        answer = run_block("own-log-ask", shop, running.port)

    assert all(ad in answer for ad in ("b1", "b2", "b3"))
    assert "missing" not in answer


def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    """A command that is shown exists."""
    assert "materialize" in run_block("commands", tmp_path)


def test_the_measurements_of_the_readme_can_be_asked_for() -> None:
    """They take minutes to hours; that each command, option, target and module exists takes seconds."""
    for line in (blocks()["measure"] + blocks(BENCH)["bench-report"]).splitlines():
        command = line.partition("#")[0].strip()
        asked = command.replace("make ", "make -n ") if command.startswith("make") else f"{command} --help"
        done = subprocess.run(
            ["bash", "-euc", asked], cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def test_the_client_of_the_binary_frames_gets_the_answer_that_json_has(arguments: list[str], tmp_path: Path) -> None:
    """Thirty lines without a library are the promise of that page."""
    (tmp_path / "rank_client.py").write_text(blocks(BINARY_RANK)["rank_client.py"])
    with service(*arguments) as running:
        running.wait_for("ready")
        body = {"user_id": "u1", "candidates": ["a1", "a2", "a3"], "context": {"device": "phone"}}

        said = run_block("binary-rank", tmp_path, running.port, page=BINARY_RANK)

        with urlopen(f"{running.url}/v1/rank", json.dumps(body).encode(), timeout=DEADLINE_S) as answer:
            results = json.load(answer)["results"]
    answered = [(ad_id, float(p_click)) for ad_id, p_click in map(str.split, said.splitlines())]
    assert answered == [(result["ad_id"], pytest.approx(result["p_click"], abs=1e-6)) for result in results]


@pytest.mark.timeout(240)
def test_a_strangers_model_becomes_a_ranked_answer_by_its_page(tmp_path: Path) -> None:
    """From skl2onnx to the trainer's own probabilities over HTTP, by the page alone."""
    for name in ("train.py", "features.toml"):
        (tmp_path / name).write_text(blocks(IMPORT_MODEL)[name])
    trained = subprocess.run(
        ["python", "-W", "ignore", "train.py"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    run_block("import", tmp_path, page=IMPORT_MODEL)
    serve = shlex.split(blocks(IMPORT_MODEL)["import-service"])
    with service(*" ".join(serve[2:]).replace("--port 8080", "").split(), cwd=tmp_path) as running:
        running.wait_for("ready")

        answer = run_block("import-ask", tmp_path, running.port, page=IMPORT_MODEL)
        body = {"user_id": "m7", "candidates": ["b1", "b2", "b3"], "context": {"hour": 20}}
        with urlopen(f"{running.url}/v1/rank", json.dumps(body).encode(), timeout=DEADLINE_S) as response:
            ranked = json.load(response)

    wanted = {ad_id: pytest.approx(float(p), abs=1e-6) for ad_id, p in map(str.split, trained.splitlines())}
    assert {result["ad_id"]: result["p_click"] for result in ranked["results"]} == wanted
    assert ranked["degraded"] == []
    assert all(ad_id in answer for ad_id in wanted)


def test_the_snippets_of_the_python_client_run(arguments: list[str], tmp_path: Path) -> None:
    """The page is what a caller copies from."""
    with service(*arguments) as running:
        running.wait_for("ready")
        for name in ("ask.py", "ask_async.py"):
            (tmp_path / name).write_text(blocks(PYTHON_CLIENT)[name].replace(":8080", f":{running.port}"))

        asked = run_block("ask", tmp_path, page=PYTHON_CLIENT).splitlines()
        asked_async = run_block("ask-async", tmp_path, page=PYTHON_CLIENT)

    assert len(asked) >= 5
    assert "422 invalid-request candidates[1]" in asked
    assert asked[-1].endswith(" True")
    assert asked_async.startswith("10 v")


def test_two_folders_of_rounds_compare_by_the_page(tmp_path: Path) -> None:
    """What a shell loop measured is judged by the command that is shown."""
    random = np.random.default_rng(1)
    for side in ("main", "branch"):
        for number in "1234":
            folder = tmp_path / "runs" / side / number
            folder.mkdir(parents=True)
            (folder / "report.json").write_bytes(msgspec.json.encode(report_of(run_of(random))))

    said = run_block("bench-compare", tmp_path, page=BENCH)

    assert "server CPU per request" in said
    assert (tmp_path / "runs/compared/compare.html").is_file()


def test_the_readme_shows_every_figure_with_its_origin() -> None:
    """A number that nobody can reproduce is an advertisement."""
    for name in ("EXAMPLE_ANSWER", "MEASURED_LINE"):
        assert name not in README
    assert "docs/proofs/" in README


def run_block(name: str, folder: Path, port: int = 8080, page: str = README) -> str:
    """Runs one block with bash and answers its output; a failing command fails the test with what it said."""
    command = ["bash", "-euc", blocks(page)[name].replace(":8080", f":{port}")]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    return done.stdout


def environment() -> dict[str, str]:
    """The reader's shell: our commands on the path, no settings of ours."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CLICKSERVE_", "REDIS_"))}
    return kept | {"PATH": f"{REPOSITORY / '.venv/bin'}:{os.environ['PATH']}"}


def write_shop_log(folder: Path) -> None:
    """A click log with its own names, and member scores computed elsewhere, both unlike any built-in set.

    Members have an affinity that decides whether banners of their theme are clicked, so there is something to learn.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(11)
    n, members, banners = 20_000, 400, 30
    # On a full hour: windows then count the same at any time of day, and the gate sees the same model.
    start = np.datetime64("now", "h").astype("datetime64[ms]") - np.timedelta64(5, "D")
    member, banner = random.integers(0, members, n), random.integers(0, banners, n)
    affinity = random.normal(size=members)
    taste = random.normal(size=(members, 4)).astype(np.float32)
    appeal = random.normal(size=banners)
    log_odds = -2.5 + affinity[member] + appeal[banner]
    shown_at = start + np.sort(random.integers(0, 4 * 86_400_000, n)).astype("timedelta64[ms]")
    log = pa.table(
        {
            "member": [f"m{i}" for i in member],
            "banner": [f"b{i}" for i in banner],
            "shown_at": shown_at,
            "was_clicked": random.random(n) < 1 / (1 + np.exp(-log_odds)),
            "theme": [f"theme {i % 5}" for i in banner],
            "slot": np.array(["top", "side"])[random.integers(0, 2, n)],
        }
    )
    scores = pa.table(
        {
            "member": [f"m{i}" for i in range(members)],
            "computed_at": np.full(members, start - np.timedelta64(1, "h")),
            "affinity": affinity.astype(np.float32),
            "taste": list(taste),
        }
    )
    pq.write_table(log, folder / "log.parquet")
    pq.write_table(scores, folder / "member_scores.parquet")
