"""What parent and worker say to each other, over a private socket pair that ends when either of them does.

The parent first sends one order: who the worker is, all settings, which inherited descriptors are the listening
sockets. Then it sends at most two commands, a line each: `drain`, and `quit` when somebody lost patience. The worker
reports its states, a line of JSON each, and from `ready` on its event loop says `BEAT`; `MISSED_BEATS` in a row unheard
are a worker that hangs. The end of the stream means that the other side is gone: a worker without a parent drains at
once, so no orphan holds the port.

The order is pickled: the socket pair is inherited, so nobody else can write to it.
"""

from __future__ import annotations

import pickle
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from service.settings import Settings

DRAIN = b"drain\n"
QUIT = b"quit\n"
BEAT = b"beat\n"
MISSED_BEATS = 10
"""So many in a row unheard mean that the event loop stands still; they fit into `server.hang_ms`."""
GONE = b""
"""What a read answers when the other side has ended."""

STOP_RESERVE_MS = 1_000.0
"""Part of the grace that is kept for the end after the last answer: spans (0.4 s), then a quarter of a second."""

_SIZE = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Order:
    """Everything a worker must know to begin."""

    worker_id: int
    settings: Settings
    listener_fds: tuple[int, ...]
    shares_file: Path
    """See `connection_shares.py`."""
    has_served: bool
    """Whether a worker of this service has been ready before."""


class Report(msgspec.Struct, frozen=True):
    """A worker's new state; a failed one says why and with which exit status."""

    state: Literal["ready", "draining", "failed"]
    message: str = ""
    exit_code: int = 0

    def line(self) -> bytes:
        """The report as it goes over the channel."""
        return msgspec.json.encode(self) + b"\n"


def beat_interval_s(hang_ms: float) -> float:
    """Time from one beat to the next."""
    return hang_ms / 1000 / MISSED_BEATS


def read_report(line: bytes) -> Report:
    """The report of one line."""
    return msgspec.json.decode(line, type=Report)


def send_order(channel: socket.socket, order: Order) -> None:
    """Send the order; the channel must block."""
    body = pickle.dumps(order)
    channel.sendall(_SIZE.pack(len(body)) + body)


def receive_order(channel: socket.socket) -> Order:
    """Wait for the order.

    Raises:
        EOFError: the parent ended before it gave one.
    """
    (size,) = _SIZE.unpack(_receive_exactly(channel, _SIZE.size))
    order: Order = pickle.loads(_receive_exactly(channel, size))
    return order


def _receive_exactly(channel: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        part = channel.recv(size - len(received))
        if not part:
            raise EOFError("the parent process ended before it gave this worker its order")
        received += part
    return bytes(received)
