"""An imported model after its import: everything that reads a manifest copes with what nobody knows."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.registry.registry import Registry
from service.cli import run
from service.exit_codes import GATE
from tests.foreign import clicks, gradient_boosting, hist_gradient_boosting, listing, logistic, rows
from tests.shared_builds import made_once

pytestmark = pytest.mark.filterwarnings("ignore")  # converters and trainers warn about each other

N_MEMBERS, N_BANNERS, N_SHOWN = 300, 40, 6_000


@pytest.fixture
def shop(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of this test's own with tables, a log that the stranger's model never saw, and its import."""
    shutil.copytree(made_once(tmp_path_factory, "imported-life", write_shop), tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_shop(folder: Path) -> None:
    """Fitting, converting and proving the stranger's model takes most of it."""
    members, banners, requests = rows(N_MEMBERS, 5), rows(N_BANNERS, 6), rows(N_SHOWN, 7)
    random = np.random.default_rng(8)
    member, banner = random.integers(0, N_MEMBERS, N_SHOWN), random.integers(0, N_BANNERS, N_SHOWN)
    matrix = np.column_stack(  # in the order of `tests.foreign.MATRIX`
        [banners[banner, 0], members[member, 1:3], requests[:, 0], members[member, 0], requests[:, 1]]
    )
    names = {"member": [f"m{i}" for i in range(N_MEMBERS)], "banner": [f"b{i}" for i in range(N_BANNERS)]}
    tables = {
        "members": {"member": names["member"], "age": members[:, 0], "taste": list(members[:, 1:3])},
        "banners": {"banner": names["banner"], "price": banners[:, 0], "theme": ["a", "b"] * (N_BANNERS // 2)},
        "log": {
            "member": [f"m{i}" for i in member], "banner": [f"b{i}" for i in banner],
            "hour": requests[:, 0], "slot": requests[:, 1], "clicked": clicks(matrix, 9),
        },
    }  # fmt: skip
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    (folder / "features.toml").write_text(listing())
    (folder / "model.onnx").write_bytes(hist_gradient_boosting().content)
    with contextlib.chdir(folder):
        assert run(["models", "import", "model.onnx", "--features", "features.toml", "--registry", "registry"]) == 0


def said(capsys: pytest.CaptureFixture[str], *arguments: str, expect: int = 0) -> dict:
    capsys.readouterr()
    assert run([*arguments, "--registry", "registry", "--json"]) == expect
    return json.loads(capsys.readouterr().out)


LOG = ("--data", "parquet:log.parquet", "--features", "features.toml")


def test_what_nobody_knows_is_null_and_the_gate_waits_for_a_person(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No made-up figures, and no traffic on faith."""
    registry = Registry(shop / "registry")
    manifest = json.loads((shop / "registry/default" / registry.newest() / "manifest.json").read_text())
    unknown = ("trained_on", "metrics", "reference_position", "seed", "better_than_base_rate")

    assert [manifest[name] for name in unknown] == [None] * len(unknown)
    assert said(capsys, "models", "list")["versions"][0]["normalized_entropy"] is None
    assert "nobody has measured it" in said(capsys, "models", "promote", expect=GATE)["reasons"][0]
    assert said(capsys, "models", "promote", "--accept-unmeasured")["promoted"]
    assert registry.champion() == registry.newest()
    assert run(["models", "show", "--registry", "registry"]) == 0
    assert "unknown: imported from model.onnx" in " ".join(capsys.readouterr().out.split())
    assert run(["models", "list", "--registry", "registry"]) == 0
    assert "not measured" in " ".join(capsys.readouterr().out.split())


def test_a_name_in_the_file_is_text_on_every_screen(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever exported the file chose it: markup in it ended `models list` with a traceback, for good."""
    graph = onnx.ModelProto.FromString((shop / "model.onnx").read_bytes())
    graph.producer_name = "[/nope][bold]x\x1b[31m"
    (shop / "hostile.onnx").write_bytes(graph.SerializeToString())
    registry = ("--registry", "registry[a]")
    screens: list[str] = []

    for command in (("import", "hostile.onnx", "--features", "features.toml"), ("list",), ("show",)):
        assert run(["models", *command, *registry]) == 0
        screens.append("".join(capsys.readouterr().out.split()))

    assert all(r"[/nope][bold]x\x1b[31m" in screen and "\x1b" not in screen for screen in screens)
    assert "registry[a]/default" in screens[2]


def test_an_import_is_evaluated_on_a_log_without_a_word_about_its_training(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it has seen the log cannot be told, and is not guessed."""
    evaluated = said(capsys, "evaluate", *LOG)

    assert evaluated["trained_on"] is None
    assert evaluated["impressions_in_training_period"] is None
    assert evaluated["metrics"]["normalized_entropy"]["high"] < 1
    assert run(["evaluate", *LOG, "--registry", "registry"]) == 0
    assert "nobody said what it was trained on" in " ".join(capsys.readouterr().out.split())


def test_a_recalibrated_import_has_figures_and_passes_the_gate(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same core with a calibrator of ours: measured, so judged as any other."""
    first = Registry(shop / "registry").newest()
    said(capsys, "models", "promote", "--accept-unmeasured")

    recalibrated = said(capsys, "recalibrate", *LOG)

    card = Path(recalibrated["card"]).read_text()
    manifest = Registry(shop / "registry").get(recalibrated["version"]).manifest
    assert "the core was imported from model.onnx" in card
    assert manifest.trained_on is None
    assert manifest.imported is not None
    assert manifest.core_sha256 == Registry(shop / "registry").get(first).manifest.core_sha256
    assert "nobody knows which impressions" in recalibrated["challenge"]["why_not"]
    promoted = said(capsys, "models", "promote")
    assert promoted["promoted"]
    assert "nothing to be worse than" in promoted["comparison"]


def test_a_trained_model_may_follow_an_imported_champion(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A champion without figures must not lock the registry."""
    said(capsys, "models", "promote", "--accept-unmeasured")

    trained = said(capsys, "train", *LOG, "--model", "logistic")

    assert trained["challenge"]["entropy_difference"] is None
    assert said(capsys, "models", "promote", trained["version"])["promoted"]


def test_an_imported_linear_model_is_taken_apart(shop: Path) -> None:
    """Its contributions add up to the margin that is served."""
    (shop / "model.onnx").write_bytes(logistic().content)
    (shop / "features.toml").write_text(listing(default=0.0))
    assert run(["models", "import", "model.onnx", "--features", "features.toml", "--registry", "registry"]) == 0
    registry = Registry(shop / "registry")
    predictor = registry.load(registry.newest())
    golden = registry.get(registry.newest()).golden

    contributions = predictor.contributions
    found = contributions.baseline + contributions.of(golden).sum(axis=1)

    assert predictor.unexplainable is None
    np.testing.assert_allclose(found, golden.raw_logit, rtol=2e-6, atol=2e-6)


def test_the_import_tells_what_its_owner_can_act_on(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trees that nobody taught where a missing number goes, and a model that cannot be trained again here."""
    (shop / "model.onnx").write_bytes(gradient_boosting().content)
    command = ("models", "import", "model.onnx", "--features", "features.toml", "--registry", "registry")

    done = said(capsys, *command[:-2])
    assert run(command) == 0
    shown = " ".join(capsys.readouterr().out.split())

    (warning,) = done["warnings"]
    assert warning.startswith("no tree says where a missing number goes")
    assert "missing numbers no tree says where a missing number goes" in shown
    assert "few converters write it" in done["why_unexplained"]
    assert "train and publish" not in shown
