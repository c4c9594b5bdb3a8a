"""`clickserve demo` as a person types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import exit_codes
from tests.e2e.command_line import document, refusal


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The demo clears what it made before, so it must know its own."""
    (tmp_path / "thesis.txt").write_text("irreplaceable")

    said = refusal(capsys, ["demo", "--out", str(tmp_path)], code=exit_codes.USAGE)

    assert "not made by a demo" in said
    assert (tmp_path / "thesis.txt").read_text() == "irreplaceable"


@pytest.mark.timeout(300)
def test_the_demo_runs_the_whole_chain_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Log, two models, rows, service, load test; and again in the same folder."""
    arguments = [
        *("demo", "--out", str(tmp_path / "demo"), "--impressions", "50000"),
        *("--rate", "50", "--duration", "1"),
    ]

    seen = [document(capsys, arguments) for _ in range(2)]

    for run in seen:
        assert [model["title"] for model in run["models"]] == ["GBDT", "logistic"]
        assert all(Path(model["card"]).is_file() for model in run["models"])
        assert run["bench"]["open_loop"]["n"] > 0
        assert run["bench"]["locust"]["n"] > 0
        assert Path(run["bench"]["html"]).is_file()
    assert seen[0]["models"][0]["metrics"] == seen[1]["models"][0]["metrics"]
