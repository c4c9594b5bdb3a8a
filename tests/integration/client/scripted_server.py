"""A server that does with each connection's request what a script says: what no well-behaved service would do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Act = Callable[[socket.socket, threading.Event], None]
"""What happens on a connection after its request was read; the event says that the test is over."""

EMPTY_RANKING = (
    b'{"request_id":"r1","model":{"name":"default","version":"v1","variant":"champion"},"results":[],"degraded":[],'
    b'"features":{"missing":0,"stale":0,"age_ms_max":null}}'
)


def answers(body: bytes, status: str = "200 OK", *headers: bytes) -> Act:
    """One complete answer."""

    def act(connection: socket.socket, over: threading.Event) -> None:
        lines = [b"HTTP/1.1 " + status.encode(), b"content-length: %d" % len(body), b"connection: close", *headers]
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)

    return act


def sends(data: bytes) -> Act:
    """These bytes, then the end of the connection."""
    return lambda connection, over: connection.sendall(data)


def hangs(connection: socket.socket, over: threading.Event) -> None:
    """Nothing, until the test is over."""
    over.wait()


def dribbles(connection: socket.socket, over: threading.Event) -> None:
    """A head that promises much, then a byte now and then: no single read ever waits for long."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    with suppress(OSError):
        while not over.wait(0.01):
            connection.sendall(b" ")


class ScriptedServer:
    """Requests are read in full and kept; the n-th connection is treated as the script's n-th act says, or its last."""

    def __init__(self, script: tuple[Act, ...]) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.requests: list[bytes] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads[0].start()

    def close(self) -> None:
        """Ends whatever still hangs."""
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        n_accepted = 0
        with suppress(OSError):  # the listener was closed
            while True:
                connection, _ = self._listener.accept()
                act = self._script[min(n_accepted, len(self._script) - 1)]
                n_accepted += 1
                thread = threading.Thread(target=self._serve, args=(connection, act), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket, act: Act) -> None:
        with connection, suppress(OSError):
            if request := _whole_request(connection):
                self.requests.append(request)
                act(connection, self._over)


@contextmanager
def server(*script: Act) -> Iterator[ScriptedServer]:
    """A server that ends with the test."""
    scripted = ScriptedServer(script)
    try:
        yield scripted
    finally:
        scripted.close()


def _whole_request(connection: socket.socket) -> bytes:
    """Head and body; empty where the client went away."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (chunk := connection.recv(65536)):
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        if not (chunk := connection.recv(65536)):
            return b""
        body += chunk
    return head + b"\r\n\r\n" + body
