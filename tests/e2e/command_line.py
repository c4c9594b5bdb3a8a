"""The offline commands as a person types them: run in this process, their documents and refusals read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service import cli

N_IMPRESSIONS = 20_000
"""Of the log that `simulate_and_train` makes."""


def simulate_and_train(folder: Path) -> None:
    """Fills `folder` with a simulated log, and in `registry` a model of its first four fifths."""
    assert cli.run(["simulate", "--out", str(folder / "log"), "--impressions", str(N_IMPRESSIONS), "--json"]) == 0
    registry = str(folder / "registry")
    assert cli.run(["train", *log_of(folder), "--rows", "0:0.8", "--registry", registry, "--json"]) == 0


def log_of(folder: Path) -> list[str]:
    """Options that name its simulated log."""
    return ["--data", f"simulated:{folder / 'log'}", "--workdir", str(folder / "work")]


def document(capsys: pytest.CaptureFixture[str], arguments: list[str], *, code: int = 0) -> dict[str, Any]:
    """Runs a command with --json and answers its document; nothing else may be on stdout."""
    capsys.readouterr()
    assert cli.run([*arguments, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refusal(capsys: pytest.CaptureFixture[str], arguments: list[str], *, code: int) -> str:
    """Runs a command that must fail, and answers what it said; never a traceback."""
    capsys.readouterr()
    assert cli.run(arguments) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said
