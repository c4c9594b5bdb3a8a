"""The workload's requests as ready-made matrices, for model servers that know nothing of users, ads and Redis.

They are spared the feature read and the assembly, and answer plain probabilities in the order of the rows: less work
than a ranking service does, so what they reach is an upper bound.

    mlserver   the Open Inference Protocol (V2), JSON
    bentoml    its own JSON
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from loadtest.baselines.facts import feature_values, read_baseline
from loadtest.workload import rank_bodies, read_workload

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class MatrixServer:
    """How one model server wants to be asked."""

    path: str
    encode: Callable[[Matrix], bytes]
    p_click: Callable[[bytes], Sequence[float]]
    """The probabilities in an answer, in the order of the matrix's rows."""


def _v2(matrix: Matrix) -> bytes:
    tensor = {"name": "features", "shape": list(matrix.shape), "datatype": "FP32", "data": _numbers(matrix.ravel())}
    return msgspec.json.encode({"inputs": [tensor]})


def _v2_answer(answer: bytes) -> list[float]:
    found: list[float] = msgspec.json.decode(answer)["outputs"][0]["data"]
    return found


def _bento(matrix: Matrix) -> bytes:
    return msgspec.json.encode({"features": [_numbers(row) for row in matrix]})


def _bento_answer(answer: bytes) -> list[float]:
    return msgspec.json.decode(answer, type=list[float])


def _numbers(values: Matrix) -> list[float]:
    """Each as the shortest decimal that is still the same float32: nobody is to parse digits that say nothing."""
    return [float(str(value)) for value in values]


SERVERS = {
    "mlserver": MatrixServer("/v2/models/ranker/infer", _v2, _v2_answer),
    "bentoml": MatrixServer("/rank", _bento, _bento_answer),
}


def matrices(folder: Path) -> list[Matrix]:
    """One (candidates, 40) float32 matrix for each body of `rank_bodies`, in the same order."""
    baseline = read_baseline(folder)
    users, ads = feature_values(folder, baseline)
    made = []
    for body in rank_bodies(read_workload(folder / "workload.json")):
        request: dict[str, Any] = msgspec.json.decode(body)
        user = users[_number(request["user_id"], baseline.users.id_prefix)]
        candidates = ads[[_number(ad_id, baseline.ads.id_prefix) for ad_id in request["candidates"]]]
        context = np.array([request["context"][key] for key in baseline.context], np.float32)
        n = len(candidates)
        made.append(np.hstack([np.tile(user, (n, 1)), candidates, np.tile(context, (n, 1))]))
    return made


def matrix_bodies(name: str, folder: Path) -> list[bytes]:
    """The workload's requests as that server wants them."""
    encode = SERVERS[name].encode
    return [encode(matrix) for matrix in matrices(folder)]


def _number(entity_id: str, prefix: str) -> int:
    return int(entity_id.removeprefix(prefix))
