"""The use case of `clickserve compare`: train every learner with every seed, and load what came out to be judged.

Each model is published in a registry of its own, `<out>/models/<learner>-s<seed>`, so that no model is held against
another one's champion. What was published is noted in a state file with the key of its making: rows, learner, settings,
seed, product version. A run that was interrupted, or asks for one more learner, trains only what is not there.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from models.comparing.figures import LeftOut, Trained
from models.comparing.judging import Scored
from models.errors import ExportError, ModelsError, ProofMissing, RegistryError, TrainingError
from models.evaluation.evaluate import score_frame
from models.logs.frame import TrainingFrame
from models.registry.artifact import GRAPH
from models.registry.files import write_over
from models.registry.gate import Gate, Verdict
from models.registry.manifest import Manifest
from models.registry.registry import Registry
from models.trainers import trainer_named
from models.training import TrainOptions
from service.console import OnProgress
from service.errors import SettingsError
from service.product_version import product_version
from service.training_jobs import train_and_publish

STATE = "compare-state.json"
"""What is published so far; a folder without it was not made by `compare` and is not touched."""

MODELS = "models"
"""Folder of the registries."""

TRAIN_SHARE = 0.8
"""Of the rows in time order; the rest judges."""


class _Made(msgspec.Struct):
    """A published model and the key of its making."""

    key: str
    trained: Trained


class MeasuredAnyway(Gate):
    """Lets every proven model be served for a measurement, the base rate too; nobody's traffic sees it."""

    def judge(self, candidate: Manifest, champion: Manifest | None) -> Verdict:
        """Always yes."""
        return Verdict(passed=True, reasons=())


def claim(out: Path) -> None:
    """Makes the folder ready, or refuses one that holds something else.

    Raises:
        SettingsError: it is not empty and was not made by `compare`.
    """
    if out.exists() and any(out.iterdir()) and not (out / STATE).exists():
        raise SettingsError(f"--out: {out} is not empty and was not made by compare; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    if not (out / STATE).exists():
        write_over(out / STATE, b"{}")


def train_ladder(
    frame: TrainingFrame,
    learners: Sequence[str],
    seeds: Sequence[int],
    *,
    source: str,
    out: Path,
    on_progress: OnProgress,
) -> tuple[dict[str, list[Trained]], list[LeftOut]]:
    """Every learner's models, one a seed; a learner that cannot take part is named with the reason.

    Raises:
        TrainingError: no learner can learn from these rows.
    """
    state = _read_state(out / STATE)
    rows = rows_digest(frame)
    ladder: dict[str, list[Trained]] = {}
    left_out = []
    for number, learner in enumerate(learners, start=1):
        try:
            settings = repr(trainer_named(learner))
        except (TrainingError, ImportError) as error:
            left_out.append(LeftOut(learner, _missing(error)))
            continue
        key = hashlib.sha256(f"{rows} {settings} {product_version()}".encode()).hexdigest()
        try:
            for seed in seeds:
                name = f"{learner}-s{seed}"
                made = state.get(name)
                folder = out / MODELS / name
                if made is None or made.key != key or not _sound(made.trained, out):
                    told = _titled(on_progress, f"{number}/{len(learners)} {learner} seed {seed}")
                    made = _Made(key, _train(frame, learner, seed, folder, source, told))
                    state[name] = made
                    write_over(out / STATE, msgspec.json.format(msgspec.json.encode(state)))
                ladder.setdefault(learner, []).append(made.trained)
        except (TrainingError, ExportError, ProofMissing) as error:
            ladder.pop(learner, None)
            left_out.append(LeftOut(learner, str(error)))
    if not ladder:
        raise TrainingError("no model could be trained: " + "; ".join(f"{e.learner}: {e.why}" for e in left_out))
    return ladder, left_out


def scored(
    ladder: dict[str, list[Trained]], frame: TrainingFrame, out: Path, on_progress: OnProgress
) -> dict[str, list[Scored]]:
    """What every model promises for the impressions that judge, asked as serving would ask it.

    Raises:
        RegistryError: a model is damaged.
    """
    total = sum(map(len, ladder.values()))
    found: dict[str, list[Scored]] = {}
    for learner, models in ladder.items():
        for trained in models:
            on_progress("scoring", sum(map(len, found.values())) / total)
            predictor = registry_of(trained, out).load(trained.version)
            p_click = score_frame(predictor, frame, slice(0, len(frame))).p_click
            found.setdefault(learner, []).append(Scored(trained, p_click))
    on_progress("scoring", 1.0)
    return found


def registry_of(trained: Trained, out: Path) -> Registry:
    """The registry that a model is alone in, with it as champion.

    Raises:
        RegistryError: the model is not there any more, or damaged.
    """
    registry = Registry(out / MODELS / f"{trained.learner}-s{trained.seed}")
    registry.promote(trained.version, MeasuredAnyway())
    return registry


def _sound(trained: Trained, out: Path) -> bool:
    """Whether a model that was published is still there as it was."""
    try:
        registry_of(trained, out)
        return True
    except RegistryError:
        return False


def rows_digest(frame: TrainingFrame) -> str:
    """SHA-256 of all that a learner can learn from these impressions."""
    digest = hashlib.sha256(msgspec.json.encode([(view.name, view.fingerprint) for view in frame.inputs.views]))
    digest.update(repr((frame.inputs.context, frame.inputs.pairs)).encode())
    arrays: list[np.ndarray] = [frame.time_ms, frame.clicked, frame.users.codes]
    for block in (frame.user, frame.ad, frame.context):
        arrays += [block.floats, block.ids]
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _train(
    frame: TrainingFrame, learner: str, seed: int, folder: Path, source: str, on_progress: OnProgress
) -> Trained:
    shutil.rmtree(folder, ignore_errors=True)  # of other rows or settings, or of a run that was interrupted
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    published = train_and_publish(
        frame,
        learner=learner,
        registry=Registry(folder),
        source=source,
        options=TrainOptions(),
        seed=seed,
        on_progress=on_progress,
    )
    return Trained(
        learner=learner,
        seed=seed,
        version=published.version,
        folder=str(published.path.relative_to(folder.parent.parent)),
        graph_bytes=(published.path / GRAPH).stat().st_size,
        wall_s=time.perf_counter() - wall_s,
        cpu_s=time.process_time() - cpu_s,
    )


def _read_state(path: Path) -> dict[str, _Made]:
    """What earlier runs published; nothing where that cannot be read, because training again is always right."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, _Made])
    except (OSError, msgspec.DecodeError):
        return {}


def _missing(error: Exception) -> str:
    if isinstance(error, ModelsError):
        return str(error)
    return f"its library is missing: pip install 'clickserve[train]' ({error})"


def _titled(on_progress: OnProgress, title: str) -> OnProgress:
    return lambda text, fraction: on_progress(f"{title}: {text}", fraction)
