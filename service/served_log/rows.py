"""Rows of the served log: one per scored candidate, with the vector exactly as the model read it.

A factorised plan never lays out whole rows, so they are laid out here, by the model's own encoder from the very blocks
that were scored: the encoder is pure, so this is what ONNX Runtime would have been given. All requests of one model
are laid out together: one call of the encoder for thousands of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import msgspec
import numpy as np
import numpy.typing as npt

from feature_store.online.item_table import version_text
from feature_store.rows import Times
from models.encoder import Block
from service.model_slots import ServedModel
from service.scoring import Pairs
from service.served_log.buffer import ServedRequest
from service.served_log.parquet import Column, Numbers, Texts, Values

LAYOUT = "1"
"""Of the columns, in the key `clickserve.layout` of every file; another one is another number."""

COLUMNS = (
    Column("request_id", "text"),
    Column("route", "text"),
    Column("time_ms", "int64"),
    Column("user_id", "text", is_optional=True),
    Column("ad_id", "text", is_optional=True),
    Column("place", "int32"),
    Column("rank", "int32", is_optional=True),
    Column("context", "text"),
    Column("features", "float32", is_list=True),
    Column("ids", "int64", is_list=True),
    Column("as_of_ms", "int64", is_list=True),
    Column("raw_logit", "float64"),
    Column("p_click", "float64"),
    Column("model", "text"),
    Column("version", "text"),
    Column("core_sha256", "text"),
    Column("views", "text"),
    Column("table_version", "text"),
    Column("degraded", "text"),
    Column("own_degraded", "text"),
)


def about(model: ServedModel) -> dict[str, str]:
    """What every file says of its model: how to read its lists, as JSON."""
    encoder = model.predictor.encoder
    return {
        "clickserve.layout": LAYOUT,
        "clickserve.features": msgspec.json.encode(encoder.float_names).decode(),
        "clickserve.ids": msgspec.json.encode(encoder.id_names).decode(),
        "clickserve.inputs": msgspec.json.encode(encoder.inputs).decode(),
    }


def rows_of(model: ServedModel, requests: Sequence[ServedRequest]) -> dict[str, Values]:
    """The columns of all scored candidates of some requests to one model; at least one candidate."""
    n_rows = [len(served.scored.scores.p_click) for served in requests]
    each = np.repeat(np.arange(len(requests)), n_rows)  # (n,) the request of each row
    encoded = _vectors(model, requests, n_rows)
    manifest = model.predictor.manifest
    views = msgspec.json.encode({view.name: view.fingerprint for view in manifest.inputs.views}).decode()

    def constant(text: str) -> Texts:
        return Texts([text], np.zeros(len(each), dtype=np.int64))

    def of_request(text: Callable[[ServedRequest], str]) -> Texts:
        words = _words([text(served) for served in requests])
        return Texts(words.values, words.codes[each])

    return {
        "request_id": Texts([served.request_id for served in requests], each),
        "route": of_request(lambda served: served.route),
        "time_ms": np.array([served.scored.pairs.asked_ms for served in requests], dtype=np.int64)[each],
        "user_id": _words(_spread([served.user_ids for served in requests], n_rows)),
        "ad_id": _words(_spread([served.ad_ids for served in requests], n_rows)),
        "place": np.concatenate([np.arange(n) for n in n_rows]),
        "rank": _ranks(requests, n_rows),
        "context": _words(
            _spread([[_json(context) for context in served.contexts] for served in requests], n_rows),
        ),
        "features": encoded[0],
        "ids": encoded[1],
        "as_of_ms": np.concatenate(
            [_as_of(served.scored.pairs, n) for served, n in zip(requests, n_rows, strict=True)]
        ),
        "raw_logit": np.concatenate([served.scored.scores.raw_logit for served in requests]),
        "p_click": np.concatenate([served.scored.scores.p_click for served in requests]),
        "model": constant(model.name),
        "version": constant(model.version),
        "core_sha256": constant(manifest.core_sha256),
        "views": constant(views),
        "table_version": of_request(lambda served: version_text(served.positions)),
        "degraded": of_request(lambda served: " ".join(served.scored.degraded)),
        "own_degraded": _words(
            [
                " ".join(served.scored.knowledge.own_codes.get(place, ()))
                for served, n in zip(requests, n_rows, strict=True)
                for place in range(n)
            ]
        ),
    }


def _vectors(
    model: ServedModel, requests: Sequence[ServedRequest], n_rows: Sequence[int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """(n, d) and (n, k) what the model read."""
    users, ads, contexts = [], [], []
    for served, n in zip(requests, n_rows, strict=True):
        pairs = served.scored.pairs
        users.append(_first(pairs.user, n))
        ads.append(_first(pairs.ads.block(), n))
        contexts.append(_first(pairs.context.block, n))
    features, ids = model.predictor.encoder.encode(_below(users), _below(ads), _below(contexts))
    return features, ids


def _first(block: Block, n: int) -> Block:
    """The first n rows; a block of one row, which all pairs share, n times."""
    if len(block) == 1:
        return Block(np.repeat(block.floats, n, axis=0), np.repeat(block.ids, n, axis=0))
    return Block(block.floats[:n], block.ids[:n])


def _below(blocks: Sequence[Block]) -> Block:
    return Block(np.concatenate([block.floats for block in blocks]), np.concatenate([block.ids for block in blocks]))


def _as_of(pairs: Pairs, n: int) -> Times:
    """(n, V) since when each row that was used holds, user views first; 0 where a default stood in."""
    if pairs.user_times is None:
        ages = [view.age_ms for view in pairs.known_user.views]
        user = np.array([[0 if age_ms is None else pairs.asked_ms - age_ms for age_ms in ages]], dtype=np.int64)
        user = np.repeat(user.reshape(1, len(ages)), n, axis=0)
    else:
        user = pairs.user_times[:n]
    return np.concatenate([user, pairs.ads.event_times()[:n]], axis=1)


def _ranks(requests: Sequence[ServedRequest], n_rows: Sequence[int]) -> Numbers:
    """Place of each candidate in the answer, from 0; none where `top_k` cut it off, and for predictions."""
    ranks = []
    for served, n in zip(requests, n_rows, strict=True):
        rank = np.full(served.scored.n, -1)
        if served.order is not None:
            rank[served.order] = np.arange(len(served.order))
        ranks.append(rank[:n])
    values = np.concatenate(ranks)
    return Numbers(values, values >= 0)


def _spread(values: Sequence[Sequence[str | None]], n_rows: Sequence[int]) -> list[str | None]:
    """What each request says of each row, or of all its rows at once."""
    return list(
        chain.from_iterable(
            of_request[:n] if len(of_request) != 1 else [of_request[0]] * n
            for of_request, n in zip(values, n_rows, strict=True)
        )
    )


def _words(texts: Iterable[str | None]) -> Texts:
    """Texts by their distinct values, in order of first appearance."""
    place: dict[str, int] = {}
    codes = [-1 if text is None else place.setdefault(text, len(place)) for text in texts]
    return Texts(list(place), np.array(codes, dtype=np.int64))


def _json(context: object) -> str:
    return msgspec.json.encode(context).decode()
