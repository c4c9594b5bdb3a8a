"""The hot routes as OpenAPI, since the framework does not see them; schemas come from the structs that are decoded.

`/docs` shows them beside the framework's own routes. A contract test holds real answers against what is said here.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from service.binary_frame import ANSWER_MEDIA, REQUEST_MEDIA
from service.http_errors import INTERNAL, KINDS, REFUSALS, Problem, ProblemKind
from service.wire import PredictAnswer, PredictBody, RankAnswer, RankBody

RANK_ROUTE = "/v1/rank"
PREDICT_ROUTE = "/v1/predict"

_MODEL = {"name": "default", "version": "v000001-3f9c2a71", "variant": "champion"}
_FEATURES = {"missing": 0, "stale": 0, "age_ms_max": 5_400_000}

_RANK_REQUESTS = {
    "ids": {
        "summary": "Order by click probability",
        "value": {
            "user_id": "u1",
            "candidates": ["a1", "a2", "a3"],
            "context": {"placement": "top", "device": "mobile", "hour": 13},
            "top_k": 2,
        },
    },
    "bids": {
        "summary": "Order by bid x p_click",
        "value": {"user_id": "u1", "candidates": [{"ad_id": "a1", "bid": 1.2}, {"ad_id": "a2", "bid": 0.4}]},
    },
    "why": {
        "summary": "Say which features made it so",
        "value": {"user_id": "u1", "candidates": ["a1", "a2", "a3"], "top_k": 1, "explain": True},
    },
}
_RANK_ANSWER = {
    "request_id": "5f2b9c-1",
    "model": _MODEL,
    "results": [{"ad_id": "a3", "p_click": 0.0312}, {"ad_id": "a1", "p_click": 0.0127, "degraded": ["ad_missing"]}],
    "degraded": ["ad_missing"],
    "features": {**_FEATURES, "missing": 1},
}
_EXPLAINED_ANSWER = {
    **_RANK_ANSWER,
    "results": [
        {
            "ad_id": "a3",
            "p_click": 0.0314,
            "explanation": {
                "baseline": -3.1,
                "baseline_p_click": 0.0099,
                "raw_logit": -1.93,
                "correction": -1.5,
                "contributions": [
                    {"feature": "ad_ctr.ctr_7d", "value": 0.041, "contribution": 1.4},
                    {"feature": "context.device", "value": "mobile", "contribution": -0.23},
                ],
            },
        }
    ],
    "degraded": [],
    "features": _FEATURES,
}
_PREDICT_REQUEST = {"instances": [{"user_id": "u1", "ad_id": "a1", "context": {"placement": "top"}}]}
_PREDICT_ANSWER = {
    "request_id": "5f2b9c-2",
    "model": _MODEL,
    "predictions": [{"p_click": 0.0127}],
    "degraded": [],
    "features": _FEATURES,
}
_WITH_EXPLAIN = (
    "With `explain` each result says what each feature added to its log-odds, in JSON alone; that takes milliseconds, "
    "and may take `deadline.explain_ms`."
)
_FRAME = {"type": "string", "format": "binary", "description": "Specified in `docs/binary-rank.md`."}
_REQUEST_HEADERS = {
    "X-Request-ID": "Name of the request in answers and logs: 1 to 128 visible ASCII characters; others are replaced.",
    "X-Deadline-Ms": "Milliseconds until the answer is worthless; can only shorten `deadline.total_ms`.",
    "traceparent": "W3C trace context; its trace id names the request where X-Request-ID is absent, and its sampled "
    "bit says whether the request is recorded, where the service exports traces.",
}
_ANSWER_HEADERS = {
    "X-Request-ID": "The request's name, the caller's or a new one.",
    "X-Model-Version": "Version of the model that answered.",
    "Server-Timing": "Milliseconds per stage: features, assemble, model, total.",
}


def with_hot_routes(document: dict[str, Any]) -> dict[str, Any]:
    """The framework's OpenAPI document, with `/v1/rank` and `/v1/predict` in it."""
    structs = (RankBody, RankAnswer, PredictBody, PredictAnswer, Problem)
    references, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    rank_body, rank_answer, predict_body, predict_answer, problem = references
    rank = _operation(
        "rank",
        "Which of these candidates will this user click?",
        "Best first: by `score` (bid x p_click) where bids were sent, else by `p_click`. Unknown users, ads and "
        "context keys, a slow or dead store are never errors: defaults stand in, and `degraded` says so. Callers who "
        f"count microseconds send frames as `{REQUEST_MEDIA}` and accept `{ANSWER_MEDIA}` (`docs/binary-rank.md`). "
        + _WITH_EXPLAIN,
        {**_json(rank_body, _RANK_REQUESTS), REQUEST_MEDIA: {"schema": _FRAME}},
        {
            **_json(rank_answer, {"answer": {"value": _RANK_ANSWER}, "why": {"value": _EXPLAINED_ANSWER}}),
            ANSWER_MEDIA: {"schema": _FRAME},
        },
        problem,
    )
    predict = _operation(
        "predict",
        "How likely is each of these clicks?",
        "Predictions in the order of the instances. `user_id` and `ad_id` are required where the model has features of "
        "users or ads. " + _WITH_EXPLAIN,
        _json(predict_body, {"one": {"value": _PREDICT_REQUEST}}),
        _json(predict_answer, {"answer": {"value": _PREDICT_ANSWER}}),
        problem,
    )
    known = document.get("components", {}).get("schemas", {})
    return {
        **document,
        "paths": {RANK_ROUTE: {"post": rank}, PREDICT_ROUTE: {"post": predict}, **document["paths"]},
        "components": {**document.get("components", {}), "schemas": {**known, **schemas}},
    }


def _operation(
    name: str, summary: str, description: str, body: dict[str, Any], answer: dict[str, Any], problem: dict[str, Any]
) -> dict[str, Any]:
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in _ANSWER_HEADERS.items()}
    return {
        "tags": ["ranking"],
        "operationId": name,
        "summary": summary,
        "description": description,
        "parameters": [
            {"name": header, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
            for header, text in _REQUEST_HEADERS.items()
        ],
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {"description": "Answered, perhaps degraded.", "headers": headers, "content": answer},
            **_problem_responses(problem),
        },
    }


def _problem_responses(schema: dict[str, Any]) -> dict[str, Any]:
    """One response per status, naming every kind of problem that has it."""
    by_status: dict[int, list[ProblemKind]] = defaultdict(list)
    for kind in (*KINDS.values(), INTERNAL, *REFUSALS):
        by_status[kind.status].append(kind)
    return {
        str(status): {
            "description": "; ".join(f"{kind.title} (`{kind.slug}`)" for kind in kinds),
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status, kinds in sorted(by_status.items())
    }


def _json(schema: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "examples": examples}}
