"""The shape of an ASGI 3 application, for type annotations: https://asgi.readthedocs.io/en/latest/specs/main.html."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol

Message = MutableMapping[str, Any]
"""A scope or an event."""

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]


class RoutedApp(Protocol):
    """An application for one path."""

    route: str

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request."""


Headers = Sequence[tuple[bytes, bytes]]
SendWhole = Callable[[int, Headers, bytes], bool]
"""Sends status, headers and body in one piece; False where it cannot, and nothing was sent."""

WHOLE_ANSWER = "clickserve.whole_answer"
"""Key in the extensions of a scope: a `SendWhole` of the server, for answers that are complete and whose headers are
safe (lower-case names, no line breaks, a content-length). Other servers do not have it."""

REFUSED_STATUS = "refused_status"
"""Key in the state of a scope: the status with which the server gave up a request whose body did not arrive."""
