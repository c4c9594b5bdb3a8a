"""What an answer to `/v1/rank` says, apart from the form it takes; and the usual form, JSON.

A *form* reads a body into a checked request and writes a ranking as a body. A request and its answer may have different
forms. The other form is in `binary_frame.py`, how they are asked for in `negotiation.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from service.knowledge import Knowledge
from service.results_json import explained_results_json, results_json
from service.telemetry import Reals
from service.wire import DegradedCode, FeatureCounts, ModelReference, RankAnswer, RankRequest, encode, rank_request


class Ranking(Struct, frozen=True):
    """n candidates, the first m of them scored in time, k of them answered."""

    request_id: str
    model: ModelReference
    ad_ids: list[str]
    order: npt.NDArray[np.intp]
    """(k,) places of the candidates to answer, best first."""
    p_click: Reals
    """(m,)"""
    scores: Reals | None
    """(m,) bid x p_click, None where no bids were sent."""
    degraded: list[DegradedCode]
    knowledge: Knowledge
    explanations: Sequence[msgspec.Raw | None] | None = None
    """(k,) in the order of the answer; None where none were asked for."""


class RankForm(Struct, frozen=True):
    """One way to write requests and rankings as bytes."""

    read: Callable[[bytes | bytearray, int], RankRequest]
    """Body and the most candidates allowed; raises MalformedBody or InvalidRequest."""
    write: Callable[[Ranking], bytes]
    content_type: bytes
    """Of what `write` makes."""
    explains: bool = False
    """Whether `write` has a place for explanations."""


def ranking_json(ranking: Ranking) -> bytes:
    """A ranking as JSON."""
    known = ranking.knowledge
    if ranking.explanations is None:
        results = results_json(ranking.ad_ids, ranking.order, ranking.p_click, ranking.scores, known.own_codes)
    else:
        results = explained_results_json(
            ranking.ad_ids, ranking.order, ranking.p_click, ranking.scores, known.own_codes, ranking.explanations
        )
    counts = FeatureCounts(missing=known.missing, stale=known.stale, age_ms_max=known.age_ms_max)
    # The results are JSON already; the struct is what they say, and what OpenAPI shows.
    return encode(RankAnswer(ranking.request_id, ranking.model, results, ranking.degraded, counts))  # type: ignore[arg-type]


JSON = RankForm(rank_request, ranking_json, b"application/json", explains=True)
