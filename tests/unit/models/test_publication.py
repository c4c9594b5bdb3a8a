"""The whole way from a trained model to one that answers, on made impressions."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.calibrator import Float64s, p_click_of
from models.encoder import Block, Encoded
from models.errors import ArtifactDamaged, ProofMissing
from models.evaluation.reference import Reference
from models.fitting import ftrl_state
from models.publication import Provenance, publish
from models.registry.artifact import LEARNER_STATE, Golden, ModelArtifact
from models.registry.gate import Gate
from models.registry.manifest import Label
from models.registry.predictor import Predictor
from models.registry.registry import Published, Registry
from models.specs import ModelSpec
from models.trainers import trainer_named
from models.training import TrainOptions, TrainOutcome, train
from tests.conftest import REPOSITORY
from tests.learning import EVERY_LEARNER, INPUTS, made_impressions

LOG = made_impressions(4_000, seed=1)
PROVENANCE = Provenance(
    source="made <by> a test & more",
    label=Label("click", window_ms=86_400_000),
    reference_position="mean over the log's positions",
    created_ms=1_763_690_000_000,
)
NOBODY, NOTHING = (Block(np.empty((1, 0), np.float32), np.empty((1, 0), np.uint32)) for _ in range(2))


def outcome_of(learner: str) -> TrainOutcome:
    return train(LOG, trainer_named(learner), TrainOptions(), 0, lambda stage, share: None)


def published_in(folder: Path, outcome: TrainOutcome) -> Published:
    return publish(outcome, INPUTS, PROVENANCE, Registry(folder), Gate(), lambda stage, share: None)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> ModelArtifact:
    folder = tmp_path_factory.mktemp("registry")
    return Registry(folder).get(published_in(folder, outcome_of("gbdt")).version)


@pytest.mark.parametrize("learner", EVERY_LEARNER)
def test_a_published_model_answers_as_it_was_trained(tmp_path: Path, learner: str) -> None:
    """Through registry, artifact, encoder and plan; missing and unseen values included."""
    outcome = outcome_of(learner)
    published = published_in(tmp_path, outcome)
    later = made_impressions(500, seed=3)

    predictor = Registry(tmp_path).load(published.version)
    scores = predictor.score(NOBODY, NOTHING, Block(later.encoded.features, later.encoded.ids.astype(np.uint32)))

    raw_logit = outcome.model.raw_logit(later.encoded)
    np.testing.assert_allclose(scores.raw_logit, raw_logit, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(
        scores.p_click, p_click_of(raw_logit, outcome.correction, outcome.calibrator), rtol=0, atol=1e-6
    )
    assert published.is_champion is outcome.better_than_base_rate is (learner != "base-rate")
    assert published.manifest.proof.holds


def test_the_reference_counts_every_row(artifact: ModelArtifact) -> None:
    """Drift is measured against these counters."""
    reference = msgspec.json.decode(artifact.files["reference.json"], type=Reference)

    for numbers in (*reference.floats.values(), reference.raw_logit, reference.p_click):
        assert sum(numbers.counts) + numbers.missing == reference.rows == len(LOG)
        assert len(numbers.counts) == len(numbers.edges) + 1
    for hashes in reference.ids.values():
        assert sum(hashes.counts) + hashes.other + hashes.missing == len(LOG)
    assert reference.coverage()["context.noise"] == pytest.approx(0.9, abs=0.02)


def test_the_card_tells_what_a_person_must_know(artifact: ModelArtifact) -> None:
    """Sample, intervals, calibration, columns, limits, proof and versions, in both forms."""
    manifest = artifact.manifest

    for name in ("card.md", "card.html"):
        card = artifact.files[name].decode()
        for fact in (
            manifest.version,
            "if it came within 1 day of the impression",
            "mean over the log&#39;s positions" if name.endswith("html") else "mean over the log's positions",
            f"{manifest.metrics['normalized_entropy'].value:.4f}",
            f"{manifest.metrics['auc'].low:.4f} to {manifest.metrics['auc'].high:.4f}",
            f"{manifest.metrics['auc'].n:,} impressions, {manifest.metrics['auc'].clicks:,} clicks",
            "context.price",
            manifest.core_sha256,
            "100,000 random rows",
            f"onnxruntime {manifest.libraries['onnxruntime']}",
        ):
            assert fact in card, (name, fact)


def test_the_html_card_needs_nothing_but_itself(artifact: ModelArtifact) -> None:
    """No script, no font, no picture from elsewhere; what others named is escaped."""
    card = artifact.files["card.html"].decode()

    assert "://" not in card
    assert "<script" not in card
    assert "made &lt;by&gt; a test &amp; more" in card
    assert card.count("<circle") == 10
    assert "prefers-color-scheme: dark" in card


def test_a_worthless_model_is_published_and_says_so(tmp_path: Path) -> None:
    """The finding is kept; the gate keeps it from serving."""
    log = made_impressions(4_000, seed=1, signal=0.0)
    outcome = train(log, trainer_named("logistic"), TrainOptions(), 0, lambda stage, share: None)

    published = published_in(tmp_path, outcome)

    assert not published.is_champion
    assert "no better than the base rate" in published.verdict.reasons[0]
    assert b"Do not serve it" in (published.path / "card.md").read_bytes()


@dataclasses.dataclass(frozen=True)
class OtherModel:
    """A trainer's model whose own prediction is not what its spec computes."""

    spec: ModelSpec
    parameters: dict[str, float | int | str | bool]
    importance: dict[str, float]

    def raw_logit(self, encoded: Encoded) -> Float64s:
        return np.zeros(len(encoded.features))


