"""SIGTERM and SIGHUP as exceptions: once for signals that belong together, and not lost where a library eats them."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from service.ended_by_signal import ONE_END_S, EndedBySignal
from tests.conftest import REPOSITORY

A_LONG_QUERY = """
import duckdb
from service import cli

def query(arguments):
    print("asking", flush=True)
    duckdb.sql("SELECT sum(sqrt(a.range * b.range)) FROM range(1000000) a, range(1000000) b").fetchall()

cli.run = query
cli.main()
"""


pytestmark = pytest.mark.usefixtures("default_signals")


def test_signals_that_come_together_are_one_end_and_a_later_one_is_another() -> None:
    """A closing terminal sends two: the second would break off the stopping of what the first found running."""
    now_s = 0.0
    signalled = EndedBySignal(lambda: now_s)

    with pytest.raises(SystemExit, match="129"):
        signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGTERM)
    now_s = ONE_END_S
    with pytest.raises(SystemExit, match="143"):
        signal.raise_signal(signal.SIGTERM)

    assert signalled.came


def test_what_was_ignored_stays_ignored() -> None:
    """`nohup` says so before the program begins."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    signalled = EndedBySignal()
    signal.raise_signal(signal.SIGHUP)

    assert not signalled.came


def test_a_query_that_makes_another_error_of_it_still_ends_by_the_signal() -> None:
    """DuckDB says RuntimeError: a traceback and exit code 1 would call an ordinary stop a defect."""
    program = subprocess.Popen(
        [sys.executable, "-c", A_LONG_QUERY], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    program.stdout.readline()

    program.send_signal(signal.SIGTERM)
    _, said = program.communicate(timeout=60)

    assert (program.returncode, said) == (143, "")
