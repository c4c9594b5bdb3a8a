"""Each baseline answers the workload's requests with the service's own probabilities, or it is no comparison."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtest.baselines.matrices import SERVERS, matrices, matrix_bodies
from loadtest.baselines.onnx_session import open_session
from loadtest.workload import rank_bodies, read_workload
from tests.conftest import REPOSITORY
from tests.e2e.service_process import service
from tests.reference_workload import build, small_workload
from tests.stores import valkey_server

__all__ = ["valkey_server"]

DEADLINE_S = 60.0
N_REQUESTS = 20
BOUND = 1e-6
"""Of |Δp|: the bound of the export's own proof."""


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A small reference workload, its rows in a private Valkey server."""
    folder = small_workload(tmp_path_factory, tmp_path_factory.mktemp("workload") / "built")
    build(folder, "--redis", request.getfixturevalue("valkey_server").url)
    return folder


@pytest.fixture(scope="module")
def bodies(workload: Path) -> list[bytes]:
    """Some of the workload's requests."""
    return rank_bodies(read_workload(workload / "workload.json"))[:N_REQUESTS]


@pytest.fixture(scope="module")
def wanted(workload: Path, bodies: list[bytes]) -> list[dict[str, Any]]:
    """The service's own answers."""
    patient = ("--set", "deadline.total_ms=5000", "--set", "deadline.features_ms=1000")
    with service("--config", str(workload / "clickserve.toml"), *patient) as running:
        running.wait_for("ready")
        return [post(running.url, body) for body in bodies]


@contextmanager
def baseline(name: str, workload: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A started baseline and its URL; ended on leaving."""
    command = [sys.executable, "-m", f"loadtest.baselines.{name}", "--workload", str(workload), "--port", "0"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, json.loads(line)["url"]
        finally:
            process.kill()


def sent(url: str, body: bytes, path: str) -> bytes:
    """The body of the answer to a request."""
    asked = urllib.request.Request(url + path, body, {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=DEADLINE_S) as answer:
        found: bytes = answer.read()
        return found


def post(url: str, body: bytes) -> dict[str, Any]:
    """The answer to a ranking request."""
    found: dict[str, Any] = json.loads(sent(url, body, "/v1/rank"))
    return found


def ran(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What became of a baseline that ends by itself."""
    command = [sys.executable, "-m", f"loadtest.baselines.{name}", "--workload", str(folder), "--port", "0"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE_S)


def p_clicks(answer: dict[str, Any]) -> dict[str, float]:
    """Probability of each ad, in the order of the answer."""
    return {result["ad_id"]: result["p_click"] for result in answer["results"]}


@pytest.mark.parametrize("name", ["tuned", "tutorial"])
def test_a_baseline_answers_with_the_probabilities_of_the_service(
    name: str, workload: Path, bodies: list[bytes], wanted: list[dict[str, Any]]
) -> None:
    """A server that computes something else may be as fast as it likes."""
    with baseline(name, workload) as (_, url):
        answers = [p_clicks(post(url, body)) for body in bodies]

    for answer, own in zip(answers, map(p_clicks, wanted), strict=True):
        assert answer == pytest.approx(own, abs=BOUND)
        assert sorted(answer.values(), reverse=True) == list(answer.values())


def test_the_tuned_baseline_gives_the_whole_answer_of_the_service(
    workload: Path, bodies: list[bytes], wanted: list[dict[str, Any]]
) -> None:
    """A shorter answer would be cheaper to write."""
    with baseline("tuned", workload) as (_, url):
        answer = post(url, bodies[0])

    own = wanted[0]
    assert list(answer) == list(own)
    assert [list(result) for result in answer["results"]] == [list(result) for result in own["results"]]
    for key in ("model", "degraded"):
        assert answer[key] == own[key]
    assert answer["features"].keys() == own["features"].keys()


def test_the_tuned_baseline_says_what_it_does_not_know(workload: Path) -> None:
    """Checks that are left out would be time saved."""
    body = {"user_id": "u1", "candidates": ["a1", "nobody"], "context": {"c0": 1.0, "mood": "good"}}

    with baseline("tuned", workload) as (_, url):
        answer = post(url, json.dumps(body).encode())

    own = {result["ad_id"]: result.get("degraded") for result in answer["results"]}
    assert own == {"a1": None, "nobody": ["ad_missing"]}
    assert answer["degraded"] == ["ad_missing", "context_missing", "context_unknown"]
    assert answer["features"]["missing"] == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"user_id": "u1", "candidates": []}', 422),
        (b'{"user_id": "u1", "candidates": ["a1", "a1"]}', 422),
        (b'{"user_id": "u1", "candidates": ["a 1"]}', 422),
        (b'{"user_id": "u1", "candidates": ["a1"], "top_k": 0}', 422),
        (b'{"user_id": "u1", "candidates": ["a1"], "mood": "good"}', 422),
    ],
)
def test_the_tuned_wire_refuses_what_the_service_refuses(body: bytes, status: int) -> None:
    """The same statuses as the service's own for the same mistakes."""
    from loadtest.baselines.tuned_wire import Refused, decode

    with pytest.raises(Refused) as refused:
        decode(body)

    assert refused.value.status == status


