"""One client's connection: uvicorn's HTTP/1.1 protocol, and what it leaves undone.

uvicorn parses requests (with httptools) and calls the application. Added here:

- What a client can make us keep without completing a request is bounded: `INCOMPLETE_S` of time, `MAX_HEAD_BYTES` of
  request line and headers, as much of all else that is no body (the application bounds that). Trailers are dropped.
- What is refused before the application sees it is answered with problem details like everything else, and counted.
- An offered upgrade is ignored without losing the body of the request that offers it.
- A drain can ask what a connection still owes (`server.py`).
- The application begins when a request of the usual size has arrived in full (`whole_request.py`); while a larger one
  arrives, it reads. No timer is set and cancelled for each answer.

This module, `server.py` and `whole_request.py` are the only ones that know uvicorn.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import re
import secrets
import termios
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from http import HTTPStatus
from itertools import takewhile
from urllib.parse import unquote

import httptools
import msgspec
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.asgi import REFUSED_STATUS, AsgiApp, Message, Receive, Send
from service.connection_shares import ConnectionShares
from service.http_errors import (
    CONTENT_TYPE,
    HEAD_TOO_LARGE,
    NOT_HTTP,
    REQUEST_INCOMPLETE,
    UNKNOWN_METHOD,
    ProblemKind,
    refusal,
)
from service.whole_request import WHOLE_BYTES, WholeRequest

INCOMPLETE_S = 10.0
"""How long a request may take to arrive in full, and a new connection to begin one."""

MAX_HEAD_BYTES = 65_536
"""Request line and headers together, or trailers and all else between the parts of a body; more is answered 431."""

_REQUEST_LINE = re.compile(rb"([!#-'*+.0-9A-Z^-z|~-]{1,40}) [!-~]+ HTTP/1\.[01]\r?\n")
"""A request line as HTTP wants it, whatever its method (RFC 9112, 3)."""

_NOTED = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect"))
"""Headers that decide how a request is taken."""

OnRefused = Callable[[int], None]
"""Told the status of each request that was answered without the application."""


class _Refused(Exception):
    """Raised in a callback of the parser, which then stops and carries it as the context of its own error."""

    def __init__(self, kind: ProblemKind, detail: str) -> None:
        self.kind, self.detail = kind, detail
        super().__init__(detail)


class SharedState(ServerState):
    """What the connections of one server share."""

    def __init__(self, shares: ConnectionShares, on_refused: OnRefused) -> None:
        super().__init__()
        self.shares = shares
        self.on_refused = on_refused
        self.connections: set[Connection] = set()  # type: ignore[assignment]  # the only protocol we hand out
        self.incomplete: dict[Connection, float] = {}
        """Connections that wait for (the rest of) a request, and since when; the longest waiting first."""
        self.draining = False
        self.emptied = asyncio.Event()

    def give_up_overdue(self, now_s: float) -> None:
        """End the connections whose request does not arrive; `now_s` is loop time."""
        overdue_s = now_s - INCOMPLETE_S
        for connection, _ in list(takewhile(lambda waiting: waiting[1] < overdue_s, self.incomplete.items())):
            connection.give_up_waiting()


class Connection(HttpToolsProtocol):
    """One client's connection, and what a drain must know about it."""

    server_state: SharedState

    def __init__(self, config: Config, state: SharedState) -> None:
        super().__init__(config, state, app_state={})
        self.n_begun = 0
        self.n_answered = 0
        self._in_head = False
        self._bare_bytes = 0
        """Read since a request or a part of its body began, without the read in which it did."""
        self._read_bytes = 0
        self._n_hosts = 0
        self._is_small = True
        """Whether the head announces a body of `WHOLE_BYTES` or less, to be sent without asking."""
        self._arriving: bytes | bytearray | None = None
        """Body, so far, of the request that the application is to see in full; None where it arrives for uvicorn."""
        self._answering: RequestResponseCycle | None = None
        self._quiet_since_s = 0.0
        """Loop time of the last answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self.server_state.incomplete[self] = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._arriving is not None and not self._is_answering():
            self._hand_over()  # counted there, as one whose client left
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves it to run where the client reset the connection
        # Of several pipelined requests uvicorn tells only the last that nobody waits for its answer.
        for cycle in (self._answering, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cycle.disconnected = True
        self.pipeline.clear()
        self.server_state.shares.gave_back()
        self.server_state.incomplete.pop(self, None)
        if not self.server_state.connections:
            self.server_state.emptied.set()

    def data_received(self, data: bytes) -> None:
        self._read_bytes = len(data)
        self._bare_bytes += len(data)
        try:
            self._parse(data)
            if self._bare_bytes > MAX_HEAD_BYTES and self in self.server_state.incomplete:
                raise _head_too_large() if self._in_head else _trailers_too_large()
        except httptools.HttpParserError as error:
            refused = error.__context__ if isinstance(error.__context__, _Refused) else _unparsable(error, data)
            self.refuse(refused.kind, refused.detail)
        except _Refused as refused:
            self.refuse(refused.kind, refused.detail)

    def _parse(self, data: bytes) -> None:
        """Read on; an offered upgrade is ignored, as a server may (RFC 9110, 7.8).

        The parser stops behind the head of such an offer and would take its body for the next request. So a new parser
        reads the same head without the offer, and goes on with the body.
        """
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as offer:
                rest = memoryview(rest)[offer.args[0] :]
                head = self._head_without_offer()
            self.n_begun -= 1
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn wants it
            self.parser.feed_data(head)

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self.parser.get_method(), self.url, version, b"".join(fields))

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio wants to know whether to stay open
        """A client may close its half once it has asked; what it asked in full is answered all the same."""
        self.announce_close()
        return self._owes_answer_to_whole_request()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.n_begun += 1
        self._in_head = True
        self._bare_bytes = self._n_hosts = 0
        self._is_small = True
        self.server_state.incomplete.pop(self, None)
        self.server_state.incomplete[self] = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """White space around a value is no part of it (RFC 9110, 5.5); the parser leaves what follows it.

        A field behind the body is dropped, as one may (RFC 9110, 6.5.1): the request is being answered already, and
        what it says would count or not by the moment it arrives.
        """
        if not self._in_head:
            return
        name, value = name.lower(), value.strip(b" \t")
        self.headers.append((name, value))
        if name in _NOTED:
            self._note(name, value)

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._n_hosts += 1
        elif name == b"content-length":
            self._is_small &= value.isdigit() and len(value) < 10 and int(value) <= WHOLE_BYTES
        else:
            self._is_small = False
            self.expect_100_continue |= name == b"expect" and value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        self._in_head = False
        may_be_large = self._bare_bytes > 0 or self._read_bytes > MAX_HEAD_BYTES
        if may_be_large and self._head_size_bytes() > MAX_HEAD_BYTES:
            raise _head_too_large()
        n_hosts = self._n_hosts
        if n_hosts > 1 or (n_hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise _Refused(NOT_HTTP, f"a request has one Host header (RFC 9112, 3.2), this one has {n_hosts}")
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _Refused(UNKNOWN_METHOD, "CONNECT is for proxies, and this is none")
            return  # the same head comes again without the offer
        if self._is_small:
            _target(self.url)  # refused before its body arrives
            self._arriving = b""
        else:
            self._let_read()

    def _let_read(self) -> None:
        """The application begins now, and reads the body as it arrives."""
        previous: RequestResponseCycle | None = self.cycle
        super().on_headers_complete()
        self._close_behind(previous)

    def _hand_over(self) -> None:
        """The same for a request whose body was to arrive in full before."""
        assert self._arriving is not None
        body, self._arriving = bytes(self._arriving), None
        self._let_read()
        super().on_body(body)

    def _close_behind(self, previous: RequestResponseCycle | None) -> None:
        """In a drain the answer to the newest request closes the connection, and only that one."""
        if self.server_state.draining:
            if previous is not None and not previous.response_started:
                previous.keep_alive = True  # pipelined: only the last answer may close, or this one would be lost
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._bare_bytes = 0
        if self._arriving is None:
            super().on_body(body)
        elif not self._arriving:
            self._arriving = body
        else:
            self._arriving = bytearray(self._arriving) if isinstance(self._arriving, bytes) else self._arriving
            self._arriving += body

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self.server_state.incomplete.pop(self, None)
        if self._arriving is None:
            super().on_message_complete()
        else:
            body, self._arriving = bytes(self._arriving), None
            self._answer_whole(body)

    def _answer_whole(self, body: bytes) -> None:
        """As uvicorn's `on_headers_complete` begins an answer, or queues a pipelined one."""
        version, previous = self.parser.get_http_version(), self.cycle
        path, raw_path, query = _target(self.url)
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["http_version"] = version
        self.scope["path"], self.scope["raw_path"], self.scope["query_string"] = path, raw_path, query
        self.cycle = WholeRequest(
            self.scope,
            body,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            default_headers=self.server_state.default_headers,
            on_response=self.on_response_complete,
        )
        self._close_behind(previous)
        if previous is None or previous.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        if cycle.waiting_for_100_continue:
            app = _closing_if_answered_early(app, cycle)  # type: ignore[assignment,arg-type]
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """As uvicorn's, but for the timer: it runs on, and looks at the time when it ends."""
        self.n_answered += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._quiet_since_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._close_when_quiet(self.timeout_keep_alive)

    def _close_when_quiet(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(after_s, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self.n_begun > self.n_answered:
            return  # the answer sets it again
        left_s = self._quiet_since_s + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._close_when_quiet(left_s)
        else:
            super().timeout_keep_alive_handler()

    def give_up_waiting(self) -> None:
        """End a connection whose request does not arrive."""
        if self.n_begun > self.n_answered:
            self.refuse(REQUEST_INCOMPLETE, f"the request did not arrive within {INCOMPLETE_S:g} s")
        else:
            self.transport.close()

    def refuse(self, kind: ProblemKind, detail: str) -> None:
        """Answer what never reaches the application in full, and close the connection."""
        if self.transport.is_closing():
            return
        if self._arriving is not None:
            self._hand_over()
        if self._owes_answer_to_whole_request():
            self.announce_close()  # that answer goes first, and ends the connection
            return
        if self._is_answering():
            self.cycle.scope["state"][REFUSED_STATUS] = kind.status  # the application waits for the body, and counts
        else:
            self.server_state.on_refused(kind.status)
        request_id = secrets.token_hex(8)
        body = msgspec.json.encode(refusal(kind, detail, request_id))
        head = (
            f"HTTP/1.1 {kind.status} {HTTPStatus(kind.status).phrase}\r\ncontent-type: {CONTENT_TYPE.decode()}\r\n"
            f"x-request-id: {request_id}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def announce_close(self) -> None:
        """Let the answer that is owed be the connection's last."""
        if self._is_answering():
            self.cycle.keep_alive = False

    def _is_answering(self) -> bool:
        """Whether the application has a request that it has not answered; its body may still be arriving."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _owes_answer_to_whole_request(self) -> bool:
        return self._is_answering() and not self.cycle.more_body

    def _head_size_bytes(self) -> int:
        """Of the head that was read, without white space around its values."""
        method, separators = self.parser.get_method(), len("  HTTP/1.1\r\n\r\n")
        return (
            len(method) + len(self.url) + separators + sum(len(name) + len(value) + 4 for name, value in self.headers)
        )

    def close_if_quiet(self, *, also_new: bool) -> None:
        """Close the connection if nothing of an unanswered request has arrived.

        `also_new` includes connections that have not asked anything yet.
        """
        if self.n_begun > self.n_answered or (self.n_begun == 0 and not also_new) or self._has_unread_bytes():
            return
        self.transport.close()

    def _has_unread_bytes(self) -> bool:
        """Whether the kernel holds bytes that the event loop has not handed over yet: closing now would reset them."""
        unread = array.array("i", [0])
        with suppress(OSError):  # the descriptor may be closing under us: then nothing can be lost any more
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.FIONREAD, unread)
        return unread[0] > 0


@lru_cache(maxsize=16)
def _target(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, undecoded path and query of a request's target. Clients ask for few, and a target may be 64 KiB long."""
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    return unquote(path) if "%" in path else path, parsed.path, parsed.query or b""


def _head_too_large() -> _Refused:
    return _Refused(HEAD_TOO_LARGE, f"request line and headers exceed {MAX_HEAD_BYTES} bytes")


def _trailers_too_large() -> _Refused:
    return _Refused(
        HEAD_TOO_LARGE, f"what stands between or behind the parts of the body exceeds {MAX_HEAD_BYTES} bytes"
    )


def _unparsable(error: httptools.HttpParserError, data: bytes) -> _Refused:
    """Why the parser gave up on `data`."""
    if isinstance(error, httptools.HttpParserInvalidMethodError) and (line := _REQUEST_LINE.search(data)):
        return _Refused(UNKNOWN_METHOD, f"{line[1].decode()} is a method of no path here; /docs lists all of them")
    return _Refused(NOT_HTTP, "the bytes received are not an HTTP/1.1 request")


def _closing_if_answered_early(app: AsgiApp, cycle: RequestResponseCycle) -> AsgiApp:
    """Close after an answer to `Expect: 100-continue` that came without asking for the body.

    The body may follow or not (RFC 9110, 10.1.1), so nobody could tell where the next request begins.
    """

    async def asked(scope: Message, receive: Receive, send: Send) -> None:
        async def send_and_close(message: Message) -> None:
            if cycle.waiting_for_100_continue:
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive, send_and_close)

    return asked
