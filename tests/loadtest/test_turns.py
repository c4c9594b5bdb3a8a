"""Two services in turns get the same load, never at once; one command starts, measures and compares them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest

from loadtest.comparing.sides import read_side
from loadtest.open_loop_options import OpenLoopOptions
from loadtest.pinning import pin_threads_to_cpu
from loadtest.target import Target
from loadtest.turns_run import order_of_turns, run_in_turns
from service.own_service import own_service
from tests.conftest import REPOSITORY
from tests.loadtest.counting_server import OK, CountingServer
from tests.loadtest.running_server import StartServer

# -- the generator ---------------------------------------------------------------------------------------------------


def test_each_is_first_as_often_as_the_other() -> None:
    """A B, B A, A B, …"""
    order = list(order_of_turns(4))

    assert "".join("AB"[side] for side, _ in order) == "ABBAABBA"
    assert [turn for _, turn in order] == [0, 0, 1, 1, 2, 2, 3, 3]


async def test_both_get_the_same_requests_and_never_at_once_even_where_one_cannot_keep_up() -> None:
    """A is asked 120 times a second for what takes it 25 ms: B's turn waits for all of its answers."""
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
            OpenLoopOptions(rate_per_s=120, duration_s=0.9, warmup_s=0, second_s=0.3),
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
        "--budgets", "budgets.toml", "--turns", "10", "--turn", "0.1", "--rate", "200", "--warmup", "0", "--out", "out",
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
    assert "in turns of 0.1\N{NO-BREAK SPACE}s" in (tmp_path / "out" / "compare.html").read_text()


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
    monkeypatch.chdir(REPOSITORY)

    with own_service(tmp_path / "any.toml", tmp_path / "log", checkout=branch(tmp_path)) as running:
        assert running.url == "http://of.the.branch:1"


def test_a_log_that_cannot_be_written_is_named_at_once(tmp_path: Path) -> None:
    """A full disk was told after a minute, as a service that had not become ready; /dev/full is such a disk."""
    with (
        pytest.raises(OSError, match=r"No space left on device: '/dev/full'"),
        own_service(tmp_path / "any.toml", Path("/dev/full"), checkout=branch(tmp_path)),
    ):
        raise AssertionError("it was called ready")


def branch(folder: Path) -> Path:
    """A checkout whose service says that it is ready, and where it is."""
    package = folder / "branch" / "service"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(OF_THE_BRANCH)
    return folder / "branch"


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
