"""`clickserve train`: from a click log to a published, proven and calibrated model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from models.trainers import LEARNERS, STREAMED_LEARNERS, trainer_named
from service.commands.options import (
    FiniteRange,
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
    from models.registry.artifact import ModelArtifact
    from models.registry.registry import Published, Registry


MOST_SEARCH_MINUTES = 7 * 24 * 60
"""A week: whoever wants more runs the command again, which goes on where it ended."""


@click.command("train")
@data_option
@features_option
@engine_option
@rows_option
@click.option("--model", "learner", type=click.Choice(LEARNERS), default="gbdt", show_default=True)
@registry_option
@name_option("Under which name the model is served.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option(
    "--negative-rate",
    type=FiniteRange(0, 1, min_open=True),
    help="Share of the non-clicks to learn from; chosen by the size of the log where absent. At "
    "least 500 of the non-clicks of the first four fifths must remain.",
)
@calibrator_option
@click.option("--no-calibrator", "calibrator", flag_value="none", help="The same as --calibrator none.")
@click.option(
    "--correction/--no-correction",
    default=True,
    help="Whether to undo the sampling of non-clicks; without it probabilities are wrong, on purpose.",
)
@click.option(
    "--continue-from",
    "parent",
    metavar="VERSION",
    help="With --model ftrl: go on from this version, or from `champion`, with the rows that are newer than all it has "
    "learnt; --rows then names exactly which.",
)
@click.option(
    "--search",
    "search_minutes",
    type=FiniteRange(0, MOST_SEARCH_MINUTES, min_open=True),
    metavar="MINUTES",
    help="First look for better settings of the model, by held-out clicks of the first four fifths, for that long "
    "(at most a week); the same command again goes on where it was interrupted.",
)
@click.option(
    "--search-trials",
    type=click.IntRange(1),
    metavar="N",
    help="End the search after so many trials, alone or beside --search; the same seed and number choose the same.",
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
    calibrator: CalibratorChoice,
    correction: bool,
    parent: str | None,
    search_minutes: float | None,
    search_trials: int | None,
    workdir: Path,
    as_json: bool,
) -> int:
    """Train on a click log, calibrate, prove the ONNX graph and publish it; says so if it beats no base rate.

    ftrl streams: from a million impressions on the log need not fit into memory. two-tower and dcn need torch to train
    (requirements/deep.in), and nothing of it to be served.

    The newest fifth of the log judges the model. Publishing is not gated: `clickserve models promote` is.
    """
    from models.logs.doubts import doubts
    from models.registry.registry import Registry
    from models.search import Budget, check_searchable
    from models.training import TrainOptions
    from service.searching import search_settings
    from service.training_jobs import frame_to_learn, go_on_and_publish, train_and_publish

    options = TrainOptions(negative_rate=negative_rate, calibrator=calibrator, correct=correction)
    trainer = trainer_named(learner)  # a library that is missing is said before the log is read
    budget = None
    if search_minutes is not None or search_trials is not None:
        budget = Budget(None if search_minutes is None else 60 * search_minutes, search_trials)
        check_searchable(trainer)
    registry = Registry(registry_dir, name)
    registry.check_writable()
    artifact = None if parent is None else _to_go_on_from(parent, registry, learner, budget is not None)
    console = Console(json_only=as_json)
    with (
        console.progress() as on_progress,
        frame_to_learn(data, features_file, workdir, learner, on_progress, engine) as frame,
        rejects_said(console, rejects_of(frame)) as rejected,
    ):
        asked = frame.part(*rows)
        found = None
        if budget is not None:
            found = search_settings(
                asked,
                learner=learner,
                budget=budget,
                options=options,
                seed=seed,
                workdir=workdir,
                on_progress=on_progress,
            )
        if artifact is not None:
            published = go_on_and_publish(
                asked,
                artifact=artifact,
                registry=registry,
                source=data,
                options=options,
                seed=seed,
                exactly=rows != (0.0, 1.0),
                on_progress=on_progress,
            )
        else:
            published = train_and_publish(
                asked,
                learner=learner,
                registry=registry,
                source=data,
                options=options,
                seed=seed,
                on_progress=on_progress,
                found=found,
            )
        warnings = list(doubts(frame))
    for warning in warnings:
        console.say(f"warning: {warning}")
    told = {"warnings": warnings, "pending_impressions": frame.log.pending}
    document = described(published) | rejects_document(rejected) | told
    console.result(document, lambda screen: _show(screen, published, frame.log.pending_words()))
    return 0


def _to_go_on_from(parent: str, registry: Registry, learner: str, searched: bool) -> ModelArtifact:
    """The version that is named, if it can be gone on from; asked before minutes are spent on reading a log."""
    from models.continuing import check_state

    if learner not in STREAMED_LEARNERS:
        raise click.UsageError(
            f"--continue-from goes on with a learner that takes rows as they come; {learner} does not: say --model "
            f"{' or '.join(sorted(STREAMED_LEARNERS))}"
        )
    if searched:
        raise click.UsageError("--continue-from keeps the settings of its version, so there is nothing to --search")
    version: str | None = parent
    if parent == "champion" and (version := registry.champion()) is None:
        raise click.UsageError("--continue-from: the registry has no champion; name a version")
    assert version is not None
    artifact = registry.get(version)
    check_state(artifact)
    return artifact


def described(published: Published) -> dict[str, Any]:
    """What was published, as plain values."""
    from service.measuring import figure

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
        "continued": msgspec.to_builtins(manifest.continued),
        "search": msgspec.to_builtins(manifest.search),
        "calibrator": msgspec.to_builtins(manifest.calibrator),
        "suspicion": msgspec.to_builtins(manifest.suspicion),
        "metrics": {name: figure(interval) for name, interval in manifest.figures.items()},
        "proof": {
            "rows": manifest.proof.rows,
            "threshold_rows": manifest.proof.threshold_rows,
            "max_p_error": manifest.proof.max_p_error,
            "max_logit_error": manifest.proof.max_logit_error,
            "inversions": manifest.proof.inversions,
        },
    }


def _show(screen: Screen, published: Published, pending: str) -> None:
    manifest = published.manifest
    proof = manifest.proof
    entropy, area, ratio = (manifest.figures[name] for name in ("normalized_entropy", "auc", "calibration_ratio"))
    rows = {
        "model": f"{manifest.name} {published.version} ({manifest.learner})",
        "judged on": f"the newest {entropy.n:,} impressions with {entropy.clicks:,} clicks",
        "NE": f"{entropy.value:.4f} [{entropy.low:.4f}, {entropy.high:.4f}]; below 1 beats the mean click rate",
        "AUC": f"{area.value:.4f} [{area.low:.4f}, {area.high:.4f}]",
        "promised / seen clicks": f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]",
        "calibrator": f"{manifest.calibrator.kind}, {_fitted_to(manifest.calibrator.clicks)}",
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
    if manifest.continued is not None:
        rows["past"] = manifest.continued.described()
    if manifest.search is not None:
        rows["search"] = manifest.search.described()
    if manifest.suspicion is not None:
        rows["ALARM"] = manifest.suspicion.described()
    if not manifest.better_than_base_rate:
        rows["finding"] = "no better than the base rate: its interval of NE reaches 1"
    screen.print(key_value_table("published", rows))


def _fitted_to(clicks: int) -> str:
    return f"fitted to {clicks:,} clicks" if clicks else "nothing was fitted"


def _champion(published: Published) -> str:
    if published.is_champion:
        return "yes"
    if published.verdict.passed:
        return "no; clickserve models promote makes it champion"
    return "no; the gate refuses it, and clickserve models promote says why"
