"""Every variant of the route gives the service's own answers, or its speed would be compared with other work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadtest.micro.route_variants import COUNTERS, VARIANTS
from service.asgi import AsgiApp
from service.bootstrap import Runtime
from service.connection_shares import ConnectionShares
from service.listening import open_listeners
from service.server import HttpServer
from service.settings import Settings
from service.telemetry import Telemetry
from tests.integration.service.conftest import settings, shop, valkey_server
from tests.raw_http import RawConnection, request

__all__ = ["settings", "shop", "valkey_server"]

BODY = {"user_id": "u1", "candidates": [f"a{i}" for i in range(30)], "context": {"device": "phone"}, "top_k": 7}
HEADERS = {"x-request-id": "mine", "content-type": "application/json"}


@asynccontextmanager
async def connected(app: AsgiApp) -> AsyncIterator[RawConnection]:
    """A connection to a server of that application."""
    listeners = open_listeners("127.0.0.1", 0, backlog=8, setting="server")
    server = HttpServer(app, listeners, ConnectionShares.alone(), keep_alive_ms=60_000)
    connection = await RawConnection.open(listeners[0].getsockname()[1])
    try:
        yield connection
    finally:
        await connection.close()
        server.stop()


@pytest.mark.parametrize("name", VARIANTS)
async def test_a_variant_answers_as_the_service_does(settings: Settings, name: str) -> None:
    """Same results, same codes, same headers."""
    runtime = await Runtime.start(settings)
    answers = []
    for app in (runtime.app, VARIANTS[name].application(runtime, settings)):
        async with connected(app) as connection:
            connection.send(request("POST", "/v1/rank", BODY, **HEADERS))
            answers.append(await connection.answer())
    await runtime.stop()

    expected, answer = answers
    assert answer.status == expected.status == 200
    for key in ("request_id", "model", "degraded"):
        assert answer.json()[key] == expected.json()[key]
    results = [[(row["ad_id"], row["p_click"]) for row in given.json()["results"]] for given in answers]
    assert [ad_id for ad_id, _ in results[1]] == [ad_id for ad_id, _ in results[0]]
    assert [p_click for _, p_click in results[1]] == pytest.approx([p_click for _, p_click in results[0]], abs=1e-9)
    for header in ("x-request-id", "x-model-version", "content-type"):
        assert answer.headers[header] == expected.headers[header]


def test_the_counters_that_are_silenced_exist() -> None:
    """One that was renamed would go on counting, and metrics would look free of cost."""
    assert all(callable(getattr(Telemetry, name)) for name in COUNTERS)
