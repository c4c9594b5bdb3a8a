"""The open loop tells the truth about a stalling server, counts every way to fail, and always ends."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from loadtest.open_loop import lateness_verdict, main
from loadtest.open_loop_options import OpenLoopOptions
from loadtest.open_loop_run import run_open_loop
from loadtest.results import EngineResult
from loadtest.target import Target
from tests.loadtest.running_server import StartServer

BODIES = [b'{"user_id":"u1"}', b'{"user_id":"u2"}']


async def measure(url: str, **options: float) -> EngineResult:
    """A short run without warm-up."""
    chosen = {"rate_per_s": 200.0, "duration_s": 0.5, "warmup_s": 0.0, "sample_every": 1, **options}
    return await run_open_loop(Target.parse(url), "/v1/rank", BODIES, OpenLoopOptions(**chosen))  # type: ignore[arg-type]


def closed_loop_p99_ms(url: str, span_s: float) -> float:
    """What a client with one connection sees that sends again as soon as it is answered."""
    target = Target.parse(url)
    connection = http.client.HTTPConnection(target.host, target.port)
    latencies_ms = []
    end = time.perf_counter() + span_s
    while (sent := time.perf_counter()) < end:
        connection.request("POST", "/v1/rank", BODIES[0])
        connection.getresponse().read()
        latencies_ms.append((time.perf_counter() - sent) * 1000)
    connection.close()
    return float(np.percentile(latencies_ms, 99))


def test_a_server_frozen_a_tenth_of_the_time_is_seen_by_the_open_loop_and_hidden_by_a_closed_loop(
    start_server: StartServer, workload_file: Path, tmp_path: Path, repository: Path
) -> None:
    """Frozen 100 ms each second, 10 % of arrivals wait 0 to 100 ms: the true p99 is 90 ms. So the tool exists."""
    server = start_server("--freeze-ms", "100")
    out = tmp_path / "result.json"

    command = [sys.executable, "-m", "loadtest.open_loop", "--url", server.url, "--workload", str(workload_file)]
    run = ["--rate", "500", "--warmup", "1", "--duration", "8", "--out", str(out)]
    subprocess.run([*command, *run], cwd=repository, check=True, timeout=60)
    closed_p99_ms = closed_loop_p99_ms(server.url, span_s=3)

    result = json.loads(out.read_text())
    assert result["errors"] == {}
    assert 80 <= result["latency"]["p99_ms"] <= 100
    assert closed_p99_ms < result["latency"]["p99_ms"] / 4


async def test_all_requests_of_the_schedule_are_answered_and_counted(start_server: StartServer) -> None:
    """Every scheduled request ends exactly once."""
    result = await measure(start_server().url)

    assert result.n_requests == result.n_ok == result.latency.n == sum(second.n_requests for second in result.timeline)
    assert result.statuses == {"200": result.n_requests}
    assert result.errors == {}


async def test_the_warm_up_is_left_out(start_server: StartServer) -> None:
    """Cold caches belong to the start of a service, not to its p99."""
    result = await measure(start_server().url, warmup_s=0.5)

    assert 60 <= result.n_requests <= 140
    assert {second.second for second in result.timeline} == {0}
    assert result.degraded.n_inspected == result.n_ok


async def test_refused_connections_are_counted(url_of_nobody: str) -> None:
    """A dead server is a result, not a crash; and its refusals, though fast, have no latency."""
    result = await measure(url_of_nobody)

    assert result.n_requests > 0
    assert result.errors == {"refused": result.n_requests}
    assert result.latency.n == 0


async def test_a_server_that_announces_the_end_of_connections_causes_no_error(start_server: StartServer) -> None:
    """`Connection: close` is part of HTTP: the client opens another connection."""
    result = await measure(start_server("--answers-per-connection", "3").url)

    assert result.errors == {}
    assert result.connections is not None
    assert result.connections.n_opened > result.n_requests / 4


async def test_a_server_that_closes_idle_connections_unannounced_causes_no_error(start_server: StartServer) -> None:
    """A keep-alive timeout may strike while a request is on its way: it is sent again, and counted as such."""
    server = start_server("--answers-per-connection", "1", "--close-unannounced")

    result = await measure(server.url, rate_per_s=1500.0)

    assert result.errors == {}
    assert result.n_ok == result.n_requests


async def test_a_server_that_never_answers_ends_in_timeouts_that_count_as_latency(start_server: StartServer) -> None:
    """Leaving timeouts out of the percentiles would be coordinated omission by another name."""
    result = await measure(start_server("--silent").url, timeout_s=0.3)

    assert result.errors == {"timeout": result.n_requests}
    assert result.latency.n == result.n_requests
    assert result.latency.p50_ms is not None
    assert result.latency.p50_ms >= 300


async def test_waiting_for_a_free_connection_counts_as_latency(start_server: StartServer) -> None:
    """One connection that answers 50 times a second cannot carry 200: the line that forms is what users feel."""
    result = await measure(start_server("--delay-ms", "20").url, max_connections=1)

    assert result.connections is not None
    assert result.connections.max_in_use == result.connections.n_opened == 1
    assert result.connections.n_waited > result.n_requests / 2
    assert result.latency.max_ms is not None
    assert result.latency.max_ms > 200


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(("--status", "503"), "http_5xx"), (("--status", "422"), "http_4xx"), (("--garbage",), "malformed")],
)
async def test_answers_that_are_no_success_are_errors_by_kind(
    start_server: StartServer, fault: tuple[str, ...], kind: str
) -> None:
    """A fast 503 must count as an error and must not improve a percentile."""
    result = await measure(start_server(*fault).url)

    assert result.errors == {kind: result.n_requests}
    assert result.latency.n == 0


async def test_a_fresh_connection_closed_instead_of_an_answer_is_an_error(start_server: StartServer) -> None:
    """Only a connection that had been idle excuses its end; a server that hangs up on requests is not healthy."""
    result = await measure(start_server("--hang-up").url)

    assert set(result.errors) <= {"closed", "reset"}
    assert sum(result.errors.values()) == result.n_requests > 0


async def test_degraded_answers_are_counted_by_code(start_server: StartServer) -> None:
    """A fast answer made of defaults must be visible as such."""
    result = await measure(
        start_server("--degraded", "store_timeout", "--degraded", "user_missing").url, sample_every=5
    )

    assert result.degraded.share == 1.0
    assert set(result.degraded.codes) == {"store_timeout", "user_missing"}
    assert result.degraded.n_inspected == pytest.approx(result.n_requests / 5, abs=1)


async def test_a_generator_that_was_held_up_says_that_it_is_not_to_be_believed(start_server: StartServer) -> None:
    """What the generator did to itself must not be put on the server's bill."""
    server = start_server()
    asyncio.get_running_loop().call_later(0.2, time.sleep, 0.2)

    result = await measure(server.url)

    assert result.lateness is not None
    assert not result.lateness.believable
    assert "generator too late to be believed" in lateness_verdict(result.lateness)


@pytest.mark.parametrize("wrong", [["--rate", "0"], ["--duration", "nan"], ["--sample-every", "0"], ["--warmup", "-1"]])
def test_a_senseless_number_is_a_usage_error(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A rate of 0 would wait for ever for the first request."""
    usual = ["--url", "http://127.0.0.1:1", "--workload", "w.json", "--rate", "1", "--duration", "1"]

    with pytest.raises(SystemExit) as end:
        main([*usual, *wrong])

    assert end.value.code == 2
    assert wrong[0] in capsys.readouterr().err
