"""Two services in turns get the same load, never at once, and their pairs of turns tell a slow-down from a mood."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from loadtest.comparing.ratio import ratio_of, ratio_of_turns
from loadtest.comparing.sides import Side, read_side
from loadtest.comparing.verdict import Comparison, compare
from loadtest.errors import ComparisonError
from loadtest.open_loop_options import OpenLoopOptions
from loadtest.pinning import pin_threads_to_cpu
from loadtest.report import Report
from loadtest.target import Target
from loadtest.turns_run import order_of_turns, run_in_turns
from service.own_service import own_service
from tests.conftest import REPOSITORY
from tests.loadtest.counting_server import OK, CountingServer
from tests.loadtest.report_samples import in_turns_of
from tests.loadtest.running_server import StartServer

TRIES = 20


def compared(rng: np.random.Generator, starts: int = 1, **measured: Any) -> Comparison:
    """The comparison of two made-up services that were measured in turns."""
    rounds = [in_turns_of(rng, shared=str(number), **measured) for number in range(starts)]
    return compare(*(Side(Path(name), tuple(both[place] for both in rounds)) for place, name in enumerate("ab")))


# -- the statistics --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("starts", "n_turns"), [(1, 40), (4, 12)])
def test_equal_services_pass_nineteen_of_twenty_tries_on_a_machine_that_wanders(starts: int, n_turns: int) -> None:
    """Its speed changes by half in a minute, and a turn is good to a tenth: that is what was seen on a shared one."""
    regressed = [
        compared(np.random.default_rng([1, starts, seed]), starts, n_turns=n_turns).regressed for seed in range(TRIES)
    ]

    assert sum(regressed) <= 1


@pytest.mark.parametrize(
    ("starts", "n_turns", "names"), [(1, 40, {"server CPU per request", "p50"}), (4, 12, {"server CPU per request"})]
)
def test_a_fifth_slower_is_found_nineteen_of_twenty_times_in_a_minute_and_a_half(
    starts: int, n_turns: int, names: set[str]
) -> None:
    """It is what the turns are for; the wider tolerance of a single round does not apply."""
    found: Counter[str] = Counter()
    for seed in range(TRIES):
        rng = np.random.default_rng([2, starts, seed])
        figures = compared(rng, starts, n_turns=n_turns, slower=1.2).figures
        found.update(figure.name for figure in figures if figure.verdict == "slower")

    assert all(found[name] >= TRIES - 1 for name in names)


def test_an_interval_of_pairs_holds_the_true_ratio_as_often_as_it_says() -> None:
    """99 % of 200 intervals over forty pairs: at least 96 %."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        moods = np.exp(np.cumsum(rng.normal(size=40)) * 0.07)
        a, b = moods * rng.lognormal(0, 0.09, 40), moods * rng.lognormal(np.log(1.1), 0.09, 40)
        ratio = ratio_of_turns([a], [b])
        held += ratio.low <= 1.1 <= ratio.high

    assert held >= 0.96 * 200


def test_a_steady_drift_is_not_blamed_on_the_second() -> None:
    """A B, B A: each is first as often as the other, so 2 % a turn leave nothing but their own spread."""
    drift = np.exp(0.02 * np.arange(80))
    sides: tuple[list[float], list[float]] = ([], [])
    for (side, _), speed in zip(order_of_turns(40), drift, strict=True):
        sides[side].append(float(speed))

    ratio = ratio_of_turns([np.array(sides[0])], [np.array(sides[1])])

    assert ratio.value == pytest.approx(1.0, abs=1e-9)
    assert 0.98 < ratio.low <= 1.0 <= ratio.high < 1.02


def test_a_start_of_its_own_widens_the_interval() -> None:
    """Four starts that differ by a tenth each way must not pass for forty-eight independent pairs."""
    rng = np.random.default_rng(4)
    luck = np.exp([0.1, -0.1, 0.1, -0.1])
    a = [rng.lognormal(0, 0.02, 12) for _ in luck]
    b = [fortunate * rng.lognormal(0, 0.02, 12) for fortunate in luck]

    of_starts, of_pairs = ratio_of_turns(a, b), ratio_of_turns([np.concatenate(a)], [np.concatenate(b)])

    assert of_starts.low < np.exp(-0.08)
    assert of_starts.high > np.exp(0.08)
    assert of_pairs.high / of_pairs.low < of_starts.high / of_starts.low


def test_pairs_of_turns_tell_more_than_the_same_seconds_one_by_one() -> None:
    """Else the trouble would be for nothing."""
    rng = np.random.default_rng(5)
    moods = np.exp(np.cumsum(rng.normal(size=40)) * 0.07)
    a, b = moods * rng.lognormal(0, 0.05, 40), moods * rng.lognormal(0, 0.05, 40)

    in_pairs, apart = ratio_of_turns([a], [b]), ratio_of([a], [b], paired=False)

    assert np.log(in_pairs.high / in_pairs.low) < np.log(apart.high / apart.low) / 3


