"""`clickserve train --search` as a person types it: what it publishes, and that it survives being killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from models.registry.registry import Registry
from service import cli, exit_codes
from tests.conftest import REPOSITORY

N_IMPRESSIONS = 12_000
ENDLESS = 500
"""Trials that nobody waits for."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    assert cli.run(["simulate", "--out", str(folder / "log"), "--impressions", str(N_IMPRESSIONS), "--json"]) == 0
    return folder


def arguments(folder: Path, learner: str, work: Path) -> list[str]:
    return [
        "train",
        *("--data", f"simulated:{folder / 'log'}", "--model", learner),
        *("--workdir", str(work), "--registry", str(work / "registry")),
    ]


def document(capsys: pytest.CaptureFixture[str], command: list[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.run([*command, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def trials_in(work: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_bytes())["trials"] for path in work.glob("search-*.json")]
    return found[0] if found else []


def test_what_a_search_chose_is_trained_published_and_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings on the manifest and the card, trials and budget beside them; the same command again tries nothing."""
    command = [*arguments(folder, "ftrl", tmp_path), "--search", "10", "--search-trials", "4"]

    first = document(capsys, command)
    again = document(capsys, command)

    search = first["search"]
    assert (search["trials"], search["budget_trials"], search["budget_minutes"]) == (4, 4, 10.0)
    assert search["loss"] <= search["loss_of_defaults"]
    manifest = Registry(tmp_path / "registry").get(first["version"]).manifest
    assert {name: manifest.parameters[name] for name in search["settings"]} == search["settings"]
    for card in ("card.md", "card.html"):
        assert "4 trials" in (Path(first["path"]) / card).read_text()
    assert again["search"] == search
    assert "searching" in first["seconds"]


def test_a_killed_search_goes_on_from_its_trials(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL leaves no time to say goodbye; what had ended is not tried again."""
    command = arguments(folder, "ftrl", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    endless = [sys.executable, "-m", "service", *command, "--search-trials", str(ENDLESS)]
    with subprocess.Popen(endless, stderr=subprocess.DEVNULL, env=environment, cwd=REPOSITORY) as first:
        ends = time.monotonic() + 90
        while len(trials_in(tmp_path)) < 3 and time.monotonic() < ends:
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
    before = trials_in(tmp_path)
    assert 3 <= len(before) < ENDLESS

    found = document(capsys, [*command, "--search-trials", str(len(before) + 2)])

    after = trials_in(tmp_path)
    assert after[: len(before)] == before
    assert len(after) == found["search"]["trials"] == len(before) + 2


def test_what_cannot_be_searched_is_said_before_the_log_is_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A learner without settings, and a library that is not there."""
    base_rate = cli.run([*arguments(folder, "base-rate", tmp_path), "--search", "1"])
    nothing = capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "optuna", None)
    missing = cli.run([*arguments(folder, "gbdt", tmp_path), "--search", "1"])
    library = capsys.readouterr().err

    assert (base_rate, missing) == (exit_codes.USAGE, exit_codes.FAILURE)
    assert "base-rate has nothing to search" in nothing
    assert "pip install 'optuna>=4'" in library
    assert not any(tmp_path.iterdir())
