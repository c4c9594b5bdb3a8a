"""A request that had arrived in full before the application began, and its answer: the usual case, made cheap.

uvicorn starts the application at the end of a request's head and wakes it for what follows. A body of `WHOLE_BYTES` or
less is not worth that: the connection waits for it, so nothing here waits or wakes, and an answer that is complete goes
out in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from logging import Logger
from typing import Any

from uvicorn._types import ASGIReceiveEvent, HTTPScope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from service.asgi import WHOLE_ANSWER, Headers

WHOLE_BYTES = 65_536
"""Bodies announced as larger are read by the application as they come; what uvicorn holds of a body as well."""

_UNHEARD = asyncio.Event()
"""Stands where uvicorn keeps the event that tells of more body, or that nobody waits for the answer any more."""


class WholeRequest(RequestResponseCycle):
    """What uvicorn calls a cycle; see there for what `send` takes."""

    def __init__(
        self,
        scope: HTTPScope,
        body: bytes,
        *,
        keep_alive: bool,
        transport: asyncio.Transport,
        flow: FlowControl,
        logger: Logger,
        default_headers: list[tuple[bytes, bytes]],
        on_response: Callable[[], None],
    ) -> None:
        """Puts the way to answer in one write into the scope."""
        super().__init__(
            scope=scope,
            transport=transport,
            flow=flow,
            logger=logger,
            access_logger=logger,
            access_log=False,
            default_headers=default_headers,
            message_event=_UNHEARD,
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=on_response,
        )
        self.more_body = False
        self._unread: bytes | None = body
        self._extensions: dict[str, Any] = {WHOLE_ANSWER: self.send_whole}
        scope["extensions"] = self._extensions

    async def receive(self) -> ASGIReceiveEvent:
        """The body, then the end of the connection or of the answer."""
        unread, self._unread = self._unread, None
        self.flow.resume_reading()  # paused for a pipelined request; a client that leaves is to be noticed
        if unread is not None and not self.disconnected:
            return {"type": "http.request", "body": unread, "more_body": False}
        if self.message_event is _UNHEARD:
            self.message_event = asyncio.Event()
        return await super().receive()

    def send_whole(self, status: int, headers: Headers, body: bytes) -> bool:
        """A `SendWhole`: answers in one write, as `send` does in two.

        The application's own names and values need no check for line breaks, and a length that is known needs no
        counting: together 25 µs of a request (cProfile of a busy server: 31 of 217 µs, and 6).
        """
        if self.disconnected or self.flow.write_paused or self.response_started or self.scope["method"] == "HEAD":
            return False
        lines = [STATUS_LINE[status]]
        says_close = False
        for name, value in (*self.default_headers, *headers):
            lines += (name, b": ", value, b"\r\n")
            says_close |= name == b"connection"
        if says_close:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines += (b"\r\n", body)
        self.response_started = self.response_complete = True
        self.transport.write(b"".join(lines))
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self._extensions.clear()  # or the scope and this request would keep each other until garbage is collected
        self.on_response()
        return True
