"""Locust, in its own process, over the same workload: sub-millisecond statistics in the open loop's form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.errors import EngineError
from loadtest.locust_run import LocustOptions, run_locust
from loadtest.target import Target
from tests.loadtest.running_server import StartServer


def test_locust_measures_in_hundredths_of_a_millisecond(start_server: StartServer, workload_file: Path) -> None:
    """Locust's whole milliseconds cannot tell 0.3 ms from 1.4 ms, which is the difference we care about."""
    server = start_server("--degraded", "store_timeout")

    result = run_locust(Target.parse(server.url), workload_file, LocustOptions(100, 3, warmup_s=1))

    assert result.errors == {}
    assert 150 <= result.n_requests <= 350  # 95 % of 100/s go to the ranking route, less where the machine is busy
    assert any(not point.latency_ms.is_integer() for point in result.curve)
    assert result.latency.p50_ms is not None
    assert result.degraded.share == 1.0


def test_locust_counts_refused_connections_as_the_open_loop_does(url_of_nobody: str, workload_file: Path) -> None:
    """Both engines stand in one table, so one fault needs one name."""
    result = run_locust(Target.parse(url_of_nobody), workload_file, LocustOptions(20, 2, warmup_s=0))

    assert result.n_ok == 0
    assert result.errors == {"refused": result.n_requests}


def test_a_locust_that_fails_is_an_error_with_its_own_words(url_of_nobody: str, tmp_path: Path) -> None:
    """Otherwise the reader would have to start it again by hand to see why."""
    with pytest.raises(EngineError, match="cannot be read: No such file"):
        run_locust(Target.parse(url_of_nobody), tmp_path / "none.json", LocustOptions(20, 1))


def test_importing_the_bench_leaves_locust_unloaded(repository: Path) -> None:
    """Importing locust patches sockets and threads of the whole process, which here is the caller's."""
    code = "import sys, loadtest.bench, loadtest.open_loop; print('locust' in sys.modules, 'gevent' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]
