"""An HTTP/1.1 client that hides nothing: bytes out, bytes in, and a deadline on every wait."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any, Self

DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete answer."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def closes(self) -> bool:
        """Whether the server says that this answer is the connection's last."""
        return self.headers.get("connection", "").lower() == "close"


class RawConnection:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connects to this machine."""
        async with asyncio.timeout(DEADLINE_S):
            return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, data: bytes) -> None:
        """Queues bytes for sending."""
        self._writer.write(data)

    def send_eof(self) -> None:
        """Closes our half; the server can still answer."""
        self._writer.write_eof()

    async def answer(self) -> Answer:
        """The next answer; it must carry its length.

        Raises:
            IncompleteReadError: the server closed the connection before the answer was complete.
            ConnectionResetError: it reset the connection.
        """
        async with asyncio.timeout(DEADLINE_S):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *header_lines = head.strip().split("\r\n")
            headers = dict(_header(line) for line in header_lines)
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
            return Answer(int(status_line.split()[1]), headers, body)

    async def rest(self) -> bytes:
        """Everything until the server closes; raises ConnectionResetError where it resets instead."""
        async with asyncio.timeout(DEADLINE_S):
            return await self._reader.read()

    async def abort(self) -> None:
        """Resets the connection, as a client that died does."""
        linger_0_s = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_0_s)
        await self.close()

    async def close(self) -> None:
        """Closes our side, whatever the server thinks of it."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return


def request(method: str, path: str, body: object = None, **headers: str) -> bytes:
    """The bytes of a request; a body that is not bytes is sent as JSON."""
    payload = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"host": "test", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if payload:
        named = {"content-type": "application/json", "content-length": str(len(payload)), **named}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + payload


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()
