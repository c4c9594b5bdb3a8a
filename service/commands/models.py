"""`clickserve models list | show | promote | import`: what is published, and which of it answers."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.table import Table

from service import exit_codes
from service.commands.options import Command, config_option, json_option, name_option
from service.console import Console, Screen, key_value_table

if TYPE_CHECKING:
    from models.registry.manifest import Manifest
    from models.registry.registry import Listed, Registry


def registry_options(command: Command) -> Command:
    """Where the published models are, and which of them is meant."""
    for option in (
        name_option(),
        click.option(
            "--registry", "registry_dir", type=click.Path(file_okay=False, path_type=Path), help="Published models."
        ),
        config_option,
    ):
        command = option(command)
    return command


@click.group("models")
def command() -> None:
    """List, show and promote published models; import one that was trained elsewhere."""


@command.command("list")
@registry_options
@json_option
def list_models(config_file: Path | None, registry_dir: Path | None, name: str, as_json: bool) -> None:
    """List the versions of a model, oldest first.

    Says in what state each is, and which is champion.
    """
    registry = _registry(config_file, registry_dir, name)
    champion = registry.champion()
    listing = registry.listing()
    document = {"name": name, "champion": champion, "versions": [_listed(entry) for entry in listing]}

    def show(screen: Screen) -> None:
        table = Table(box=None)
        for heading in ("version", "learner", "published", "NE [95 % interval]", "on", "", "state"):
            table.add_column(heading, overflow="fold")
        for entry in listing:
            role = "champion" if entry.version == champion else ""
            table.add_row(entry.version, *_shown(entry.manifest), role, entry.state)
        none = f"no model {name!r} in {registry.directory}; {registry.way_out_of_none()}"
        screen.print(table if listing else none)

    Console(json_only=as_json).result(document, show)


def _listed(entry: Listed) -> dict[str, Any]:
    """One version as plain values; what a damaged one would say of itself is left out."""
    manifest = entry.manifest
    known = (
        {}
        if manifest is None
        else {
            "learner": manifest.learner,
            "created_ms": manifest.created_ms,
            "normalized_entropy": msgspec.to_builtins(manifest.figures.get("normalized_entropy")),
            "better_than_base_rate": manifest.better_than_base_rate,
            "suspicious": manifest.suspicion is not None,
        }
    )
    return {"version": entry.version, "state": entry.state, **known}


def _shown(manifest: Manifest | None) -> tuple[str, str, str, str]:
    """Learner, time of publication, NE, and the impressions behind it."""
    if manifest is None:
        return "-", "-", "-", "-"
    published = datetime.fromtimestamp(manifest.created_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    entropy = manifest.figures.get("normalized_entropy")
    if entropy is None:
        return manifest.learner, published, "not measured", "-"
    return (
        manifest.learner,
        published,
        f"{entropy.value:.4f} [{entropy.low:.4f}, {entropy.high:.4f}]",
        f"{entropy.n:,} impressions",
    )


@command.command("show")
@registry_options
@click.argument("version", required=False)
@json_option
def show_model(
    config_file: Path | None, registry_dir: Path | None, name: str, version: str | None, as_json: bool
) -> None:
    """Verify every file of a version and show its manifest.

    The newest where no version is named.
    """
    registry = _registry(config_file, registry_dir, name)
    artifact = registry.get(version or registry.newest())
    manifest = artifact.manifest
    document: dict[str, Any] = msgspec.to_builtins(manifest)

    def show(screen: Screen) -> None:
        rows = {
            "learner": manifest.learner,
            "predicts": manifest.label.name,
            "trained on": _origin(manifest),
            "position": manifest.reference_position or "unknown",
            "calibrator": manifest.calibrator.kind,
            "views": ", ".join(f"{view.name} {view.fingerprint[:8]}" for view in manifest.inputs.views) or "none",
            "proof": "holds" if manifest.proof.holds else "does not hold",
            "model card": str(artifact.path / "card.html"),
        }
        judged = manifest.figures.get("normalized_entropy")
        rows["judged on"] = (
            "nothing yet: nobody has measured it here"
            if judged is None
            else f"{judged.n:,} later impressions with {judged.clicks:,} clicks [95 % intervals]"
        )
        rows |= {key: f"{m.value:.4f} [{m.low:.4f}, {m.high:.4f}]" for key, m in manifest.figures.items()}
        if manifest.challenge is not None:
            rows["against champion"] = manifest.challenge.described()
        if manifest.suspicion is not None:
            rows["ALARM"] = manifest.suspicion.described()
        screen.print(key_value_table(f"{manifest.name} {manifest.version}", rows))

    Console(json_only=as_json).result(document, show)


def _origin(manifest: Manifest) -> str:
    """What a model learnt from, as far as anybody knows."""
    if (log := manifest.trained_on) is not None:
        return f"{log.source}: {log.impressions:,} impressions with {log.clicks:,} clicks"
    return "unknown" if manifest.imported is None else f"unknown: imported from {manifest.imported.source}"


@command.command("promote")
@registry_options
@click.argument("version", required=False)
@click.option(
    "--accept-suspicious",
    is_flag=True,
    help="Promote also what looks too good to be true: you have looked, and nothing leaks.",
)
@click.option(
    "--accept-unmeasured",
    is_flag=True,
    help="Promote also an imported model that nobody has measured here: you vouch for it.",
)
@json_option
def promote(
    config_file: Path | None,
    registry_dir: Path | None,
    name: str,
    version: str | None,
    accept_suspicious: bool,
    accept_unmeasured: bool,
    as_json: bool,
) -> int:
    """Make a version champion, if the gate lets it.

    The newest where no version is named. Exit 3 if the gate does not.
    """
    from models.registry.gate import Gate

    registry = _registry(config_file, registry_dir, name)
    chosen = version or registry.newest()
    verdict = registry.promote(chosen, Gate(accept_suspicious=accept_suspicious, accept_unmeasured=accept_unmeasured))

    def show(screen: Screen) -> None:
        screen.print(f"{name} {chosen}: {'champion' if verdict.passed else 'refused by the gate'}")
        for line in verdict.reasons or ((verdict.comparison,) if verdict.comparison else ()):
            screen.print(f"  {line}")

    document = {
        "name": name,
        "version": chosen,
        "promoted": verdict.passed,
        "reasons": list(verdict.reasons),
        "comparison": verdict.comparison,
    }
    Console(json_only=as_json).result(document, show)
    return 0 if verdict.passed else exit_codes.GATE


@command.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--features",
    "features_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="features.toml with [model] columns: the features in the order in which the graph reads them.",
)
@click.option(
    "--probability",
    metavar="NAME[:COLUMN]",
    help="Which output is the probability of a click, and which column or class of it; needed where several could be.",
)
@registry_options
@json_option
def import_command(
    file: Path,
    features_file: Path,
    probability: str | None,
    config_file: Path | None,
    registry_dir: Path | None,
    name: str,
    as_json: bool,
) -> int:
    """Publish FILE, an ONNX classifier trained elsewhere.

    It gets our inputs and outputs and is proven equal to the original in ONNX Runtime before it is published.
    """
    from service.importing import import_model, shown_import

    registry = _registry(config_file, registry_dir, name)
    console = Console(json_only=as_json)
    with console.progress() as on_progress:
        done = import_model(file, features_file, probability, registry, on_progress)
    console.result(done.document(), lambda screen: shown_import(done, screen))
    return 0


def _registry(config_file: Path | None, registry_dir: Path | None, name: str) -> Registry:
    """The models of that name, where flag, environment or clickserve.toml say that they are."""
    from models.registry.registry import Registry
    from service.settings_origins import load_settings

    return Registry(load_settings(config_file, os.environ, {"registry.dir": registry_dir}).registry.dir, name)
