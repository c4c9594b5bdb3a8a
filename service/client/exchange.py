"""Between a call and httpx: what is sent, what came back, and what went wrong on the way. Shared by both clients."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import msgspec

from service.client.attempts import Call, Clock, RetryBudget, RetryPolicy
from service.client.errors import (
    ClickserveError,
    DeadlineExceeded,
    MalformedAnswer,
    Overloaded,
    ProblemDetails,
    RejectedRequest,
    ServiceFault,
    Unreachable,
)
from service.client.questions import Question

T = TypeVar("T")

KEEP_IDLE_S = 60.0
"""Idle connections are closed before the service closes them (75 s), which could meet a request on its way."""
_PROBLEM = msgspec.json.Decoder(ProblemDetails)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"([!-~]([\t -~]*[!-~])?)?")
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


class _PhaseTimeouts(dict[str, float]):
    """Timeouts that shrink with the call: httpx's transport asks anew in each phase of an exchange."""

    def __init__(self, call: Call, connect_timeout_s: float) -> None:
        super().__init__()
        self._call, self._connect_timeout_s = call, connect_timeout_s

    def get(self, phase: str, default: Any = None) -> Any:
        """Seconds for `connect`, `read`, `write` or `pool`; a socket takes 0 for "do not wait"."""
        left_s = max(self._call.remaining_s(), 0.0001)
        return min(left_s, self._connect_timeout_s) if phase == "connect" else left_s


@dataclass(frozen=True, slots=True)
class Terms:
    """What all calls of one client have in common."""

    base_url: str
    timeout_s: float
    connect_timeout_s: float
    network_ms: float
    retry: RetryPolicy
    budget: RetryBudget
    http_options: dict[str, Any]
    clock: Clock = time.monotonic

    @classmethod
    def of(
        cls,
        base_url: str,
        timeout_s: float,
        connect_timeout_s: float,
        network_ms: float,
        retry: RetryPolicy | None,
        max_connections: int,
        headers: Mapping[str, str] | None,
        ssl_context: ssl.SSLContext | None,
    ) -> Terms:
        """Checked. Raises ValueError where an address, a time or a header means nothing."""
        url = httpx.URL(base_url)
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"{base_url!r} is not an address like http://host:port")
        if min(timeout_s, connect_timeout_s) <= 0 or network_ms < 0:
            raise ValueError(f"timeouts are more than 0 s, got {timeout_s:g} and {connect_timeout_s:g}")
        for name, value in (headers or {}).items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise ValueError(f"headers: {name!r}: {value!r} cannot be sent: a header is one line of ASCII")
        policy = retry or RetryPolicy()
        options = {
            "headers": {"accept": "application/json", **(headers or {})},
            "limits": httpx.Limits(
                max_connections=max_connections, max_keepalive_connections=max_connections, keepalive_expiry=KEEP_IDLE_S
            ),
            # Reading the authorities' certificates takes 20 ms; an http address needs none.
            "verify": ssl_context if ssl_context is not None else url.scheme == "https",
            "trust_env": False,  # a proxy of the company's web traffic is not on the way to a ranking service
        }
        return cls(
            base_url.rstrip("/"),
            timeout_s,
            connect_timeout_s,
            network_ms,
            policy,
            RetryBudget(policy),
            options,
        )

    def call(self, deadline_ms: float | None) -> Call:
        """The attempts of one call. Raises ValueError where the deadline is no time."""
        if deadline_ms is not None and not deadline_ms > 0:
            raise ValueError(f"deadline_ms = {deadline_ms!r} must be more than 0")
        timeout_s = self.timeout_s if deadline_ms is None else min(self.timeout_s, deadline_ms / 1000)
        return Call(timeout_s, self.retry, self.budget, self.clock)

    def request(self, http: httpx.Client | httpx.AsyncClient, question: Question[Any], call: Call) -> httpx.Request:
        """One attempt. A deadline goes along, less the time that the answer takes to come back."""
        headers = dict(question.headers or {})
        if question.body is not None:
            headers["content-type"] = "application/json"
        if question.deadline_ms is not None:
            left_ms = max(call.remaining_s() * 1000, 0.001)
            headers["x-deadline-ms"] = f"{max(left_ms - self.network_ms, left_ms / 2):.3f}"
        return http.build_request(
            question.method,
            self.base_url + question.path,
            content=question.body,
            headers=headers,
            extensions={"timeout": _PhaseTimeouts(call, self.connect_timeout_s)},
        )

    def failure(self, error: httpx.HTTPError, call: Call) -> ClickserveError:
        """What an exchange that did not end in an answer means."""
        if isinstance(error, httpx.TimeoutException) and (
            call.remaining_s() <= 0.001 or not isinstance(error, httpx.ConnectTimeout)
        ):
            return call.out_of_time()
        if isinstance(error, httpx.DecodingError):
            return MalformedAnswer(f"{self.base_url} answered in a coding that cannot be read ({error})")
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            return Unreachable(f"no connection to {self.base_url} ({_said(error)})")
        return Unreachable(f"the connection to {self.base_url} broke before an answer was complete ({_said(error)})")

    def read(self, response: httpx.Response, body: bytes | bytearray, question: Question[T]) -> T:
        """The answer. Raises ClickserveError where it is none."""
        status = response.status_code
        if status != httpx.codes.OK and status not in question.also_answers:
            raise self._refusal(response, body)
        try:
            return question.decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if status != httpx.codes.OK:
                raise self._refusal(response, body) from None
            raise MalformedAnswer(
                f"{response.url} answered 200 with something else than this client reads: {error}",
                ProblemDetails(status=status, request_id=response.headers.get("x-request-id", "")),
            ) from None

    def _refusal(self, response: httpx.Response, body: bytes | bytearray) -> ClickserveError:
        status, problem = response.status_code, _problem(response, body)
        message = f"{status} {problem.title}: {problem.detail}"
        if status in (429, 503):
            return Overloaded(message, problem, _retry_after_s(response))
        if status == 504:
            return DeadlineExceeded(message, problem)
        if 400 <= status < 500:
            return RejectedRequest(message, problem)
        if status >= 500:
            return ServiceFault(message, problem)
        return MalformedAnswer(f"{response.url} answered {status}, which this API never does", problem)


def _problem(response: httpx.Response, body: bytes | bytearray) -> ProblemDetails:
    """Of an answer that may be no problem at all, as a proxy's page is not."""
    try:
        problem = _PROBLEM.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = ProblemDetails(detail=body[:200].decode(errors="replace"))
    return msgspec.structs.replace(
        problem,
        status=response.status_code,
        title=problem.title or response.reason_phrase,
        request_id=problem.request_id or response.headers.get("x-request-id", ""),
    )


def _retry_after_s(response: httpx.Response) -> float | None:
    """A date, which the header may also hold, says nothing to a client whose clock differs."""
    said = response.headers.get("retry-after", "").strip()
    return float(said) if _SECONDS.fullmatch(said) else None


def _said(error: BaseException) -> str:
    """What went wrong, in the words of the layers below, whose errors may be empty, and of the system at the bottom.

    So that ours can be raised without theirs, dozens of frames of which tell a caller nothing.
    """
    words, cause, bottom = str(error), error, ""
    while (below := cause.__cause__ or cause.__context__) is not None:
        while isinstance(below, BaseExceptionGroup):  # one for each address that was tried
            below = below.exceptions[0]
        cause = below
        words = words or str(cause)
        bottom = str(cause) if isinstance(cause, OSError) else bottom
    words = words or type(error).__name__
    return words if bottom in words else f"{words}: {bottom}"
