"""A comparison finds a slow-down, leaves equal services alone, and refuses what cannot be compared."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from loadtest.comparing.page import document, render_html
from loadtest.comparing.ratio import ratio_of
from loadtest.comparing.sides import Side, differences, read_side
from loadtest.comparing.verdict import compare
from loadtest.errors import ComparisonError
from loadtest.latency import summarise
from loadtest.report import Report
from loadtest.results import Lateness
from loadtest.sweep import Sweep, judge_point
from tests.conftest import REPOSITORY
from tests.loadtest.report_samples import BUDGETS, full_report, report_of, run_of

TRIES = 20


def side(rng: np.random.Generator, rounds: int = 1, **run: Any) -> Side:
    """A side of made-up rounds."""
    return Side(Path("runs/x"), tuple(report_of(run_of(rng, **run)) for _ in range(rounds)))


def verdicts(a: Side, b: Side) -> dict[str, str]:
    """The verdict on each figure."""
    return {figure.name: figure.verdict for figure in compare(a, b).figures}


@pytest.mark.parametrize("rounds", [1, 4])
def test_equal_services_pass_nineteen_of_twenty_tries(rounds: int) -> None:
    """A gate that cries wolf is switched off; rounds are disturbed as a shared machine disturbs them."""
    regressed = 0
    for seed in range(TRIES):
        rng = np.random.default_rng([5, rounds, seed])
        noise = {"duration_s": 10, "round_noise": 0.03}
        regressed += compare(side(rng, rounds, **noise), side(rng, rounds, **noise)).regressed

    assert regressed <= 1


@pytest.mark.parametrize("rounds", [1, 4])
def test_a_fifth_slower_is_found_nineteen_of_twenty_times(rounds: int) -> None:
    """It is what the gate is for."""
    found = 0
    for seed in range(TRIES):
        rng = np.random.default_rng([6, rounds, seed])
        noise = {"duration_s": 10, "round_noise": 0.03}
        found += compare(side(rng, rounds, **noise), side(rng, rounds, slower=1.2, **noise)).regressed

    assert found >= TRIES - 1


def test_a_fifth_faster_is_no_regression() -> None:
    """The gate has a direction."""
    rng = np.random.default_rng(1)

    found = compare(side(rng, 4), side(rng, 4, slower=1 / 1.2))

    assert not found.regressed
    assert {figure.verdict for figure in found.figures if figure.unit != "per_s"} == {"faster"}


def test_an_interval_holds_the_true_ratio_as_often_as_it_says() -> None:
    """99 % of 300 intervals over independent seconds: at least 96 %, as a median's bootstrap is a little narrow."""
    rng = np.random.default_rng(8)
    held = 0
    for _ in range(300):
        a, b = rng.lognormal(0, 0.1, 30), rng.lognormal(np.log(1.1), 0.1, 30)
        ratio = ratio_of([a], [b], paired=False)
        held += ratio.low <= 1.1 <= ratio.high

    assert held >= 0.96 * 300


def test_what_disturbs_both_of_a_pair_cancels() -> None:
    """Rounds in turns are worth their trouble: the machine's moods are in both."""
    rng = np.random.default_rng(2)
    moods = np.exp(rng.normal(size=6) * 0.4)
    a = [mood * rng.lognormal(0, 0.02, 10) for mood in moods]
    b = [mood * rng.lognormal(0, 0.02, 10) for mood in moods]

    paired, apart = ratio_of(a, b, paired=True), ratio_of(a, b, paired=False)

    assert paired.high / paired.low < 1.1 < apart.high / apart.low


def test_one_round_of_latency_needs_more_to_convince() -> None:
    """What moves a whole round cannot be seen inside it; CPU time is hardly moved."""
    rng = np.random.default_rng(3)

    once = verdicts(side(rng), side(rng, slower=1.15))
    often = verdicts(side(rng, 4), side(rng, 4, slower=1.15))

    assert (once["p50"], once["server CPU per request"]) == ("undecided", "slower")
    assert (often["p50"], often["server CPU per request"]) == ("slower", "slower")


