"""A workload made from a click log: what `demo` and `compare` send to the service that they measure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.registry.files import write_over

if TYPE_CHECKING:
    from models.logs.frame import TrainingFrame

N_CANDIDATES = 100
MAX_CONTEXT_VALUES = 50


def write_workload(frame: TrainingFrame, path: Path, seed: int) -> int:
    """Requests like the log's own: its users and ads by popularity, and the context values it has seen.

    Returns:
        Candidates of a request: 100, or all ads of a log that has fewer.
    """
    users, ads = _by_popularity(frame.users), _by_popularity(frame.ads)
    context: dict[str, object] = {}
    for feature in frame.inputs.context:
        name = feature.column or feature.name
        values = [value for value in frame.log.columns([name])[name].values if value is not None]
        if feature.dtype == "id":
            context[feature.name] = values[:MAX_CONTEXT_VALUES]
        else:
            context[feature.name] = {"low": float(min(values)), "high": float(max(values))}
    workload = {
        "path": "/v1/rank",
        "n_candidates": min(N_CANDIDATES, len(ads)),
        "users": {"ids": users},
        "ads": {"ids": ads},
        "context": context,
        "seed": seed,
    }
    write_over(path, f"{json.dumps(workload)}\n".encode())
    return min(N_CANDIDATES, len(ads))


def _by_popularity(entities: Any) -> list[str]:
    """Distinct ids of a factorised column, most frequent first."""
    counts = np.bincount(entities.codes[entities.codes >= 0], minlength=len(entities.values))
    return [entities.values[code] for code in np.argsort(-counts, kind="stable")]