def test_a_late_turn_tells_of_cpu_time_alone() -> None:
    """What the generator did to itself in one second says nothing about the others, nor about the service's work."""
    a, b = in_turns_of(np.random.default_rng(6), n_turns=14)
    side = Side(Path("a"), (a,))

    some = compare(side, Side(Path("b"), (with_late_turns(b, 4),)))
    many = compare(Side(Path("a"), (with_late_turns(a, 5),)), Side(Path("b"), (b,)))

    assert some.notes == [
        "4 of 14 pairs of turns: the load generator was late, so they tell of CPU time alone",
    ]
    assert not some.regressed
    assert [figure.name for figure in many.figures] == ["server CPU per request"]
    assert "p50: 9 pairs of turns, at least 10 are needed" in many.notes
    assert many.figures[0].ratio == compare(side, Side(Path("b"), (b,))).figures[-1].ratio


def test_a_generator_late_in_all_turns_at_services_nobody_watched_is_an_error() -> None:
    """Then there is nothing left to compare."""
    a, b = (with_late_turns(report, 14, watched=False) for report in in_turns_of(np.random.default_rng(6), n_turns=14))

    with pytest.raises(ComparisonError, match=r"nothing to compare: 14 of 14 pairs of turns: .*CPU per request: not"):
        compare(Side(Path("a"), (a,)), Side(Path("b"), (b,)))


def with_late_turns(report: Report, n_late: int, *, watched: bool = True) -> Report:
    """The report with a generator that was late, and slow, in its first turns."""
    run = report.measured[0].result
    timeline = [
        msgspec.structs.replace(
            turn,
            late_ms=7.0 if turn.second < n_late else 0.1,
            p50_ms=50.0 if turn.second < n_late else turn.p50_ms,
            server=turn.server if watched else None,
        )
        for turn in run.timeline
    ]
    measured = msgspec.structs.replace(report.measured[0], result=msgspec.structs.replace(run, timeline=timeline))
    return msgspec.structs.replace(report, measured=[measured])


def test_reports_of_two_measurements_are_no_pairs_of_turns() -> None:
    """Turn 3 of this hour has nothing in common with turn 3 of the last."""
    rng = np.random.default_rng(7)
    (a, _), (_, b) = in_turns_of(rng, shared="1"), in_turns_of(rng, shared="2")

    assert not compare(Side(Path("a"), (a,)), Side(Path("b"), (b,))).in_turns


def test_the_sides_may_be_named_the_other_way_round() -> None:
    """Then A is as much faster as B was slower."""
    a, b = (Side(Path("x"), (report,)) for report in in_turns_of(np.random.default_rng(8), slower=1.3))

    there, back = compare(a, b), compare(b, a)

    assert there.regressed
    assert not back.regressed
    assert back.in_turns
    assert there.figures[0].ratio.value == pytest.approx(1 / back.figures[0].ratio.value)


# -- the generator ---------------------------------------------------------------------------------------------------


def test_each_is_first_as_often_as_the_other() -> None:
    """A B, B A, A B, …"""
    order = list(order_of_turns(4))

    assert "".join("AB"[side] for side, _ in order) == "ABBAABBA"
    assert [turn for _, turn in order] == [0, 0, 1, 1, 2, 2, 3, 3]


async def test_both_get_the_same_requests_and_never_at_once_even_where_one_cannot_keep_up() -> None:
    """A is asked 60 times a second for what takes it 25 ms: B's turn waits for all of its answers."""
    asked: list[str] = []
    bodies = [b'{"user_id":"u%d"}' % number for number in range(7)]

    def slowly(_number: int, _body: bytes) -> bytes:
        asked.append("A")
        time.sleep(0.025)
        return OK

    def at_once(_number: int, _body: bytes) -> bytes:
        asked.append("B")
        return OK

    slow, quick = CountingServer(slowly), CountingServer(at_once)
    with slow.running() as slow_url, quick.running() as quick_url:
        a, b = await run_in_turns(
            [(Target.parse(slow_url), ()), (Target.parse(quick_url), ())],
            "/v1/rank",
            bodies,
            OpenLoopOptions(rate_per_s=60, duration_s=3, warmup_s=0),
        )

    assert Counter(slow.bodies) == Counter(quick.bodies)
    assert a.errors == b.errors == {}
    assert [turn.n_requests for turn in a.timeline] == [turn.n_requests for turn in b.timeline]
    assert a.n_requests == b.n_requests == len(asked) / 2
    assert [side for side, _ in groupby(asked)] == ["A", "B", "A", "B"]  # A, then two turns of B, two of A, one of B
    assert a.latency.p50_ms is not None
    assert a.latency.p50_ms > 100  # the line that formed counts


# -- the command -----------------------------------------------------------------------------------------------------