def test_a_service_that_had_to_wait_for_a_core_is_not_accused() -> None:
    """The scheduler's own account tells a neighbour's work from the service's."""
    rng = np.random.default_rng(4)
    slow = [run_of(rng, slower=1.4, waited_us=400.0) for _ in range(4)]
    as_cheap = [run_of(rng, waited_us=400.0).timeline for _ in slow]
    waiting = [
        msgspec.structs.replace(
            run,
            timeline=[
                msgspec.structs.replace(second, server=cheap.server)
                for second, cheap in zip(run.timeline, timeline, strict=True)
            ],
        )
        for run, timeline in zip(slow, as_cheap, strict=True)
    ]

    found = compare(side(rng, 4), Side(Path("b"), tuple(map(report_of, waiting))))

    assert not found.regressed
    assert found.undecided
    assert any(re.search(r"waited \d{3} µs for a core in B and 5 µs in A", note) for note in found.notes)


def test_less_throughput_past_saturation_is_a_regression() -> None:
    """Latency at a low rate says nothing of the room above it."""
    rng = np.random.default_rng(9)

    def swept(capacity_per_s: float) -> Side:
        result = run_of(rng, rate_per_s=500, duration_s=10)
        seconds = [
            msgspec.structs.replace(second, n_good=int(min(second.n_good or 0, capacity_per_s)))
            for second in result.timeline
        ]
        point = judge_point(msgspec.structs.replace(result, timeline=seconds), None, BUDGETS.rank)
        return Side(Path("x"), tuple(report_of(run_of(rng), sweep=Sweep([point], 10.0, "range")) for _ in range(3)))

    found = verdicts(swept(400.0), swept(320.0))

    assert found["answers in time"] == "slower"
    assert found["p50"] != "slower"


CHANGES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("workload", {}, {"workload_sha256": "cd" * 32}),
    ("offered rate", {"rate_per_s": 300}, {}),
    ("way of counting", {"method": "counted from the sending"}, {}),
    ("processor", {}, {"machine": "Other CPU"}),
]


@pytest.mark.parametrize(("name", "run", "changes"), CHANGES)
def test_other_circumstances_are_refused_by_name_unless_forced(
    name: str, run: dict[str, Any], changes: dict[str, Any]
) -> None:
    """The service would be blamed for the machine's or the workload's difference."""
    rng = np.random.default_rng(1)
    a = side(rng)
    if "machine" in changes:
        changes = {"machine": msgspec.structs.replace(a.rounds[0].machine, cpu_model=changes["machine"])}
    b = Side(Path("b"), (report_of(run_of(rng, **run), **changes),))

    with pytest.raises(ComparisonError, match=f"not comparable: {name}: A has .*, B .*--force"):
        compare(a, b)

    assert differences(a, b) == compare(a, b, force=True).forced_over


def test_rounds_of_a_late_generator_are_left_out_with_their_pair() -> None:
    """Its figures are its own."""
    rng = np.random.default_rng(1)
    late = Lateness(summarise(np.full(2_000, 7.0)), 1.0, believable=False)
    slow = report_of(run_of(rng, slower=3.0, lateness=late))
    b = Side(Path("b"), (*side(rng, 3).rounds, slow))

    found = compare(side(rng, 4), b)

    assert not found.regressed
    assert found.notes == ["1 of 4 pairs of rounds: the load generator was late"]
    with pytest.raises(ComparisonError, match="the load generator was late in every round"):
        compare(side(rng), Side(Path("b"), (slow,)))


def test_what_a_report_does_not_know_is_left_out_and_said() -> None:
    """Reports of a service whose processes nobody watched, or at a low rate, still compare by what they have."""
    rng = np.random.default_rng(1)
    run = run_of(rng, rate_per_s=50)
    unwatched = [msgspec.structs.replace(second, server=None) for second in run.timeline]
    bare = Side(Path("a"), (report_of(msgspec.structs.replace(run, timeline=unwatched)),))

    found = compare(bare, bare)

    assert {figure.name for figure in found.figures} == {"p50", "answers in time"}
    assert [note.partition(":")[0] for note in found.notes] == ["p99", "server CPU per request"]


