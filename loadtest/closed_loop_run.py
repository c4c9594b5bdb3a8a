"""One closed-loop run: each connection sends its next request when its answer has come.

This finds how many requests a second a server can do, so the client must cost less than any server it meets. It is
plain non-blocking sockets and one epoll: no event loop, no parser, no object per request; request bytes are prepared,
answers are recognised by `AnswerFrame`, times go into two growing arrays of integers. About 15 µs of CPU per request,
most of it in the kernel; the result states it, and a client that used its whole core has measured itself.

Every connection carries one request at a time. A connection that breaks is opened anew and the request it carried
counts as an error of one kind; one that cannot be opened again is given up, and the run ends when none is left.
When the time is over nothing more is sent, but answers on their way are awaited: the server's
own count must equal ours.
"""

from __future__ import annotations

import select
import socket
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.answer_frame import AnswerFrame, MalformedAnswer, body_of, says_close, status_of
from loadtest.errors import TargetError
from loadtest.http_client import CLOSED, MALFORMED, REFUSED, RESET, TIMEOUT
from loadtest.intervals import mean_interval
from loadtest.latency import summarise
from loadtest.results import ClosedLoopResult, KeptAnswer
from loadtest.target import Target

_BUFFER_BYTES = 65_536
"""Holds most answers whole; it grows for longer ones."""
_SWEEP_NS = 100_000_000
"""How often connections are searched for an overdue answer."""
_OK = b"HTTP/1.1 200"


@dataclass(frozen=True, slots=True)
class ClosedLoopOptions:
    """One run."""

    n_connections: int = 8
    duration_s: float = 5.0
    """Length of the measured part."""
    warmup_s: float = 1.0
    timeout_s: float = 5.0
    """An answer that takes longer is an error, and its connection is replaced."""
    keep_every: int = 0
    """Keep the body of one 200 answer in so many; 0 keeps none."""


class _Connection:
    """One socket, the request in flight on it, and what has arrived of the answer."""

    __slots__ = ("buffer", "n_bytes", "number", "sent_ns", "socket", "view")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.buffer = bytearray(_BUFFER_BYTES)
        self.view = memoryview(self.buffer)
        self.n_bytes = 0
        self.number = 0
        self.sent_ns = 0

    def make_room(self, wanted_bytes: int) -> None:
        """Let the buffer hold an answer of this length."""
        longer = bytearray(wanted_bytes)
        longer[: self.n_bytes] = self.view[: self.n_bytes]
        self.buffer, self.view = longer, memoryview(longer)


