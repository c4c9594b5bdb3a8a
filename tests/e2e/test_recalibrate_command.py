"""`clickserve recalibrate` as a person types it, and the calibrators that `train` is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import cli
from tests.e2e.command_line import document, log_of, refusal

N_IMPRESSIONS = 40_000
"""Of a log whose later part has the 200 clicks that recalibrating wants."""


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log of more clicks."""
    folder = tmp_path_factory.mktemp("longer")
    assert cli.run(["simulate", "--out", str(folder / "log"), "--impressions", str(N_IMPRESSIONS), "--json"]) == 0
    return folder


def test_a_model_is_recalibrated_from_what_came_after_it(longer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The documents of both commands fit together: a new version, the old core, the gate still to pass."""
    model = ["--registry", str(longer / "early"), "--name", "early"]
    trained = document(capsys, ["train", *log_of(longer), "--rows", "0:0.25", *model])

    found = document(capsys, ["recalibrate", *log_of(longer), *model])

    shown = document(capsys, ["models", "show", found["version"], *model])
    assert found["version"] != trained["version"]
    assert found["recalibrated"]["version"] == trained["version"]
    assert found["recalibrated"]["impressions"] == N_IMPRESSIONS * 3 / 4
    assert found["core_sha256"] == shown["core_sha256"]
    assert not found["champion"]
    assert found["metrics"]["calibration_ratio"]["n"] == found["before"]["calibration_ratio"]["n"]
    assert shown["recalibrated"]["before"] == found["before"]


def test_a_kind_of_calibrator_is_named_on_both_commands(longer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And `--no-calibrator` is the short form of none."""
    model = ["--registry", str(longer / "kinds"), "--name", "kinds"]
    train = ["train", *log_of(longer), "--rows", "0:0.4", "--model", "logistic", *model]

    asked = [["--calibrator", "beta"], ["--calibrator", "none"], ["--no-calibrator"]]
    trained = [document(capsys, [*train, *options])["calibrator"]["kind"] for options in asked]
    found = document(capsys, ["recalibrate", *log_of(longer), *model, "--calibrator", "platt"])

    assert trained == ["beta", "identity", "identity"]
    assert found["calibrator"]["kind"] == "platt"


def test_recalibrating_on_the_training_itself_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 and the way out, where a person names the log that they trained on."""
    said = refusal(
        capsys, ["recalibrate", *log_of(trained), "--rows", "0:0.8", "--registry", str(trained / "registry")], code=1
    )

    assert "recalibrating needs later ones" in said
