"""The two use cases: a body in, an answer out, with the time that every stage took.

Knows no HTTP: the hot path around it reads bytes and sends bytes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import UNSET, Struct, UnsetType

from service.deadline import Deadline
from service.explaining import Explaining, check_explainable
from service.knowledge import in_order
from service.model_slots import ModelSlots, ServedModel
from service.rank_form import JSON, RankForm, Ranking
from service.ranking import ranked
from service.scoring import Scored, Scoring
from service.served_log.buffer import ServedRequest
from service.served_log.log import ServedLog
from service.telemetry import Reals, Telemetry
from service.wire import (
    FeatureCounts,
    ModelReference,
    PredictAnswer,
    Prediction,
    encode,
    predict_request,
)


class Answer(Struct, frozen=True):
    """What goes back to the caller."""

    body: bytes
    model_version: str
    server_timing: str
    """Value of the `Server-Timing` header, milliseconds."""
    content_type: bytes


class Answering:
    """Parses, scores, ranks and shapes."""

    def __init__(
        self,
        slots: ModelSlots,
        scoring: Scoring,
        explaining: Explaining,
        telemetry: Telemetry,
        max_candidates: int,
        served_log: ServedLog | None = None,
    ) -> None:
        """What is answered goes to `served_log`, where there is one."""
        self._served_log = served_log
        self._slots = slots
        self._scoring = scoring
        self._explaining = explaining
        self._telemetry = telemetry
        self._max_candidates = max_candidates

    async def rank(
        self, asked: RankForm, answered: RankForm, body: bytes | bytearray, deadline: Deadline, request_id: str
    ) -> Answer:
        """Answers `/v1/rank`, asked in one form, in another. Raises RequestError, or DeadlinePassed."""
        started_s = time.perf_counter()
        request = asked.read(body, self._max_candidates)
        model = self._slots.get(request.model)
        if request.explain:
            check_explainable(model, answered.explains)
        parsed_s = time.perf_counter()
        scored = await self._scoring.rank(model, request, deadline)
        scored_s = time.perf_counter()
        raw_logit, p_click = scored.scores
        value = p_click if request.bids is None else p_click * request.bids[: len(p_click)]
        order = ranked(value, raw_logit, scored.n, request.top_k)
        ranked_s = time.perf_counter()
        explanations = None
        if request.explain:
            each = [request.context] * len(order)
            explanations = await self._explaining.explain(model, scored, order, each, deadline)
            scored = _with_code_of(scored, explanations)
            # Beside the stages of a ranking, not among them.
            took_s = time.perf_counter() - ranked_s
            scored_s, ranked_s = scored_s + took_s, ranked_s + took_s
        ranking = Ranking(
            request_id,
            _reference(model),
            request.ad_ids,
            order,
            p_click,
            None if request.bids is None else value,
            scored.degraded,
            scored.knowledge,
            explanations,
        )
        written = answered.write(ranking)
        if self._served_log is not None and self._served_log.wants(request_id):
            seen = scored.pairs.ads.positions()
            users, contexts = (request.user_id,), (request.context,)
            self._served_log.add(
                ServedRequest("rank", request_id, model, seen, users, request.ad_ids, contexts, scored, order)
            )
        return self._answer(model, scored, written, started_s, parsed_s, scored_s, ranked_s, answered.content_type)

    async def predict(self, body: bytes | bytearray, deadline: Deadline, request_id: str) -> Answer:
        """Answers `/v1/predict`. Raises as `rank` does."""
        started_s = time.perf_counter()
        request = predict_request(body, self._max_candidates)
        model = self._slots.get(request.model)
        if request.explain:
            check_explainable(model, JSON.explains)
        parsed_s = time.perf_counter()
        scored = await self._scoring.predict(model, request, deadline)
        scored_s = time.perf_counter()
        own_codes = scored.knowledge.own_codes
        explanations: Sequence[msgspec.Raw | UnsetType | None] = [UNSET] * scored.n
        if request.explain:
            found = await self._explaining.explain(model, scored, np.arange(scored.n), request.contexts, deadline)
            scored, explanations = _with_code_of(scored, found), found
            scored_s = time.perf_counter()  # beside the stages of a prediction, not among them
        predictions = [
            Prediction(p_click, own_codes.get(i, UNSET), explanations[i])  # type: ignore[arg-type]
            for i, p_click in enumerate(_with_gaps(scored.scores.p_click, scored.n))
        ]
        answer = encode(PredictAnswer(request_id, _reference(model), predictions, scored.degraded, _counts(scored)))
        if self._served_log is not None and self._served_log.wants(request_id):
            seen = scored.pairs.ads.positions()
            users, ads, contexts = request.user_ids, request.ad_ids, request.contexts
            self._served_log.add(ServedRequest("predict", request_id, model, seen, users, ads, contexts, scored, None))
        return self._answer(model, scored, answer, started_s, parsed_s, scored_s, scored_s, JSON.content_type)

    def _answer(
        self,
        model: ServedModel,
        scored: Scored,
        body: bytes,
        started_s: float,
        parsed_s: float,
        scored_s: float,
        ranked_s: float,
        content_type: bytes,
    ) -> Answer:
        """Counts what happened and closes the books on time."""
        ended_s = time.perf_counter()
        telemetry = self._telemetry
        telemetry.stages(
            (
                parsed_s - started_s,
                scored.features_s,
                scored.assemble_s,
                scored.model_s,
                ranked_s - scored_s,
                ended_s - ranked_s,
            )
        )
        telemetry.scored(model.name, scored.scores.p_click)
        telemetry.degraded(scored.degraded)
        server_timing = (
            f"features;dur={scored.features_s * 1000:.3f}, assemble;dur={scored.assemble_s * 1000:.3f}, "
            f"model;dur={scored.model_s * 1000:.3f}, total;dur={(ended_s - started_s) * 1000:.3f}"
        )
        return Answer(body, model.version, server_timing, content_type)


def _reference(model: ServedModel) -> ModelReference:
    return ModelReference(model.name, model.version, model.variant)


def _counts(scored: Scored) -> FeatureCounts:
    known = scored.knowledge
    return FeatureCounts(missing=known.missing, stale=known.stale, age_ms_max=known.age_ms_max)


def _with_code_of(scored: Scored, explanations: Sequence[msgspec.Raw | None]) -> Scored:
    """With the code of an answer that time cut short, where an explanation is not there."""
    if None not in explanations:
        return scored
    return msgspec.structs.replace(scored, degraded=in_order([*scored.degraded, "deadline_partial"]))


def _with_gaps(values: Reals, n: int) -> list[float | None]:
    """n numbers, null where the deadline came first."""
    numbers: list[float | None] = values.tolist()
    return numbers + [None] * (n - len(numbers))