def clickserve(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command as a shell runs it."""
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "service", "bench", *map(str, arguments), "--json"]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_a_slower_service_ends_the_command_with_3_and_comparing_its_reports_says_the_same(
    start_server: StartServer, workload_file: Path, tmp_path: Path
) -> None:
    """One command from two URLs to the verdict; the reports are ordinary ones."""
    quick, slow = start_server(), start_server("--delay-ms", "30")
    (tmp_path / "budgets.toml").write_text("[rank]\np99_ms = 5000.0\n[generator]\nlateness_p99_ms = 5000.0\n")

    done = clickserve(
        "turns", quick.url, slow.url, "--pid-a", str(quick.pid), "--pid-b", str(slow.pid), "--workload", workload_file,
        "--budgets", "budgets.toml", "--turns", "10", "--rate", "50", "--warmup", "0", "--out", "out",
        cwd=tmp_path,
    )  # fmt: skip
    again = clickserve("compare", "out/a", "out/b", "--out", "again", cwd=tmp_path)

    said = json.loads(done.stdout)
    verdicts = {figure["name"]: figure["verdict"] for figure in said["figures"]}
    assert (done.returncode, again.returncode) == (3, 3), done.stderr
    assert said["in_turns"] is True
    assert verdicts["p50"] == "slower"
    assert "server CPU per request" in verdicts
    assert json.loads(again.stdout)["figures"] == said["figures"]
    (a,), (b,) = (read_side(tmp_path / "out" / name).rounds for name in "ab")
    assert a.in_turns is not None
    assert b.in_turns is not None
    assert (a.in_turns.id, a.in_turns.side, b.in_turns.side) == (b.in_turns.id, "a", "b")
    assert b.url in (tmp_path / "out" / "a" / "report.html").read_text()
    assert "in turns of a second" in (tmp_path / "out" / "compare.html").read_text()


WRONG = [
    (("http://127.0.0.1:1", "nowhere"), "B is 'nowhere': neither an URL"),
    ((REPOSITORY, REPOSITORY), "name it with --config"),
    ((REPOSITORY, REPOSITORY, "--pid-a", "1"), "--pid-a: A is a checkout"),
    (("http://127.0.0.1:1", "http://127.0.0.1:2", "--starts", "2"), "--starts: a service named by its URL runs"),
    (("http://127.0.0.1:1", "http://127.0.0.1:2", "--server-cpu", "0"), "--server-cpu: pin"),
    (("http://127.0.0.1:1", "http://127.0.0.1:2"), "name a workload file with --workload"),
    (
        ("http://127.0.0.1:1", "http://127.0.0.1:2", "--turns", "9"),
        "9 turns of each are too few to compare, at least 10: --turns",
    ),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_what_makes_no_sense_is_a_usage_error(arguments: tuple[str | Path, ...], said: str, tmp_path: Path) -> None:
    """It names the way out before anything is started."""
    done = clickserve("turns", *arguments, cwd=tmp_path)

    assert done.returncode == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_a_service_that_is_not_there_is_named(url_of_nobody: str, workload_file: Path, tmp_path: Path) -> None:
    """69 is what a pipeline reads for a dependency that is down."""
    done = clickserve("turns", url_of_nobody, url_of_nobody, "--workload", workload_file, cwd=tmp_path)

    assert done.returncode == 69
    assert f"{url_of_nobody}/v1/rank got no answer" in done.stderr


def test_the_code_of_a_checkout_is_started_whatever_the_current_folder_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standing in one checkout, its own code must not be measured as that of the other."""
    package = tmp_path / "branch" / "service"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(OF_THE_BRANCH)
    monkeypatch.chdir(REPOSITORY)

    with own_service(tmp_path / "any.toml", tmp_path / "log", checkout=tmp_path / "branch") as running:
        assert running.url == "http://of.the.branch:1"


OF_THE_BRANCH = """
import sys, time
print('{"msg": "listening", "url": "http://of.the.branch:1", "admin_url": "http://of.the.branch:2"}', file=sys.stderr)
print('{"msg": "ready"}', file=sys.stderr, flush=True)
time.sleep(60)
"""


def test_every_thread_of_a_process_is_pinned() -> None:
    """A worker's pools would otherwise go on running on the generator's core."""
    core = max(os.sched_getaffinity(0))
    program = "import threading, time; [threading.Thread(target=time.sleep, args=(60,)).start() for _ in range(3)]"
    with subprocess.Popen(
        [sys.executable, "-c", f"{program}; print(flush=True); time.sleep(60)"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()

        pin_threads_to_cpu([process.pid], core)

        threads = [int(thread.name) for thread in Path(f"/proc/{process.pid}/task").iterdir()]
        cores = [os.sched_getaffinity(thread) for thread in threads]
        process.kill()
    assert len(cores) == 4
    assert all(of_thread == {core} for of_thread in cores)