def test_a_graph_that_answers_otherwise_is_not_published(tmp_path: Path) -> None:
    """Whatever its figures are."""
    outcome = outcome_of("logistic")
    other = dataclasses.replace(outcome, model=OtherModel(outcome.model.spec, {}, {}))

    with pytest.raises(ProofMissing, match="is not published"):
        published_in(tmp_path, other)

    assert Registry(tmp_path).versions() == ()


def with_files(artifact: ModelArtifact, **files: bytes) -> ModelArtifact:
    renamed = {name.replace("_", "."): content for name, content in files.items()}
    return ModelArtifact(artifact.path, artifact.manifest, {**artifact.files, **renamed})


def test_golden_rows_with_other_answers_stop_the_load(artifact: ModelArtifact) -> None:
    """An intact graph may still answer otherwise on another machine or another ONNX Runtime."""
    golden = artifact.golden
    moved = Golden(golden.features, golden.ids, golden.raw_logit, golden.p_click + 2e-6)

    with pytest.raises(ArtifactDamaged, match=r"golden rows get other answers .* \|Δp\| up to 2e-06"):
        Predictor(with_files(artifact, golden_npz=moved.to_bytes()))


def test_a_manifest_of_other_columns_stops_the_load(artifact: ModelArtifact) -> None:
    """Or values would lie under the wrong names."""
    fewer = msgspec.structs.replace(INPUTS, context=INPUTS.context[1:])
    manifest = msgspec.structs.replace(artifact.manifest, inputs=fewer)

    with pytest.raises(ArtifactDamaged, match="describes 2 numbers and 2 hashes, the graph reads 3 and 2"):
        Predictor(ModelArtifact(artifact.path, manifest, artifact.files))


def test_no_candidates_have_no_scores(artifact: ModelArtifact) -> None:
    """The empty request walks the same way."""
    nothing = Block(np.empty((0, 3), np.float32), np.empty((0, 2), np.uint32))

    assert Predictor(artifact).score(NOBODY, NOTHING, nothing).p_click.shape == (0,)


def test_serving_a_model_loads_no_training_library() -> None:
    """The runtime image holds none of them."""
    code = (
        "import json, sys, models.registry.registry, models.registry.predictor, models.plans.generic;"
        "print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    )

    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=REPOSITORY))

    assert not {"onnx", "lightgbm", "sklearn", "scipy", "duckdb", "pyarrow", "jinja2"} & set(loaded)


def test_a_learner_goes_on_from_its_published_state(tmp_path: Path) -> None:
    """The state lies in the artifact, under a checksum, and answers as the model beside it but for its level."""
    outcome = outcome_of("ftrl")
    artifact = Registry(tmp_path).get(published_in(tmp_path, outcome).version)

    learner = ftrl_state.from_bytes(artifact.files[LEARNER_STATE])

    difference = learner.frozen().margins(LOG.encoded) - outcome.model.raw_logit(LOG.encoded)
    assert np.ptp(difference) == pytest.approx(0.0, abs=1e-12)
    assert LEARNER_STATE in artifact.manifest.files
    assert learner.rows == outcome.model.parameters["rows"]
