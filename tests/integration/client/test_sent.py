"""What leaves the client: the deadline in time to be kept, and nothing that nobody asked for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from service.client import Candidate, RetryPolicy
from tests.conftest import REPOSITORY
from tests.integration.client.conftest import Rank
from tests.integration.client.scripted_server import EMPTY_RANKING, ScriptedServer, answers, sends, server


@pytest.mark.parametrize(("deadline_ms", "network_ms", "most_ms"), [(5_000, 200, 4_800), (1_000, 900, 500)])
def test_the_service_is_told_to_answer_before_the_caller_leaves(
    rank: Rank, deadline_ms: float, network_ms: float, most_ms: float
) -> None:
    """An answer that is sent at the deadline arrives after it; but half of the time at least is the service's."""
    with server(answers(EMPTY_RANKING)) as service:
        rank(service.url, "u1", ["a1"], deadline_ms=deadline_ms, options={"network_ms": network_ms})

    (told_ms,) = deadlines(service)
    assert most_ms / 2 <= told_ms <= most_ms


def test_a_second_attempt_tells_what_is_left(rank: Rank) -> None:
    """The deadline is the call's and not the attempt's."""
    with server(sends(b""), answers(EMPTY_RANKING)) as service:
        rank(service.url, "u1", ["a1"], deadline_ms=5_000, options={"retry": RetryPolicy(base_ms=50)})

    first, second = deadlines(service)
    assert second < first < 5_000


def test_without_a_deadline_the_service_keeps_its_own(rank: Rank) -> None:
    """How patient a client is says nothing about when an answer becomes worthless."""
    with server(answers(EMPTY_RANKING)) as service:
        rank(service.url, "u1", ["a1"])

    assert deadlines(service) == []


@pytest.mark.parametrize("deadline_ms", [0, -1, float("nan")])
def test_a_deadline_that_is_no_time_is_refused(rank: Rank, deadline_ms: float) -> None:
    """Before anything is sent."""
    with server(answers(EMPTY_RANKING)) as service, pytest.raises(ValueError, match="must be more than 0"):
        rank(service.url, "u1", ["a1"], deadline_ms=deadline_ms)

    assert service.requests == []


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://shop", "http://", "redis://shop:6379"])
def test_an_address_that_is_none_is_refused(rank: Rank, url: str) -> None:
    """At once, and not as a service that cannot be reached."""
    with pytest.raises(ValueError, match="is not an address like http://host:port"):
        rank(url, "u1", ["a1"])


@pytest.mark.parametrize(
    ("candidates", "sent"),
    [
        (["a1", 7], ["a1", 7]),
        (("a1",), ["a1"]),
        ({"a1": 1.5, "a2": 2}, [{"ad_id": "a1", "bid": 1.5}, {"ad_id": "a2", "bid": 2}]),
        ([Candidate("a1", 0.5), Candidate("a2")], [{"ad_id": "a1", "bid": 0.5}, {"ad_id": "a2"}]),
        ([], []),
    ],
)
def test_candidates_may_be_given_in_several_ways(rank: Rank, candidates: object, sent: object) -> None:
    """What is wrong with them, the service says."""
    with server(answers(EMPTY_RANKING)) as service:
        rank(service.url, "u1", candidates)

    assert body(service) == {"user_id": "u1", "candidates": sent}


def test_one_id_is_no_list_of_candidates(rank: Rank) -> None:
    """Its letters would be asked for."""
    with pytest.raises(TypeError, match="expected a list of ids, got the text 'a1'"):
        rank("http://127.0.0.1:1", "u1", "a1")


def test_what_json_has_no_form_for_is_refused(rank: Rank) -> None:
    """With its value, since the caller did not mean to send it."""
    with pytest.raises(TypeError, match="cannot be sent"):
        rank("http://127.0.0.1:1", "u1", ["a1"], context={"device": object()})


def test_the_client_loads_nothing_of_the_service_but_itself() -> None:
    """Whoever asks needs no NumPy, no Redis and no ONNX Runtime."""
    code = "import json, sys, service.client; print(json.dumps(sorted(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, check=True, text=True)

    loaded = json.loads(said.stdout)

    assert {name for name in loaded if name.partition(".")[0] in ("numpy", "redis", "onnxruntime", "fastapi")} == set()
    own = {name for name in loaded if name.startswith(("service", "models", "feature_store"))}
    assert {name for name in own if not name.startswith("service.client")} == {"service"}


def deadlines(service: ScriptedServer) -> list[float]:
    """What each request said."""
    heads = [request.partition(b"\r\n\r\n")[0].lower().split(b"\r\n") for request in service.requests]
    return [float(line.partition(b":")[2]) for head in heads for line in head if line.startswith(b"x-deadline-ms")]


def body(service: ScriptedServer) -> object:
    """Of the only request."""
    (request,) = service.requests
    return json.loads(request.partition(b"\r\n\r\n")[2])
