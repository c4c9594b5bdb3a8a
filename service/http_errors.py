"""The one table from errors to HTTP: what each means to a caller, as RFC 9457 problem details.

`type` is stable and names the kind of problem; `detail` is for people and may change; `path` says where in the request.
Source: https://www.rfc-editor.org/rfc/rfc9457.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from service.errors import (
    BodyTooLarge,
    DeadlinePassed,
    InvalidRequest,
    MalformedBody,
    Overloaded,
    RequestError,
    ServiceError,
    UnknownModel,
    UnknownPath,
    UnsupportedMedia,
    WrongMethod,
)

CONTENT_TYPE = b"application/problem+json"
_TYPE_PREFIX = "urn:clickserve:problem:"


class Problem(Struct, frozen=True):
    """Why a request was not answered (RFC 9457)."""

    type: Annotated[str, Meta(description="Stable name of the kind of problem.")]
    title: str
    status: int
    detail: Annotated[str, Meta(description="What was wrong here, with the path in front where there is one.")]
    request_id: str
    path: Annotated[str, Meta(description="Where in the request: `candidates[3].ad_id`.")] | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One kind of problem."""

    status: int
    slug: str
    title: str


KINDS: dict[type[ServiceError], ProblemKind] = {
    UnknownPath: ProblemKind(404, "unknown-path", "No such path"),
    WrongMethod: ProblemKind(405, "wrong-method", "The path has no such method"),
    MalformedBody: ProblemKind(400, "malformed-body", "The body cannot be read"),
    UnknownModel: ProblemKind(404, "unknown-model", "No such model"),
    BodyTooLarge: ProblemKind(413, "body-too-large", "The body is too large"),
    UnsupportedMedia: ProblemKind(415, "unsupported-media", "The body has a form that is not read here"),
    InvalidRequest: ProblemKind(422, "invalid-request", "A value is not what the route needs"),
    Overloaded: ProblemKind(503, "overloaded", "The service is over capacity"),
    DeadlinePassed: ProblemKind(504, "deadline-passed", "The deadline passed with nothing scored"),
}
INTERNAL = ProblemKind(500, "internal-error", "A defect of the service")

NOT_HTTP = ProblemKind(400, "not-http", "Not a valid HTTP/1.1 request")
REQUEST_INCOMPLETE = ProblemKind(408, "request-incomplete", "The request did not arrive in full")
HEAD_TOO_LARGE = ProblemKind(431, "head-too-large", "Request line and headers are too large")
UNKNOWN_METHOD = ProblemKind(501, "unknown-method", "No path has such a method")
REFUSALS = (NOT_HTTP, REQUEST_INCOMPLETE, HEAD_TOO_LARGE, UNKNOWN_METHOD)
"""What the server answers itself, before a path is known; each closes the connection."""


def kind_of(error: ServiceError) -> ProblemKind:
    """What an error means to the caller."""
    return next(KINDS[kind] for kind in type(error).__mro__ if kind in KINDS)


def problem_of(error: ServiceError, request_id: str) -> Problem:
    """The answer to a request that ended in `error`."""
    kind = kind_of(error)
    path = error.path if isinstance(error, RequestError) and error.path else UNSET
    return Problem(_TYPE_PREFIX + kind.slug, kind.title, kind.status, str(error), request_id, path)


def internal_problem(request_id: str) -> Problem:
    """The answer to a request that met a defect of the service."""
    detail = f"an unexpected error; the log has it under request id {request_id}"
    return refusal(INTERNAL, detail, request_id)


def refusal(kind: ProblemKind, detail: str, request_id: str) -> Problem:
    """The server's own answer."""
    return Problem(_TYPE_PREFIX + kind.slug, kind.title, kind.status, detail, request_id)


def headers_of(error: ServiceError) -> list[tuple[bytes, bytes]]:
    """Headers that belong to an error's answer."""
    if isinstance(error, Overloaded):
        return [(b"retry-after", b"%d" % error.retry_after_s)]
    if isinstance(error, WrongMethod):
        return [(b"allow", error.allowed.encode())]
    return []
