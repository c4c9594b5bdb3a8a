"""Models as strangers bring them: trained by other libraries, exported by their own converters.

Numbers are multiples of 1/256, so that midpoints between them are exact in float32: a converter that stores thresholds
in float32 then moves none of them across a value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.registry.predictor import Predictor

Float32s = npt.NDArray[np.float32]

N_COLUMNS = 6
LISTED = """
[project]
name = "mine"
[log]
user_id = "member"
ad_id = "banner"
[views.member]
entity = "user"
ttl = "30d"
from = "members.parquet"
key = "member"
[views.member.features]
age = {{ {default} }}
taste = {{ dtype = "float32[2]"{comma_default} }}
[views.banner]
entity = "ad"
ttl = "30d"
from = "banners.parquet"
key = "banner"
[views.banner.features]
price = {{ {default} }}
theme = {{ dtype = "id" }}
[context.hour]
{default}
[context.slot]
{default}
[model]
"""
"""Six numbers and a category that no graph reads."""
MATRIX = 'columns = ["banner.price", "member.taste", "context.hour", "member.age", "context.slot"]\n'


def listing(columns: str = MATRIX, *, default: float | None = None) -> str:
    """A features.toml with the columns of a graph; `default` for every number."""
    said = "" if default is None else f"default = {default}"
    return LISTED.format(default=said, comma_default=f", {said}" if said else "") + columns


def rows(n: int, seed: int, *, missing: float = 0.0) -> Float32s:
    """(n, 6) numbers, some of them missing."""
    random = np.random.default_rng(seed)
    matrix = (np.round(random.normal(size=(n, N_COLUMNS)) * 256) / 256).astype(np.float32)
    matrix[random.random(matrix.shape) < missing] = np.nan
    return matrix


def clicks(matrix: Float32s, seed: int) -> npt.NDArray[np.int64]:
    """Whether each row was clicked, by a curved rule; missing numbers count as 0."""
    known = np.nan_to_num(matrix)
    log_odds = -1 + known[:, 0] - 0.7 * known[:, 3] * known[:, 4] + np.abs(known[:, 1])
    return (np.random.default_rng(seed).random(len(matrix)) < 1 / (1 + np.exp(-log_odds))).astype(np.int64)


def answered(predictor: Predictor, original: Float32s, *, generic: bool = False) -> npt.NDArray[np.float64]:
    """p_click of rows whose columns are in the original's order, through the encoder's own."""
    origin = predictor.manifest.imported
    assert origin is not None
    names = [name for names in origin.columns.values() for name in names]
    features = np.full((len(original), len(predictor.encoder.float_names)), np.nan, dtype=np.float32)
    features[:, [predictor.encoder.float_names.index(name) for name in names]] = original
    ids = np.zeros((len(original), len(predictor.encoder.id_names)), dtype=np.int64)
    plan = predictor.generic if generic else predictor.plan
    return plan.score(features, ids).p_click


@dataclass(frozen=True, slots=True)
class Exported:
    """A trained classifier and its ONNX file."""

    content: bytes
    predict: Callable[[Float32s], npt.NDArray[np.float64]]
    """The trainer's own probability of class 1."""
    takes_missing: bool


