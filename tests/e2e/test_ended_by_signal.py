"""Commands that start services take them along when a signal ends them, whichever it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from loadtest.server_cpu import process_tree
from tests.artifacts import ServedProject
from tests.conftest import REPOSITORY
from tests.e2e.service_process import DEADLINE_S, get, is_running, service, until
from tests.e2e.test_bench_turns import configured
from tests.stores import HurtableServer

pytestmark = pytest.mark.usefixtures("default_signals")

SLOWLY = ("--warmup", "0", "--rate", "20")


@contextmanager
def measuring(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A `clickserve bench` whose load generator runs; whatever it has started is gone afterwards."""
    run = subprocess.Popen(
        [sys.executable, "-m", "service", "bench", *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until(lambda: "loadtest.open_loop" in _commands(run.pid), "a load generator")
        yield run
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()


def _commands(pid: int) -> str:
    """Command lines of a process and of all below it."""
    try:
        return " ".join(Path(f"/proc/{each}/cmdline").read_text() for each in process_tree(pid))
    except (FileNotFoundError, ProcessLookupError):
        return ""


def ended_with(run: subprocess.Popen[str], *numbers: signal.Signals) -> tuple[int, list[str]]:
    """The exit status after these signals, sent to it alone and at once, and what it had started that lives on."""
    started = [pid for pid in process_tree(run.pid) if pid != run.pid]
    assert len(started) >= 3  # a service, its worker, a generator
    run.send_signal(signal.SIGSTOP)
    for number in numbers:
        run.send_signal(number)
    run.send_signal(signal.SIGCONT)
    status = run.wait(DEADLINE_S)
    return status, [Path(f"/proc/{pid}/cmdline").read_text() for pid in started if is_running(pid)]


@pytest.mark.parametrize(
    ("numbers", "status"),
    [((signal.SIGTERM,), 143), ((signal.SIGHUP,), 129), ((signal.SIGHUP, signal.SIGTERM), 129)],
)
def test_a_bench_stops_what_it_started(
    tmp_path: Path, project: ServedProject, store: HurtableServer, numbers: tuple[signal.Signals, ...], status: int
) -> None:
    """A pipeline's time limit sends SIGTERM, a closed terminal SIGHUP, some both at once: no port may stay taken."""
    config = configured(tmp_path, project, store)

    with measuring("--config", str(config), "--out", str(tmp_path / "out"), "--duration", "3600", *SLOWLY) as run:
        assert ended_with(run, *numbers) == (status, [])


def test_turns_stop_both_services(tmp_path: Path, project: ServedProject, store: HurtableServer) -> None:
    """Two services and a generator are three things to forget."""
    config = configured(tmp_path, project, store)
    checkouts = ("turns", str(REPOSITORY), str(REPOSITORY), "--config", str(config), "--out", str(tmp_path / "out"))

    with measuring(*checkouts, "--turns", "3600", *SLOWLY) as run:
        assert ended_with(run, signal.SIGTERM) == (143, [])


def test_what_nohup_started_outlives_the_terminal(arguments: list[str]) -> None:
    """SIGHUP is ignored by who was told so; the others drain, and say with their status what ended them."""
    with service(*arguments, program=("nohup", sys.executable, "-m", "service")) as kept, service(*arguments) as ended:
        kept.wait_for("ready")
        ended.wait_for("ready")

        kept.signal(signal.SIGHUP)
        ended.signal(signal.SIGHUP)

        assert ended.wait() == 129
        assert ended.log[-1]["msg"] == "ended"
        assert get(f"{kept.url}/readyz")
