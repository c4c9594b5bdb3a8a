"""FTRL goes on with newer rows: the same weights as in one go, its parent named, and nothing learnt twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.continuing import go_on
from models.encoder import Encoder
from models.errors import ArtifactDamaged, TrainingError
from models.evaluation.evaluate import seen_in_training
from models.fitting import ftrl_state
from models.fitting.ftrl import DesignedRows, Ftrl
from models.logs.frame import TrainingFrame, build_frame
from models.logs.reader import read_log
from models.logs.simulator import SIM_V1, simulate
from models.logs.stored_frame import StoredFrame, store_frame
from models.publication import Provenance, publish
from models.recalibration import publish_recalibrated, recalibrate
from models.registry.artifact import LEARNER_STATE, ModelArtifact
from models.registry.gate import Gate
from models.registry.manifest import Label
from models.registry.predictor import Predictor
from models.registry.registry import Registry
from models.streamed_rows import CHUNK_ROWS
from models.streaming import train_streaming
from models.trainers.ftrl import SETTINGS, FtrlTrainer
from models.training import FIT_SHARE, TrainOptions
from service import cli
from service.comparing import MeasuredAnyway
from tests.logs import shop_log

N = 40_000
HALF = N // 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("continued")
    simulate(SIM_V1, n_impressions=N, seed=3, out_dir=folder / "log")
    return folder


@pytest.fixture(scope="module")
def source(folder: Path) -> str:
    return f"simulated:{folder / 'log'}"


@pytest.fixture(scope="module")
def frame(folder: Path, source: str) -> TrainingFrame:
    return build_frame(read_log(source, workdir=folder / "work"))


@pytest.fixture(scope="module")
def registry(folder: Path, frame: TrainingFrame, source: str) -> Registry:
    """One version, that streamed the first half."""
    return with_one_version(folder / "registry", frame.rows(slice(0, HALF)), source)


@pytest.fixture(scope="module")
def parent(registry: Registry) -> ModelArtifact:
    return registry.get(registry.versions()[0])


def with_one_version(folder: Path, frame: TrainingFrame, source: str) -> Registry:
    outcome = train_streaming(frame, FtrlTrainer(), TrainOptions(), 0, silent)
    label = frame.log.project.label
    provenance = Provenance(source, Label(label.name, label.window_ms), "none", created_ms=0)
    publish(outcome, frame.inputs, provenance, Registry(folder), Gate(), silent)
    return Registry(folder)


def silent(stage: str, share: float) -> None:
    """Nobody watches."""


def gone_on(parent: ModelArtifact, frame: TrainingFrame | StoredFrame, source: str, **others: object):  # type: ignore[no-untyped-def]
    options = TrainOptions(**{k: v for k, v in others.items() if k != "exactly"})  # type: ignore[arg-type]
    exactly = bool(others.get("exactly", False))
    return go_on(parent, frame, options, 0, source=source, exactly=exactly, on_progress=silent)


def changed(parent: ModelArtifact, **changes: object) -> ModelArtifact:
    return replace(parent, manifest=msgspec.structs.replace(parent.manifest, **changes))


def learnt_in_one_go(parent: ModelArtifact, frame: TrainingFrame, halves: list[slice]) -> Ftrl:
    """One learner of the parent's design that is never written down, over both halves, in the chunks of a stream."""
    design = ftrl_state.from_bytes(parent.files[LEARNER_STATE]).design
    first = frame.clicked[: min(int(HALF * FIT_SHARE), CHUNK_ROWS)]
    learner = FtrlTrainer().begin(design, int(first.sum()), len(first))
    encoder = Encoder(frame.inputs)
    for half in halves:
        cut = half.start + int((half.stop - half.start) * FIT_SHARE)
        for part in (slice(half.start, cut), slice(cut, half.stop)):
            assert part.stop - part.start <= CHUNK_ROWS
            rows = DesignedRows.of(design, frame.encode(encoder, part))
            learner.learn(rows, frame.clicked[part], np.ones(len(rows), dtype=np.bool_))
    return learner


