"""`clickserve models import` as one call: a file from elsewhere becomes a published version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from feature_store.clock import system_clock
from feature_store.definition import load_project
from models.importing import import_graph, publish_imported
from models.registry.gate import Gate
from models.registry.predictor import Predictor
from models.registry.registry import Published, Registry
from service.console import OnProgress, Screen, key_value_table


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """A published import, and how it will be scored here."""

    published: Published
    plan: str
    why_generic: str | None
    """Why ONNX Runtime scores it; None where a plan does."""
    why_unexplained: str | None
    warnings: tuple[str, ...]
    """What its owner should know of missing numbers."""

    def document(self) -> dict[str, Any]:
        """All of it as plain values."""
        manifest = self.published.manifest
        proof = manifest.proof
        return {
            "name": manifest.name,
            "version": self.published.version,
            "path": str(self.published.path),
            "champion": self.published.is_champion,
            "gate_passed": self.published.verdict.passed,
            "gate_reasons": list(self.published.verdict.reasons),
            "imported": msgspec.to_builtins(manifest.imported),
            "plan": self.plan,
            "why_generic": self.why_generic,
            "why_unexplained": self.why_unexplained,
            "warnings": list(self.warnings),
            "proof": {
                "rows": proof.rows,
                "threshold_rows": proof.threshold_rows,
                "max_p_error": proof.max_p_error,
                "max_logit_error": proof.max_logit_error,
                "inversions": proof.inversions,
            },
        }


def import_model(
    file: Path, features_file: Path, probability: str | None, registry: Registry, on_progress: OnProgress
) -> ImportedModel:
    """Rewraps, proves and publishes an ONNX file.

    Raises:
        ImportRefused: see `models.importing.import_graph`.
        SchemaError: `features_file` cannot be read, or its columns do not fit the graph.
        ProofMissing, RegistryError: as `publish_imported`.
    """
    project = load_project(features_file)
    found = import_graph(file.read_bytes(), file.name, project, probability, on_progress)
    published = publish_imported(found, registry, Gate(), system_clock())
    predictor = Predictor(registry.get(published.version))
    on_progress("published", 1.0)
    return ImportedModel(
        published=published,
        plan=predictor.plan.name,
        why_generic=_why_generic(predictor, found.described.why_original),
        why_unexplained=predictor.unexplainable,
        warnings=found.warnings,
    )


def _why_generic(predictor: Predictor, why_original: str) -> str | None:
    if predictor.factorised is not None:
        return None
    return why_original or predictor.fallback


def shown_import(done: ImportedModel, screen: Screen) -> None:
    """The same for a person, and what to do next."""
    manifest = done.published.manifest
    proof, origin = manifest.proof, manifest.imported
    assert origin is not None
    named = f", class {origin.click_class}" if origin.click_class else f", column {origin.column}"
    rows = {
        "model": f"{manifest.name} {done.published.version}, from {origin.source} ({origin.producer})",
        "probability": f"output {origin.output}{named}",
        "proof": f"|Δp| ≤ {proof.max_p_error:.1e} against the original on {proof.rows + proof.threshold_rows:,} rows, "
        f"{proof.inversions} inversions",
        "scored by": done.plan,
    }
    if done.why_generic is not None:
        rows["because"] = f"{done.why_generic}; right, but slower than a plan"
    if done.why_unexplained is not None:
        rows["explanations"] = f"none: {done.why_unexplained}"
    missing = [f"{name} is taken as {value:g}" for name, value in origin.filled.items()]
    if missing or done.warnings:
        rows["missing numbers"] = "; ".join([*done.warnings, *([", ".join(missing)] if missing else [])])
    rows["unknown"] = "what it was trained on, how good it is, at which position; nobody has measured it here"
    rows["next"] = f"clickserve models promote {done.published.version} --accept-unmeasured puts it before traffic"
    rows["model card"] = str(done.published.path / "card.html")
    screen.print(key_value_table("imported", rows))
