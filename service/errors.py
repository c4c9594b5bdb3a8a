"""Every error the service raises on purpose. They carry data and know nothing of HTTP (`http_errors.py` does).

ServiceError
├── SettingsError             configuration that is unknown, unreadable or contradicts itself
├── StartError                a worker cannot begin to serve; the message says what to repair
├── RequestError              the caller's mistake; the message names the path into the request
│   ├── UnknownPath           nothing is there
│   ├── WrongMethod           something is there, but not for this method
│   ├── MalformedBody         neither JSON nor a frame, or not UTF-8
│   ├── BodyTooLarge          more bytes than `server.max_body_bytes`
│   ├── UnsupportedMedia      a content type or encoding that the route does not read
│   ├── InvalidRequest        a body that does not say what the route needs
│   └── UnknownModel          no slot of that name
└── Unavailable               not the caller's mistake; trying again later may help
    ├── Overloaded            refused at the door, so that requests inside stay in time
    └── DeadlinePassed        time ran out before anything was scored
"""

from __future__ import annotations

from typing import Literal

ShedReason = Literal["queue_full", "queue_time", "explain_busy"]


class ServiceError(Exception):
    """Base of all errors raised by `service`."""


class SettingsError(ServiceError):
    """A setting is unknown, has the wrong type or contradicts another; the message names it and the way out."""


class StartError(ServiceError):
    """A worker cannot begin to serve."""


class RequestError(ServiceError):
    """A request that no retry will mend."""

    def __init__(self, problem: str, path: str = "") -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path}: {problem}" if path else problem)


class UnknownPath(RequestError):
    """The service has no such path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"there is nothing at {path[:200]!r}; /docs lists all paths")


class WrongMethod(RequestError):
    """The path is not asked with this method."""

    def __init__(self, method: str, allowed: str) -> None:
        self.allowed = allowed
        super().__init__(f"{method[:20]} is not allowed here; use {allowed}")


class MalformedBody(RequestError):
    """The body is neither JSON nor a frame that can be read, or not UTF-8."""


class BodyTooLarge(RequestError):
    """The body has more bytes than the service reads."""

    def __init__(self, max_body_bytes: int) -> None:
        self.max_body_bytes = max_body_bytes
        super().__init__(
            f"the body is larger than {max_body_bytes} bytes (server.max_body_bytes); send fewer candidates"
        )


class UnsupportedMedia(RequestError):
    """The body is announced as something that the route does not read."""


class InvalidRequest(RequestError):
    """The body can be read, but a value in it is not what the route needs."""


class UnknownModel(RequestError):
    """The request names a model that is not served."""

    def __init__(self, name: str, served: tuple[str, ...]) -> None:
        self.name, self.served = name, served
        shown = name if len(name) <= 64 else f"{name[:63]}…"
        super().__init__(f"no model {shown!r} is served; there is {', '.join(map(repr, served))}", "model")


class Unavailable(ServiceError):
    """The service cannot answer now."""


class Overloaded(Unavailable):
    """The request waited too long for its turn, or there was no room to wait."""

    def __init__(self, reason: ShedReason, retry_after_s: int) -> None:
        self.reason, self.retry_after_s = reason, retry_after_s
        super().__init__(f"the service is over capacity ({reason}); try again in {retry_after_s} s")


class DeadlinePassed(Unavailable):
    """The request's time was over before its first candidate was scored."""

    def __init__(self, total_ms: float) -> None:
        self.total_ms = total_ms
        super().__init__(f"nothing was scored within {total_ms:g} ms; allow more time or send fewer candidates")
