"""What the HTTP server owes to callers before any application is asked."""

from __future__ import annotations

import asyncio

import pytest

from service import connection as connection_module
from tests.integration.server.door import REQUEST, running
from tests.raw_http import RawConnection, request

H2C = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAEAAEAAAAIAAAAB"}
"""What Java's HttpClient offers with its first request."""

LOOKS_LIKE_A_REQUEST = REQUEST


async def status_and_slug(client: RawConnection) -> tuple[int, str]:
    """Of an answer that is a problem."""
    answer = await client.answer()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.closes
    return answer.status, answer.json()["type"].rpartition(":")[2]


async def test_endless_headers_are_refused() -> None:
    """Neither uvicorn nor its parser bounds them; one client could fill the memory."""
    async with running() as service:
        client = await service.connect()
        client.send(b"GET / HTTP/1.1\r\nx: ")
        for _ in range(3):
            client.send(b"a" * connection_module.MAX_HEAD_BYTES)

        assert await status_and_slug(client) == (431, "head-too-large")
        assert service.refused == [431]


@pytest.mark.parametrize(("excess_bytes", "status"), [(0, 200), (1, 431)])
async def test_the_limit_of_a_head_does_not_depend_on_how_it_arrives(excess_bytes: int, status: int) -> None:
    """A read may hold more than the limit at once."""
    without_padding = len(request("GET", "/", x=""))
    head = request("GET", "/", x="a" * (connection_module.MAX_HEAD_BYTES - without_padding + excess_bytes))
    async with running() as service:
        service.door.may_answer.set()
        whole, halved = await service.connect(), await service.connect()

        whole.send(head)
        halved.send(head[:40_000])
        await asyncio.sleep(0)  # the loop sends each piece by itself
        halved.send(head[40_000:])

        assert (await whole.answer()).status == status
        assert (await halved.answer()).status == status


CHUNKED = request("POST", "/", transfer_encoding="chunked")


@pytest.mark.parametrize(
    "endless",
    [b"0\r\nx: " + b"a" * 70_000, b"0\r\n" + b"x: aaaa\r\n" * 8_000, b"2;x=" + b"a" * 70_000],
    ids=["one trailer", "many trailers", "a chunk's extension"],
)
async def test_what_is_no_body_does_not_fill_the_memory(endless: bytes) -> None:
    """Trailers are kept by the parser; the application, which bounds the body, never sees them."""
    async with running() as service:
        client = await service.connect()
        client.send(CHUNKED + b"2\r\nha\r\n")
        await service.door.entered.wait()
        for start in range(0, len(endless), 10_000):
            client.send(endless[start : start + 10_000])
            await asyncio.sleep(0)  # the loop sends each piece by itself

        assert await status_and_slug(client) == (431, "head-too-large")


@pytest.mark.parametrize("at_once", [True, False])
async def test_trailers_are_dropped_however_they_arrive(at_once: bool) -> None:
    """A deadline or a request's id behind the body would count or not by the moment it arrives."""
    body, trailers = b"2\r\nha\r\n0\r\n", b"x-deadline-ms: 0.1\r\nx-request-id: late\r\n\r\n"
    async with running() as service:
        service.door.may_answer.set()
        client = await service.connect()
        if at_once:
            client.send(CHUNKED + body + trailers)
        else:
            client.send(CHUNKED)
            await service.door.entered.wait()
            client.send(body)
            client.send(trailers)

        assert (await client.answer()).status == 200
        assert service.door.bodies == [b"ha"]
        assert [name for name, _ in service.door.headers] == [b"host", b"transfer-encoding"]


async def test_a_body_of_many_small_chunks_is_read() -> None:
    """What stands between the chunks counts from the last of them, not from the first."""
    async with running() as service:
        service.door.may_answer.set()
        client = await service.connect()
        client.send(CHUNKED)
        for _ in range(8):
            client.send((b"1;" + b"x" * 30 + b"\r\na\r\n") * 1_000)
            await asyncio.sleep(0)
        client.send(b"0\r\n\r\n")

        assert (await client.answer()).status == 200
        assert service.door.bodies == [b"a" * 8_000]


