"""Background work gives way to requests, and nothing else about it changes."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from service.quiet_threads import NICENESS, quietly


@pytest.mark.skipif(sys.platform != "linux", reason="niceness of a thread is Linux's")
async def test_the_work_is_nice_and_the_event_loop_is_not() -> None:
    """Or a table that is built takes half of the core from the requests."""
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    inside = await quietly(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    assert inside == min(before + NICENESS, 19)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


async def test_what_goes_wrong_inside_is_told() -> None:
    """A snapshot that cannot be read is news for whoever asked."""

    def fails() -> None:
        raise ValueError("the disk is gone")

    with pytest.raises(ValueError, match="the disk is gone"):
        await quietly(fails)