def test_going_on_gives_the_weights_of_learning_both_halves_in_one_go(
    parent: ModelArtifact, frame: TrainingFrame, source: str
) -> None:
    """To the bit, through publishing and reading: gradients, their squares, and the count that sizes batches."""
    halves = [slice(0, HALF), slice(HALF, N)]
    assert frame.time_ms[HALF] > frame.time_ms[HALF - 1]
    wanted = learnt_in_one_go(parent, frame, halves)

    found = ftrl_state.from_bytes(gone_on(parent, frame, source).outcome.model.state())

    np.testing.assert_array_equal(found.z, wanted.z)
    np.testing.assert_array_equal(found.squares, wanted.squares)
    assert (found.rows, found.settings) == (wanted.rows, SETTINGS)
    assert found.rows == N


def test_rows_on_disk_go_on_as_rows_in_memory(parent: ModelArtifact, frame: TrainingFrame, source: str) -> None:
    """Large logs stream by; the weights are the same."""
    wanted = gone_on(parent, frame, source).outcome

    with store_frame(frame.log) as stored:
        found = gone_on(parent, stored, source).outcome

    np.testing.assert_array_equal(found.held_out_p, wanted.held_out_p)
    assert {name: found.metrics[name].value for name in ("log_loss", "auc")} == {
        name: wanted.metrics[name].value for name in ("log_loss", "auc")
    }


def test_the_newest_fifth_takes_part_in_no_choice(parent: ModelArtifact, frame: TrainingFrame, source: str) -> None:
    """Labels of the tail turned round: what was promised there does not change."""
    cut = HALF + int(HALF * FIT_SHARE)
    turned = replace(frame, clicked=np.r_[frame.clicked[:cut], ~frame.clicked[cut:]])

    honest, fooled = (gone_on(parent, each, source).outcome for each in (frame, turned))

    np.testing.assert_array_equal(honest.held_out_p, fooled.held_out_p)


def test_thinned_non_clicks_stay_thinned_alike(parent: ModelArtifact, frame: TrainingFrame, source: str) -> None:
    """The weights speak of the parent's share of non-clicks, whatever the size of the new log would suggest."""
    thinned = changed(
        parent, trained_on=msgspec.structs.replace(parent.manifest.trained_on, negative_sampling_rate=0.3)
    )

    outcome = gone_on(thinned, frame, source).outcome

    assert outcome.negative_rate == pytest.approx(0.3, abs=1e-3)
    with pytest.raises(TrainingError, match=r"learnt from 0\.3 of the non-clicks"):
        gone_on(thinned, frame, source, negative_rate=0.5)


def test_a_new_version_names_its_parent_and_all_before_it(folder: Path, frame: TrainingFrame, source: str) -> None:
    """Three generations by command; impressions of all of them count as seen in training, and each is learnt once."""
    registry = Registry(folder / "by-command")
    command = ["train", "--data", source, "--model", "ftrl", "--workdir", str(folder / "work")]
    command += ["--registry", str(folder / "by-command"), "--json"]
    assert cli.run([*command, "--rows", "0:0.4"]) == 0
    assert cli.run([*command, "--rows", "0.4:0.7", "--continue-from", registry.versions()[0]]) == 0
    assert cli.run([*command, "--continue-from", registry.versions()[1]]) == 0

    first, second, third = (registry.get(version) for version in registry.versions())

    past = third.manifest.continued
    assert past is not None
    assert past.version == second.manifest.version
    assert (past.impressions, past.first_ms) == (int(0.7 * N), first.manifest.trained_on.first_ms)
    assert third.manifest.trained_on.impressions == N - int(0.7 * N)
    assert third.manifest.parameters["rows"] == second.manifest.parameters["rows"] + N - int(0.7 * N)  # type: ignore[operator]
    assert seen_in_training(third.manifest, frame, source) == N
    assert f"goes on from version {second.manifest.version}" in third.files["card.md"].decode()
    assert third.manifest.proof.holds


def test_a_champion_is_gone_on_from_and_challenged_on_rows_new_to_both(
    folder: Path, registry: Registry, frame: TrainingFrame, source: str
) -> None:
    """Its child is held against it at once."""
    registry.promote(registry.versions()[0], MeasuredAnyway())
    command = ["train", "--data", source, "--model", "ftrl", "--workdir", str(folder / "work")]

    assert cli.run([*command, "--registry", str(folder / "registry"), "--continue-from", "champion", "--json"]) == 0

    child = registry.get(registry.newest()).manifest
    assert child.challenge is not None
    assert child.challenge.champion == child.continued.version == registry.versions()[0]  # type: ignore[union-attr]
    assert child.challenge.entropy_difference is not None
    assert child.challenge.entropy_difference.n == HALF - int(HALF * FIT_SHARE)


