"""From checked ids and context to click probabilities: the middle of every request.

The user's rows come from the store in one read, together with ads that the item table does not hold (all of them, where
no table is kept); other ads come from the table in process, the context with the request; then the model scores all
pairs. Nothing here fails because something is unknown, late or down: defaults stand in and a code says so. Only time
ends a request: where scoring takes long, candidates are scored in chunks, in the order of the request, and those that
the deadline overtakes stay without a score. Between chunks the event loop turns, so that a large request does not hold
up small ones.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from feature_store.clock import Clock
from feature_store.errors import CodecError, StoreDown, StoreTimeout
from feature_store.online.store import OnlineStore
from feature_store.rows import Times
from models.encoder import Block, Encoded, EncodedContext, Encoder
from models.plans.plan import Scores
from service.candidates import Candidates, GivenAds, StoredAds
from service.deadline import Deadline
from service.entity_rows import stored_row, stored_rows, unknown_entities
from service.errors import DeadlinePassed, InvalidRequest
from service.knowledge import Knowledge, Known, in_order, knowledge_of
from service.model_slots import ServedModel
from service.telemetry import Telemetry
from service.wire import DegradedCode, PredictRequest, RankRequest

logger = logging.getLogger(__name__)

NO_COLUMNS = Block(np.empty((1, 0), dtype=np.float32), np.empty((1, 0), dtype=np.uint32))
"""Of users, where the model has no features of users."""
NOBODY = Known(())

SILENCE_S = 1.0
"""Between two lines of the log on rows that cannot be read."""

Ads = Candidates | StoredAds | GivenAds
"""The ads of a request: found in the item table, read from the store, or without features."""


class Pairs(Struct, frozen=True):
    """What n pairs are scored from. Users and context have n rows, or one that all pairs share."""

    asked_ms: int
    """When the request was scored; ages are counted from here."""
    user: Block
    known_user: Known
    user_times: Times | None
    """(n, V) since when each row of a user holds, 0 where there is none; None where one user is shared, whose rows
    `known_user` describes."""
    ads: Ads
    context: EncodedContext
    store_code: DegradedCode | None
    """Why the store answered nothing; None where it answered, or was not asked."""

    @property
    def user_is_shared(self) -> bool:
        """Whether all pairs have one user by the request's nature: its missing row then is no pair's own."""
        return self.user_times is None

    def rows(self, encoder: Encoder, places: npt.NDArray[np.intp]) -> Encoded:
        """The model's matrices of the pairs at k places, k rows."""
        return encoder.encode(*(_rows_of(block, places) for block in (self.user, self.ads.block(), self.context.block)))


class Scored(Struct, frozen=True):
    """n candidates or instances, the first m of them scored in time."""

    n: int
    pairs: Pairs
    scores: Scores
    """(m,) raw_logit and p_click, finite."""
    degraded: list[DegradedCode]
    knowledge: Knowledge
    features_s: float
    assemble_s: float
    model_s: float