def logistic(*, zipmap: bool | str = True) -> Exported:
    """`zipmap="columns"` gives each class an output of its own."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return _sklearn(make_pipeline(StandardScaler(), LogisticRegression()), zipmap, takes_missing=False)


def gradient_boosting(*, zipmap: bool = True) -> Exported:
    from sklearn.ensemble import GradientBoostingClassifier

    return _sklearn(GradientBoostingClassifier(n_estimators=60, random_state=1), zipmap, takes_missing=False)


def random_forest(*, zipmap: bool = True) -> Exported:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(n_estimators=30, max_depth=8, random_state=1)
    return _sklearn(model, zipmap, takes_missing=False)


def hist_gradient_boosting(*, zipmap: bool = True) -> Exported:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(max_iter=60, early_stopping=False, random_state=1)
    return _sklearn(model, zipmap, takes_missing=True)


def xgboost(*, zipmap: bool = False) -> Exported:
    """Its converter writes no ZipMap."""
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType
    from xgboost import XGBClassifier

    assert not zipmap
    model = _fitted(XGBClassifier(n_estimators=60, max_depth=5, n_jobs=1, random_state=1), takes_missing=True)
    graph = onnxmltools.convert_xgboost(model, initial_types=[("input", FloatTensorType([None, N_COLUMNS]))])
    return _exported(graph, model, takes_missing=True)


def lightgbm(*, zipmap: bool = True) -> Exported:
    import onnxmltools
    from lightgbm import LGBMClassifier
    from onnxmltools.convert.common.data_types import FloatTensorType

    model = _fitted(LGBMClassifier(n_estimators=60, n_jobs=1, verbose=-1, random_state=1), takes_missing=True)
    types = [("input", FloatTensorType([None, N_COLUMNS]))]
    return _exported(onnxmltools.convert_lightgbm(model, initial_types=types, zipmap=zipmap), model, takes_missing=True)


def catboost(folder: Path) -> Exported:
    """Raises ImportError where CatBoost is not installed; it is no dependency of ours."""
    from catboost import CatBoostClassifier

    model = _fitted(
        CatBoostClassifier(iterations=60, depth=5, verbose=0, allow_writing_files=False, thread_count=1),
        takes_missing=True,
    )
    model.save_model(str(folder / "catboost.onnx"), format="onnx")
    content = (folder / "catboost.onnx").read_bytes()
    return Exported(content, lambda matrix: model.predict_proba(matrix)[:, 1].astype(np.float64), takes_missing=True)


TRAINERS: dict[str, Callable[..., Exported]] = {
    "LogisticRegression": logistic,
    "GradientBoosting": gradient_boosting,
    "RandomForest": random_forest,
    "HistGradientBoosting": hist_gradient_boosting,
    "XGBoost": xgboost,
    "LightGBM": lightgbm,
}


def refused_graphs() -> dict[str, bytes]:
    """What nobody can serve as a probability of a click, as trainers export it, and a word of each reason."""
    import onnx
    from skl2onnx import to_onnx
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    matrix = rows(1_000, 3)
    raw = HistGradientBoostingClassifier(max_iter=20, early_stopping=False).fit(matrix, clicks(matrix, 4))
    several = LogisticRegression().fit(matrix, np.arange(len(matrix)) % 3)
    custom = onnx.ModelProto.FromString(logistic().content)
    custom.graph.node[0].domain = "acme"
    custom.opset_import.add(domain="acme", version=1)
    return {
        "a raw margin": to_onnx(raw, matrix[:1], options={"raw_scores": True, "zipmap": False}).SerializeToString(),
        "has 3 columns": to_onnx(several, matrix[:1]).SerializeToString(),
        "of a custom domain": custom.SerializeToString(),
    }


def _sklearn(model: Any, zipmap: bool | str, *, takes_missing: bool) -> Exported:
    from skl2onnx import to_onnx

    fitted = _fitted(model, takes_missing=takes_missing)
    graph = to_onnx(fitted, rows(1, 0), options=None if zipmap is True else {"zipmap": zipmap})
    return _exported(graph, fitted, takes_missing=takes_missing)


def _fitted(model: Any, *, takes_missing: bool) -> Any:
    matrix = rows(4_000, 1, missing=0.1 if takes_missing else 0.0)
    return model.fit(matrix, clicks(matrix, 2))


def _exported(graph: Any, model: Any, *, takes_missing: bool) -> Exported:
    return Exported(
        graph.SerializeToString(), lambda matrix: model.predict_proba(matrix)[:, 1].astype(np.float64), takes_missing
    )
