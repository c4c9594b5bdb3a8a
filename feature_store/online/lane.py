"""One connection to Redis whose answers go straight to who asked for them.

redis-py makes the connection (TLS, user and password, database); from then on a protocol of our own writes commands and
feeds hiredis. redis-py would run a task, five coroutines and asyncio's streams for each command (ADR 0008).
One command at a time; an answer is handed over in the very callback that received its last byte. An answer with an
error in it, and whatever arrives unasked, ends the connection, so that no answer can be taken for another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

import hiredis
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError, ResponseError

Connection = redis.asyncio.connection.AbstractConnection
Values = list[bytes | None]
Reply = Values | bytes | RedisError
OnReply = Callable[[Reply], None]

GOODBYE_S = 0.5
"""What a server may take to end a TLS connection in good order."""

_INCOMPLETE = object()


class Lane(asyncio.Protocol):
    """A connection that somebody else has made, and the command that is on its way on it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection  # kept, and closed by its own means: its writer closes the socket when collected
        assert connection._writer is not None  # it is connected
        self._transport = connection._writer.transport
        self._transport.set_protocol(self)
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=ResponseError, notEnoughData=_INCOMPLETE
        )
        self._on_reply: OnReply | None = None
        self.is_open = True
        """Whether a command may be sent, as far as is known."""
        self.gone = asyncio.Event()
        """Set when nothing of the connection is left; TLS says goodbye first."""

    def ask(self, command: bytes, on_reply: OnReply) -> None:
        """Sends a packed command; `on_reply` gets the answer, or the error that ended the connection instead of it."""
        self._on_reply = on_reply
        self._transport.write(command)

    async def asked(self, command: bytes) -> Reply:
        """The answer to a packed command; who is cancelled meanwhile ends the connection.

        Raises:
            RedisError: the server answered with an error, or the connection ended.
        """
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def on_reply(reply: Reply) -> None:
            if answer.done():
                return
            if isinstance(reply, RedisError):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)

        self.ask(command, on_reply)
        try:
            return await answer
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """Ends the connection; who asked is not told."""
        self._on_reply = None
        self.is_open = False
        self._connection._close()  # type: ignore[no-untyped-call]

    def data_received(self, data: bytes) -> None:
        """Called by the transport: bytes have come."""
        self._reader.feed(data)
        try:
            reply = self._reader.gets()
        except InvalidResponse as error:
            reply = error
        if reply is _INCOMPLETE:
            return
        on_reply, self._on_reply = self._on_reply, None
        if on_reply is None or isinstance(reply, RedisError) or self._reader.has_data():
            self.close()
        if on_reply is not None:
            on_reply(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport: the connection is gone, on whose wish ever."""
        on_reply = self._on_reply
        self.close()
        self.gone.set()
        if on_reply is not None:
            on_reply(_closed_by_server(exc))


class PipelineLane(Lane):
    """A lane for several commands at once; of these an error is an answer like others."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._replies: list[Any] = []
        self._missing = 0
        """Answers that are still to come to a pipeline."""

    def ask_all(self, commands: bytes, n: int, on_replies: Callable[[Any], None]) -> None:
        """Sends n packed commands; `on_replies` gets the n answers in order, or the error that ended the connection."""
        self._replies, self._missing = [], n
        self.ask(commands, on_replies)

    def data_received(self, data: bytes) -> None:
        """Called by the transport: bytes have come."""
        if not self._missing:
            super().data_received(data)
            return
        self._reader.feed(data)
        answer: Any = self._replies
        while self._missing:
            try:
                reply = self._reader.gets()
            except InvalidResponse as error:
                answer, self._missing = error, 0
                break
            if reply is _INCOMPLETE:
                return
            self._replies.append(reply)
            self._missing -= 1
        on_replies, self._on_reply = self._on_reply, None
        if on_replies is None or answer is not self._replies or self._reader.has_data():
            self.close()
        if on_replies is not None:
            on_replies(answer)


async def close_all(lanes: Iterable[Lane]) -> None:
    """Ends connections and waits until they are gone, for as long as a peer that is alive takes to say goodbye."""
    leaving = list(lanes)
    for lane in leaving:
        lane.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(GOODBYE_S):
            for lane in leaving:
                await lane.gone.wait()
    for lane in leaving:
        if not lane.gone.is_set():
            lane._transport.abort()


def _closed_by_server(exc: Exception | None) -> RedisConnectionError:
    return RedisConnectionError(f"Connection closed by server{f' ({exc})' if exc else ''}")


AnyLane = TypeVar("AnyLane", bound=Lane)


async def open_lane(connection: Connection, kind: type[AnyLane]) -> AnyLane:
    """Connects, and takes over.

    Raises:
        RedisError: no connection, or one that may not be used.
    """
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:  # cancelled at a deadline as well: nobody else would close the half-made connection
        connection._close()  # type: ignore[no-untyped-call]
        raise
    return kind(connection)


def packed(*command: bytes) -> bytes:
    """A command as it goes over the wire."""
    return hiredis.pack_command(command)  # type: ignore[arg-type, no-any-return]  # any number
