"""What the demo tells its reader to type next."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.commands.demo import as_typed

BIN = Path(sys.executable).parent


@pytest.mark.parametrize("activated", [True, False])
def test_the_command_that_the_demo_names_runs_in_the_shell_that_started_it(
    activated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make demo` leaves the shell's path alone: the bare name would be a command not found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{BIN}:{os.defpath}" if activated else os.defpath)

    command = as_typed()

    said = subprocess.run(["sh", "-c", f"{command} --version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("clickserve ")
    assert (command == "clickserve") == activated
