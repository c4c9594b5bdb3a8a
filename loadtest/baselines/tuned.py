"""The tuned baseline: what an expert writes with FastAPI, Redis and ONNX Runtime, and the same answer as ours.

A `Request` route without validation models, msgspec both ways, uvloop, httptools and hiredis, which also packs the
commands, one MGET for the user and all candidates, `frombuffer` into one matrix that every request reuses, ONNX Runtime
with one thread and no spinning, called on the event loop because a thread hand-over costs more than it frees. Garbage
is frozen after start-up. It has no deadlines, metrics or admission, which makes it faster than anything one would
deploy.
"""

from __future__ import annotations

import itertools
import math
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

import hiredis
import numpy as np
from fastapi import FastAPI, Request, Response
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from loadtest.baselines.facts import Baseline
from loadtest.baselines.onnx_session import open_session
from loadtest.baselines.serving import Given, run, serve_asgi
from loadtest.baselines.tuned_rows import LATEST_MS, Read, Rows
from loadtest.baselines.tuned_wire import (
    MAX_CANDIDATES,
    Features,
    Model,
    RankAnswer,
    Refused,
    Result,
    decode,
    encode,
)

NAME = "tuned"
OUTPUTS = ["raw_logit", "p_click"]


class Connections:
    """Connections of redis-py, one for each request that reads, without its client, pool and packing of commands in
    Python, which together take as long as the command itself."""

    def __init__(self, url: str) -> None:
        self._pool = ConnectionPool.from_url(url, socket_timeout=None)
        self._idle: list[AbstractConnection] = []

    async def mget(self, keys: list[bytes]) -> list[bytes | None]:
        """The values of keys. Raises RedisError and OSError."""
        connection = self._idle.pop() if self._idle else self._pool.make_connection()
        await connection.send_packed_command(hiredis.pack_command((b"MGET", *keys)), check_health=False)
        values: list[bytes | None] = await connection.read_response()
        self._idle.append(connection)  # one that failed has been closed by redis-py, and is not used again
        return values


class Ranker:
    """Everything a request needs. One per process, used by one event loop."""

    def __init__(self, folder: Path, baseline: Baseline) -> None:
        self._session = open_session(folder)
        self._redis = Connections(baseline.redis_url)
        self._users, self._ads = Rows(baseline.users), Rows(baseline.ads)
        self._context = baseline.context
        self._known_context = frozenset(baseline.context)
        self._model = Model(baseline.model.name, baseline.model.version, "champion")
        self._matrix = np.empty((MAX_CANDIDATES, len(baseline.columns)), np.float32)
        self._ads_at = baseline.users.n_float
        self._context_at = self._ads_at + baseline.ads.n_float

    async def rank(self, body: bytes, request_id: str) -> bytes:
        """A body to an answer. Raises Refused."""
        request = decode(body)
        ids = request.ad_ids
        n = len(ids)
        degraded: list[str] = []
        values: list[bytes | None]
        try:
            values = await self._redis.mget(self._users.keys([request.user_id]) + self._ads.keys(ids))
        except (RedisError, OSError):
            values = [None] * (n + 1)
            degraded.append("store_down")
        # From here to the scores nothing awaits, so requests can share the matrix.
        now_ms = time.time_ns() // 1_000_000
        matrix = self._matrix[:n]
        user = self._users.into(matrix[:1, : self._ads_at], values[:1], now_ms)
        matrix[1:, : self._ads_at] = matrix[0, : self._ads_at]
        ads = self._ads.into(matrix[:, self._ads_at : self._context_at], values[1:], now_ms)
        context = [_number(request.context.get(key)) for key in self._context]
        matrix[:, self._context_at :] = context
        raw_logit, p_click = self._session.run(OUTPUTS, {"features": matrix})
        own = _own_codes(user, ads, degraded)
        if any(map(math.isnan, context)):
            degraded.append("context_missing")
        if not self._known_context.issuperset(request.context):
            degraded.append("context_unknown")
        order = np.lexsort((-raw_logit, -p_click))[: request.top_k].tolist()
        p = p_click.tolist()
        results = (
            [Result(ids[i], p[i], own[i]) if i in own else Result(ids[i], p[i]) for i in order]
            if own
            else [Result(ids[i], p[i]) for i in order]
        )
        oldest_ms = min(user.oldest_ms, ads.oldest_ms)
        features = Features(
            missing=len(user.missing) + len(ads.missing),
            stale=len(user.stale) + len(ads.stale),
            age_ms_max=None if oldest_ms == LATEST_MS else now_ms - oldest_ms,
        )
        return encode(RankAnswer(request_id, self._model, results, degraded, features))

    @property
    def version(self) -> str:
        """Of the model."""
        return self._model.version


def _number(value: object) -> float:
    """A context value as the model reads it; NaN is missing."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan


def _own_codes(user: Read, ads: Read, degraded: list[str]) -> dict[int, list[str]]:
    """Codes of single results, by place; those of the whole answer are added to `degraded`."""
    if not (user.missing or user.stale or ads.missing or ads.stale):
        return {}
    own: dict[int, list[str]] = {}
    for code, places in (("ad_missing", ads.missing), ("ad_stale", ads.stale)):
        for place in places:
            own.setdefault(place, []).append(code)
    found = {"user_missing": user.missing, "user_stale": user.stale, "ad_missing": ads.missing, "ad_stale": ads.stale}
    degraded.extend(code for code, places in found.items() if places)
    return own


def build_app(folder: Path, baseline: Baseline) -> FastAPI:
    """The application."""
    app = FastAPI(openapi_url=None)
    ranker = Ranker(folder, baseline)
    prefix, numbers = secrets.token_hex(6), itertools.count(1)

    async def rank(request: Request) -> Response:
        request_id = request.headers.get("x-request-id") or f"{prefix}-{next(numbers):x}"
        headers = {"x-request-id": request_id, "x-model-version": ranker.version}
        try:
            body = await ranker.rank(await request.body(), request_id)
        except Refused as error:
            return _problem(error, headers)
        return Response(body, media_type="application/json", headers=headers)

    app.add_route("/v1/rank", rank, ["POST"])  # no dependencies to solve, so without FastAPI's solving of them
    return app


def _problem(error: Refused, headers: Mapping[str, str]) -> Response:
    body = {"type": "about:blank", "status": error.status, "detail": str(error), "request_id": headers["x-request-id"]}
    return Response(encode(body), error.status, headers, media_type="application/problem+json")


def serve(given: Given) -> None:
    """Serves until a signal."""
    serve_asgi(NAME, build_app(given.folder, given.baseline), given.port)


if __name__ == "__main__":
    run(NAME, "FastAPI, msgspec, one MGET and ONNX Runtime, as an expert writes it.", serve)
