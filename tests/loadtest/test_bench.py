"""A bench measures, judges and writes its report, or says why it could not."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from loadtest.bench import BenchOptions, run_bench
from loadtest.errors import LoadTestError, TargetError, UrlError
from loadtest.generator_process import run_generator
from loadtest.machine import read_commit, read_machine
from loadtest.report import Report
from loadtest.server_cpu import cpu_seconds
from loadtest.target import Target
from tests.loadtest.running_server import StartServer


@pytest.fixture
def generous_budgets(tmp_path: Path) -> Path:
    """Bounds that a shared machine keeps: these tests judge the bench, not the machine."""
    path = tmp_path / "budgets.toml"
    path.write_text("[rank]\np99_ms = 5000.0\nerror_share = 0.0\n[generator]\nlateness_p99_ms = 5000.0\n")
    return path


def test_both_engines_are_measured_judged_and_reported(
    start_server: StartServer, workload_file: Path, generous_budgets: Path, tmp_path: Path
) -> None:
    """One call gives the verdict, the figures and the page."""
    server = start_server()
    told: list[tuple[str, float]] = []

    result = run_bench(
        BenchOptions(
            url=server.url,
            workload_path=workload_file,
            out_dir=tmp_path / "new" / "folder",
            rate_per_s=100,
            duration_s=2,
            warmup_s=1,
            engine="both",
            server_pids=(server.pid,),
            budgets_path=generous_budgets,
        ),
        lambda text, fraction: told.append((text, fraction)),
    )

    assert result.passed
    assert [measured.result.engine for measured in result.report.measured] == ["open-loop", "locust"]
    assert all(measured.server_cpu_s is not None for measured in result.report.measured)  # 0 below a clock tick
    assert result.report.model_version == "v7"
    assert msgspec.json.decode(result.json_path.read_bytes(), type=Report) == result.report
    assert "Passed" in result.html_path.read_text()
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_a_missed_budget_is_a_verdict_not_an_error(
    start_server: StartServer, workload_file: Path, tmp_path: Path
) -> None:
    """The report of a failed run is the one that is read."""
    budgets = tmp_path / "budgets.toml"
    budgets.write_text("[rank]\np50_ms = 0.0001\n[generator]\nlateness_p99_ms = 5000.0\n")
    options = BenchOptions(
        start_server().url, workload_file, tmp_path, rate_per_s=100, duration_s=1, warmup_s=0, budgets_path=budgets
    )

    result = run_bench(options)

    assert result.verdict.outcome == "failed"
    assert json.loads(result.json_path.read_text())["verdict"]["outcome"] == "failed"


def test_a_service_that_is_not_there_is_named_before_anything_is_measured(
    url_of_nobody: str, workload_file: Path, tmp_path: Path
) -> None:
    """A report about nothing would still look like a report."""
    with pytest.raises(TargetError, match=r"got no answer: .*Connection refused"):
        run_bench(BenchOptions(url_of_nobody, workload_file, tmp_path / "out"))

    assert not (tmp_path / "out").exists()


def test_a_refused_workload_shows_what_the_service_said(
    start_server: StartServer, workload_file: Path, tmp_path: Path
) -> None:
    """422 on every request is a wrong workload, not a fast service."""
    with pytest.raises(TargetError, match=r"answered 422 to the workload's first request: \{"):
        run_bench(BenchOptions(start_server("--status", "422").url, workload_file, tmp_path))


def test_a_core_that_is_not_there_is_refused(start_server: StartServer, workload_file: Path, tmp_path: Path) -> None:
    """Pinning that silently does nothing would be believed."""
    with pytest.raises(LoadTestError, match="cpu 4096 is not one of those this process may use"):
        run_bench(BenchOptions(start_server().url, workload_file, tmp_path, cpu=4096))


def test_a_generator_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bench in a pipeline must end."""
    monkeypatch.setattr("loadtest.generator_process._GRACE_S", 0.0)

    with pytest.raises(LoadTestError, match="had not ended after 0 s and was killed"):
        run_generator("it", ["sleep", "60"], expected_s=1, limit_s=0.3, cpu=None, on_progress=lambda _: None)


@pytest.mark.parametrize(
    "url", ["https://h:1", "127.0.0.1:8080", "http://", "http://h:99999", "http://h:1/?q=1", "http://["]
)
def test_an_unusable_url_is_refused(url: str) -> None:
    """Better than a run full of errors against the wrong place."""
    with pytest.raises(UrlError, match="url "):
        Target.parse(url)


def test_an_ipv6_address_and_a_path_are_kept() -> None:
    """A service behind a prefix, on ::1."""
    target = Target.parse("http://[::1]:8080/ads/")

    assert (target.host, target.port, target.url) == ("::1", 8080, "http://[::1]:8080/ads")
    assert target.request("/v1/rank", b"{}").startswith(b"POST /ads/v1/rank HTTP/1.1\r\nHost: [::1]:8080\r\n")


def test_the_machine_is_described() -> None:
    """A number without its machine is not a measurement."""
    machine = read_machine()

    assert machine.cpu_model
    assert 1 <= machine.cores_allowed <= machine.cores
    assert "numpy" in machine.versions


def test_a_commit_is_marked_where_the_tree_differs_from_it(tmp_path: Path) -> None:
    """A number measured on uncommitted code cannot be measured again."""

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    before = read_commit(tmp_path)
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "one")
    clean = read_commit(tmp_path)
    (tmp_path / "file").write_text("two")
    dirty = read_commit(tmp_path)

    assert before == "unknown (not a git checkout with a commit)"
    assert len(clean) == 40
    assert dirty == clean + "+dirty"


def test_cpu_time_of_processes_is_summed_and_unknown_when_one_is_gone() -> None:
    """A sum that lost a process would flatter the server."""
    gone = subprocess.Popen(["true"])
    gone.wait()

    own = cpu_seconds([os.getpid()])

    assert own is not None
    assert own > 0
    assert cpu_seconds([os.getpid(), gone.pid]) is None
    assert cpu_seconds([]) is None
