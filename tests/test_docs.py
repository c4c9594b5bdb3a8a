"""The snippets of the README and of `docs/` are run as they stand (`tests/snippets.py` says how they are marked).

The quick starts, which need longer, have `tests/test_quickstarts.py`.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.request import urlopen

import msgspec
import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.e2e.conftest import arguments, project, store
from tests.e2e.service_process import DEADLINE_S, service
from tests.loadtest.report_samples import report_of, run_of
from tests.snippets import blocks, environment, page, run_block, write_files

__all__ = ["arguments", "project", "store"]

README = page("README.md")
PYTHON_CLIENT = page("docs/python-client.md")
BINARY_RANK = page("docs/binary-rank.md")
BENCH = page("docs/bench.md")


def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    """A command that is shown exists."""
    assert "materialize" in run_block("commands", tmp_path, README)


def test_the_measurements_of_the_readme_can_be_asked_for() -> None:
    """They take minutes to hours; that each command, option, target and module exists takes seconds."""
    shown = blocks(BENCH)
    for line in (blocks(README)["measure"] + shown["bench-report"] + shown["bench-turns"]).splitlines():
        command = line.partition("#")[0].strip()
        asked = command.replace("make ", "make -n ") if command.startswith("make") else f"{command} --help"
        done = subprocess.run(
            ["bash", "-euc", asked], cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def test_the_client_of_the_binary_frames_gets_the_answer_that_json_has(arguments: list[str], tmp_path: Path) -> None:
    """Thirty lines without a library are the promise of that page."""
    write_files(BINARY_RANK, tmp_path)
    with service(*arguments) as running:
        running.wait_for("ready")
        body = {"user_id": "u1", "candidates": ["a1", "a2", "a3"], "context": {"device": "phone"}}

        said = run_block("binary-rank", tmp_path, BINARY_RANK, running.port)

        with urlopen(f"{running.url}/v1/rank", json.dumps(body).encode(), timeout=DEADLINE_S) as answer:
            results = json.load(answer)["results"]
    answered = [(ad_id, float(p_click)) for ad_id, p_click in map(str.split, said.splitlines())]
    assert answered == [(result["ad_id"], pytest.approx(result["p_click"], abs=1e-6)) for result in results]


def test_the_snippets_of_the_python_client_run(arguments: list[str], tmp_path: Path) -> None:
    """The page is what a caller copies from."""
    with service(*arguments) as running:
        running.wait_for("ready")
        for name in ("ask.py", "ask_async.py"):
            (tmp_path / name).write_text(blocks(PYTHON_CLIENT)[name].replace(":8080", f":{running.port}"))

        asked = run_block("ask", tmp_path, PYTHON_CLIENT).splitlines()
        asked_async = run_block("ask-async", tmp_path, PYTHON_CLIENT)

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

    said = run_block("bench-compare", tmp_path, BENCH)

    assert "server CPU per request" in said
    assert (tmp_path / "runs/compared/compare.html").is_file()


def test_the_readme_shows_every_figure_with_its_origin() -> None:
    """A number that nobody can reproduce is an advertisement."""
    for name in ("EXAMPLE_ANSWER", "MEASURED_LINE"):
        assert name not in README
    assert "docs/proofs/" in README


def test_the_first_question_of_the_readme_is_answered(arguments: list[str], tmp_path: Path) -> None:
    """Of two results, best first by score; here by a service that knows neither the user nor the ads."""
    with service(*arguments) as running:
        running.wait_for("ready")

        results = json.loads(run_block("example", tmp_path, README, running.port))["results"]

    shown = json.loads(README.partition("```json\n")[2].partition("```")[0])["results"]
    assert [{*result} - {"degraded"} for result in results] == [{*result} for result in shown]
