"""`clickserve models` as a person types it: what is listed, shown, promoted and refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from service import exit_codes
from tests.e2e.command_line import document, refusal


def test_the_registry_lists_shows_and_promotes(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was published can be found again under its version."""
    registry = ["--registry", str(trained / "registry")]

    listed = document(capsys, ["models", "list", *registry])
    shown = document(capsys, ["models", "show", *registry])

    assert [model["version"] for model in listed["versions"]] == [shown["version"]]
    assert shown["proof"]["inversions"] == 0


def test_a_damaged_version_hides_no_other(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The list is what a person looks at when something is broken."""
    shutil.copytree(trained / "registry", tmp_path / "registry")
    home = tmp_path / "registry" / "default"
    whole = next(path for path in home.iterdir() if path.name.startswith("v"))
    shutil.copytree(whole, home / "v000002-00000000")
    (home / "v000002-00000000" / "model.onnx").write_bytes(b"")
    (home / "v000003-00000000").mkdir()
    registry = ["--registry", str(tmp_path / "registry")]

    listed = document(capsys, ["models", "list", *registry])
    said = refusal(capsys, ["models", "promote", "v000002-00000000", *registry], code=exit_codes.FAILURE)

    states = {model["version"]: model["state"].partition(":")[0] for model in listed["versions"]}
    assert states == {whole.name: "ok", "v000002-00000000": "damaged", "v000003-00000000": "unfinished"}
    assert "model.onnx is not the file that was published" in said


def test_a_model_that_knows_nothing_is_published_and_not_promoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No signal is a finding, exit 0; the gate is what says no, exit 3."""
    random = np.random.default_rng(3)
    rows = [f"{i},{random.integers(0, 9)},{int(random.random() < 0.1)}" for i in range(4_000)]
    (tmp_path / "noise.csv").write_text("ts,colour,clicked\n" + "\n".join(rows) + "\n")
    (tmp_path / "features.toml").write_text(
        '[project]\nname = "noise"\n[log]\ntime = { column = "ts", unit = "s" }\n[context.colour]\ndtype = "id"\n'
    )
    registry = ["--registry", str(tmp_path / "registry")]

    trained = document(
        capsys,
        [
            *("train", "--data", f"csv:{tmp_path / 'noise.csv'}", "--features", str(tmp_path / "features.toml")),
            *("--workdir", str(tmp_path / "work"), *registry),
        ],
    )
    promoted = document(capsys, ["models", "promote", *registry], code=exit_codes.GATE)

    assert trained["better_than_base_rate"] is False
    assert trained["champion"] is False
    assert "none: the log has no positions" in Path(trained["card"]).read_text()
    assert "no better than the base rate" in promoted["reasons"][0]


def test_a_champion_that_is_not_text_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody's editor or disk did that, and the file is one line to mend."""
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / "champion").write_bytes(b"\xff\x00")

    assert "champion is not text" in refusal(
        capsys, ["models", "list", "--registry", str(tmp_path)], code=exit_codes.FAILURE
    )