def test_ready_made_matrices_are_what_the_service_scores(
    workload: Path, bodies: list[bytes], wanted: list[dict[str, Any]]
) -> None:
    """A model server that is fed other numbers would be asked another question."""
    session = open_session(workload)

    for matrix, body, own in zip(matrices(workload), bodies, wanted, strict=False):
        p_click = session.run(["p_click"], {"features": matrix})[0].tolist()
        assert dict(zip(json.loads(body)["candidates"], p_click, strict=True)) == pytest.approx(
            p_clicks(own), abs=BOUND
        )


@pytest.mark.parametrize("name", ["mlserver", "bentoml"])
def test_a_model_server_answers_matrices_with_the_probabilities_of_the_service(
    name: str, workload: Path, bodies: list[bytes], wanted: list[dict[str, Any]]
) -> None:
    """The same rule for servers that are spared the features."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed; it wants an environment of its own")
    server = SERVERS[name]

    with baseline(name, workload) as (_, url):
        answers = [server.p_click(sent(url, body, server.path)) for body in matrix_bodies(name, workload)[:N_REQUESTS]]

    for answer, body, own in zip(answers, bodies, wanted, strict=True):
        assert dict(zip(json.loads(body)["candidates"], answer, strict=True)) == pytest.approx(p_clicks(own), abs=BOUND)


@pytest.mark.parametrize("name", ["mlserver", "bentoml"])
def test_a_model_server_that_is_not_installed_says_so(name: str, workload: Path) -> None:
    """A suite leaves it out, with the reason, and goes on."""
    if importlib.util.find_spec(name) is not None:
        pytest.skip(f"{name} is installed")

    ended = ran(name, workload)

    assert ended.returncode == 69
    assert f"{name} is not installed" in ended.stderr


def test_the_echo_reads_the_body_and_answers_nothing(workload: Path, bodies: list[bytes]) -> None:
    """The unit of speed does the least that a server can do."""
    with baseline("echo", workload) as (_, url):
        answers = [post(url, body) for body in bodies]

    assert answers == [{}] * len(bodies)


@pytest.mark.parametrize("name", ["echo", "tuned", "tutorial"])
def test_a_baseline_ends_on_sigterm(name: str, workload: Path) -> None:
    """A suite that cannot stop its servers measures them all at once."""
    with baseline(name, workload) as (process, _):
        process.send_signal(signal.SIGTERM)

        assert process.wait(DEADLINE_S) in (0, -signal.SIGTERM)


def test_a_baseline_without_a_workload_says_how_to_make_one(tmp_path: Path) -> None:
    """Exit 2, and the command that helps."""
    ended = ran("echo", tmp_path)

    assert ended.returncode == 2
    assert "clickserve bench serve-workload" in ended.stderr