async def test_bytes_that_are_not_http_are_answered_as_a_problem() -> None:
    """Every error has the same shape, also the one that no application sees."""
    async with running() as service:
        client = await service.connect()
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")

        assert await status_and_slug(client) == (400, "not-http")
        assert service.refused == [400]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nHost: b\r\n", 400),
        (b"GET / HTTP/1.0\r\nhost: a\r\nHost: b\r\n", 400),
        (b"GET / HTTP/1.0\r\n", 200),
    ],
)
async def test_a_request_has_one_host(head: bytes, status: int) -> None:
    """A proxy before us and we might read two hosts differently (RFC 9112, 3.2); HTTP/1.0 may do without."""
    async with running() as service:
        service.door.may_answer.set()
        client = await service.connect()
        client.send(head + b"\r\n")

        answer = await client.answer()

        assert answer.status == status
        assert service.refused == [400] * (status == 400)


@pytest.mark.parametrize("line", ["FOO /v1/rank", "post /v1/rank", "CONNECT other:443"])
async def test_a_method_that_does_not_exist_is_named(line: str) -> None:
    """The bytes are HTTP, so `400` would send the caller looking in the wrong place (RFC 9110, 9.1)."""
    async with running() as service:
        client = await service.connect()
        client.send(f"{line} HTTP/1.1\r\nhost: test\r\n\r\n".encode())

        assert await status_and_slug(client) == (501, "unknown-method")
        assert service.refused == [501]


async def test_a_request_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends one byte now and then could hold connections for ever."""
    monkeypatch.setattr(connection_module, "INCOMPLETE_S", 0.1)
    async with running() as service:
        silent = await service.connect()
        slow = await service.connect()
        slow.send(b"GET / HT")

        assert await silent.rest() == b""
        assert await status_and_slug(slow) == (408, "request-incomplete")
        assert service.refused == [408]


async def test_a_body_that_does_not_arrive_is_counted_by_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the request already: counted here as well, one request would be two."""
    monkeypatch.setattr(connection_module, "INCOMPLETE_S", 0.1)
    async with running() as service:
        client = await service.connect()
        client.send(request("POST", "/", content_length="4") + b"ha")

        assert await status_and_slug(client) == (408, "request-incomplete")
        assert service.refused == []
        assert service.door.entered.is_set()


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upgrade_nobody_wants_is_answered_as_plain_http(chunked: bool) -> None:
    """The parser stops at the offer: the body was lost, and one that looks like a request would have been answered."""
    body = LOOKS_LIKE_A_REQUEST
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    length = {"transfer_encoding": "chunked"} if chunked else {"content_length": str(len(body))}
    async with running() as service:
        service.door.may_answer.set()
        client = await service.connect()

        client.send(request("POST", "/", **H2C, **length) + sent)
        first = await client.answer()
        client.send(REQUEST)
        second = await client.answer()

        assert (first.status, second.status) == (200, 200)
        assert service.door.bodies == [body, b""]


async def test_the_body_of_an_offered_upgrade_may_come_later() -> None:
    """Networks cut where they like: behind the head, and in the middle of the body."""
    async with running() as service:
        service.door.may_answer.set()
        client = await service.connect()

        client.send(request("POST", "/", **H2C, content_length="4"))
        await service.has_read_a_head()
        client.send(b"ha")
        await asyncio.sleep(0)  # the loop sends each piece by itself
        client.send(b"lf" + REQUEST)
        answers = [await client.answer() for _ in range(2)]

        assert [answer.status for answer in answers] == [200, 200]
        assert service.door.bodies == [b"half", b""]


async def test_many_offers_in_one_read_are_many_requests() -> None:
    """Each costs a parser; a thousand must not cost the stack of a thousand calls."""
    async with running() as service:
        service.door.may_answer.set()
        client = await service.connect()

        client.send(request("GET", "/", **H2C) * 1000)
        statuses = [(await client.answer()).status for _ in range(1000)]

        assert statuses == [200] * 1000
