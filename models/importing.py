"""Somebody else's ONNX model, published as one of ours: read, rewrapped, proven against the original.

    FILE.onnx + [model] columns  ->  our inputs and outputs  ->  proof  ->  registry

Where the graph ends in a sigmoid that can be seen, behind trees or a linear classifier, the model is written anew from
their own numbers: sums in double, the true margin as `raw_logit`, a score plan. Everything else keeps its operators
between our inputs and outputs, and ONNX Runtime serves it. Both are proven against the original, and one that fails its
proof is not published.

What nobody told us stays unknown: the manifest has no training log, no metrics and no importance, and no gate can judge
it; `clickserve recalibrate` and `clickserve evaluate` find out on a log.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from feature_store.project import Project
from models.calibrator import CalibratorMap
from models.encoder import Encoder, ModelInputs
from models.errors import ExportError, ImportRefused, PlanError
from models.evaluation.card import render_imported_card
from models.export.foreign_answer import Chosen, chosen_column, chosen_output, refuse_improbable
from models.export.foreign_graph import ForeignGraph
from models.export.foreign_missing import untaught_warning
from models.export.foreign_proof import (
    CutPoints,
    ProofRows,
    columns_that_must_be_known,
    example_rows,
    proof_rows,
    prove_import,
    refuse_dependent_rows,
)
from models.export.foreign_wiring import filled, wiring_of
from models.export.graph import calibrator_sha256, core_sha256, export_graph
from models.export.proof import stacked
from models.export.wrapping import Wiring, wrapped
from models.plans.foreign_source import cut_points, foreign_spec
from models.plans.generic import GenericPlan
from models.random_streams import random_stream
from models.registry.artifact import GOLDEN, GRAPH, Golden
from models.registry.gate import Gate
from models.registry.manifest import Calibrator, Imported, Label, Manifest, Proof
from models.registry.registry import Published, Registry
from models.specs import LinearSpec, TreeEnsembleSpec
from models.training import Progress

GOLDEN_ROWS = 128
"""Of each kind: without missing values, at random, at thresholds."""
SEED = 1
LIBRARIES = ("clickserve", "numpy", "onnx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class ImportedGraph:
    """A graph of ours that answers as the original does."""

    graph: bytes
    inputs: ModelInputs
    label: Label
    proof: Proof
    rows: ProofRows
    described: Imported
    warnings: tuple[str, ...]
    """What its owner should know though it is served truly."""


def import_graph(content: bytes, source: str, project: Project, asked: str | None, progress: Progress) -> ImportedGraph:
    """Reads a foreign graph, rewraps it and proves the result.

    Args:
        source: name of the file.
        asked: the output that holds the probability, as `NAME` or `NAME:COLUMN`; None where there is only one.
    Raises:
        ImportRefused: the graph is not run, answers no probability, or cannot be rewrapped faithfully.
        SchemaError: the project's `[model] columns` do not fit the graph.
    """
    progress("reading", 0.0)
    foreign = ForeignGraph(content)
    inputs = ModelInputs.of(project.schema)
    encoder = Encoder(inputs)
    wiring = wiring_of(foreign.inputs, project.graph_columns, encoder, project.origin)
    random = random_stream(SEED, "import")
    cuts = CutPoints(cut_points(foreign.content, wiring.columns))
    output, asked_column = chosen_output(foreign.outputs, foreign.other_outputs, asked)
    examples = example_rows(wiring, cuts, None, random)
    answers = foreign.answers(output, wiring.fed(examples.features))
    chosen = chosen_column(output, answers, asked_column)
    refuse_improbable(chosen, answers)
    wiring = filled(wiring, columns_that_must_be_known(foreign, chosen, wiring, examples), encoder, project.origin)
    untaught = untaught_warning(foreign.model, list(cuts.cuts), wiring, encoder)
    spec, why_not = _spec(foreign, chosen, wiring)
    examples = example_rows(wiring, cuts, spec if isinstance(spec, LinearSpec) else None, random)
    rows = proof_rows(examples, wiring, cuts, random)
    progress("proof", 0.2)
    refuse_dependent_rows(foreign, chosen, wiring, rows, random)
    graph, proof, form, why_not = _proven(foreign, chosen, wiring, spec, why_not, rows)
    progress("proof", 0.9)
    return ImportedGraph(
        graph=graph,
        inputs=inputs,
        label=Label(project.label.name, project.label.window_ms),
        proof=proof,
        rows=rows,
        described=Imported(
            source=source,
            sha256=hashlib.sha256(content).hexdigest(),
            producer=foreign.producer.described(),
            output=chosen.output,
            column=chosen.column,
            click_class=chosen.label,
            form=form,
            why_original=why_not,
            columns={
                each.name: tuple(encoder.float_names[place] for place in wiring.columns.positions[each.name])
                for each in wiring.inputs
            },
            filled={
                name: float(fill)
                for name, fill in zip(encoder.float_names, wiring.columns.fills, strict=True)
                if not np.isnan(fill)
            },
        ),
        warnings=() if untaught is None else (untaught,),
    )


def publish_imported(found: ImportedGraph, registry: Registry, gate: Gate, created_ms: int) -> Published:
    """Publishes; the gate cannot pass what was never measured, unless somebody vouches for it.

    Raises:
        ProofMissing: the proof does not hold.
        RegistryError: the registry cannot be written.
    """
    manifest = Manifest(
        name="",
        version="",
        created_ms=created_ms,
        learner=f"imported ({found.described.producer})",
        inputs=found.inputs,
        label=found.label,
        trained_on=None,
        reference_position=None,
        calibrator=Calibrator(kind="identity"),
        metrics=None,
        seed=None,
        parameters={},
        core_sha256=core_sha256(found.graph),
        calibrator_sha256=calibrator_sha256(found.graph),
        proof=found.proof,
        files={},
        libraries={"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        better_than_base_rate=None,
        imported=found.described,
    )
    files = {GRAPH: found.graph, GOLDEN: _golden(found).to_bytes()}
    return registry.publish(manifest, files, render_imported_card, gate)


def _spec(foreign: ForeignGraph, chosen: Chosen, wiring: Wiring) -> tuple[TreeEnsembleSpec | LinearSpec | None, str]:
    """The original's margin as a specification, or why there is none."""
    try:
        return foreign_spec(foreign.content, chosen.output, chosen.column, wiring.columns), ""
    except (PlanError, ValueError, IndexError) as error:
        return None, str(error)


