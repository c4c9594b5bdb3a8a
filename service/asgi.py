"""The shape of an ASGI 3 application, for type annotations: https://asgi.readthedocs.io/en/latest/specs/main.html."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
"""A scope or an event."""

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]

REFUSED_STATUS = "refused_status"
"""Key in the state of a scope: the status with which the server gave up a request whose body did not arrive."""
