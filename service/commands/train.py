"""`clickserve train`: from a click log to a published, proven and calibrated model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.console import Console as RichConsole

from models.trainers import LEARNERS
from service.commands.options import (
    data_option,
    engine_option,
    features_option,
    json_option,
    registry_option,
    rows_option,
    workdir_option,
)
from service.console import Console, key_value_table
from service.rejected_rows import rejects_document, say_rejects

if TYPE_CHECKING:
    from feature_store.offline.engine import EngineName
    from models.registry.registry import Published


@click.command("train")
@data_option
@features_option
@engine_option
@rows_option
@click.option("--model", "learner", type=click.Choice(LEARNERS), default="gbdt", show_default=True)
@registry_option
@click.option("--name", default="default", show_default=True, help="Under which name the model is served.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--negative-rate",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the non-clicks to learn from; chosen by the size of the log where absent.",
)
@click.option("--calibrator/--no-calibrator", default=True, help="Whether to fit a calibrator.  [default: fit]")
@click.option(
    "--correction/--no-correction",
    default=True,
    help="Whether to undo the sampling of non-clicks; without it probabilities are wrong, on purpose.",
)
@workdir_option
@json_option
def command(
    data: str,
    features_file: Path | None,
    engine: EngineName,
    rows: tuple[float, float],
    learner: str,
    registry_dir: Path,
    name: str,
    seed: int,
    negative_rate: float | None,
    calibrator: bool,
    correction: bool,
    workdir: Path,
    as_json: bool,
) -> int:
    """Train on a click log, calibrate, prove the ONNX graph and publish it; says so if it beats no base rate.

    ftrl streams: from 200 000 impressions on the log need not fit into memory.

    The newest fifth of the log judges the model. Publishing is not gated: `clickserve models promote` is.
    """
    from models.logs.doubts import doubts
    from models.registry.registry import Registry
    from models.training import TrainOptions
    from service.jobs import frame_to_learn, train_and_publish

    console = Console(json_only=as_json)
    with (
        console.progress() as on_progress,
        frame_to_learn(data, features_file, workdir, learner, on_progress, engine) as frame,
    ):
        published = train_and_publish(
            frame.part(*rows),
            learner=learner,
            registry=Registry(registry_dir, name),
            source=data,
            options=TrainOptions(negative_rate=negative_rate, calibrate=calibrator, correct=correction),
            seed=seed,
            on_progress=on_progress,
        )
        warnings = list(doubts(frame))
    rejected = {"log": frame.log.rejects, **frame.table_rejects}
    say_rejects(console, rejected)
    for warning in warnings:
        console.say(f"warning: {warning}")
    told = {"warnings": warnings, "pending_impressions": frame.log.pending}
    document = described(published) | rejects_document(rejected) | told
    console.result(document, lambda screen: _show(screen, published, frame.log.pending_words()))
    return 0


def described(published: Published) -> dict[str, Any]:
    """What was published, as plain values."""
    from service.jobs import figure

    manifest = published.manifest
    return {
        "name": manifest.name,
        "version": published.version,
        "path": str(published.path),
        "card": str(published.path / "card.html"),
        "learner": manifest.learner,
        "champion": published.is_champion,
        "gate_passed": published.verdict.passed,
        "gate_reasons": list(published.verdict.reasons),
        "better_than_base_rate": manifest.better_than_base_rate,
        "challenge": msgspec.to_builtins(manifest.challenge),
        "label": msgspec.to_builtins(manifest.label),
        "click_delay": msgspec.to_builtins(manifest.click_delay),
        "suspicion": msgspec.to_builtins(manifest.suspicion),
        "metrics": {name: figure(interval) for name, interval in manifest.metrics.items()},
        "proof": {
            "rows": manifest.proof.rows,
            "threshold_rows": manifest.proof.threshold_rows,
            "max_p_error": manifest.proof.max_p_error,
            "max_logit_error": manifest.proof.max_logit_error,
            "inversions": manifest.proof.inversions,
        },
    }


def _show(screen: RichConsole, published: Published, pending: str) -> None:
    manifest = published.manifest
    proof = manifest.proof
    entropy, area, ratio = (manifest.metrics[name] for name in ("normalized_entropy", "auc", "calibration_ratio"))
    rows = {
        "model": f"{manifest.name} {published.version} ({manifest.learner})",
        "judged on": f"the newest {entropy.n:,} impressions with {entropy.clicks:,} clicks",
        "NE": f"{entropy.value:.4f} [{entropy.low:.4f}, {entropy.high:.4f}]; below 1 beats the mean click rate",
        "AUC": f"{area.value:.4f} [{area.low:.4f}, {area.high:.4f}]",
        "promised / seen clicks": f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]",
        "proof": f"|Δp| ≤ {proof.max_p_error:.1e} on {proof.rows + proof.threshold_rows:,} rows, "
        f"{proof.inversions} inversions",
        "champion": _champion(published),
        "model card": str(published.path / "card.html"),
    }
    if manifest.click_delay is not None:
        rows["label"] = f"{manifest.label.described()}; {manifest.click_delay.described()}"
    if pending:
        rows["pending"] = pending
    if manifest.challenge is not None:
        rows["against champion"] = manifest.challenge.described()
    if manifest.suspicion is not None:
        rows["ALARM"] = manifest.suspicion.described()
    if not manifest.better_than_base_rate:
        rows["finding"] = "no better than the base rate: its interval of NE reaches 1"
    screen.print(key_value_table("published", rows))


def _champion(published: Published) -> str:
    if published.is_champion:
        return "yes"
    if published.verdict.passed:
        return "no; clickserve models promote makes it champion"
    return "no; the gate refuses it, and clickserve models promote says why"
