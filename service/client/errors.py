"""What a call may end in instead of an answer. Each carries the problem details (RFC 9457), where the service gave any.

ClickserveError
├── RejectedRequest       4xx: the request is wrong, or names what is not there; no retry will mend it
├── Overloaded            503 or 429: refused so that others stay in time; `retry_after_s` says when to come again
├── DeadlineExceeded      time ran out, here or in the service (504)
├── ServiceFault          another 5xx: a defect of the service, or of a proxy on the way
├── Unreachable           no connection, or it broke before an answer
└── MalformedAnswer       an answer came, but not one of this API
"""

from __future__ import annotations

from msgspec import Struct


class ErrorDetail(Struct, frozen=True):
    """One thing that is wrong with a request."""

    detail: str
    path: str = ""
    """Where: `candidates[3].ad_id`; empty where it is the whole request."""


class ProblemDetails(Struct, frozen=True):
    """A problem as it came; a member that is missing is empty."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    code: str = ""
    request_id: str = ""
    path: str = ""
    errors: tuple[ErrorDetail, ...] = ()


class ClickserveError(Exception):
    """Base of all errors that a call may raise, but for ValueError and TypeError on what can never be sent."""

    def __init__(self, message: str, problem: ProblemDetails | None = None) -> None:
        self._problem = problem = problem or ProblemDetails()
        self.type = problem.type
        """Stable name of the kind of problem, `urn:clickserve:problem:…`; `about:blank` where the service gave none."""
        self.code = problem.code or (problem.type.rpartition(":")[2] if problem.type.startswith("urn:") else "")
        """Its last word: `invalid-request`; empty where the service gave none."""
        self.status = problem.status
        """Of the HTTP answer; 0 where there was none."""
        self.title = problem.title
        self.detail = problem.detail
        """For people; may change."""
        self.request_id = problem.request_id
        """Finds the request in the service's log; empty where no answer named it."""
        self.errors = problem.errors or (
            (ErrorDetail(problem.detail, problem.path),) if problem.status and problem.detail else ()
        )
        """What is wrong, one by one; the service names the first it finds."""
        super().__init__(message)


class RejectedRequest(ClickserveError):
    """The service refuses the request itself."""


class Overloaded(ClickserveError):
    """The service has no room for the request now, or is about to stop."""

    def __init__(self, message: str, problem: ProblemDetails | None = None, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        """When to come again; None where the answer did not say, and then nobody comes again by itself."""
        super().__init__(message, problem)


class DeadlineExceeded(ClickserveError):
    """The call's time is over."""


class ServiceFault(ClickserveError):
    """The service, or a proxy before it, failed."""


class Unreachable(ClickserveError):
    """No answer, and not for want of time."""


class MalformedAnswer(ClickserveError):
    """Something else than this service seems to listen there, or a version that speaks another language."""
