"""A service that is told to stop loses nobody."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.artifacts import ServedProject
from tests.e2e.load import Load
from tests.e2e.service_process import service
from tests.raw_http import RawConnection, request


@pytest.mark.parametrize("workers", [1, 2])
async def test_sigterm_under_load_answers_every_request(
    arguments: list[str], project: ServedProject, workers: int
) -> None:
    """Clients reconnect during the drain, are served, and are refused in the end: no reset, no lost request."""
    with service(*arguments, "--workers", str(workers)) as process:
        process.wait_for("ready")
        load = Load(process.port, project.rank_request(), n_connections=16)

        async with load:
            await load.has_answered(500)
            process.signal(signal.SIGTERM)
            await load.has_ended()

        assert process.wait() == 0
        assert load.lost == []
        assert load.refused == load.n_connections
        assert set(load.statuses) == {200}


async def test_readiness_fails_first_while_requests_are_still_answered(
    arguments: list[str], project: ServedProject
) -> None:
    """Load balancers need that time to look elsewhere; clients that come meanwhile are served."""
    with service(*arguments, "--set", "server.drain_ms=3000") as process:
        process.wait_for("ready")

        process.signal(signal.SIGTERM)
        process.wait_for("draining")
        statuses = []
        while True:
            statuses.append(await _status(process.port, request("GET", "/readyz")))
            if statuses[-1] != 200:
                break
        ranked = await _status(process.port, project.rank_request())

        assert (statuses[-1], ranked) == (503, 200)


async def test_an_idle_connection_and_a_new_one_do_not_hold_up_the_end(arguments: list[str]) -> None:
    """Pools keep connections for minutes; the service ends within its grace all the same."""
    with service(*arguments) as process:
        process.wait_for("ready")
        idle = await RawConnection.open(process.port)
        idle.send(request("GET", "/livez"))
        assert (await idle.answer()).status == 200
        new = await RawConnection.open(process.port)

        began = time.monotonic()
        process.signal(signal.SIGTERM)
        status = process.wait()

        assert status == 0
        assert time.monotonic() - began < 10  # server.grace_ms
        assert await idle.rest() == b""
        assert await new.rest() == b""
        await idle.close()
        await new.close()


async def test_a_second_signal_ends_it_now(arguments: list[str]) -> None:
    """Whoever presses Ctrl-C twice does not want to wait for the drain."""
    with service(*arguments, "--set", "server.drain_ms=60000", "--set", "server.grace_ms=120000") as process:
        process.wait_for("ready")
        process.signal(signal.SIGINT)
        process.wait_for("draining")

        process.signal(signal.SIGINT)

        assert process.wait() == 130


async def test_a_worker_that_does_not_end_is_killed(arguments: list[str]) -> None:
    """The grace is a promise to whoever waits for the port; the exit status says that it was not kept cleanly."""
    with service(*arguments, "--set", "server.drain_ms=100", "--set", "server.grace_ms=3000") as process:
        process.wait_for("ready")
        os.kill(process.workers()[0]["pid"], signal.SIGSTOP)

        began = time.monotonic()
        process.signal(signal.SIGTERM)
        status = process.wait()
        took_s = time.monotonic() - began

        assert status == 1
        assert process.log[-1]["msg"] == "workers did not end and are killed"
        assert 3 <= took_s < 4.5  # two seconds above the grace were a defect


async def test_a_request_that_never_ends_is_cut_within_the_grace(arguments: list[str]) -> None:
    """A worker that can end by itself is given the time to: no kill, and the exit status says so."""
    with service(*arguments, "--set", "server.drain_ms=100", "--set", "server.grace_ms=3000") as process:
        process.wait_for("ready")
        stuck = await RawConnection.open(process.port)
        stuck.send(b"POST /v1/rank HTTP/1.1\r\nHost: clickserve\r\nContent-Length: 100\r\n\r\n{")
        idle = await RawConnection.open(process.port)
        idle.send(request("GET", "/livez"))
        assert (await idle.answer()).status == 200

        began = time.monotonic()
        process.signal(signal.SIGTERM)
        status = process.wait()

        assert status == 0
        assert time.monotonic() - began < 4.5
        await stuck.close()
        await idle.close()


async def test_it_stops_while_a_dead_worker_waits_to_be_replaced(arguments: list[str]) -> None:
    """There is nobody to drain then, and nothing to wait for."""
    with service(*arguments) as process:
        process.wait_for("ready")
        for n_deaths in range(1, 4):
            os.kill(process.workers()[0]["pid"], signal.SIGKILL)
            process.wait_for("a worker ended and is replaced", count=n_deaths)
            if n_deaths < 3:
                process.wait_for("ready", count=n_deaths + 1)

        process.signal(signal.SIGTERM)

        assert process.wait() == 0


async def _status(port: int, message: bytes) -> int:
    connection = await RawConnection.open(port)
    connection.send(message)
    answer = await connection.answer()
    await connection.close()
    return answer.status
