"""`clickserve recalibrate`: probabilities made true again without learning anything else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from service.commands.options import (
    calibrator_option,
    data_option,
    engine_option,
    features_option,
    json_option,
    name_option,
    registry_option,
    rows_option,
    workdir_option,
)
from service.console import Console, Screen, key_value_table
from service.rejected_rows import rejects_document, rejects_of, rejects_said

if TYPE_CHECKING:
    from feature_store.offline.engine import EngineName
    from models.calibrator import CalibratorChoice
    from models.registry.manifest import Interval, Recalibrated
    from models.registry.registry import Published


@click.command("recalibrate")
@data_option
@features_option
@engine_option
@rows_option
@registry_option
@name_option()
@click.option("--version", help="Which version's core; the champion's, or the newest, where absent.")
@calibrator_option
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Decides the bootstrap of the intervals."
)
@workdir_option
@json_option
def command(
    data: str,
    features_file: Path | None,
    engine: EngineName,
    rows: tuple[float, float],
    registry_dir: Path,
    name: str,
    version: str | None,
    calibrator: CalibratorChoice,
    seed: int,
    workdir: Path,
    as_json: bool,
) -> int:
    """Fit a new calibrator to clicks that came after a model's training, and publish both as a new version.

    The core stays as it is, to the bit: order within a segment does not change, and a running service keeps its tables.
    By itself it puts a line behind the calibrator that is there, and learns a new shape from 5 000 clicks on; a kind
    that you name is fitted anew.

    The newest fifth of the fresh impressions judges. Publishing is not gated: `clickserve models promote` is.
    """
    from models.registry.registry import Registry
    from service.training_jobs import read_frame, recalibrate_and_publish

    console = Console(json_only=as_json)
    registry = Registry(registry_dir, name)
    chosen = version or registry.champion() or registry.newest()
    with console.progress() as on_progress:
        frame = read_frame(data, features_file, workdir, on_progress, engine)
        with rejects_said(console, rejects_of(frame)) as rejected:
            published = recalibrate_and_publish(
                frame.part(*rows),
                registry=registry,
                version=chosen,
                choice=calibrator,
                source=data,
                seed=seed,
                on_progress=on_progress,
            )
    fresh = published.manifest.recalibrated
    assert fresh is not None
    document = _described(published, fresh) | rejects_document(rejected) | {"pending_impressions": frame.log.pending}
    console.result(document, lambda screen: _show(screen, published, fresh, calibrator, frame.log.pending_words()))
    return 0


def _described(published: Published, fresh: Recalibrated) -> dict[str, Any]:
    from service.measuring import figure

    manifest = published.manifest
    return {
        "name": manifest.name,
        "version": published.version,
        "path": str(published.path),
        "card": str(published.path / "card.html"),
        "champion": published.is_champion,
        "gate_passed": published.verdict.passed,
        "gate_reasons": list(published.verdict.reasons),
        "core_sha256": manifest.core_sha256,
        "calibrator": msgspec.to_builtins(manifest.calibrator),
        "recalibrated": msgspec.to_builtins(fresh),
        "challenge": msgspec.to_builtins(manifest.challenge),
        "before": {name: figure(interval) for name, interval in fresh.before.items()},
        "metrics": {name: figure(interval) for name, interval in manifest.figures.items()},
    }


def fitted_words(kind: str, fresh: Recalibrated, choice: CalibratorChoice) -> str:
    """What was fitted to the fresh clicks: the whole calibrator, or a line behind the map that was there."""
    from models.recalibration import MIN_CLICKS_SHAPE

    rows = f"fitted to {fresh.impressions:,} impressions with {fresh.clicks:,} clicks later than the training"
    if choice == "auto" and fresh.clicks < MIN_CLICKS_SHAPE and kind not in ("identity", "platt"):
        return f"the {kind} map of version {fresh.version} as it was; the line behind it is {rows}"
    return f"{kind}, nothing was {rows}" if kind == "identity" else f"{kind}, {rows}"


def _show(screen: Screen, published: Published, fresh: Recalibrated, choice: CalibratorChoice, pending: str) -> None:
    manifest = published.manifest
    judged = manifest.figures["normalized_entropy"]
    rows = {
        "model": f"{manifest.name} {published.version}, the core of {fresh.version}",
        "calibrator": fitted_words(manifest.calibrator.kind, fresh, choice),
        "judged on": f"the newest {judged.n:,} of them, with {judged.clicks:,} clicks, by a calibrator of the others",
    }
    for key, words in (("calibration_ratio", "promised / seen clicks"), ("normalized_entropy", "NE")):
        rows[words] = f"{_figure(fresh.before[key])} before, {_figure(manifest.figures[key])} now"
    if pending:
        rows["pending"] = pending
    if manifest.challenge is not None:
        rows["against champion"] = manifest.challenge.described()
    rows["next"] = "; ".join(published.verdict.reasons) or (
        f"clickserve models promote {published.version} puts it in front of traffic"
    )
    rows["model card"] = str(published.path / "card.html")
    screen.print(key_value_table("recalibrated", rows))


def _figure(interval: Interval) -> str:
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
