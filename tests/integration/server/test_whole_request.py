"""Requests of the usual size reach the application in full, others as they come; nobody else can tell."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from service.asgi import WHOLE_ANSWER, Message, Receive, Send
from service.whole_request import WHOLE_BYTES
from tests.integration.server.door import REQUEST, running
from tests.raw_http import DEADLINE_S, request


class Recorder:
    """Answers in one write where the server can, and keeps the scopes and the events it was sent."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.events: list[Message] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scopes.append(dict(scope))
        more = True
        while more:
            self.events.append(await receive())
            more = self.events[-1].get("more_body", False)
        headers = [(b"content-length", b"2")]
        send_whole = scope.get("extensions", {}).get(WHOLE_ANSWER)
        if send_whole is None or not send_whole(200, headers, b"ok"):
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize("cuts", [[], [0], [1, 2, 3], [0, WHOLE_BYTES // 2, WHOLE_BYTES - 1]])
async def test_a_body_is_one_event_however_it_is_cut(cuts: list[int]) -> None:
    """Networks cut where they like: behind the head as well."""
    body = bytes(range(256)) * (WHOLE_BYTES // 256)
    recorder = Recorder()
    async with running(app=recorder) as service:
        client = await service.connect()
        client.send(request("POST", "/", content_length=str(len(body))))
        for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
            await asyncio.sleep(0)  # the loop sends each piece by itself
            client.send(body[start:end])

        assert (await client.answer()).body == b"ok"
        assert recorder.events == [{"type": "http.request", "body": body, "more_body": False}]


async def test_a_larger_body_is_read_as_it_comes() -> None:
    """Or every connection could make us hold as much as it announces."""
    recorder = Recorder()
    async with running(app=recorder) as service:
        client = await service.connect()
        client.send(request("POST", "/", content_length=str(WHOLE_BYTES + 1)) + b"x")
        async with asyncio.timeout(DEADLINE_S):
            while not recorder.events:  # noqa: ASYNC110 - the application begins before the rest is sent
                await asyncio.sleep(0)
        client.send(b"x" * WHOLE_BYTES)

        assert (await client.answer()).body == b"ok"
        assert sum(len(event["body"]) for event in recorder.events) == WHOLE_BYTES + 1


@pytest.mark.parametrize("target", ["/", "/a%20b/%C3%BC", "/v1/rank?x=1&y=%20", "http://other:80/path"])
async def test_both_ways_have_the_same_scope(target: str) -> None:
    """It is uvicorn's where the body is read as it comes."""
    recorder = Recorder()
    async with running(app=recorder) as service:
        client = await service.connect()
        client.send(request("POST", target, content_length="0"))
        await client.answer()
        client.send(request("POST", target, transfer_encoding="chunked") + b"0\r\n\r\n")
        await client.answer()

    whole, streamed = ({**scope, "headers": None, "extensions": None} for scope in recorder.scopes)
    assert whole == streamed


async def test_pipelined_requests_are_answered_in_order_whichever_way_they_come() -> None:
    """The answers tell nothing of the request but their order."""
    chunked = request("POST", "/", transfer_encoding="chunked") + b"1\r\nb\r\n0\r\n\r\n"
    async with running() as service:
        client = await service.connect()
        client.send(request("POST", "/", content_length="1") + b"a" + chunked)
        client.send(request("POST", "/", content_length="1") + b"c" + chunked)
        await service.door.entered.wait()
        service.door.may_answer.set()
        answers = [await client.answer() for _ in range(4)]

        assert [answer.status for answer in answers] == [200] * 4
        assert service.door.bodies == [b"a", b"b", b"c", b"b"]


@pytest.mark.parametrize("head", [b"POST / HTTP/1.0\r\n", b"POST / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n"])
async def test_who_wants_one_answer_gets_one(head: bytes) -> None:
    """The connection ends with it."""
    async with running(app=Recorder()) as service:
        client = await service.connect()
        client.send(head + b"content-length: 1\r\n\r\nx")

        assert (await client.answer()).closes
        assert await client.rest() == b""


async def test_the_application_hears_of_a_client_that_left_before_its_body_came() -> None:
    """It counts such requests, whatever their size."""
    async with running() as service:
        client = await service.connect()
        client.send(request("POST", "/", content_length="4") + b"ha")
        await service.has_read_a_head()
        await client.abort()
        async with asyncio.timeout(DEADLINE_S):
            await service.door.entered.wait()

        assert service.door.bodies == []


async def test_who_asks_for_more_waits_for_the_end_of_the_connection() -> None:
    """As a streaming answer does, to stop when its client leaves."""
    heard: list[str] = []
    over = asyncio.Event()

    async def listening(scope: Message, receive: Receive, send: Send) -> None:
        heard.extend([(await receive())["type"], (await receive())["type"]])
        over.set()

    async with running(app=listening) as service:
        client = await service.connect()
        client.send(REQUEST)
        await service.has_read_a_head()
        await client.abort()
        async with asyncio.timeout(DEADLINE_S):
            await over.wait()

    assert heard == ["http.request", "http.disconnect"]


async def test_an_answered_request_is_gone_without_a_garbage_collection() -> None:
    """Thousands of them a second would wait for one, with their bodies."""
    async with running(app=Recorder()) as service:
        client = await service.connect()
        client.send(REQUEST)
        await client.answer()
        (connection,) = service.server._shared.connections
        answered = weakref.ref(connection.cycle)
        gc.disable()
        try:
            client.send(REQUEST)
            await client.answer()

            assert answered() is None
        finally:
            gc.enable()


async def test_a_quiet_connection_is_closed_and_a_used_one_is_not() -> None:
    """The time counts from the last answer, and not while one is being made."""
    keep_alive_s = 0.06
    async with running(keep_alive_ms=1000 * keep_alive_s) as service:
        client = await service.connect()
        client.send(REQUEST)
        await service.door.entered.wait()
        service.door.may_answer.set()
        await client.answer()
        service.door.may_answer.clear()
        client.send(REQUEST)
        await service.has_read_a_head()
        (connection,) = service.server._shared.connections
        async with asyncio.timeout(DEADLINE_S):
            while connection.timeout_keep_alive_task is not None:  # noqa: ASYNC110 - the timer tells nobody
                await asyncio.sleep(0)
        service.door.may_answer.set()
        assert (await client.answer()).status == 200
        answered_s = connection._quiet_since_s

        assert await client.rest() == b""
        assert asyncio.get_running_loop().time() - answered_s >= keep_alive_s - 0.002  # the loop counts milliseconds