def test_too_short_a_run_is_no_basis() -> None:
    """Two seconds have no interval worth the name."""
    rng = np.random.default_rng(1)

    with pytest.raises(ComparisonError, match="nothing to compare: p50: 2 seconds on the shorter side"):
        compare(side(rng, duration_s=2), side(rng, duration_s=2))


def test_a_folder_of_reports_is_read_as_rounds_by_time(tmp_path: Path) -> None:
    """What a shell loop leaves behind is a side."""
    rng = np.random.default_rng(1)
    for name, minute in (("1", 7), ("2", 3)):
        write(tmp_path / name, report_of(run_of(rng), created_at=f"2026-11-21T10:0{minute}:00+00:00"))

    rounds = read_side(tmp_path).rounds

    assert [report.created_at[14:16] for report in rounds] == ["03", "07"]
    assert read_side(tmp_path / "1" / "report.json").rounds == read_side(tmp_path / "1").rounds
    with pytest.raises(ComparisonError, match=r"no report\.json there"):
        read_side(tmp_path / "1" / "deeper")


@pytest.mark.parametrize("damaged", ["a", "b"])
def test_a_sweep_without_a_rate_is_no_report(tmp_path: Path, damaged: str) -> None:
    """Cut by hand or by a program: said with the file and the place, on either side."""
    for name in "ab":
        report = full_report()
        if name == damaged and report.sweep is not None:
            report = msgspec.structs.replace(report, sweep=msgspec.structs.replace(report.sweep, points=[]))
        write(tmp_path / name, report)

    refused = clickserve_compare(tmp_path, "a", "b")

    assert refused.returncode == 1
    assert refused.stderr == (
        f"clickserve: {damaged}/report.json is no report of a bench: "
        "sweep.points is empty; a sweep has at least one rate\n"
    )


def test_the_page_of_a_comparison_says_what_the_document_says() -> None:
    """A person and a pipeline must not read different verdicts."""
    rng = np.random.default_rng(1)
    found = compare(side(rng, 3), side(rng, 3, slower=1.3))

    html = render_html(found)

    assert "Regression" in html
    assert document(found)["verdict"].partition(",")[0] in html
    assert document(found)["regressed"] is True


def test_the_command_ends_with_the_verdict(tmp_path: Path) -> None:
    """Exit 0, 3 and 1 are what a pipeline reads; a crash is none of them."""
    rng = np.random.default_rng(1)
    for name, slower, changes in (
        ("main", 1.0, {}), ("same", 1.0, {}), ("slow", 1.2, {}), ("other", 1.0, {"workload_sha256": "cd" * 32}),
    ):  # fmt: skip
        for number in range(4):
            write(tmp_path / name / str(number), report_of(run_of(rng, slower=slower), **changes))

    same, slow, other = (clickserve_compare(tmp_path, "main", name) for name in ("same", "slow", "other"))
    forced = clickserve_compare(tmp_path, "main", "other", "--force")

    assert (same.returncode, slow.returncode, other.returncode, forced.returncode) == (0, 3, 1, 0)
    assert json.loads(slow.stdout)["regressed"] is True
    assert (tmp_path / json.loads(slow.stdout)["html"]).is_file()
    assert "not comparable: workload" in other.stderr
    assert "workload" in json.loads(forced.stdout)["forced_over"][0]


def write(folder: Path, report: Report) -> None:
    """As a bench leaves it."""
    folder.mkdir(parents=True)
    (folder / "report.json").write_bytes(msgspec.json.encode(report))


def clickserve_compare(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a shell runs it."""
    command: Sequence[str] = [sys.executable, "-m", "service", "bench", "compare", *arguments, "--out", "out", "--json"]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
