"""Whatever is wrong on the other side ends in one of our errors, in time, and is tried again only where that helps."""

from __future__ import annotations

import errno
import socket
import time
import traceback

import pytest

from service.client import (
    ClickserveError,
    Client,
    DeadlineExceeded,
    MalformedAnswer,
    Overloaded,
    RejectedRequest,
    RetryPolicy,
    ServiceFault,
    Unreachable,
)
from tests.integration.client.conftest import Rank
from tests.integration.client.scripted_server import (
    EMPTY_RANKING,
    Act,
    answers,
    dribbles,
    hangs,
    sends,
    server,
)

ONCE = {"retry": RetryPolicy(max_attempts=1)}
CUT_OFF = sends(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
PATIENT_S = 30.0
"""Far more than any call here takes; a bound that only a call which ignores its deadline passes."""


@pytest.mark.parametrize("act", [hangs, dribbles])
def test_a_server_that_never_ends_its_answer_costs_the_deadline_and_no_retry(rank: Rank, act: Act) -> None:
    """The time is over, and a service that is slow needs fewer requests."""
    with server(act) as slow:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="no answer within 150 ms"):
            rank(slow.url, "u1", ["a1"], deadline_ms=150)

    assert 0.1 < time.monotonic() - began < PATIENT_S
    assert len(slow.requests) == 1


def test_nobody_there_is_unreachable(rank: Rank) -> None:
    """The error names the address, because that is what is wrong most often."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        with pytest.raises(Unreachable, match=f"no connection to {url}") as caught:
            rank(url, "u1", ["a1"])

    assert (caught.value.type, caught.value.code, caught.value.errors) == ("about:blank", "", ())


def test_an_error_nobody_catches_is_told_in_few_lines(rank: Rank) -> None:
    """Frames of the HTTP library below say nothing that the message does not, and hide the caller's own line."""
    told = []
    for script in (CUT_OFF, answers(b"<html>")):
        with server(script) as broken, pytest.raises(ClickserveError) as caught:
            rank(broken.url, "u1", ["a1"], options=ONCE)
        told.append("".join(traceback.format_exception(caught.value)))

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match=rf"\[Errno {errno.ECONNREFUSED}\]") as nobody:
            rank(f"http://127.0.0.1:{unused.getsockname()[1]}", "u1", ["a1"], options=ONCE)
    told.append("".join(traceback.format_exception(nobody.value)))

    for text in told:
        assert "direct cause" not in text
        assert "During handling" not in text
        assert "httpcore" not in text


def test_a_connection_that_breaks_before_the_answer_is_tried_again(rank: Rank) -> None:
    """A ranking changes nothing, and the next connection probably reaches a worker that lives."""
    with server(CUT_OFF, sends(b""), answers(EMPTY_RANKING)) as replaced:
        assert rank(replaced.url, "u1", ["a1"]).request_id == "r1"

    assert len(replaced.requests) == 3
    assert len(set(replaced.requests)) == 1


def test_a_connection_that_always_breaks_is_given_up(rank: Rank) -> None:
    """After as many attempts as the policy allows."""
    with server(CUT_OFF) as broken, pytest.raises(Unreachable, match="broke before an answer was complete"):
        rank(broken.url, "u1", ["a1"], options={"retry": RetryPolicy(max_attempts=2)})

    assert len(broken.requests) == 2


def test_bytes_that_are_no_http_are_no_answer(rank: Rank) -> None:
    """As of a database whose port was taken for ours."""
    with server(sends(b"-ERR unknown command 'POST'\r\n")) as other, pytest.raises(Unreachable):
        rank(other.url, "u1", ["a1"], options=ONCE)


@pytest.mark.parametrize(
    "body",
    [b"<html>welcome</html>", b"", b"{}", b'{"request_id": 7}', b'{"request_id": "\xff"}', EMPTY_RANKING[:-1]],
    ids=["a page", "nothing", "no fields", "wrong type", "no UTF-8", "cut"],
)
def test_a_200_that_is_none_of_our_answers_is_malformed(rank: Rank, body: bytes) -> None:
    """It would be the same again, and a caller must not take it for a ranking without results."""
    with server(answers(body, "200 OK", b"x-request-id: r7")) as other, pytest.raises(MalformedAnswer) as caught:
        rank(other.url, "u1", ["a1"])

    assert len(other.requests) == 1
    assert (caught.value.status, caught.value.request_id) == (200, "r7")


