"""What a foreign server knows of the workload: `baseline.json`, as `clickserve bench serve-workload` wrote it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from loadtest.errors import WorkloadError

FILE = "baseline.json"


class ModelName(msgspec.Struct, frozen=True):
    """The model as our own service names it."""

    name: str
    version: str


class Files(msgspec.Struct, frozen=True):
    """Paths from the workload's folder. lightgbm is None where the model is none of LightGBM's."""

    onnx: str
    features: str
    lightgbm: str | None


class Entity(msgspec.Struct, frozen=True):
    """Users or ads: ids `<id_prefix>0` to `<id_prefix><count - 1>`, and how their rows lie in Redis.

    The value of key `<key_head><id><key_tail>` is `header_bytes` of header, which holds the event time in ms as int64
    at byte 8, then `n_float` little-endian float32. `docs/redis-layout.md` has it all.
    """

    id_prefix: str
    count: int
    n_float: int
    key_head: str
    key_tail: str
    header_bytes: int
    ttl_ms: int


class Calibration(msgspec.Struct, frozen=True):
    """p = sigmoid(offset + slopes[0] x + sum over j of (slopes[j + 1] - slopes[j]) max(0, x - knots[j])), where x is
    the margin + correction. The ONNX graph holds it, LightGBM's model does not."""

    correction: float
    offset: float
    knots: list[float]
    slopes: list[float]

    def p_click(self, margin: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(n,) margins -> (n,) probabilities."""
        x = margin + self.correction
        log_odds = self.offset + self.slopes[0] * x
        for knot, change in zip(self.knots, np.diff(self.slopes), strict=True):
            log_odds = log_odds + change * np.maximum(0.0, x - knot)
        p: npt.NDArray[np.float64] = 1.0 / (1.0 + np.exp(-log_odds))
        return p


class Baseline(msgspec.Struct, frozen=True):
    """The content of the file. columns: names of the model's inputs, those of the user, then the ad, then context."""

    redis_url: str
    project: str
    learner: str
    model: ModelName
    files: Files
    columns: list[str]
    context: list[str]
    users: Entity
    ads: Entity
    calibration: Calibration


def read_baseline(folder: Path) -> Baseline:
    """Reads `baseline.json`.

    Raises:
        WorkloadError: it is not there, or not such a file.
    """
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Baseline)
    except OSError as error:
        raise WorkloadError(
            f"{path} cannot be read ({error.strerror}); make it with: clickserve bench serve-workload --dir {folder}"
        ) from error
    except msgspec.DecodeError as error:
        raise WorkloadError(f"{path}: {error}") from error


def feature_values(folder: Path, baseline: Baseline) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(users, 20) and (ads, 16) float32: row i belongs to the entity with number i."""
    with np.load(folder / baseline.files.features) as arrays:
        return arrays["users"], arrays["ads"]
