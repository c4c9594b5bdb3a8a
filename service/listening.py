"""The listening socket: opened once by the parent, shared by all workers, and closed without resetting anybody.

All workers accept from one inherited socket. With SO_REUSEPORT each would have a queue of its own, and the connections
waiting in a worker's queue would die with it; here another worker takes them. A worker that holds more connections
than another steps back for `STEP_BACK_S` before it accepts (`connection_shares.py`), so that a burst spreads over all
of them instead of going to the first that wakes; one that nobody else takes in that time it accepts all the same.

Closing a listening socket resets every connection that the kernel has completed and nobody has accepted yet, and new
ones arrive between the last accept and the close. So first a packet filter on the socket drops new SYNs (the way
HAProxy is reloaded without loss; allowed to any process for its own socket), the handshakes under way finish, the queue
is emptied, and only then is it closed. Who was dropped tries again after a second and is then refused cleanly. Where
the kernel has no such filter, the moment between the last accept and the close is all that stays open.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import socket
import struct
from collections.abc import Callable

from service.connection_shares import ConnectionShares
from service.errors import StartError

HANDSHAKE_S = 0.2
"""How long handshakes that are under way may take to finish once new ones are dropped: a slow round trip."""

UNREAD_MS = 30_000
"""A client that takes none of the bytes we owe it for this long is cut off by the kernel (TCP_USER_TIMEOUT)."""

STEP_BACK_S = 0.001
"""How long a worker leaves a connection to the others: time for one of them to wake and accept."""

EXHAUSTED_PAUSE_S = 0.1
"""Rest before accepting again when the process is out of descriptors or memory; without it the loop would spin."""

_SO_ATTACH_FILTER = 26  # not named by the socket module; asm-generic/socket.h
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_FAILED_BEFORE_ACCEPT = frozenset(
    # accept(2): errors of the new connection, or another worker was faster. All mean: nothing to accept this time.
    {errno.EAGAIN, errno.EINTR, errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTDOWN, errno.EHOSTUNREACH}
)
# Classic BPF over the TCP header: load byte 13 (the flags); SYN set -> 0 bytes of the packet pass, else all of it.
_DROP_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))

logger = logging.getLogger(__name__)


def open_listeners(host: str, port: int, *, backlog: int, setting: str) -> list[socket.socket]:
    """Bind and listen on every address that `host` names.

    Args:
        host: a name or an IPv4 or IPv6 address; empty means every interface.
        port: 0 picks a free port, the same one for all addresses.
        backlog: connections that may wait to be accepted; the kernel takes the smaller of it and net.core.somaxconn.
        setting: the settings' section that chose the address, for the error.
    Raises:
        StartError: the name does not resolve, the port is taken, or the address is not of this machine.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise _unavailable(host, port, setting, str(error.strerror)) from error
    listeners: list[socket.socket] = []
    absent: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            listeners.append(_listen(family, kind, protocol, (address[0], port, *address[2:]), backlog))
        except OSError as error:
            absent = error
            if error.errno in _NOT_HERE:
                continue
            break
        port = listeners[0].getsockname()[1]
    else:
        if listeners:
            return listeners
    for listener in listeners:
        listener.close()
    assert absent is not None
    raise _unavailable(host, port, setting, os.strerror(absent.errno or 0)) from absent


def _unavailable(host: str, port: int, setting: str, reason: str) -> StartError:
    return StartError(
        f"cannot listen on {host}:{port}: {reason[:1].lower()}{reason[1:]}; "
        f"stop what uses it, or set another {setting}.host or {setting}.port"
    )


def _listen(family: int, kind: int, protocol: int, address: tuple[object, ...], backlog: int) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit both.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


class Acceptor:
    """Accepts from one listening socket for one event loop."""

    def __init__(
        self, listener: socket.socket, protocol_factory: Callable[[], asyncio.Protocol], shares: ConnectionShares
    ) -> None:
        """Accepts at once. Whoever ends a connection that was made tells `shares`."""
        self._listener = listener
        self._protocol_factory = protocol_factory
        self._shares = shares
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[object]] = set()
        self._resting: asyncio.TimerHandle | None = None
        self._loop.add_reader(listener, self._readable)

    async def close(self) -> None:
        """Accept what has connected, refuse the rest, and close this process's hold on the socket."""
        _drop_new_handshakes(self._listener)
        await asyncio.sleep(HANDSHAKE_S)
        while self._listener.fileno() >= 0 and self._accept_one():
            pass
        self.abandon()
        if self._connecting:
            await asyncio.wait(self._connecting)

    def abandon(self) -> None:
        """Close at once. Connections nobody has accepted are reset if no other worker holds the socket."""
        if self._listener.fileno() < 0:
            return
        if self._resting is not None:
            self._resting.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _readable(self) -> None:
        if self._shares.is_ahead:
            self._rest(STEP_BACK_S)
        else:
            self._accept_one()

    def _rest(self, seconds: float) -> None:
        """Leave connections to others for a while."""
        self._loop.remove_reader(self._listener)
        self._resting = self._loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._loop.add_reader(self._listener, self._readable)
        self._accept_one()

    def _accept_one(self) -> bool:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                logger.error(
                    "cannot accept connections, trying again; raise the limit on open files (ulimit -n)",
                    extra={"error": str(error.strerror), "retry_in_s": EXHAUSTED_PAUSE_S},
                )
                self._rest(EXHAUSTED_PAUSE_S)
            elif error.errno not in _FAILED_BEFORE_ACCEPT:
                raise
            return False
        connection.setblocking(False)
        self._shares.took()
        task: asyncio.Task[object] = self._loop.create_task(
            self._loop.connect_accepted_socket(self._protocol_factory, connection)
        )
        self._connecting.add(task)
        task.add_done_callback(self._connected)
        return True

    def _connected(self, task: asyncio.Task[object]) -> None:
        self._connecting.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._shares.gave_back()
            logger.warning("a connection was lost before its first byte", extra={"error": str(error)})


def _drop_new_handshakes(listener: socket.socket) -> None:
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN)
    kept_alive = ctypes.create_string_buffer(program, len(program))
    try:
        # struct sock_fprog: the number of instructions and where they are.
        listener.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(_DROP_SYN), ctypes.addressof(kept_alive))
        )
    except OSError as error:
        logger.info("closing the listening socket without a packet filter", extra={"error": str(error.strerror)})
