"""An HTTP server inside the test that counts what it answered and misbehaves on request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class CountingServer:
    """Runs in a thread of its own; answer number i (from 0) is `answer_of(i, request's body)`.

    None as an answer closes the connection instead.
    """

    def __init__(self, answer_of: Callable[[int, bytes], bytes | None]) -> None:
        self._answer_of = answer_of
        self.bodies: list[bytes] = []
        self.port = 0

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r")[0])
                body = await reader.readexactly(length)
                answer = self._answer_of(len(self.bodies), body)
                self.bodies.append(body)
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return
        finally:
            writer.close()

    async def _serve(self, is_ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        is_ready.set()
        await self._stop.wait()
        server.close()

    @contextmanager
    def running(self) -> Iterator[str]:
        """Its URL, while it listens."""
        is_ready = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(is_ready)))
        thread.start()
        assert is_ready.wait(10)
        yield f"http://127.0.0.1:{self.port}"
        self._loop.call_soon_threadsafe(self._stop.set)
        thread.join(10)