def test_what_a_newer_service_adds_is_left_unread(rank: Rank) -> None:
    """Clients are updated after services."""
    newer = EMPTY_RANKING.replace(b'"results":[]', b'"results":[{"ad_id":"a1","p_click":0.5,"new":[1]}],"also":{}')
    with server(answers(newer.replace(b'"degraded":[]', b'"degraded":["a_new_code"]'))) as service:
        answer = rank(service.url, "u1", ["a1"])

    assert (answer.results[0].p_click, answer.degraded) == (0.5, ["a_new_code"])


def test_overload_without_a_time_to_come_again_is_raised_at_once(rank: Rank) -> None:
    """Who comes again unasked keeps the service overloaded."""
    with server(answers(b"", "503 Service Unavailable")) as full, pytest.raises(Overloaded) as caught:
        rank(full.url, "u1", ["a1"])

    assert caught.value.retry_after_s is None
    assert len(full.requests) == 1


def test_overload_is_waited_out_as_long_as_the_service_says(rank: Rank) -> None:
    """And no shorter, since every client was told the same."""
    full = answers(b"", "503 Service Unavailable", b"retry-after: 0.2")
    with server(full, answers(EMPTY_RANKING)) as service:
        began = time.monotonic()
        rank(service.url, "u1", ["a1"])

    assert time.monotonic() - began >= 0.2
    assert len(service.requests) == 2


def test_a_wait_beyond_the_deadline_is_not_begun(rank: Rank) -> None:
    """The caller has better use for the time; the error says when to come again."""
    with server(answers(b"", "429 Too Many Requests", b"retry-after: 60")) as full:
        began = time.monotonic()
        with pytest.raises(Overloaded) as caught:
            rank(full.url, "u1", ["a1"], deadline_ms=20_000)

    assert caught.value.retry_after_s == 60
    assert time.monotonic() - began < 20
    assert len(full.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("500 Internal Server Error", ServiceFault),
        ("502 Bad Gateway", ServiceFault),
        ("504 Gateway Timeout", DeadlineExceeded),
        ("401 Unauthorized", RejectedRequest),
        ("302 Found", MalformedAnswer),
    ],
)
def test_a_proxys_page_becomes_an_error_of_its_status(rank: Rank, status: str, kind: type[ClickserveError]) -> None:
    """Not every answer on the way is a problem document; none of these is asked for twice."""
    with server(answers(b"<html>nginx</html>", status)) as proxy, pytest.raises(kind) as caught:
        rank(proxy.url, "u1", ["a1"])

    error = caught.value
    assert (error.status, error.type, error.code) == (int(status[:3]), "about:blank", "")
    assert error.detail == "<html>nginx</html>"
    assert len(proxy.requests) == 1


def test_every_error_of_a_list_of_problems_is_told(rank: Rank) -> None:
    """A newer service may name all that is wrong, and a code of its own."""
    problem = (
        b'{"type":"urn:clickserve:problem:invalid-request","title":"t","status":422,"detail":"two","request_id":"r9",'
        b'"code":"two_things","errors":[{"detail":"first","path":"user_id"},{"detail":"second"}]}'
    )
    with server(answers(problem, "422 Unprocessable")) as service, pytest.raises(RejectedRequest) as caught:
        rank(service.url, "u1", ["a1"])

    assert (caught.value.code, caught.value.request_id) == ("two_things", "r9")
    assert [(error.path, error.detail) for error in caught.value.errors] == [("user_id", "first"), ("", "second")]


def test_retries_of_a_client_are_bounded_by_its_budget() -> None:
    """While nothing works, a client adds a tenth to the load and does not triple it."""
    policy = RetryPolicy(base_ms=0, budget=2)
    with server(CUT_OFF) as broken, Client(broken.url, retry=policy) as client:
        for _ in range(20):
            with pytest.raises(Unreachable):
                client.rank("u1", ["a1"])

    assert 20 + 2 <= len(broken.requests) <= 20 + 2 + 20 * policy.budget_ratio


def test_a_connection_is_used_again() -> None:
    """A connection costs a round trip, and as much CPU as the ranking."""
    with server(_twice) as service, Client(service.url) as client:
        first, second = client.rank("u1", ["a1"]), client.rank("u1", ["a1"])

    assert (first.request_id, second.request_id) == ("r1", "r1")
    assert len(service.requests) == 1  # the script sees a connection's first request alone


def _twice(connection: socket.socket, over: object) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(EMPTY_RANKING) + EMPTY_RANKING
    connection.sendall(answer)
    connection.recv(65536)
    connection.sendall(answer)
