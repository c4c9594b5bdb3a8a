"""Every error that can end a request has its place in the one table."""

from __future__ import annotations

from collections.abc import Iterator

from service.errors import InvalidRequest, Overloaded, RequestError, ServiceError, Unavailable, WrongMethod
from service.http_errors import KINDS, headers_of, internal_problem, problem_of


def leaves(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    """The errors below a base that are raised themselves."""
    for below in kind.__subclasses__():
        yield from leaves(below) if below.__subclasses__() else [below]


def test_no_error_of_a_request_is_missing_from_the_table() -> None:
    """One that is would become a 500."""
    raised = {*leaves(RequestError), *leaves(Unavailable)}

    assert raised == set(KINDS)


def test_kinds_are_told_apart_by_their_type() -> None:
    """Clients switch on it."""
    slugs = [kind.slug for kind in KINDS.values()]

    assert len(slugs) == len(set(slugs))


def test_a_problem_carries_path_detail_and_request() -> None:
    """What RFC 9457 calls extensions are for programs."""
    problem = problem_of(InvalidRequest("expected text, got 3 (number)", "model"), "r-1")

    assert (problem.status, problem.type) == (422, "urn:clickserve:problem:invalid-request")
    assert (problem.path, problem.detail) == ("model", "model: expected text, got 3 (number)")
    assert problem.request_id == "r-1"


def test_headers_say_what_a_client_should_do() -> None:
    """Come back later, or ask in another way."""
    assert headers_of(Overloaded("queue_full", 1)) == [(b"retry-after", b"1")]
    assert headers_of(WrongMethod("GET", "POST")) == [(b"allow", b"POST")]


def test_a_defect_tells_the_caller_nothing_but_its_name() -> None:
    """The log has the rest."""
    problem = internal_problem("r-2")

    assert problem.status == 500
    assert "r-2" in problem.detail
