"""What others need to know of a built workload, as files: the requests, and everything that a foreign server needs.

`workload.json` is read by the load generators (`loadtest/workload.py` explains it). `baseline.json` is read by servers
that answer the same requests in another way: where rows lie and how, the model in ONNX and in LightGBM's own form, the
order of its columns, and the calibrator, which LightGBM's form lacks. Paths in it are relative to its folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from feature_store.online.codec import HEADER_BYTES
from feature_store.online.layout import ViewKeys
from models.calibrator import CalibratorMap
from models.encoder import Encoder, ModelInputs
from models.registry.files import write_over
from models.registry.manifest import Manifest
from service.reference_workload.parameters import (
    AD_PREFIX,
    CONTEXT_BOUND,
    CONTEXT_KEYS,
    USER_PREFIX,
    WorkloadParameters,
)

WORKLOAD, BASELINE = "workload.json", "baseline.json"


class Calibration(msgspec.Struct, frozen=True):
    """From a margin to a probability: sigmoid(map(margin + correction)), the map as in `models/calibrator.py`."""

    correction: float
    offset: float
    knots: list[float]
    slopes: list[float]

    @classmethod
    def of(cls, correction: float, calibrator: CalibratorMap) -> Calibration:
        """The same as plain numbers."""
        return cls(correction, float(calibrator.offset), calibrator.knots.tolist(), calibrator.slopes.tolist())


def write_workload(folder: Path, parameters: WorkloadParameters, n_candidates: int) -> None:
    """The requests: any user, candidates by popularity, uniform context."""
    requests = {
        "path": "/v1/rank",
        "n_candidates": n_candidates,
        "users": {"prefix": USER_PREFIX, "count": parameters.users},
        "ads": {"prefix": AD_PREFIX, "count": parameters.ads},
        "context": {key: {"low": -CONTEXT_BOUND, "high": CONTEXT_BOUND} for key in CONTEXT_KEYS},
        "seed": parameters.seed,
    }
    _write(folder / WORKLOAD, requests)


def write_baseline(
    folder: Path,
    parameters: WorkloadParameters,
    redis_url: str,
    manifest: Manifest,
    calibration: Calibration,
    files: Mapping[str, str | None],
) -> None:
    """Everything a foreign server needs; `files` are paths relative to the folder, by what they hold."""
    inputs = manifest.inputs
    encoder = Encoder(inputs)
    _write(
        folder / BASELINE,
        {
            "redis_url": redis_url,
            "project": parameters.project,
            "learner": manifest.learner,
            "model": {"name": manifest.name, "version": manifest.version},
            "files": dict(files),
            "columns": list(encoder.float_names),
            "context": list(CONTEXT_KEYS),
            "users": _entity(inputs, "user", USER_PREFIX, parameters.users),
            "ads": _entity(inputs, "ad", AD_PREFIX, parameters.ads),
            "calibration": msgspec.to_builtins(calibration),
        },
    )


def _entity(inputs: ModelInputs, entity: str, prefix: str, count: int) -> dict[str, Any]:
    """How one entity's rows lie in Redis: `docs/redis-layout.md` as data."""
    view = inputs.user_views[0] if entity == "user" else inputs.ad_views[0]
    head, _, tail = ViewKeys(inputs.project, view).row("*").decode().partition("*")
    return {
        "id_prefix": prefix,
        "count": count,
        "n_float": view.n_float,
        "key_head": head,
        "key_tail": tail,
        "header_bytes": HEADER_BYTES,
        "ttl_ms": view.ttl_ms,
    }


def _write(path: Path, content: object) -> None:
    write_over(path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
