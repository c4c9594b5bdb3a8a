"""The JSON of `/v1/rank` and `/v1/predict`: its shape, and from bytes to checked requests.

Decoding into typed structs refuses nearly everything that is wrong at the speed of C; what types cannot say (ids that
may become keys, duplicates, bids that all or none have) is checked over whole lists (`request_checks.py`). When a body
is refused, `rejection.py` reads it a second time, slowly, to name the place and the value. Ids leave here as text, bids
as one array; no object per candidate survives. The structs also are the schemas in `/openapi.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Meta, Struct, UnsetType

from feature_store.ids import are_plain_and_distinct
from service import rejection
from service.errors import InvalidRequest
from service.request_checks import check_count, checked_bids, checked_ids, distinct_ids

DegradedCode = Literal[
    "user_missing",
    "user_stale",
    "ad_missing",
    "ad_stale",
    "store_timeout",
    "store_down",
    "items_stale",
    "context_missing",
    "context_unknown",
    "plan_fallback",
    "deadline_partial",
]
"""Append only: the place of a code is its bit in a frame (`docs/binary-rank.md`)."""

Scalar = str | int | float | bool | None
EntityId = Annotated[
    str | int,
    Meta(
        description="UTF-8 text of 1 to 64 bytes without braces, space or control characters. An integer becomes "
        "decimal text and is answered as text.",
    ),
]
Context = Annotated[
    dict[str, Scalar],
    Meta(description="What is known about the request itself; keys are the context features of the model."),
]
MAX_EXPLAINED = 50
"""Results that one request may have explained: some milliseconds each thousand trees, beside everybody's requests."""
Explain = Annotated[
    bool,
    Meta(description=f"Say with each result which features made it so; for at most {MAX_EXPLAINED} results at once."),
]
ModelName = Annotated[str, Meta(description="Name of the slot, as `/v1/models` lists it.")]


class Candidate(Struct, frozen=True, forbid_unknown_fields=True):
    """An ad that may be shown, with what its owner pays for a click."""

    ad_id: EntityId
    bid: Annotated[float, Meta(description="0 or more; all candidates have one or none has.")] | UnsetType = UNSET


class RankBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Which of these candidates will this user click?"""

    candidates: Annotated[list[str | int | Candidate], Meta(description="Each ad once: its id, or an object.")]
    user_id: EntityId | UnsetType = UNSET
    context: Context = {}
    top_k: Annotated[int, Meta(description="How many results to answer, at least 1; all where absent.")] | UnsetType = (
        UNSET
    )
    model: ModelName = "default"
    explain: Explain = False


class Instance(Struct, frozen=True, forbid_unknown_fields=True):
    """One user, ad and context whose click probability is wanted."""

    user_id: EntityId | UnsetType = UNSET
    ad_id: EntityId | UnsetType = UNSET
    context: Context = {}


class PredictBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Click probabilities of any number of users and ads, in order."""

    instances: list[Instance]
    model: ModelName = "default"
    explain: Explain = False


class ModelReference(Struct, frozen=True):
    """The model that answered."""

    name: str
    version: str
    variant: str


class FeatureCounts(Struct, frozen=True):
    """How well the entities of this request were known."""

    missing: Annotated[int, Meta(description="Rows that were not there; defaults stood in.")]
    stale: Annotated[int, Meta(description="Rows past their time-to-live, used all the same.")]
    age_ms_max: Annotated[int | None, Meta(description="Age of the oldest row used; null where none was.")]


OwnCodes = Annotated[
    list[DegradedCode] | UnsetType, Meta(description="Only where this result's own rows are missing or stale.")
]


class Contribution(Struct, frozen=True):
    """What one feature adds."""

    feature: Annotated[str, Meta(description="Name of the feature, after its view, `context` or `pair`.")]
    value: Annotated[
        float | str | None,
        Meta(
            description="What the model read: a number, the text of an id that came with the request, `#` and the hash "
            "of any other id, `64 numbers` of a vector; null where it is missing."
        ),
    ]
    contribution: Annotated[float, Meta(description="Added to the raw logit; exp of it multiplies the odds.")]


class Explanation(Struct, frozen=True):
    """Where a probability comes from: `baseline` and all contributions add up to `raw_logit`."""

    baseline: Annotated[float, Meta(description="The raw logit before anything is known of this pair.")]
    baseline_p_click: Annotated[float, Meta(description="What `p_click` would be at the baseline.")]
    raw_logit: Annotated[float, Meta(description="The learner's log-odds of a click.")]
    correction: Annotated[
        float,
        Meta(description="Added to the raw logit for non-clicks left out in training; the calibrator makes `p_click`."),
    ]
    contributions: Annotated[
        list[Contribution], Meta(description="Largest magnitude first; features that add nothing are left out.")
    ]


OwnExplanation = Annotated[
    Explanation | UnsetType | None, Meta(description="Where `explain` was asked; null where time ran out.")
]


class Result(Struct, frozen=True):
    """One candidate, ranked. `p_click` is null where the deadline passed first."""

    ad_id: str
    p_click: float | None
    score: Annotated[float | None, Meta(description="bid x p_click; where bids were sent.")] | UnsetType = UNSET
    degraded: OwnCodes = UNSET
    explanation: OwnExplanation = UNSET


class RankAnswer(Struct, frozen=True):
    """The candidates, best first."""

    request_id: str
    model: ModelReference
    results: list[Result]
    degraded: list[DegradedCode]
    features: FeatureCounts


