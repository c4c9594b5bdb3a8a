"""The offline commands as a person types them, on a small simulated log: documents, exit codes, messages."""

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

from models.trainers import DEEP_LEARNERS
from service import cli, exit_codes
from tests.learning import take_torch_away

N_IMPRESSIONS = 20_000
N_FRESH = 40_000
"""Of a log whose later part has the 200 clicks that recalibrating wants."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log, and a model trained on its first four fifths."""
    folder = tmp_path_factory.mktemp("commands")
    assert cli.run(["simulate", "--out", str(folder / "log"), "--impressions", str(N_IMPRESSIONS), "--json"]) == 0
    assert cli.run(["train", *log(folder), "--rows", "0:0.8", "--registry", str(folder / "registry"), "--json"]) == 0
    return folder


@dataclass(frozen=True)
class Told:
    """What a command answered with `--json` and, asked again, on the screen."""

    document: dict[str, Any]
    screen: str


@pytest.fixture(scope="module")
def judged(folder: Path) -> Told:
    """The model's evaluation on what came after its training."""
    evaluate = ["evaluate", *log(folder), "--rows", "0.8:1", "--registry", str(folder / "registry")]
    with redirect_stdout(StringIO()) as document:
        assert cli.run([*evaluate, "--json"]) == 0
    with redirect_stdout(StringIO()) as screen:
        assert cli.run(evaluate) == 0
    return Told(json.loads(document.getvalue()), screen.getvalue())


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log of more clicks."""
    folder = tmp_path_factory.mktemp("longer")
    assert cli.run(["simulate", "--out", str(folder / "log"), "--impressions", str(N_FRESH), "--json"]) == 0
    return folder


def log(folder: Path) -> list[str]:
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


def test_evaluation_is_what_its_predictions_give(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anyone may check our log loss with the file we write: one line per row, in the order of the input."""
    path = tmp_path / "predictions.csv"

    seen = document(
        capsys,
        [
            "evaluate",
            *log(folder),
            "--rows",
            "0.8:1",
            "--registry",
            str(folder / "registry"),
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


def test_a_model_is_recalibrated_from_what_came_after_it(longer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The documents of both commands fit together: a new version, the old core, the gate still to pass."""
    model = ["--registry", str(longer / "early"), "--name", "early"]
    trained = document(capsys, ["train", *log(longer), "--rows", "0:0.25", *model])

    found = document(capsys, ["recalibrate", *log(longer), *model])

    shown = document(capsys, ["models", "show", found["version"], *model])
    assert found["version"] != trained["version"]
    assert found["recalibrated"]["version"] == trained["version"]
    assert found["recalibrated"]["impressions"] == N_FRESH * 3 / 4
    assert found["core_sha256"] == shown["core_sha256"]
    assert not found["champion"]
    assert found["metrics"]["calibration_ratio"]["n"] == found["before"]["calibration_ratio"]["n"]
    assert shown["recalibrated"]["before"] == found["before"]


def test_a_kind_of_calibrator_is_named_on_both_commands(longer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And `--no-calibrator` is the short form of none."""
    model = ["--registry", str(longer / "kinds"), "--name", "kinds"]
    train = ["train", *log(longer), "--rows", "0:0.4", "--model", "logistic", *model]

    asked = [["--calibrator", "beta"], ["--calibrator", "none"], ["--no-calibrator"]]
    trained = [document(capsys, [*train, *options])["calibrator"]["kind"] for options in asked]
    found = document(capsys, ["recalibrate", *log(longer), *model, "--calibrator", "platt"])

    assert trained == ["beta", "identity", "identity"]
    assert found["calibrator"]["kind"] == "platt"


def test_recalibrating_on_the_training_itself_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 and the way out, where a person names the log that they trained on."""
    said = refusal(
        capsys, ["recalibrate", *log(folder), "--rows", "0:0.8", "--registry", str(folder / "registry")], code=1
    )

    assert "recalibrating needs later ones" in said


def test_evaluation_says_which_version_it_judged_and_what_it_had_seen(
    folder: Path, judged: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest need not be the champion, and figures on a model's own training rows flatter it."""
    arguments = ["evaluate", *log(folder), "--registry", str(folder / "registry")]
    later = judged.document

    whole = document(capsys, arguments)
    assert cli.run(arguments) == 0
    said = capsys.readouterr().out

    assert later["version"] == later["newest"]
    assert later["champion"] is None
    assert later["impressions_in_training_period"] == 0
    assert whole["impressions_in_training_period"] == N_IMPRESSIONS * 4 // 5
    assert f"(the newest; there is no champion) on {N_IMPRESSIONS:,} impressions" in said
    assert f"warning: of {N_IMPRESSIONS:,} impressions, {N_IMPRESSIONS * 4 // 5:,} lie in the period" in said


def test_gauc_says_over_whom_it_is_taken(judged: Told) -> None:
    """Most users have no click, and their impressions cannot count."""
    seen, said = judged.document, judged.screen.replace("\n", " ")

    gauc = seen["metrics"]["gauc"]
    assert 0 < gauc["clicks"] < gauc["n"] < seen["impressions"]
    assert f"mean over {seen['gauc_users']:,} users who have clicks and non-clicks" in said


def test_precision_and_recall_are_told_at_the_thresholds_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the question; nothing reaches 1, and then there is no precision to tell."""
    arguments = ["evaluate", *log(folder), "--rows", "0.8:1", "--registry", str(folder / "registry")]
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
    folder: Path, judged: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against itself nothing differs at all; against another the difference is that of both evaluations."""
    shutil.copytree(folder / "registry", tmp_path / "registry")
    registry = ["--registry", str(tmp_path / "registry")]
    old = judged.document
    first = old["version"]
    train = ["train", *log(folder), "--rows", "0:0.8", "--model", "logistic", *registry]
    second = document(capsys, train)["version"]
    evaluate = ["evaluate", *log(folder), "--rows", "0.8:1", *registry]

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


def test_figures_are_broken_down_by_segment(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By what every log knows, and by the columns asked for; each impression is in one segment of each table."""
    arguments = ["evaluate", *log(folder), "--rows", "0.8:1", "--registry", str(folder / "registry")]
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
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Minutes of joining and scoring, and then a wrong name; what is refused names the log as it was named."""
    arguments = ["evaluate", *log(folder), "--rows", "0.8:1", "--registry", str(folder / "registry")]

    for question in (["--by", "devise"], ["--by", "clicked"], ["--clip", "5"], ["--candidates-by", "nosuch"]):
        code = cli.run([*arguments, *question])

        said = capsys.readouterr().err
        assert code == exit_codes.USAGE
        assert "opening the log" in said
        assert "joining" not in said


def test_a_log_without_propensities_judges_no_policy(
    folder: Path, judged: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is said, unless somebody asks: then what is missing."""
    arguments = ["evaluate", *log(folder), "--rows", "0.8:1", "--registry", str(folder / "registry")]

    said = refusal(capsys, [*arguments, "--clip", "10"], code=exit_codes.USAGE)

    assert judged.document["off_policy"] is None
    assert "log.propensity" in said


def test_the_label_and_its_delays_are_told(folder: Path, judged: Told) -> None:
    """On the screen, in the document and on the card, all from one measurement."""
    seen, said = judged.document, judged.screen
    (card,) = (folder / "registry").glob("*/v*/card.md")

    delay = seen["click_delay"]
    assert seen["label"] == {"name": "click", "window_ms": None}
    assert (delay["clicks"], delay["late"]) == (clicks_in_file(folder), 0)
    assert 0 < delay["median_ms"] < delay["p90_ms"] < delay["p99_ms"]
    told = f"of {delay['clicks']:,} clicks in the log half arrived within"
    assert told in card.read_text()
    assert f"label: click, counted whenever it came; {told}" in said


def clicks_in_file(folder: Path) -> int:
    """Clicks of the simulated log, counted in its file."""
    return int(np.sum(pq.read_table(folder / "log" / "impressions.parquet").column("clicked").to_numpy()))


def test_predictions_without_a_folder_are_refused_at_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not after the minutes that scoring takes."""
    arguments = ["evaluate", *log(folder), "--registry", str(folder / "registry")]

    said = refusal(capsys, [*arguments, "--predictions", str(tmp_path / "no" / "p.csv")], code=exit_codes.USAGE)

    assert f"there is no folder {tmp_path / 'no'}" in said.replace("\n", "")


def test_oracles_stand_beside_a_model_of_a_simulated_log(folder: Path, judged: Told) -> None:
    """The figures of the true probabilities are those that the simulation itself reported for the same rows."""
    summary = json.loads((folder / "log" / "summary.json").read_text())
    seen = judged.document

    for oracle in ("true", "attainable"):
        reported = summary["tail"][oracle]
        assert seen["oracles"][oracle]["normalized_entropy"]["value"] == pytest.approx(reported["normalized_entropy"])
        assert seen["oracles"][oracle]["auc"]["value"] == pytest.approx(reported["auc"], abs=1e-3)  # counted in bins


def test_the_registry_lists_shows_and_promotes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was published can be found again under its version."""
    registry = ["--registry", str(folder / "registry")]

    listed = document(capsys, ["models", "list", *registry])
    shown = document(capsys, ["models", "show", *registry])

    assert [model["version"] for model in listed["versions"]] == [shown["version"]]
    assert shown["proof"]["inversions"] == 0


def test_a_damaged_version_hides_no_other(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The list is what a person looks at when something is broken."""
    shutil.copytree(folder / "registry", tmp_path / "registry")
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


def test_rows_are_written_shown_and_erased(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the log into a store that the command itself starts, and out again."""
    monkeypatch.setenv("CLICKSERVE_REDIS__EMBEDDED_DIR", str(tmp_path / "valkey"))
    where = ["--registry", str(folder / "registry")]

    written = document(capsys, ["materialize", *log(folder), "--as-of", "log-end"])
    again = document(capsys, ["materialize", *log(folder), "--as-of", "log-end"])
    before = document(capsys, ["features", "inspect", "ad", "a0", *where])
    erased = document(capsys, ["features", "delete", "ad", "a0", *where])
    after = document(capsys, ["features", "inspect", "ad", "a0", *where])
    pruned = document(capsys, ["features", "prune", *where])

    assert [view["written"] for view in written["views"]] == [view["written"] for view in again["views"]]
    assert all(view["found"] for view in before["views"])
    assert sorted(erased["erased_from"]) == sorted(view["view"] for view in before["views"])
    assert not any(view["found"] for view in after["views"])
    assert pruned["views"] == []


def test_a_misspelt_key_is_a_usage_error_with_the_nearest_name(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ignored, it would look exactly like a feature that does not help."""
    (tmp_path / "features.toml").write_text(
        '[project]\nname = "shop"\n[log]\nclickd = "clicked"\n[context.device]\ndtype = "id"\n'
    )

    said = refusal(
        capsys,
        ["train", *log(folder), "--features", str(tmp_path / "features.toml"), "--registry", str(tmp_path)],
        code=exit_codes.USAGE,
    )

    assert 'log.clickd: unknown key, did you mean "clicked"?' in said.replace("'", '"')


def test_the_label_cannot_be_an_id(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rate per "user" would then be the outcome itself, and the model perfect."""
    (tmp_path / "features.toml").write_text(
        '[project]\nname = "shop"\n[log]\nuser_id = "clicked"\n[context.device]\ndtype = "id"\n'
    )

    said = refusal(
        capsys,
        ["train", *log(folder), "--features", str(tmp_path / "features.toml"), "--registry", str(tmp_path)],
        code=exit_codes.USAGE,
    )

    assert "log.user_id" in said
    assert "log.clicked already" in said


def test_a_champion_that_is_not_text_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody's editor or disk did that, and the file is one line to mend."""
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / "champion").write_bytes(b"\xff\x00")

    assert "champion is not text" in refusal(
        capsys, ["models", "list", "--registry", str(tmp_path)], code=exit_codes.FAILURE
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--data", "nowhere"], exit_codes.USAGE, "KIND:PATH"),
        (["train", "--data", "simulated:/no/such/folder"], exit_codes.USAGE, "/no/such/folder"),
        (["train", "--data", "criteo:/no/such.tsv"], exit_codes.USAGE, "/no/such.tsv"),
        (["train", "--data", "criteo:x", "--rows", "0.8:0.2"], exit_codes.USAGE, "FROM < TO"),
        (["train"], exit_codes.USAGE, "--data"),
        (["rnak"], exit_codes.USAGE, "No such command"),
        (["models", "show", "--registry", "/no/such/registry"], exit_codes.USAGE, "clickserve train"),
        (["evaluate", "--data", "criteo:x", "--registry", "/no/such/registry"], exit_codes.USAGE, "clickserve train"),
        (["train", "--data", "criteo:x", "--name", "a/b"], exit_codes.USAGE, "made of a-z"),
        (["models", "list", "--name", "../b"], exit_codes.USAGE, "made of a-z"),
        (["train", "--data", "criteo:x", "--seed", "-1"], exit_codes.USAGE, "x>=0"),
        (["train", "--data", "criteo:x", "--negative-rate", "nan"], exit_codes.USAGE, "no finite number"),
        (["train", "--data", "criteo:x", "--search", "inf"], exit_codes.USAGE, "x<=10080"),
        (["train", "--data", "criteo:x", "--search", "nan"], exit_codes.USAGE, "no finite number"),
        (["train", "--data", "criteo:x", "--search", "1e300"], exit_codes.USAGE, "x<=10080"),
        (["evaluate", "--data", "criteo:x", "--threshold", "nan"], exit_codes.USAGE, "no finite number"),
        (["evaluate", "--data", "criteo:x", "--clip", "nan"], exit_codes.USAGE, "no finite number"),
        (["evaluate", "--data", "criteo:x", "--clip", "inf"], exit_codes.USAGE, "no finite number"),
        (["rank", "--user", "u1", "--timeout", "inf", "a1"], exit_codes.USAGE, "no finite number"),
        (["bench", "--rate", "nan"], exit_codes.USAGE, "no finite number"),
        (["materialize"], exit_codes.USAGE, "features.toml"),
        (["materialize", "--data", "simulated:x", "--as-of", "yesterday"], exit_codes.USAGE, "yesterday"),
        (["materialize", "--data", "simulated:x", "--as-of", "9" * 17], exit_codes.USAGE, "no as-of time"),
        (["rank", "--user", "u1", "--url", "ftp://x", "a1"], exit_codes.USAGE, "http://host:port"),
        (["rank", "--user", "u1", "--url", "http://127.0.0.1:1", "a1"], exit_codes.DEPENDENCY_DOWN, "is it running?"),
        (["bench"], exit_codes.USAGE, "--url"),
        (["simulate", "--out", "/tmp/x", "--preset", "sim-v0"], exit_codes.USAGE, "sim-v1"),
    ],
)
def test_a_command_that_cannot_be_carried_out_says_why(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line with the thing, the value and the way out; and the status a script can branch on."""
    assert message in refusal(capsys, arguments, code=code)


@pytest.mark.parametrize("learner", sorted(DEEP_LEARNERS))
def test_a_library_that_is_missing_is_said_before_the_log_is_read(
    learner: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joining a large log takes minutes, and nothing of it would be used."""
    take_torch_away(monkeypatch)

    said = refusal(
        capsys, ["train", "--data", "simulated:/no/such/folder", "--model", learner], code=exit_codes.FAILURE
    )

    assert "pip install -r requirements/deep.in" in said


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
