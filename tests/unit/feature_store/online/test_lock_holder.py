"""Whether the holder of a lock is still alive: told with certainty, or not at all."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from subprocess import PIPE, Popen

import pytest

from feature_store.online.lock_holder import LockHolder

SAY_WHO = "from feature_store.online.lock_holder import LockHolder; print(LockHolder.ourselves().text, flush=True)"


def test_a_holder_is_read_back_from_its_text() -> None:
    """Another process reads what this one wrote."""
    ours = LockHolder.ourselves()

    assert LockHolder.parse(ours.text) == ours


def test_two_locks_of_one_process_are_two() -> None:
    """Freeing one must not free the other."""
    assert LockHolder.ourselves() != LockHolder.ourselves()


def test_we_are_not_gone() -> None:
    """A lock must not be taken from somebody at work."""
    assert not LockHolder.ourselves().is_gone


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot tell a process from its successor")
def test_a_process_that_ended_is_gone_before_and_after_somebody_waited_for_it() -> None:
    """In a container nobody may ever wait for it."""
    with Popen([sys.executable, "-c", SAY_WHO + "; input()"], stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        holder = LockHolder.parse(process.stdout.readline().strip())
        assert holder is not None
        was_gone = holder.is_gone
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is still to be waited for

        assert not was_gone
        assert holder.is_gone
        process.wait(timeout=30)
        assert holder.is_gone


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot tell a process from its successor")
def test_a_process_that_took_over_the_number_is_another() -> None:
    """Numbers are used again."""
    ours = LockHolder.ourselves()

    assert replace(ours, start=ours.start - 1).is_gone


@pytest.mark.parametrize("place", ["another-boot/4026531836", "-"])
def test_a_holder_of_another_place_is_never_known_to_be_gone(place: str) -> None:
    """Another machine or container has its own numbers; where there is no /proc nobody knows."""
    assert not replace(LockHolder.ourselves(), pid=2**22 + 1, place=place).is_gone


@pytest.mark.parametrize("text", ["", "somebody", "host:1 0123456789abcdef", "host:x place 5 token"])
def test_another_text_names_nobody(text: str) -> None:
    """A lock written by another version, or by hand, runs out by itself."""
    assert LockHolder.parse(text) is None
