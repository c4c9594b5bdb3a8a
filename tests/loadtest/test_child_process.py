"""A process ends with its block, at whatever moment of its start a signal ends the block."""

from __future__ import annotations

import signal
import subprocess
from threading import Thread
from typing import Any

import pytest

from loadtest.child_process import child_process, terminate
from service.ended_by_signal import EndedBySignal

pytestmark = pytest.mark.usefixtures("default_signals")

SLEEP = ("sleep", "60")
DEAF = ("sh", "-c", "trap '' TERM; echo deaf; exec sleep 60")


def test_a_signal_between_start_and_return_stops_what_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """In there nobody has the child's number yet: a SystemExit would leave it running for good."""
    EndedBySignal()
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)

    with pytest.raises(SystemExit, match="143"), child_process(SLEEP):
        pytest.fail("the block began after the signal")

    assert started[0].returncode == -signal.SIGKILL


def test_ctrl_c_in_the_block_stops_it_and_handlers_are_as_before() -> None:
    """Held only while it starts: later a measurement must end at once."""
    ended = EndedBySignal()

    with pytest.raises(KeyboardInterrupt), child_process(SLEEP, lambda process: terminate(process, 10.0)) as process:
        signal.raise_signal(signal.SIGINT)

    assert process.returncode == -signal.SIGTERM
    assert not ended.came
    with pytest.raises(SystemExit, match="129"):
        signal.raise_signal(signal.SIGHUP)


def test_one_that_could_not_start_is_not_stopped() -> None:
    """The error that is told is the one of the start."""
    with pytest.raises(FileNotFoundError, match="no-such-program"), child_process(["no-such-program"]):
        pytest.fail("nothing was started")


def test_one_that_has_ended_is_not_stopped_again() -> None:
    """Its number may be somebody else's by then."""
    with child_process(["true"], lambda process: pytest.fail("stopped")) as process:
        process.wait(10.0)


def test_one_that_will_not_listen_is_killed() -> None:
    """A measurement's end must not depend on what it measured."""
    with child_process(DEAF, lambda process: terminate(process, 0.1), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == b"deaf\n"

    assert process.returncode == -signal.SIGKILL


def test_a_thread_starts_one_without_touching_handlers() -> None:
    """Python allows handlers to be exchanged in the main thread only, and raises nothing in others."""
    ended: list[int | None] = []

    def begin() -> None:
        with child_process(SLEEP) as process:
            pass
        ended.append(process.returncode)

    thread = Thread(target=begin)
    thread.start()
    thread.join(10.0)

    assert ended == [-signal.SIGKILL]