def _proven(
    foreign: ForeignGraph,
    chosen: Chosen,
    wiring: Wiring,
    spec: TreeEnsembleSpec | LinearSpec | None,
    why_not: str,
    rows: ProofRows,
) -> tuple[bytes, Proof, str, str]:
    """The graph to serve, its proof, its form in a word, and why it keeps the original's operators where it does."""
    if spec is not None:
        try:
            graph = export_graph(spec, 0.0, CalibratorMap.identity(), len(wiring.columns.fills), wiring.columns.n_ids)
            proof = prove_import(graph, foreign, chosen, wiring, rows)
            if proof.holds:
                return graph, proof, "trees" if isinstance(spec, TreeEnsembleSpec) else "linear", ""
            why_not = f"written anew, it answers otherwise: {proof.described()}"
        except (ExportError, PlanError) as error:
            why_not = str(error)
    graph = wrapped(foreign, chosen, wiring)
    try:
        proof = prove_import(graph, foreign, chosen, wiring, rows)
    except PlanError as error:
        raise ImportRefused(f"rewrapped, {error}") from error
    return graph, proof, "original", why_not


def _golden(found: ImportedGraph) -> Golden:
    """Rows of all kinds with the graph's own answers."""
    rows = stacked(
        [
            type(part)(part.features[:GOLDEN_ROWS], part.ids[:GOLDEN_ROWS])
            for part in (found.rows.examples, found.rows.ordinary, found.rows.at_jumps)
        ]
    )
    scores = GenericPlan(found.graph).score(rows.features, rows.ids)
    return Golden(rows.features, rows.ids, scores.raw_logit, scores.p_click)