class _Run:
    """Keeps the connections busy until the end and notes how each request ended."""

    def __init__(self, target: Target, payloads: Sequence[bytes], options: ClosedLoopOptions) -> None:
        self._address = (target.host, target.port)
        self._payloads = payloads
        self._options = options
        self._timeout_ns = int(options.timeout_s * 1e9)
        self._frame = AnswerFrame()
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._next = 0
        self._is_over = False
        self._n_other_answers = 0
        self._ended_ns = array("q")
        self._latency_ns = array("q")
        self._errors: Counter[str] = Counter()
        self._kept: list[KeptAnswer] = []

    def execute(self) -> ClosedLoopResult:
        """Run to the end.

        Raises:
            TargetError: the server cannot be connected to when the run begins.
        """
        options = self._options
        try:
            self._open_all()
            start_ns = time.perf_counter_ns()
            measured_ns = start_ns + int(options.warmup_s * 1e9)
            end_ns = measured_ns + int(options.duration_s * 1e9)
            cpu_before_s = time.process_time()
            for connection in list(self._connections.values()):
                self._send(connection)
            self._exchange_until(end_ns)
            cpu_s, elapsed_s = time.process_time() - cpu_before_s, (time.perf_counter_ns() - start_ns) / 1e9
            self._is_over = True
            self._exchange_until(time.perf_counter_ns() + self._timeout_ns)
            self._errors[TIMEOUT] += len(self._connections)
        finally:
            for connection in self._connections.values():
                connection.socket.close()
            self._epoll.close()
        return self._result(measured_ns, end_ns, cpu_s, elapsed_s)

    def _exchange_until(self, end_ns: int) -> None:
        """Receive and send until the time is over or no connection is left."""
        poll, connections = self._epoll.poll, self._connections
        sweep_ns = 0
        while connections:
            for descriptor, _events in poll(_SWEEP_NS / 1e9):
                self._receive(connections[descriptor])
            now_ns = time.perf_counter_ns()
            if now_ns >= end_ns:
                return
            if now_ns >= sweep_ns:
                sweep_ns = now_ns + _SWEEP_NS
                for connection in [c for c in connections.values() if now_ns - c.sent_ns > self._timeout_ns]:
                    self._replace(connection, TIMEOUT)

    def _receive(self, connection: _Connection) -> None:
        """Take what has arrived; where that completes the answer, note it and send the next request."""
        n_before = connection.n_bytes
        try:
            n_new = connection.socket.recv_into(connection.view[n_before:] if n_before else connection.view)
        except BlockingIOError:  # the kernel may wake us for bytes it then discards
            return
        except OSError:
            self._replace(connection, RESET)
            return
        if not n_new:
            self._replace(connection, CLOSED)
            return
        connection.n_bytes = n_bytes = n_before + n_new
        buffer = connection.buffer
        try:
            answer_bytes = self._frame.end(buffer, n_bytes)
            if n_bytes < answer_bytes or not answer_bytes:
                if max(answer_bytes, n_bytes) >= len(buffer):
                    connection.make_room(max(answer_bytes, n_bytes) + _BUFFER_BYTES)
                return
            if n_bytes > answer_bytes:  # more than was asked for
                raise MalformedAnswer(f"{n_bytes - answer_bytes} bytes follow the answer")
            if buffer.startswith(_OK):
                self._note(connection, answer_bytes)
            else:
                self._errors[f"http_{status_of(buffer) // 100}xx"] += 1
                self._n_other_answers += 1
        except MalformedAnswer:
            self._replace(connection, MALFORMED)
            return
        connection.n_bytes = 0
        if self._is_over:
            self._drop(connection)
        elif says_close(buffer, answer_bytes):
            self._drop(connection)
            self._reopen()
        else:
            self._send(connection)

    def _note(self, connection: _Connection, answer_bytes: int) -> None:
        """Write down a 200 answer."""
        ended_ns = time.perf_counter_ns()
        self._ended_ns.append(ended_ns)
        self._latency_ns.append(ended_ns - connection.sent_ns)
        every = self._options.keep_every
        if every and len(self._ended_ns) % every == 0:
            number = connection.number % len(self._payloads)
            self._kept.append(KeptAnswer(number, body_of(connection.buffer, answer_bytes)))

    def _send(self, connection: _Connection) -> None:
        """Send the next prepared request."""
        connection.number = number = self._next
        self._next = number + 1
        payload = self._payloads[number % len(self._payloads)]
        connection.sent_ns = time.perf_counter_ns()
        try:
            n_sent = connection.socket.send(payload)
            if n_sent < len(payload):  # a request longer than the socket's buffer: rare enough to wait for
                connection.socket.settimeout(self._options.timeout_s)
                connection.socket.sendall(payload[n_sent:])
                connection.socket.setblocking(False)
        except OSError:
            return  # receiving from it will tell what happened, or the sweep will

    def _replace(self, connection: _Connection, kind: str) -> None:
        """The request on this connection failed: count it, and go on with a new connection."""
        self._errors[kind] += 1
        self._drop(connection)
        if not self._is_over:
            self._reopen()

    def _reopen(self) -> None:
        try:
            self._send(self._open())
        except OSError:
            self._errors[REFUSED] += 1

    def _open_all(self) -> None:
        try:
            for _ in range(self._options.n_connections):
                self._open()
        except OSError as error:
            raise TargetError(f"no connection to {self._address[0]}:{self._address[1]}: {error}") from error

    def _open(self) -> _Connection:
        connected = socket.create_connection(self._address, timeout=self._options.timeout_s)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setblocking(False)
        connection = self._connections[connected.fileno()] = _Connection(connected)
        self._epoll.register(connected.fileno(), select.EPOLLIN)
        return connection

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection.socket.fileno()]
        connection.socket.close()  # which also takes it out of the epoll

    def _result(self, measured_ns: int, end_ns: int, cpu_s: float, elapsed_s: float) -> ClosedLoopResult:
        options = self._options
        ended_ns = np.array(self._ended_ns, dtype=np.int64)
        measured = (ended_ns >= measured_ns) & (ended_ns < end_ns)
        ended_s = (ended_ns[measured] - measured_ns) / 1e9
        n_ok, n_seconds = int(measured.sum()), int(options.duration_s)
        per_second: list[int] = np.bincount(ended_s.astype(np.int64), minlength=n_seconds)[:n_seconds].tolist()
        low, high = mean_interval(per_second) or (None, None)
        low = None if low is None else max(low, 0.0)  # of two seconds an interval may begin below nothing
        n_answered = len(ended_ns) + self._n_other_answers
        return ClosedLoopResult(
            n_connections=options.n_connections,
            duration_s=options.duration_s,
            warmup_s=options.warmup_s,
            n_ok=n_ok,
            n_answered_in_all=n_answered,
            errors=dict(+self._errors),  # without zeros
            per_second=per_second,
            per_s=n_ok / options.duration_s,
            per_s_low=low,
            per_s_high=high,
            latency=summarise(np.array(self._latency_ns, dtype=np.float64)[measured] / 1e6),
            client_cpu_us=cpu_s / max(n_answered, 1) * 1e6,
            client_cpu_share=cpu_s / elapsed_s,
            kept=self._kept,
        )


def run_closed_loop(
    target: Target, path: str, bodies: Sequence[bytes], options: ClosedLoopOptions | None = None
) -> ClosedLoopResult:
    """Run once in this thread; for figures worth keeping call `loadtest.closed_loop` as a process of its own.

    Args:
        target, path: where the POST requests go.
        bodies: at least one JSON body; they are sent in turn, again and again.
    Raises:
        TargetError: the server cannot be connected to when the run begins.
    """
    return _Run(target, [target.request(path, body) for body in bodies], options or ClosedLoopOptions()).execute()