def test_rows_that_were_learnt_are_not_learnt_again(parent: ModelArtifact, frame: TrainingFrame, source: str) -> None:
    """Left out where nobody named them, refused where somebody did, and an end where nothing is newer."""
    old, overlapping = frame.rows(slice(0, HALF)), frame.rows(slice(HALF - 100, N))

    newer = gone_on(parent, overlapping, source).frame

    assert len(newer) == HALF
    with pytest.raises(TrainingError, match="no impression is later; name a newer log"):
        gone_on(parent, old, source)
    with pytest.raises(TrainingError, match=r"of the 20,100 rows that are asked for lie before .*leave --rows out"):
        gone_on(parent, overlapping, source, exactly=True)
    assert len(gone_on(parent, frame.rows(slice(HALF - 1, N)), source, exactly=True).frame) == HALF + 1  # same time


def test_a_log_of_other_features_or_label_is_refused(
    parent: ModelArtifact, frame: TrainingFrame, source: str, tmp_path: Path
) -> None:
    """Weights of one thing say nothing of another."""
    shop = build_frame(shop_log(tmp_path, '[context.place]\ndtype = "id"\n'))
    view = parent.manifest.inputs.views[0]
    widened = msgspec.structs.replace(
        parent.manifest.inputs,
        views=(msgspec.structs.replace(view, features=view.features[:-1]), *parent.manifest.inputs.views[1:]),
    )

    with pytest.raises(TrainingError, match=r"cannot go on with this log: views"):
        gone_on(parent, shop, source)
    with pytest.raises(TrainingError, match=rf"views \['{view.name}'\] are not those the model was trained on"):
        gone_on(changed(parent, inputs=widened), frame, source)
    with pytest.raises(TrainingError, match=r"learnt purchase, counted whenever it came; this log's label is click"):
        gone_on(changed(parent, label=Label("purchase")), frame, source)


def test_a_recalibrated_version_is_gone_on_from_as_its_core(folder: Path, frame: TrainingFrame, source: str) -> None:
    """A champion is recalibrated every hour; the learner has learnt none of those rows, and does so now."""
    registry = with_one_version(folder / "recalibrated", frame.rows(slice(0, N // 4)), source)
    parent = registry.get(registry.newest())
    recalibrated = publish_recalibrated(
        parent,
        recalibrate(Predictor(parent), parent.graph, frame, source, 0),
        registry,
        Gate(),
        source=source,
        created_ms=0,
        challenge=None,
    )

    found = gone_on(registry.get(recalibrated.version), frame, source)

    assert found.continued.version == recalibrated.version
    assert found.outcome.model.state() == gone_on(parent, frame, source).outcome.model.state()


def test_a_version_without_a_state_is_refused(parent: ModelArtifact, frame: TrainingFrame, source: str) -> None:
    """Another learner's, and a state that is none."""
    files = {name: content for name, content in parent.files.items() if name != LEARNER_STATE}

    with pytest.raises(TrainingError, match=r"\(gbdt\) holds no state"):
        gone_on(changed(replace(parent, files=files), learner="gbdt"), frame, source)
    with pytest.raises(ArtifactDamaged, match="no state of the learner"):
        gone_on(replace(parent, files=files | {LEARNER_STATE: b"PK nothing"}), frame, source)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "gbdt", "--continue-from", "v1"], "say --model ftrl"),
        (["--model", "ftrl", "--continue-from", "v1", "--search", "1"], "nothing to --search"),
        (["--model", "ftrl", "--continue-from", "champion"], "the registry has no champion"),
    ],
)
def test_what_cannot_be_gone_on_from_is_said_before_the_log_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """Misuse costs a second, and the exit code is that of misuse."""
    code = cli.run(["train", "--data", f"simulated:{tmp_path}", "--registry", str(tmp_path / "none"), *arguments])

    assert code == 2
    assert said in capsys.readouterr().err