class Scoring:
    """Scores requests with any model; holds what all of them share."""

    def __init__(self, store: OnlineStore, *, features_ms: float, clock: Clock, telemetry: Telemetry) -> None:
        """`features_ms` bounds the read of the store, `clock` tells how old rows are."""
        self._store = store
        self._features_ms = features_ms
        self._clock = clock
        self._telemetry = telemetry
        self._silent_until_s = 0.0
        self._n_unsaid = 0
        """Damaged rows since the last line that told of one."""

    async def rank(self, model: ServedModel, request: RankRequest, deadline: Deadline) -> Scored:
        """Scores one user against n ads.

        Raises:
            InvalidRequest: the model has features of users and the request names no user.
            DeadlinePassed: time was over before the first ad was scored.
        """
        if request.user_id is None and model.user_views:
            raise _unnamed(model, "user_id", "users")
        started_s = time.perf_counter()
        now_ms = self._clock()
        ads = _candidates(model, request.ad_ids, now_ms)
        user_keys = [keys.row(request.user_id or "") for keys in model.user_keys]
        values, store_code = await self._read(model, user_keys, ads, request.ad_ids, deadline)
        read_s = time.perf_counter()
        user, known_user = NO_COLUMNS, NOBODY
        if model.user_views:
            user, known_user, damaged = stored_row(model.user_views, values, now_ms)
            self._report(damaged)
        context = model.predictor.encoder.encode_context(request.context)
        pairs = Pairs(now_ms, user, known_user, None, ads, context, store_code)
        return await self._score(model, pairs, deadline, started_s, read_s)

    async def predict(self, model: ServedModel, request: PredictRequest, deadline: Deadline) -> Scored:
        """Scores n instances, each with its own user, ad and context. Raises as `rank` does."""
        n = len(request.contexts)
        user_ids = _named(model, request.user_ids, "user_id", "users") if model.user_views else []
        ad_ids = _named(model, request.ad_ids, "ad_id", "ads") if model.ad_views else [""] * n
        started_s = time.perf_counter()
        now_ms = self._clock()
        ads = _candidates(model, ad_ids, now_ms)
        distinct = list(dict.fromkeys(user_ids))
        user_keys = [key for keys in model.user_keys for key in keys.rows(distinct)]
        values, store_code = await self._read(model, user_keys, ads, ad_ids, deadline)
        read_s = time.perf_counter()
        users = unknown_entities((), n)
        if model.user_views:
            rows, damaged = stored_rows(model.user_views, values, now_ms)
            self._report(damaged)
            place = {user_id: row for row, user_id in enumerate(distinct)}
            users = rows.take(np.array([place[user_id] for user_id in user_ids], dtype=np.intp))
        context = _stacked([model.predictor.encoder.encode_context(context) for context in request.contexts])
        known = users.known(now_ms)
        pairs = Pairs(now_ms, users.block, known, users.event_time_ms, ads, context, store_code)
        return await self._score(model, pairs, deadline, started_s, read_s)

    async def _read(
        self,
        model: ServedModel,
        user_keys: list[bytes],
        ads: Ads,
        ad_ids: Sequence[str],
        deadline: Deadline,
    ) -> tuple[Sequence[bytes | None], DegradedCode | None]:
        """Values of the users' keys, and why there are none. Ads that the table does not hold are read along."""
        unlisted = ads.unlisted()
        keys = user_keys
        if unlisted:
            wanted = [ad_ids[place] for place in unlisted]
            keys = user_keys + [key for view_keys in model.ad_keys for key in view_keys.rows(wanted)]
        if not keys:
            return (), None
        timeout_ms = min(self._features_ms, deadline.remaining_ms())
        if timeout_ms <= 0:
            raise DeadlinePassed(deadline.total_ms)
        try:
            values = await self._store.get_many(keys, timeout_ms=timeout_ms)
        except StoreTimeout:
            return [None] * len(user_keys), "store_timeout"
        except StoreDown:
            return [None] * len(user_keys), "store_down"
        if unlisted and not isinstance(ads, GivenAds):
            rows, damaged = stored_rows(model.ad_views, values[len(user_keys) :], ads.now_ms)
            self._report(damaged)
            ads.add_read(unlisted, rows)
        return values[: len(user_keys)], None

    def _report(self, damaged: Sequence[CodecError]) -> None:
        """Counts all; a line each would let one popular user's row fill the log."""
        if not damaged:
            return
        self._telemetry.store_error("decode", len(damaged))
        now_s = time.perf_counter()
        if now_s < self._silent_until_s:
            self._n_unsaid += len(damaged)
            return
        told = {"error": str(damaged[0]), "others_since_last_line": self._n_unsaid + len(damaged) - 1}
        logger.warning("a stored row cannot be read, defaults stand in", extra=told)
        self._silent_until_s, self._n_unsaid = now_s + SILENCE_S, 0

    async def _score(
        self, model: ServedModel, pairs: Pairs, deadline: Deadline, started_s: float, read_s: float
    ) -> Scored:
        knowledge = knowledge_of(
            pairs.known_user, pairs.ads.known(), user_is_shared=pairs.user_is_shared, store_code=pairs.store_code
        )
        self._telemetry.views(knowledge.views)
        codes = knowledge.codes
        if pairs.context.missing:
            codes.add("context_missing")
        if pairs.context.unknown:
            codes.add("context_unknown")
        if model.items is not None and model.items.is_stale(self._clock()):
            codes.add("items_stale")
        if model.predictor.fallback is not None:
            codes.add("plan_fallback")
        assembled_s = time.perf_counter()
        scores = await self._run_model(model, pairs, deadline)
        if len(scores.p_click) < len(pairs.ads):
            codes.add("deadline_partial")
        return Scored(
            n=len(pairs.ads),
            pairs=pairs,
            scores=scores,
            degraded=in_order(codes),
            knowledge=knowledge,
            features_s=read_s - started_s,
            assemble_s=assembled_s - read_s,
            model_s=time.perf_counter() - assembled_s,
        )

    async def _run_model(self, model: ServedModel, pairs: Pairs, deadline: Deadline) -> Scores:
        """A method, so that a recorded request can time it (`service/tracing`). Raises as `_score_chunks` does."""
        return await _score_chunks(model, pairs, deadline)


def _candidates(model: ServedModel, ad_ids: Sequence[str], now_ms: int) -> Ads:
    if not model.ad_views:
        return GivenAds.without_columns(len(ad_ids))
    if model.items is None:
        return StoredAds(model.ad_views, len(ad_ids), now_ms)
    return Candidates(model.items.table, ad_ids, model.predictor.manifest.core_sha256, now_ms)


async def _score_chunks(model: ServedModel, pairs: Pairs, deadline: Deadline) -> Scores:
    """Scores as many pairs as the deadline allows.

    Raises:
        DeadlinePassed: it had passed before the first.
    """
    n, step, chunks = len(pairs.ads), model.predictor.chunk_rows, []
    for start in range(0, n, step):
        if start:
            await asyncio.sleep(0)
        if deadline.passed():
            break
        if n <= step:
            return model.predictor.score_ads(pairs.user, pairs.context.block, pairs.ads)
        rows = slice(start, start + step)
        user, context = _part(pairs.user, rows), _part(pairs.context.block, rows)
        chunks.append(model.predictor.score_ads(user, context, pairs.ads.part(rows)))
    if not chunks:
        raise DeadlinePassed(deadline.total_ms)
    return Scores(
        np.concatenate([chunk.raw_logit for chunk in chunks]), np.concatenate([chunk.p_click for chunk in chunks])
    )


def _part(block: Block, rows: slice) -> Block:
    """These rows of a block; a block of one row is shared by all."""
    return block if len(block) == 1 else Block(block.floats[rows], block.ids[rows])


def _rows_of(block: Block, places: npt.NDArray[np.intp]) -> Block:
    """One row for each place; a row that all pairs share is repeated."""
    at = places if len(block) != 1 else np.zeros_like(places)
    return Block(block.floats[at], block.ids[at])


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
