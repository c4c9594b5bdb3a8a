"""The tutorial baseline: what one finds when one searches for "serve a click model with FastAPI and Redis".

Pydantic models both ways, a plain `def` route, one HGETALL per entity through redis-py, text to float to list, and
LightGBM's `predict`. Nothing is slowed down on purpose; each step is the one that tutorials show. Its rows are Redis
hashes of its own, written from the workload's feature values at the first start.
"""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
import numpy.typing as npt
import redis
from fastapi import FastAPI
from pydantic import BaseModel, Field

from loadtest.baselines.facts import Baseline, feature_values
from loadtest.baselines.serving import CannotServe, Given, run, serve_asgi

NAME = "tutorial"
ENTITIES_PER_PIPELINE = 1_000


class RankRequest(BaseModel):
    """A request."""

    user_id: str
    candidates: list[str] = Field(min_length=1, max_length=1_000)
    context: dict[str, float] = {}


class Result(BaseModel):
    """One candidate."""

    ad_id: str
    p_click: float


class RankResponse(BaseModel):
    """The candidates, best first."""

    results: list[Result]


class FeatureStore:
    """Features of users and ads as Redis hashes: `tutorial:<project>:u5` → {"f0": "0.123", …}."""

    def __init__(self, baseline: Baseline) -> None:
        self._redis = redis.Redis.from_url(baseline.redis_url, decode_responses=True)
        self._prefix = f"tutorial:{baseline.project}:"
        self._loaded = f"{self._prefix}@loaded"

    def load(self, baseline: Baseline, folder: Path) -> None:
        """Writes all hashes, unless they are there."""
        if self._redis.exists(self._loaded):
            return
        users, ads = feature_values(folder, baseline)
        self._load(baseline.users.id_prefix, users)
        self._load(baseline.ads.id_prefix, ads)
        self._redis.set(self._loaded, 1)

    def features(self, entity_id: str, n: int) -> list[float]:
        """The n numbers of an entity; NaN where they are not stored."""
        stored: dict[str, str] = self._redis.hgetall(self._prefix + entity_id)  # type: ignore[assignment]
        return [float(stored.get(f"f{i}", "nan")) for i in range(n)]

    def _load(self, id_prefix: str, values: npt.NDArray[np.float32]) -> None:
        for start in range(0, len(values), ENTITIES_PER_PIPELINE):
            pipeline = self._redis.pipeline(transaction=False)
            for number, row in enumerate(values[start : start + ENTITIES_PER_PIPELINE].tolist(), start):
                pipeline.hset(f"{self._prefix}{id_prefix}{number}", mapping={f"f{i}": x for i, x in enumerate(row)})
            pipeline.execute()


def build_app(folder: Path, baseline: Baseline) -> FastAPI:
    """The application.

    Raises:
        CannotServe: the model is none of LightGBM's, or Redis is down.
    """
    if baseline.files.lightgbm is None:
        raise CannotServe(f"the workload's model is {baseline.learner}; this baseline serves LightGBM models only")
    model = lightgbm.Booster(model_file=str(folder / baseline.files.lightgbm))
    store = FeatureStore(baseline)
    try:
        store.load(baseline, folder)
    except redis.RedisError as error:
        raise CannotServe(
            f"Redis at {baseline.redis_url}: {error}; start the server that holds the workload"
        ) from error
    app = FastAPI()

    @app.post("/v1/rank")
    def rank(request: RankRequest) -> RankResponse:
        user = store.features(request.user_id, baseline.users.n_float)
        context = [request.context.get(key, float("nan")) for key in baseline.context]
        rows = [user + store.features(ad_id, baseline.ads.n_float) + context for ad_id in request.candidates]
        margins = model.predict(np.array(rows), raw_score=True, num_threads=1)
        p_clicks = baseline.calibration.p_click(np.asarray(margins))
        results = [Result(ad_id=ad_id, p_click=p) for ad_id, p in zip(request.candidates, p_clicks, strict=True)]
        results.sort(key=lambda result: result.p_click, reverse=True)
        return RankResponse(results=results)

    return app


def serve(given: Given) -> None:
    """Serves until a signal."""
    serve_asgi(NAME, build_app(given.folder, given.baseline), given.port)


if __name__ == "__main__":
    run(NAME, "Pydantic, one HGETALL per entity and LightGBM, as tutorials write it.", serve)
