"""The closed loop counts every answer once, names every failure, and always ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtest.answer_frame import AnswerFrame, MalformedAnswer, says_close
from loadtest.closed_loop_run import ClosedLoopOptions, run_closed_loop
from loadtest.errors import TargetError
from loadtest.intervals import Spread, mean_interval
from loadtest.results import ClosedLoopResult
from loadtest.target import Target
from tests.loadtest.counting_server import OK, CountingServer
from tests.loadtest.running_server import StartServer

BODIES = [b'{"n":%d}' % number for number in range(7)]


def measure(
    answer_of: Callable[[int, bytes], bytes | None], **options: float
) -> tuple[ClosedLoopResult, CountingServer]:
    """A short run without warm-up on three connections against a server inside this process."""
    server = CountingServer(answer_of)
    chosen = {"n_connections": 3, "duration_s": 0.3, "warmup_s": 0.0, **options}
    with server.running() as url:
        result = run_closed_loop(Target.parse(url), "/v1/rank", BODIES, ClosedLoopOptions(**chosen))  # type: ignore[arg-type]
    return result, server


def test_the_servers_own_count_equals_the_clients() -> None:
    """Requests per second are worth what the count is worth."""
    result, server = measure(lambda number, body: OK)

    assert result.n_answered_in_all == len(server.bodies) > 100
    assert result.errors == {}
    n_after_the_end = result.n_answered_in_all - result.n_ok
    assert n_after_the_end <= 2 * result.n_connections  # one being read when time ran out, one sent upon it
    assert result.latency.n == result.n_ok


def test_the_prepared_bodies_are_sent_in_turn() -> None:
    """A server that sees one request again and again answers from a warm cache."""
    _, server = measure(lambda number, body: OK)

    n_rounds = len(server.bodies) // len(BODIES)
    assert all(abs(server.bodies.count(body) - n_rounds) <= 1 for body in BODIES)


def test_answers_in_the_warm_up_are_not_measured() -> None:
    """Cold caches belong to the start of a service."""
    result, _ = measure(lambda number, body: OK, warmup_s=0.3)

    assert 0 < result.n_ok < result.n_answered_in_all


def test_only_200_counts_and_other_statuses_are_counted_by_kind() -> None:
    """A server that sheds half of the load is not twice as fast."""
    shed = OK.replace(b"200 OK", b"503 Busy")

    result, server = measure(lambda number, body: shed if number % 2 else OK)

    assert set(result.errors) == {"http_5xx"}
    assert result.errors["http_5xx"] == len(server.bodies) // 2
    assert result.n_answered_in_all == len(server.bodies)


def test_a_connection_the_server_closes_instead_of_answering_is_an_error_and_is_replaced() -> None:
    """Otherwise a server that drops connections would be measured with fewer of them."""
    result, server = measure(lambda number, body: None if number == 10 else OK)

    assert result.errors == {"closed": 1}
    assert result.n_answered_in_all == len(server.bodies) - 1
    assert result.n_answered_in_all > 20


def test_an_announced_end_of_a_connection_is_no_error() -> None:
    """`Connection: close` is part of HTTP."""
    farewell = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    result, server = measure(lambda number, body: farewell if number % 5 == 0 else OK)

    assert result.errors == {}
    assert result.n_answered_in_all == len(server.bodies)


def test_a_long_answer_in_many_pieces_is_one_answer() -> None:
    """1 000 candidates make an answer longer than one read."""
    long = b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n" + b"x" * 300_000

    result, server = measure(lambda number, body: long, keep_every=1)

    assert result.errors == {}
    assert result.n_answered_in_all == len(server.bodies) > 3
    assert {kept.body for kept in result.kept} == {b"x" * 300_000}


def test_a_kept_answer_knows_its_request() -> None:
    """Checked afterwards, it must be compared with what was asked."""
    echo = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"

    result, _ = measure(lambda number, body: echo + body, keep_every=3)

    assert len(result.kept) > 5
    assert all(kept.body == BODIES[kept.number] for kept in result.kept)


@pytest.mark.parametrize("garbage", [b"this is not HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", OK + b"more"])
def test_what_is_no_answer_is_malformed(garbage: bytes) -> None:
    """Neither a hang nor a success."""
    result, server = measure(lambda number, body: garbage if number == 5 else OK)

    assert result.errors == {"malformed": 1}
    assert result.n_answered_in_all == len(server.bodies) - 1


def test_a_server_that_never_answers_ends_in_timeouts(start_server: StartServer) -> None:
    """A bench in a pipeline must end, and say why."""
    target = Target.parse(start_server("--silent").url)

    result = run_closed_loop(target, "/", BODIES, ClosedLoopOptions(2, duration_s=0.2, warmup_s=0, timeout_s=0.3))

    assert result.errors == {"timeout": 2}
    assert result.n_ok == 0
    assert result.latency.n == 0


def test_a_server_that_is_not_there_is_an_error_with_its_address(url_of_nobody: str) -> None:
    """0 requests a second would look like a result."""
    with pytest.raises(TargetError, match=r"no connection to 127\.0\.0\.1:\d+: .*refused"):
        run_closed_loop(Target.parse(url_of_nobody), "/", BODIES)


def test_the_process_writes_its_result(
    start_server: StartServer, workload_file: Path, tmp_path: Path, repository: Path
) -> None:
    """What the suite starts."""
    out = tmp_path / "result.json"
    command = [sys.executable, "-m", "loadtest.closed_loop", "--url", start_server().url, "--out", str(out)]
    run = ["--workload", str(workload_file), "--duration", "2", "--warmup", "0", "--keep-every", "50"]

    subprocess.run([*command, *run], cwd=repository, check=True, timeout=60)

    result = json.loads(out.read_text())
    assert sum(result["per_second"]) == result["n_ok"] > 0
    assert result["per_s_low"] <= sum(result["per_second"]) / 2 <= result["per_s_high"]
    assert result["client_cpu_us"] > 0
    assert result["kept"]


@pytest.mark.parametrize("name", [b"content-length:", b"Content-Length: ", b"CONTENT-LENGTH:  "])
def test_content_length_is_found_however_it_is_spelt(name: bytes) -> None:
    """Header names have no case, and servers differ."""
    answer = b"HTTP/1.1 200 OK\r\nX-Content-Length-Of: 9\r\n" + name + b"4\r\n\r\nbody"
    frame = AnswerFrame()

    ends = [frame.end(bytearray(answer[:n]), n) for n in range(1, len(answer) + 1)]

    head_bytes = len(answer) - 4
    assert ends == [0] * (head_bytes - 1) + [len(answer)] * 5


def test_a_head_without_end_is_refused() -> None:
    """A server that streams without a blank line must not fill our memory."""
    endless = bytearray(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000)

    with pytest.raises(MalformedAnswer, match=r"expected an HTTP/1\.1 answer with a Content-Length"):
        AnswerFrame().end(endless, len(endless))


def test_close_is_read_from_the_head_alone() -> None:
    """A body may hold any bytes."""
    answer = bytearray(b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n\r\nConnection: close\r\n")

    assert not says_close(answer, len(answer))


def test_the_interval_of_a_mean_is_students() -> None:
    """Checked by hand: mean 10, standard deviation 1, three values, t(2) = 4.30."""
    low, high = mean_interval([9, 10, 11]) or (0, 0)

    assert (low, high) == pytest.approx((10 - 4.30 / 3**0.5, 10 + 4.30 / 3**0.5))
    assert mean_interval([5]) is None


def test_a_spread_keeps_the_extremes() -> None:
    """A median alone hides a bad round."""
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(median=2.0, low=1.0, high=3.0, n=3)
