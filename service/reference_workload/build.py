"""Builds the reference workload in a folder and its rows in Redis; what is built already is not built again.

    built.json      which parameters this folder was built with; written last
    features.toml   log/   registry/   lightgbm.txt   features.npz   made once
    clickserve.toml   workload.json   baseline.json                  written at every start: they name the Redis

A folder holds one workload. A build that was broken off leaves no `built.json` behind but `building.json`, and is made
anew. Rows are written again where the store does not hold all of them, a fresh Redis for instance.
Cost of W100: less than a minute, most of it training; about a second the next time.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from feature_store.definition import load_project
from feature_store.online.catalogue import RedisCatalogue
from models.registry.artifact import MANIFEST
from models.registry.manifest import Manifest
from models.registry.registry import Registry
from service.console import OnProgress
from service.errors import ServiceError
from service.reference_workload.facts import Calibration, write_baseline, write_workload
from service.reference_workload.parameters import WorkloadParameters, features_toml
from service.settings import Settings
from service.settings_origins import load_settings
from service.store_address import store_url

BUILT, BUILDING = "built.json", "building.json"
FEATURES_TOML, CONFIG = "features.toml", "clickserve.toml"
FEATURE_VALUES, LIGHTGBM_TEXT = "features.npz", "lightgbm.txt"
URL_NAMED_BY = "--redis or REDIS_URL"
"""What names the store of the commands that build a workload."""
MADE = ("log", "work", "registry")
"""Folders that a build makes anew; files are written over."""


class WorkloadError(ServiceError):
    """The folder cannot take this workload."""


class _Built(msgspec.Struct, frozen=True):
    """Content of `built.json`."""

    parameters: WorkloadParameters
    version: str
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class Place:
    """Where a workload is built: its folder, and the Redis for its rows (None: a server of the folder's own)."""

    folder: Path
    redis_url: str | None

    @property
    def config(self) -> Path:
        """What `clickserve serve --config` takes."""
        return self.folder / CONFIG


def build(place: Place, parameters: WorkloadParameters, n_candidates: int, on_progress: OnProgress) -> None:
    """Makes whatever of the workload is missing.

    Raises:
        WorkloadError: the folder holds something else, or the model did not become champion.
        StoreError: Redis failed.
    """
    folder = place.folder
    built = _read_built(folder)
    if built is None:
        built = _build_model(folder, parameters, on_progress)
    elif built.parameters != parameters:
        raise WorkloadError(
            f"{folder} holds another workload ({_shown(built.parameters)}, not {_shown(parameters)}); "
            "name another folder with --dir"
        )
    settings = _write_config(place)
    with store_url(settings) as url:
        _write_rows(folder, parameters, settings, url, on_progress)
        artifact = Path("registry") / "default" / built.version
        files = {
            "onnx": f"{artifact}/model.onnx",
            "lightgbm": LIGHTGBM_TEXT if parameters.learner == "gbdt" else None,
            "features": FEATURE_VALUES,
        }
        manifest = msgspec.json.decode((folder / artifact / MANIFEST).read_bytes(), type=Manifest)
        write_baseline(folder, parameters, url, manifest, built.calibration, files)
    write_workload(folder, parameters, n_candidates)


def _read_built(folder: Path) -> _Built | None:
    """What a finished build said of itself; None where the folder is empty or a build was broken off.

    Raises:
        WorkloadError: the folder has other content.
    """
    if (folder / BUILT).exists():
        try:
            return msgspec.json.decode((folder / BUILT).read_bytes(), type=_Built)
        except msgspec.DecodeError as error:
            raise WorkloadError(f"{folder / BUILT} cannot be understood ({error}); name another folder") from error
    if folder.exists() and any(folder.iterdir()) and not (folder / BUILDING).exists():
        raise WorkloadError(f"{folder} is not empty and holds no workload; name another folder with --dir")
    return None


def _build_model(folder: Path, parameters: WorkloadParameters, on_progress: OnProgress) -> _Built:
    """Log, training, proof, publication."""
    # Imported here: they load DuckDB, pyarrow and LightGBM, which a second start does not need.
    from service.reference_workload.synthetic_log import entities_of, write_log
    from service.reference_workload.training import train_and_publish

    folder.mkdir(parents=True, exist_ok=True)
    (folder / BUILDING).write_bytes(msgspec.json.encode(parameters))
    for name in MADE:
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / FEATURES_TOML).write_text(features_toml(parameters))
    on_progress("making the log", 0.0)
    entities = entities_of(parameters)
    np.savez(folder / FEATURE_VALUES, users=entities.users, ads=entities.ads)
    log = write_log(entities, parameters.seed, folder / "log")
    trained = train_and_publish(
        log, folder / FEATURES_TOML, folder / "work", Registry(folder / "registry"), parameters, on_progress
    )
    if not trained.published.is_champion:
        raise WorkloadError(f"the model is not fit to be served: {'; '.join(trained.published.verdict.reasons)}")
    if trained.lightgbm_text is not None:
        (folder / LIGHTGBM_TEXT).write_text(trained.lightgbm_text)
    built = _Built(parameters, trained.published.version, trained.calibration)
    (folder / BUILT).write_bytes(msgspec.json.format(msgspec.json.encode(built), indent=2) + b"\n")
    (folder / BUILDING).unlink()
    return built


def _write_config(place: Place) -> Settings:
    """A configuration whose paths are relative to itself, and the settings it makes without any environment."""
    url = msgspec.json.encode(place.redis_url).decode()  # text in quotes, as TOML writes it too
    redis = 'embedded_dir = "valkey"' if place.redis_url is None else f"url = {url}"
    place.config.write_text(
        "# Written by clickserve bench serve-workload. Serve it with: clickserve serve --config FILE\n"
        f"[redis]\n{redis}\n\n"
        '[registry]\ndir = "registry"\n\n'
        '[items]\nsnapshot_dir = "items"\n\n'
        "[admin]\nport = 0\n"
    )
    return load_settings(place.config, {}, {})


def _write_rows(
    folder: Path, parameters: WorkloadParameters, settings: Settings, url: str, on_progress: OnProgress
) -> None:
    """All rows, unless the store has them."""
    project = load_project(folder / FEATURES_TOML)
    wanted = {
        view.fingerprint: parameters.users if view.entity == "user" else parameters.ads for view in project.schema.views
    }
    catalogue = RedisCatalogue(url, parameters.project, named_by=URL_NAMED_BY)
    try:
        states = catalogue.states()
    finally:
        catalogue.close()
    stored = {state.fingerprint: state.rows for state in states if state.finished_ms is not None}
    if stored == wanted:
        return
    from service.materializing import materialize_views

    views = project.schema.views
    materialize_views(
        project,
        views,
        None,
        settings,
        time="now",
        workdir=folder / "work",
        on_progress=on_progress,
        url_named_by=URL_NAMED_BY,
    )


def _shown(parameters: WorkloadParameters) -> str:
    return ", ".join(f"{name} {value}" for name, value in msgspec.structs.asdict(parameters).items())
