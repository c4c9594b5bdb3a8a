"""A whole suite against small real servers: started, compared, measured, stopped, written down."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.errors import DisagreementError, ServerError
from loadtest.suite import closed_rounds
from loadtest.suite.cores import no_cores
from loadtest.suite.pages import write_report
from loadtest.suite.plan import QUICK, OpenCase
from loadtest.suite.run import SuiteOptions, run_suite
from loadtest.suite.servers import ServerPlan

SERVER = str(Path(__file__).with_name("ranking_server.py"))
TINY = replace(
    QUICK,
    closed_rounds=1,
    closed_s=0.4,
    open_s=0.4,
    open_cases=(OpenCase(100.0, 20),),
    search_bounds_ms=(1e-6,),  # no rate keeps it: one run a server
    search_s=0.3,
    curve_shares=(0.1,),
    curve_s=0.4,
    candidate_counts=(5,),
    candidate_s=0.2,
    agreement_requests=10,
    spending_s=0.3,
    warmup_s=0.1,
    n_connections=2,
    lateness_bound_ms=5_000.0,
)


def plan(name: str, role: str, *arguments: str) -> ServerPlan:
    """A server of these tests."""
    return ServerPlan(name, f"{name} of a test", (sys.executable, SERVER, "{port}", *arguments), role)  # type: ignore[arg-type]


def options(
    workload_file: Path, out: Path, *baselines: ServerPlan, variants: tuple[ServerPlan, ...] = ()
) -> SuiteOptions:
    """A tiny suite without pinning."""
    return SuiteOptions(
        plan=TINY,
        subject=plan("ours", "subject"),
        echo=plan("echo", "echo", "--echo"),
        baselines=baselines,
        variants=variants,
        workload_path=workload_file,
        out_dir=out,
        cores=no_cores(),
    )


def test_a_suite_measures_everything_in_its_plan(workload_file: Path, tmp_path: Path) -> None:
    """One run from start to page; a baseline that cannot start is named, not fatal."""
    missing = ServerPlan("absent", "not there", (sys.executable, "-c", "raise SystemExit('not installed')"), "baseline")
    chosen = options(workload_file, tmp_path / "out", missing, variants=(plan("variant", "variant"),))
    steps: list[str] = []

    result = run_suite(chosen, steps.append)

    assert [server.name for server in result.servers] == ["ours", "echo"]
    assert result.servers[0].agreement is not None
    assert result.servers[0].agreement.n_candidates == 10 * 20
    assert [(absent.name, "not installed" in absent.reason) for absent in result.absent] == [("absent", True)]
    assert {measured.server for measured in result.closed} == {"ours", "echo"}
    assert all(measured.per_s > 0 and measured.errors == {} for measured in result.closed)
    assert {(run.server, run.n_candidates) for run in result.open} == {("ours", 20), ("echo", 20)}
    assert [(found.server, found.rate_per_s) for found in result.highest] == [("ours", None), ("echo", None)]
    assert {run.server for run in result.curves} == {"ours", "echo"}
    assert [(cost.server, cost.n_candidates) for cost in result.candidate_costs] == [("ours", 5)]
    assert {"features": pytest.approx(200), "model": pytest.approx(100)} == result.spending[0].stages_us
    assert {measured.server for measured in result.variants} == {"ours", "variant"}
    assert "starting ours" in steps
    page = write_report(result, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "suite.json").read_text())["subject"] == "ours"
    assert "absent" in page.read_text()


def test_a_baseline_that_answers_something_else_ends_the_suite(workload_file: Path, tmp_path: Path) -> None:
    """Its speed would be printed beside ours as if it had done the same work."""
    with pytest.raises(DisagreementError, match=r"wrong, request 0, a\d+: p_click"):
        run_suite(options(workload_file, tmp_path, plan("wrong", "baseline", "--wrong")))


def test_degraded_answers_are_counted_and_left_out(
    workload_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hiccup of the machine costs one answer its deadline: no reason to lose half an hour of figures."""
    monkeypatch.setattr(closed_rounds, "KEEP_EVERY", 1)
    hiccuping = replace(options(workload_file, tmp_path), subject=plan("ours", "subject", "--degraded=1,7"))

    result = run_suite(replace(hiccuping, plan=replace(TINY, agreement_requests=21)))

    agreement = result.servers[0].agreement
    assert agreement is not None
    assert (agreement.n_requests, agreement.n_degraded) == (18, 3)
    (measured,) = [measured for measured in result.closed if measured.server == "ours"]
    assert 0 < measured.n_degraded < measured.n_checked
    assert measured.errors == {}


def test_a_server_most_of_whose_answers_are_degraded_ends_the_suite(workload_file: Path, tmp_path: Path) -> None:
    """Answers without probabilities are quickly made: its speed would mean nothing."""
    with pytest.raises(DisagreementError, match=r"partial: 10 of 10 answers are degraded \(10 deadline_partial\)"):
        run_suite(options(workload_file, tmp_path, plan("partial", "baseline", "--degraded=2,1")))


def test_a_server_that_degrades_under_load_ends_the_suite(
    workload_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answered whole as long as it was asked one by one."""
    monkeypatch.setattr(closed_rounds, "KEEP_EVERY", 1)
    n_before = 1 + TINY.agreement_requests  # one request asked whether it is ready
    degrading = plan("ours", "subject", f"--degraded={n_before + 1},1")

    with pytest.raises(DisagreementError, match=r"ours: (\d+) of \1 answers are degraded"):
        run_suite(replace(options(workload_file, tmp_path), subject=degrading))


def test_a_subject_that_does_not_start_ends_the_suite_with_its_last_words(workload_file: Path, tmp_path: Path) -> None:
    """There is nothing to compare with."""
    broken = replace(
        plan("ours", "subject"), command=(sys.executable, "-c", "raise SystemExit('no model in registry')")
    )

    with pytest.raises(ServerError, match=r"ours ended with status 1 before it answered: no model"):
        run_suite(replace(options(workload_file, tmp_path), subject=broken))


def test_no_server_outlives_its_suite(workload_file: Path, tmp_path: Path) -> None:
    """A forgotten server would disturb the next measurement."""
    marker = f"--left-by-{os.getpid()}"
    chosen = replace(
        options(workload_file, tmp_path, plan("wrong", "baseline", "--wrong", marker)),
        subject=plan("ours", "subject", marker),
    )

    with pytest.raises(DisagreementError):
        run_suite(replace(chosen, subject=plan("ours", "subject", marker)))

    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(marker.encode() in command for command in commands)
