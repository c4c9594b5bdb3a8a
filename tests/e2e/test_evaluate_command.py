"""`clickserve evaluate` as a person types it, on a small simulated log: figures, screens, refusals."""

from __future__ import annotations

import json
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from service import cli, exit_codes
from tests.e2e.command_line import N_IMPRESSIONS, document, log_of, refusal


@dataclass(frozen=True)
class Told:
    """What a command answered with `--json` and, asked again, on the screen."""

    document: dict[str, Any]
    screen: str


@pytest.fixture(scope="module")
def judged(trained: Path) -> Told:
    """The model's evaluation on what came after its training."""
    evaluate = ["evaluate", *log_of(trained), "--rows", "0.8:1", "--registry", str(trained / "registry")]
    with redirect_stdout(StringIO()) as document:
        assert cli.run([*evaluate, "--json"]) == 0
    with redirect_stdout(StringIO()) as screen:
        assert cli.run(evaluate) == 0
    return Told(json.loads(document.getvalue()), screen.getvalue())


def test_evaluation_is_what_its_predictions_give(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anyone may check our log loss with the file we write: one line per row, in the order of the input."""
    path = tmp_path / "predictions.csv"

    seen = document(
        capsys,
        [
            "evaluate",
            *log_of(trained),
            "--rows",
            "0.8:1",
            "--registry",
            str(trained / "registry"),
            "--predictions",
            str(path),
        ],
    )

    assert path.read_text().startswith("y,p\n")
    clicked, p_click = np.loadtxt(path, delimiter=",", skiprows=1, unpack=True)
    assert len(clicked) == seen["impressions"] == N_IMPRESSIONS // 5
    log_loss = -np.mean(clicked * np.log(p_click) + (1 - clicked) * np.log1p(-p_click))
    assert seen["metrics"]["log_loss"]["value"] == pytest.approx(log_loss, rel=1e-6)
    assert seen["metrics"]["calibration_ratio"]["value"] == pytest.approx(p_click.sum() / clicked.sum(), rel=1e-6)


def test_evaluation_says_which_version_it_judged_and_what_it_had_seen(
    trained: Path, judged: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest need not be the champion, and figures on a model's own training rows flatter it."""
    arguments = ["evaluate", *log_of(trained), "--rows", "0.7:1", "--registry", str(trained / "registry")]
    n, n_seen = N_IMPRESSIONS * 3 // 10, N_IMPRESSIONS // 10
    later = judged.document

    both = document(capsys, arguments)
    assert cli.run(arguments) == 0
    said = capsys.readouterr().out

    assert later["version"] == later["newest"]
    assert later["champion"] is None
    assert later["impressions_in_training_period"] == 0
    assert both["impressions_in_training_period"] == n_seen
    assert f"(the newest; there is no champion) on {n:,} impressions" in said
    assert f"warning: of {n:,} impressions, {n_seen:,} lie in the period" in said


def test_gauc_says_over_whom_it_is_taken(judged: Told) -> None:
    """Most users have no click, and their impressions cannot count."""
    seen, said = judged.document, judged.screen.replace("\n", " ")

    gauc = seen["metrics"]["gauc"]
    assert 0 < gauc["clicks"] < gauc["n"] < seen["impressions"]
    assert f"mean over {seen['gauc_users']:,} users who have clicks and non-clicks" in said


def test_precision_and_recall_are_told_at_the_thresholds_asked_for(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the question; nothing reaches 1, and then there is no precision to tell."""
    arguments = ["evaluate", *log_of(trained), "--rows", "0.8:1", "--registry", str(trained / "registry")]
    arguments += ["--threshold", "1", "--threshold", "0"]

    seen = document(capsys, arguments)
    assert cli.run(arguments) == 0
    said = capsys.readouterr().out

    nothing, everything = seen["thresholds"]
    assert (nothing["called"], nothing["precision"], nothing["recall"]["value"]) == (0, None, 0.0)
    assert (everything["called"], everything["recall"]["value"]) == (seen["impressions"], 1.0)
    assert everything["precision"]["value"] == pytest.approx(seen["clicks"] / seen["impressions"])
    assert "p_click at least" in said
    assert "not defined" in said


def test_two_versions_are_compared_in_pairs(
    trained: Path, judged: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against itself nothing differs at all; against another the difference is that of both evaluations."""
    shutil.copytree(trained / "registry", tmp_path / "registry")
    registry = ["--registry", str(tmp_path / "registry")]
    old = judged.document
    first = old["version"]
    train = ["train", *log_of(trained), "--rows", "0:0.8", "--model", "logistic", *registry]
    second = document(capsys, train)["version"]
    evaluate = ["evaluate", *log_of(trained), "--rows", "0.8:1", *registry]

    itself = document(capsys, [*evaluate, "--version", first, "--against", first])["against"]
    assert cli.run([*evaluate, "--version", first, "--against", first]) == 0
    alike = capsys.readouterr().out
    new = document(capsys, [*evaluate, "--version", second, "--against", first])
    assert cli.run([*evaluate, "--against", first]) == 0
    said = capsys.readouterr().out

    assert (itself["normalized_entropy"]["low"], itself["auc"]["high"]) == (0.0, 0.0)
    assert (new["against"]["old"], new["against_impressions_in_training_period"]) == (first, 0)
    for name in ("normalized_entropy", "log_loss", "auc"):
        difference = new["metrics"][name]["value"] - old["metrics"][name]["value"]
        assert new["against"][name]["value"] == pytest.approx(difference, abs=1e-9)
    assert f"minus version {first}" in said
    assert ("the same order" in alike, "the same order" in said) == (True, False)


def test_figures_are_broken_down_by_segment(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By what every log knows, and by the columns asked for; each impression is in one segment of each table."""
    arguments = ["evaluate", *log_of(trained), "--rows", "0.8:1", "--registry", str(trained / "registry")]
    arguments += ["--by", "device", "--by", "ad_profile.category"]

    seen = document(capsys, arguments)
    assert cli.run(arguments) == 0
    said = capsys.readouterr().out
    refused = refusal(capsys, [*arguments, "--by", "devise"], code=exit_codes.USAGE)

    assert [table["by"] for table in seen["breakdowns"]] == [
        "position",
        "ad_age",
        "user",
        "device",
        "ad_profile.category",
    ]
    for table in seen["breakdowns"]:
        for count in ("impressions", "clicks"):
            assert sum(segment[count] for segment in table["segments"]) == seen[count]
    assert "hash" not in " ".join(segment["value"] for segment in seen["breakdowns"][-1]["segments"])
    assert "by device" in said
    assert "did you mean 'device'" in refused


def test_a_question_that_the_log_cannot_answer_is_refused_before_it_is_joined(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Minutes of joining and scoring, and then a wrong name; what is refused names the log as it was named."""
    arguments = ["evaluate", *log_of(trained), "--rows", "0.8:1", "--registry", str(trained / "registry")]

    for question in (["--by", "devise"], ["--by", "clicked"], ["--clip", "5"], ["--candidates-by", "nosuch"]):
        code = cli.run([*arguments, *question])

        said = capsys.readouterr().err
        assert code == exit_codes.USAGE
        assert "opening the log" in said
        assert "joining" not in said


def test_a_log_without_propensities_judges_no_policy(
    trained: Path, judged: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is said, unless somebody asks: then what is missing."""
    arguments = ["evaluate", *log_of(trained), "--rows", "0.8:1", "--registry", str(trained / "registry")]

    said = refusal(capsys, [*arguments, "--clip", "10"], code=exit_codes.USAGE)

    assert judged.document["off_policy"] is None
    assert "log.propensity" in said


def test_the_label_and_its_delays_are_told(trained: Path, judged: Told) -> None:
    """On the screen, in the document and on the card, all from one measurement."""
    seen, said = judged.document, judged.screen
    (card,) = (trained / "registry").glob("*/v*/card.md")

    delay = seen["click_delay"]
    assert seen["label"] == {"name": "click", "window_ms": None}
    assert (delay["clicks"], delay["late"]) == (clicks_in_file(trained), 0)
    assert 0 < delay["median_ms"] < delay["p90_ms"] < delay["p99_ms"]
    told = f"of {delay['clicks']:,} clicks in the log half arrived within"
    assert told in card.read_text()
    assert f"label: click, counted whenever it came; {told}" in said


def clicks_in_file(trained: Path) -> int:
    """Clicks of the simulated log, counted in its file."""
    return int(np.sum(pq.read_table(trained / "log" / "impressions.parquet").column("clicked").to_numpy()))


def test_predictions_without_a_folder_are_refused_at_once(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not after the minutes that scoring takes."""
    arguments = ["evaluate", *log_of(trained), "--registry", str(trained / "registry")]

    said = refusal(capsys, [*arguments, "--predictions", str(tmp_path / "no" / "p.csv")], code=exit_codes.USAGE)

    assert f"there is no folder {tmp_path / 'no'}" in said.replace("\n", "")


def test_oracles_stand_beside_a_model_of_a_simulated_log(trained: Path, judged: Told) -> None:
    """The figures of the true probabilities are those that the simulation itself reported for the same rows."""
    summary = json.loads((trained / "log" / "summary.json").read_text())
    seen = judged.document

    for oracle in ("true", "attainable"):
        reported = summary["tail"][oracle]
        assert seen["oracles"][oracle]["normalized_entropy"]["value"] == pytest.approx(reported["normalized_entropy"])
        assert seen["oracles"][oracle]["auc"]["value"] == pytest.approx(reported["auc"], abs=1e-3)  # counted in bins
