"""From a trained model to a published artifact: export, proof, golden rows, reference, card, registry.

The proof comes first: a graph that does not answer as its trainer did is never published, whatever its figures say.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version

import msgspec
import numpy as np

from models.calibrator import CalibratorMap
from models.encoder import Encoded, Encoder, ModelInputs
from models.errors import ExportError
from models.evaluation.card import CardFacts, render_card
from models.export.graph import calibrator_sha256, core_sha256, export_graph
from models.export.proof import prove, random_rows, stacked
from models.plans.generic import GenericPlan
from models.plans.jumps import jump_rows
from models.random_streams import random_stream
from models.registry.artifact import GOLDEN, GRAPH, LEARNER_STATE, Golden
from models.registry.gate import Gate
from models.registry.manifest import (
    Calibrator,
    Challenge,
    ClickDelay,
    Continued,
    Label,
    Manifest,
    Search,
    Segment,
    TrainedOn,
)
from models.registry.registry import Published, Registry
from models.trainers.trainer import UpdatableModel
from models.training import Progress, TrainOutcome

GOLDEN_ROWS = 128
"""Of each kind: as seen in training, at random, at points where the answer may jump."""

LIBRARIES = ("clickserve", "lightgbm", "numpy", "onnx", "onnxruntime", "scipy")


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a model was made of, in the words of whoever made it."""

    source: str
    """The log, for example `criteo:train.tsv.gz`."""
    label: Label
    reference_position: str
    """The position that `p_click` speaks of."""
    created_ms: int
    click_delay: ClickDelay | None = None
    pending_impressions: int = 0
    """Of the log, left out because the label's window had not passed."""
    search: Search | None = None
    """How settings were found, where they were looked for."""
    continued: Continued | None = None
    """From where the learner went on, where it did."""


def publish(
    outcome: TrainOutcome,
    inputs: ModelInputs,
    provenance: Provenance,
    registry: Registry,
    gate: Gate,
    on_progress: Progress,
    challenge: Challenge | None = None,
) -> Published:
    """Exports, proves and publishes.

    Args:
        challenge: how the model compares with the champion, where there is one.
    Raises:
        ExportError: the graph has no faithful form.
        ProofMissing: the graph does not answer as its trainer did.
        RegistryError: the registry cannot be written.
    """
    on_progress("export", 0.0)
    encoder = Encoder(inputs)
    graph = export_graph(
        outcome.model.spec, outcome.correction, outcome.calibrator, len(encoder.float_names), len(encoder.id_names)
    )
    on_progress("proof", 0.1)
    proof = prove(graph, outcome.model, outcome.correction, outcome.calibrator, outcome.examples, outcome.seed)
    on_progress("publish", 0.8)
    manifest = Manifest(
        name="",
        version="",
        created_ms=provenance.created_ms,
        learner=outcome.learner,
        inputs=inputs,
        label=provenance.label,
        trained_on=TrainedOn(
            source=provenance.source,
            impressions=outcome.impressions,
            clicks=outcome.clicks,
            first_ms=outcome.first_ms,
            last_ms=outcome.last_ms,
            negative_sampling_rate=outcome.negative_rate,
            pending_impressions=provenance.pending_impressions,
        ),
        reference_position=provenance.reference_position,
        calibrator=described_calibrator(outcome.calibrator, encoder),
        metrics=outcome.metrics,
        seed=outcome.seed,
        parameters=outcome.model.parameters,
        core_sha256=core_sha256(graph),
        calibrator_sha256=calibrator_sha256(graph),
        proof=proof,
        files={},
        libraries={"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        better_than_base_rate=outcome.better_than_base_rate,
        suspicion=outcome.suspicion,
        challenge=challenge,
        importance=outcome.model.importance,
        click_delay=provenance.click_delay,
        search=provenance.search,
        continued=provenance.continued,
    )
    files = {
        GRAPH: graph,
        GOLDEN: _golden(graph, outcome).to_bytes(),
        "reference.json": msgspec.json.encode(outcome.reference),
    }
    if isinstance(outcome.model, UpdatableModel):
        files[LEARNER_STATE] = outcome.model.state()

    def card(named: Manifest) -> dict[str, bytes]:
        return render_card(
            CardFacts(
                manifest=named,
                reliability=outcome.reliability,
                base_rate_entropy=outcome.base_rate_entropy,
                coverage=outcome.reference.coverage(),
            )
        )

    published = registry.publish(manifest, files, card, gate)
    on_progress("published", 1.0)
    return published


def described_calibrator(calibrator: CalibratorMap, encoder: Encoder) -> Calibrator:
    """A calibrator as the manifest tells of it."""
    lines = calibrator.segments
    if lines is None:
        return Calibrator(calibrator.kind, calibrator.fitted_on, calibrator.clicks)
    each = zip(lines.fitted_on, lines.clicks, lines.scales.tolist(), lines.shifts.tolist(), strict=True)
    segments = tuple(Segment(number, *line) for number, line in enumerate(each) if line[0] > 0)
    name = encoder.float_names[lines.column]
    return Calibrator(calibrator.kind, calibrator.fitted_on, calibrator.clicks, name, segments)


def _golden(graph: bytes, outcome: TrainOutcome) -> Golden:
    """Rows of all kinds with the graph's own answers."""
    random = random_stream(outcome.seed, "golden rows")
    jumps = jump_rows(outcome.examples, outcome.model.spec, random, outcome.calibrator.segments)
    chosen = np.sort(random.permutation(len(jumps.features))[:GOLDEN_ROWS])
    kinds = (
        Encoded(outcome.examples.features[:GOLDEN_ROWS], outcome.examples.ids[:GOLDEN_ROWS]),
        random_rows(outcome.examples, outcome.model.spec, GOLDEN_ROWS, random),
        Encoded(jumps.features[chosen], jumps.ids[chosen]),
    )
    rows = stacked(kinds)
    scores = GenericPlan(graph).score(rows.features, rows.ids)
    if not np.isfinite(scores.p_click).all():
        raise ExportError("the graph answers rows of its own training data with NaN; report this model's data")
    return Golden(rows.features, rows.ids, scores.raw_logit, scores.p_click)
