"""From checked ids and context to click probabilities: the middle of every request.

The user's rows come from the store in one read, the ads' rows from the item table in process, the context with the
request; then the model scores all pairs. Nothing here fails because something is unknown, late or down: defaults stand
in and a code says so. Only time ends a request: candidates are scored in chunks, in the order of the request, and those
that the deadline overtakes stay without a score. Between chunks the event loop turns, so that a large request does not
hold up small ones.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from feature_store.clock import Clock
from feature_store.errors import StoreDown, StoreTimeout
from feature_store.online.store import OnlineStore
from models.encoder import Block, EncodedContext
from models.plans.plan import Scores
from service.deadline import Deadline
from service.entity_rows import EntityRows, stored_rows, table_rows, unknown_entities
from service.errors import DeadlinePassed, InvalidRequest
from service.knowledge import Knowledge, in_order, knowledge_of
from service.model_slots import ServedModel
from service.telemetry import Telemetry
from service.wire import DegradedCode, PredictRequest, RankRequest

logger = logging.getLogger(__name__)

CHUNK_ROWS = 128
"""Rows scored between two looks at the clock: large enough that a usual request is one call of the model."""


@dataclass(frozen=True, slots=True)
class Scored:
    """n candidates or instances, the first m of them scored in time."""

    n: int
    scores: Scores
    """(m,) raw_logit and p_click, finite."""
    degraded: list[DegradedCode]
    knowledge: Knowledge
    features_s: float
    assemble_s: float
    model_s: float


@dataclass(frozen=True, slots=True)
class _Pairs:
    """What n pairs are scored from. Users and context have n rows, or one that all pairs share."""

    n: int
    users: EntityRows
    ads: EntityRows
    context: EncodedContext
    user_is_shared: bool
    """Whether all pairs have one user by the request's nature: its missing row then is no pair's own."""
    store_code: DegradedCode | None
    """Why the store answered nothing; None where it answered, or was not asked."""


class Scoring:
    """Scores requests with any model; holds what all of them share."""

    def __init__(self, store: OnlineStore, *, features_ms: float, clock: Clock, telemetry: Telemetry) -> None:
        """`features_ms` bounds the read of the store, `clock` tells how old rows are."""
        self._store = store
        self._features_ms = features_ms
        self._clock = clock
        self._telemetry = telemetry

    async def rank(self, model: ServedModel, request: RankRequest, deadline: Deadline) -> Scored:
        """Scores one user against n ads.

        Raises:
            InvalidRequest: the model has features of users and the request names no user.
            DeadlinePassed: time was over before the first ad was scored.
        """
        if request.user_id is None and model.user_views:
            raise _unnamed(model, "user_id", "users")
        started_s = time.perf_counter()
        users, store_code = await self._users(model, [request.user_id or ""], deadline)
        read_s = time.perf_counter()
        pairs = _Pairs(
            n=len(request.ad_ids),
            users=users,
            ads=self._ads(model, request.ad_ids),
            context=model.predictor.encoder.encode_context(request.context),
            user_is_shared=True,
            store_code=store_code,
        )
        return await self._score(model, pairs, deadline, started_s, read_s)

    async def predict(self, model: ServedModel, request: PredictRequest, deadline: Deadline) -> Scored:
        """Scores n instances, each with its own user, ad and context. Raises as `rank` does."""
        n = len(request.contexts)
        user_ids = _named(model, request.user_ids, "user_id", "users") if model.user_views else [""]
        ad_ids = _named(model, request.ad_ids, "ad_id", "ads") if model.ad_views else [""] * n
        started_s = time.perf_counter()
        distinct = list(dict.fromkeys(user_ids))
        users, store_code = await self._users(model, distinct, deadline)
        read_s = time.perf_counter()
        place = {user_id: row for row, user_id in enumerate(distinct)}
        pairs = _Pairs(
            n=n,
            users=users.take(np.array([place[user_id] for user_id in user_ids], dtype=np.intp)),
            ads=self._ads(model, ad_ids),
            context=_stacked([model.predictor.encoder.encode_context(context) for context in request.contexts]),
            user_is_shared=False,
            store_code=store_code,
        )
        return await self._score(model, pairs, deadline, started_s, read_s)

    async def _users(
        self, model: ServedModel, user_ids: Sequence[str], deadline: Deadline
    ) -> tuple[EntityRows, DegradedCode | None]:
        """Rows of the users, or defaults and the code that says why."""
        if not model.user_views:
            return unknown_entities((), len(user_ids)), None
        timeout_ms = min(self._features_ms, deadline.remaining_ms())
        if timeout_ms <= 0:
            raise DeadlinePassed(deadline.total_ms)
        keys = [key for view_keys in model.user_keys for key in view_keys.rows(user_ids)]
        try:
            values = await self._store.get_many(keys, timeout_ms=timeout_ms)
        except StoreTimeout:
            return unknown_entities(model.user_views, len(user_ids)), "store_timeout"
        except StoreDown:
            return unknown_entities(model.user_views, len(user_ids)), "store_down"
        rows, damaged = stored_rows(model.user_views, values, self._clock())
        for error in damaged:
            self._telemetry.store_error("decode")
            logger.warning("a stored row cannot be read, defaults stand in", extra={"error": str(error)})
        return rows, None

    def _ads(self, model: ServedModel, ad_ids: Sequence[str]) -> EntityRows:
        if model.items is None:
            return unknown_entities((), len(ad_ids))
        return table_rows(model.items.table, ad_ids, self._clock())

    async def _score(
        self, model: ServedModel, pairs: _Pairs, deadline: Deadline, started_s: float, read_s: float
    ) -> Scored:
        now_ms = self._clock()
        knowledge = knowledge_of(
            pairs.users,
            pairs.ads,
            now_ms=now_ms,
            user_is_shared=pairs.user_is_shared,
            store_code=pairs.store_code,
        )
        self._observe(knowledge)
        codes = set(knowledge.codes)
        if pairs.context.missing:
            codes.add("context_missing")
        if pairs.context.unknown:
            codes.add("context_unknown")
        if model.items is not None and model.items.is_stale(now_ms):
            codes.add("items_stale")
        assembled_s = time.perf_counter()
        scores = await _score_chunks(model, pairs, deadline)
        if len(scores.p_click) < pairs.n:
            codes.add("deadline_partial")
        return Scored(
            n=pairs.n,
            scores=scores,
            degraded=in_order(codes),
            knowledge=knowledge,
            features_s=read_s - started_s,
            assemble_s=assembled_s - read_s,
            model_s=time.perf_counter() - assembled_s,
        )

    def _observe(self, knowledge: Knowledge) -> None:
        for view in knowledge.views:
            self._telemetry.feature_rows(view.view, "present", view.present)
            self._telemetry.feature_rows(view.view, "missing", view.missing)
            self._telemetry.feature_rows(view.view, "stale", view.stale)
            if view.age_ms is not None:
                self._telemetry.feature_age(view.view, view.age_ms / 1000)


async def _score_chunks(model: ServedModel, pairs: _Pairs, deadline: Deadline) -> Scores:
    """Scores of the first m pairs, as many as the deadline allows.

    Raises:
        DeadlinePassed: it allows none.
    """
    chunks: list[Scores] = []
    for start in range(0, pairs.n, CHUNK_ROWS):
        if start:
            await asyncio.sleep(0)
        if deadline.passed():
            break
        rows = slice(start, start + CHUNK_ROWS)
        chunks.append(
            model.predictor.score(
                _part(pairs.users.block, rows), _part(pairs.ads.block, rows), _part(pairs.context.block, rows)
            )
        )
    if not chunks:
        raise DeadlinePassed(deadline.total_ms)
    if len(chunks) == 1:
        return chunks[0]
    return Scores(
        np.concatenate([chunk.raw_logit for chunk in chunks]), np.concatenate([chunk.p_click for chunk in chunks])
    )


def _part(block: Block, rows: slice) -> Block:
    """These rows of a block; a block of one row is shared by all."""
    return block if len(block) == 1 else Block(block.floats[rows], block.ids[rows])


def _stacked(contexts: Sequence[EncodedContext]) -> EncodedContext:
    """Contexts of n instances as one block of n rows."""
    block = Block(
        np.concatenate([context.block.floats for context in contexts]),
        np.concatenate([context.block.ids for context in contexts]),
    )
    return EncodedContext(block, any(c.missing for c in contexts), any(c.unknown for c in contexts))


def _named(model: ServedModel, ids: Sequence[str | None], key: str, entities: str) -> list[str]:
    """The ids, all of which must be there."""
    named = [entity_id for entity_id in ids if entity_id is not None]
    if len(named) < len(ids):
        raise _unnamed(model, f"instances[{list(ids).index(None)}].{key}", entities)
    return named


def _unnamed(model: ServedModel, path: str, entities: str) -> InvalidRequest:
    return InvalidRequest(f"required, but missing: model {model.name!r} has features of {entities}", path)
