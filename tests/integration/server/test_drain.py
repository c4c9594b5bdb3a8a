"""The HTTP server stops without losing a request: real sockets, an application that waits for a signal of the test."""

from __future__ import annotations

import asyncio
import socket

import pytest

from service.connection_shares import ConnectionShares
from service.errors import StartError
from service.listening import open_listeners
from service.server import HttpServer
from tests.integration.server.door import REQUEST, Door, running
from tests.raw_http import DEADLINE_S, request


async def refused(port: int) -> bool:
    """Whether the address refuses connections; any other failure is the test's."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def test_a_request_in_flight_is_answered_and_told_to_close() -> None:
    """Its bytes were read: dropping it would be a lost answer, keeping the connection a reset later."""
    async with running() as service:
        client = await service.connect()
        client.send(REQUEST)
        await service.door.entered.wait()

        drained = service.drain()
        service.door.may_answer.set()
        answer = await client.rest()
        await drained

        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        assert await refused(service.port)


async def test_the_listener_stays_while_load_balancers_notice() -> None:
    """A client that reconnects during `drain_ms` is served on a fresh connection, not reset."""
    async with running() as service:
        service.door.may_answer.set()
        first = await service.connect()
        first.send(REQUEST)
        await first.answer()

        drained = service.drain(drain_ms=60_000, grace_ms=120_000)
        first.send(REQUEST)
        last_of_first = await first.rest()
        second = await service.connect()
        second.send(REQUEST)
        answer_of_second = await second.rest()

        assert last_of_first.startswith(b"HTTP/1.1 200")
        assert answer_of_second.startswith(b"HTTP/1.1 200")
        assert not drained.done()
        service.server.stop()
        await drained


async def test_connections_nobody_accepted_yet_are_served() -> None:
    """The kernel completes connections on its own; closing the listening socket would reset all that wait in it."""
    listeners = open_listeners("127.0.0.1", 0, backlog=128, setting="server")
    port = listeners[0].getsockname()[1]
    waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(32)]
    for connection in waiting:
        connection.sendall(REQUEST)
    door = Door()
    door.may_answer.set()

    server = HttpServer(door, listeners, ConnectionShares.alone(), keep_alive_ms=60_000)
    await server.drain(drain_ms=0, grace_ms=1000 * DEADLINE_S)

    for connection in waiting:
        connection.settimeout(DEADLINE_S)
        with connection:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")


async def test_a_connection_accepted_at_the_end_may_still_ask() -> None:
    """It connected while we listened; its request may be one round trip away."""
    async with running() as service:
        service.door.may_answer.set()
        late = await service.connect()

        drained = service.drain()
        while not await refused(service.port):
            pass
        late.send(REQUEST)
        answer = await late.rest()
        await drained

        assert answer.startswith(b"HTTP/1.1 200")


async def test_idle_connections_are_closed_not_reset() -> None:
    """A keep-alive connection at rest sees the end of the stream, which every client's pool understands."""
    async with running() as service:
        service.door.may_answer.set()
        idle = await service.connect()
        idle.send(REQUEST)
        await idle.answer()

        await service.drain()

        assert await idle.rest() == b""


@pytest.mark.parametrize(
    ("framing", "halves"),
    [({"content_length": "4"}, (b"ha", b"lf")), ({"transfer_encoding": "chunked"}, (b"4\r\nha", b"lf\r\n0\r\n\r\n"))],
)
async def test_a_half_sent_request_is_waited_for(framing: dict[str, str], halves: tuple[bytes, bytes]) -> None:
    """Bytes of it were read, so it is answered; only its own slowness, bounded by the grace, could lose it."""
    async with running() as service:
        service.door.may_answer.set()
        slow = await service.connect()
        slow.send(request("POST", "/", **framing) + halves[0])
        await service.has_read_a_head()

        drained = service.drain()
        while not await refused(service.port):
            pass
        slow.send(halves[1])
        answer = await slow.rest()
        await drained

        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        assert service.door.bodies == [b"half"]


async def test_pipelined_requests_are_all_answered() -> None:
    """Only the last of them may close the connection."""
    async with running() as service:
        client = await service.connect()
        client.send(REQUEST)
        await service.door.entered.wait()

        drained = service.drain()
        client.send(REQUEST + REQUEST)
        while not await refused(service.port):
            pass
        service.door.may_answer.set()
        answers = await client.rest()
        await drained

        assert answers.count(b"HTTP/1.1 200") == 3
        assert answers.count(b"connection: close") == 1


async def test_the_grace_ends_what_never_ends(caplog: pytest.LogCaptureFixture) -> None:
    """A request that hangs must not keep the process alive; it is counted in the log."""
    async with running() as service:
        client = await service.connect()
        client.send(REQUEST)
        await service.door.entered.wait()

        await service.drain(grace_ms=300)

        assert [record.unanswered for record in caplog.records if hasattr(record, "unanswered")] == [1]


async def test_a_client_that_closes_its_half_is_answered() -> None:
    """It has said all it wants to say, as `nc -N` and some proxies do; it still listens."""
    async with running() as service:
        client = await service.connect()
        client.send(REQUEST)
        client.send_eof()
        await service.door.entered.wait()

        service.door.may_answer.set()
        answer = await client.rest()

        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer


async def test_a_client_that_goes_away_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Also with several requests under way: their answers have nowhere to go, and nobody needs a traceback of that."""
    async with running() as service:
        client = await service.connect()
        client.send(REQUEST * 3)
        await service.door.entered.wait()

        await client.abort()
        await service.has_lost_all_connections()
        service.door.may_answer.set()
        await service.drain()

        assert caplog.records == []


def test_a_port_in_use_is_named() -> None:
    """The message says which address, why, and which setting to change."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(
            StartError, match=rf"cannot listen on 127\.0\.0\.1:{port}: address already in use.*server\.port"
        ):
            open_listeners("127.0.0.1", port, backlog=128, setting="server")