class Prediction(Struct, frozen=True):
    """One instance's click probability, null where the deadline passed first."""

    p_click: float | None
    degraded: OwnCodes = UNSET
    explanation: OwnExplanation = UNSET


class PredictAnswer(Struct, frozen=True):
    """The predictions, in the order of the instances."""

    request_id: str
    model: ModelReference
    predictions: list[Prediction]
    degraded: list[DegradedCode]
    features: FeatureCounts


class RankRequest(Struct, frozen=True):
    """A checked request of n candidates. bids: (n,) float64, or None where none has one."""

    model: str
    user_id: str | None
    ad_ids: list[str]
    bids: npt.NDArray[np.float64] | None
    context: dict[str, Scalar]
    top_k: int
    explain: bool = False


class PredictRequest(Struct, frozen=True):
    """A checked request of n instances; each list has n entries."""

    model: str
    user_ids: list[str | None]
    ad_ids: list[str | None]
    contexts: list[dict[str, Scalar]]
    explain: bool = False


_RANK = msgspec.json.Decoder(RankBody)
_PREDICT = msgspec.json.Decoder(PredictBody)
_ENCODER = msgspec.json.Encoder()


def rank_request(body: bytes | bytearray, max_candidates: int) -> RankRequest:
    """A body of `/v1/rank`, checked.

    Raises:
        MalformedBody: not JSON or not UTF-8.
        InvalidRequest: a value is not what the route needs; names its path.
    """
    try:
        rank = _RANK.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise rejection.explain(body, rejection.RANK, error) from None
    check_count("candidates", len(rank.candidates), max_candidates)
    if rank.top_k is not UNSET and rank.top_k < 1:
        raise InvalidRequest(f"expected at least 1, got {rank.top_k}", "top_k")
    ad_ids, bids = _candidates(rank.candidates)
    top_k = len(ad_ids) if rank.top_k is UNSET else min(rank.top_k, len(ad_ids))
    if rank.explain and top_k > MAX_EXPLAINED:
        raise _too_many_explained(top_k, f"set top_k to {MAX_EXPLAINED} or less")
    return RankRequest(
        model=rank.model,
        user_id=None if rank.user_id is UNSET else checked_ids([rank.user_id], lambda _: "user_id")[0],
        ad_ids=ad_ids,
        bids=bids,
        context=rank.context,
        top_k=top_k,
        explain=rank.explain,
    )


def predict_request(body: bytes | bytearray, max_instances: int) -> PredictRequest:
    """A body of `/v1/predict`, checked. Raises as `rank_request` does."""
    try:
        predict = _PREDICT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise rejection.explain(body, rejection.PREDICT, error) from None
    instances = predict.instances
    check_count("instances", len(instances), max_instances)
    if predict.explain and len(instances) > MAX_EXPLAINED:
        raise _too_many_explained(len(instances), "send them in several requests")
    return PredictRequest(
        model=predict.model,
        user_ids=_optional_ids([instance.user_id for instance in instances], "user_id"),
        ad_ids=_optional_ids([instance.ad_id for instance in instances], "ad_id"),
        contexts=[instance.context for instance in instances],
        explain=predict.explain,
    )


def encode(answer: Struct) -> bytes:
    """An answer as JSON."""
    return _ENCODER.encode(answer)


def _candidates(candidates: list[str | int | Candidate]) -> tuple[list[str], npt.NDArray[np.float64] | None]:
    """Checked ids and bids of n candidates; bids (n,), None where no candidate has one."""
    if are_plain_and_distinct(candidates):  # the usual case: plain text, nothing to change and nothing beside it
        return candidates, None  # type: ignore[return-value]
    raw_ids, bids = _columns(candidates)
    return distinct_ids(raw_ids, lambda i: _candidate_path(candidates, i)), bids


def _columns(candidates: Sequence[str | int | Candidate]) -> tuple[list[str | int], npt.NDArray[np.float64] | None]:
    """Ids and bids of n candidates, as they were sent; bids (n,), None where no candidate has one."""
    if Candidate not in set(map(type, candidates)):
        return list(candidates), None  # type: ignore[arg-type]
    ids = [c.ad_id if isinstance(c, Candidate) else c for c in candidates]
    sent = [c.bid if isinstance(c, Candidate) else UNSET for c in candidates]
    without = sent.count(UNSET)
    if without == len(sent):
        return ids, None
    if without:
        absent = sent.index(UNSET)
        present = next(i for i, bid in enumerate(sent) if bid is not UNSET)
        raise InvalidRequest(
            f"missing, while candidates[{present}] has one; send a bid for all candidates or for none",
            f"candidates[{absent}].bid",
        )
    return ids, checked_bids(np.array(sent, dtype=np.float64))


def _optional_ids(values: list[str | int | UnsetType], key: str) -> list[str | None]:
    present = [i for i, value in enumerate(values) if value is not UNSET]
    ids: list[str | None] = [None] * len(values)
    checked = checked_ids([value for value in values if value is not UNSET], lambda i: f"instances[{present[i]}].{key}")
    for i, text in zip(present, checked, strict=True):
        ids[i] = text
    return ids


def _too_many_explained(n: int, way_out: str) -> InvalidRequest:
    return InvalidRequest(f"at most {MAX_EXPLAINED} results are explained at once, got {n}; {way_out}", "explain")


def _candidate_path(candidates: Sequence[object], i: int) -> str:
    return f"candidates[{i}].ad_id" if isinstance(candidates[i], Candidate) else f"candidates[{i}]"
