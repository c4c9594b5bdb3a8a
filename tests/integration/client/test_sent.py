"""What leaves the client: the deadline in time to be kept, and nothing that nobody asked for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from service.client import Candidate, Client, Instance, RetryPolicy
from service.request_id import RequestIds
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


UNSENDABLE = [
    b"m7",
    bytearray(b"m7"),
    np.bytes_(b"m7"),
    datetime(2026, 3, 1, tzinfo=UTC),
    date(2026, 3, 1),
    timedelta(hours=1),
    np.datetime64("2026-03-01"),
    Decimal("1.5"),
    UUID(int=7),
    {"m7"},
]


@pytest.mark.parametrize("value", UNSENDABLE, ids=lambda value: type(value).__name__)
def test_types_that_json_lacks_are_refused_with_their_place(value: Any) -> None:
    """Sent as some text, an id is that of an unknown user and a time that of no feature: an answer, and a wrong one."""
    with server(answers(EMPTY_RANKING)) as service, Client(service.url) as client:
        calls: dict[str, Callable[[], object]] = {
            "user_id": lambda: client.rank(value, ["a1"]),
            "candidates[1]": lambda: client.rank("u1", ["a1", value]),
            "candidates[0].ad_id": lambda: client.rank("u1", [Candidate(value)]),
            "candidates[0].bid": lambda: client.rank("u1", [Candidate("a1", value)]),
            "context.hour": lambda: client.rank("u1", ["a1"], context={"hour": value}),
            "context.hours[0]": lambda: client.rank("u1", ["a1"], context={"hours": [value]}),  # type: ignore[dict-item]
            "instances[0].user_id": lambda: client.predict([Instance(value)]),
            "instances[0].context.hour": lambda: client.predict([Instance(context={"hour": value})]),
        }
        for path, call in calls.items():
            with pytest.raises(TypeError, match=f"^{re.escape(path)}: .* cannot be sent: expected text, number"):
                call()

    assert service.requests == []


def test_names_of_a_context_are_text(rank: Rank) -> None:
    """Bytes would be sent in base64."""
    with pytest.raises(TypeError, match=r"context: the name b'hour' \(bytes\) cannot be sent"):
        rank("http://127.0.0.1:1", "u1", ["a1"], context={b"hour": 1})


def test_bytes_are_no_list_of_candidates(rank: Rank) -> None:
    """They are a list of small integers, and those would be asked for."""
    with pytest.raises(TypeError, match="expected a list of ids, got the bytes b'a1'"):
        rank("http://127.0.0.1:1", "u1", b"a1")


def test_scalars_of_numpy_are_sent_as_pythons(rank: Rank) -> None:
    """They come out of every table."""
    context = {"hour": np.float32(1.5), "slot": np.int64(3), "new": np.bool_(True), "device": np.str_("phone")}
    with server(answers(EMPTY_RANKING)) as service:
        rank(service.url, np.int64(7), np.array(["a1", "a2"]), context=context)

    sent_context = {"hour": 1.5, "slot": 3, "new": True, "device": "phone"}
    assert body(service) == {"user_id": 7, "candidates": ["a1", "a2"], "context": sent_context}


@pytest.mark.parametrize("request_id", ["a\r\nX: y", "é", "", "two words", "x" * 129, "tab\t"])
def test_a_request_id_that_the_service_would_not_keep_is_refused(rank: Rank, request_id: str) -> None:
    """As the caller's mistake that it is, before anything is sent, and not as a service out of reach."""
    with server(answers(EMPTY_RANKING)) as service, pytest.raises(ValueError, match="request_id: expected 1 to 128"):
        rank(service.url, "u1", ["a1"], request_id=request_id)

    assert service.requests == []
    assert RequestIds().of(request_id.encode(), None) != request_id


@pytest.mark.parametrize("header", [("x-team", "a\r\nX: y"), ("x-team", "é"), ("x team", "a")])
def test_a_header_that_cannot_be_sent_is_refused(rank: Rank, header: tuple[str, str]) -> None:
    """When the client is made."""
    with pytest.raises(ValueError, match=r"headers: 'x.team'"):
        rank("http://127.0.0.1:1", "u1", ["a1"], options={"headers": dict([header])})


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
