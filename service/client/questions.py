"""What the clients can ask: the routes that they know, what goes there, and how the answer is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from service.client.answers import ModelsAnswer, PredictAnswer, RankAnswer, ReadyAnswer
from service.client.requests import Candidates, Context, EntityId, Instance, predict_body, rank_body

T = TypeVar("T")

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
"""As the service takes it (`service/request_id.py`)."""


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """A request, for as many attempts as it takes, and how its answer is read."""

    method: str
    path: str
    decoder: msgspec.json.Decoder[T]
    body: bytes | None = None
    headers: Mapping[str, str] | None = None
    deadline_ms: float | None = None
    """What the caller gives the whole call, and tells the service of."""
    also_answers: tuple[int, ...] = ()
    """Statuses beside 200 that carry an answer and no problem."""


_RANK = msgspec.json.Decoder(RankAnswer)
_PREDICT = msgspec.json.Decoder(PredictAnswer)
_MODELS = msgspec.json.Decoder(ModelsAnswer)
_READY = msgspec.json.Decoder(ReadyAnswer)

MODELS = Question("GET", "/v1/models", _MODELS)
READY = Question("GET", "/readyz", _READY, also_answers=(503,))


def rank(
    user_id: EntityId | None,
    candidates: Candidates,
    *,
    context: Context | None,
    top_k: int | None,
    model: str | None,
    explain: bool,
    deadline_ms: float | None,
    request_id: str | None,
) -> Question[RankAnswer]:
    """`POST /v1/rank`."""
    body = rank_body(user_id, candidates, context, top_k, model, explain)
    return Question("POST", "/v1/rank", _RANK, body, _named(request_id), deadline_ms)


def predict(
    instances: Iterable[Instance],
    *,
    model: str | None,
    explain: bool,
    deadline_ms: float | None,
    request_id: str | None,
) -> Question[PredictAnswer]:
    """`POST /v1/predict`."""
    body = predict_body(instances, model, explain)
    return Question("POST", "/v1/predict", _PREDICT, body, _named(request_id), deadline_ms)


def _named(request_id: str | None) -> Mapping[str, str]:
    """Raises ValueError where the service would give the request another name, or none could be sent."""
    if request_id is None:
        return {}
    if not isinstance(request_id, str):
        raise TypeError(f"request_id: expected text, got {request_id!r} ({type(request_id).__name__})")
    if not _REQUEST_ID.fullmatch(request_id):
        raise ValueError(f"request_id: expected 1 to 128 visible ASCII characters without spaces, got {request_id!r}")
    return {"x-request-id": request_id}
