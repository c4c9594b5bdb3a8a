"""What a caller asks, as the bytes of a request.

The service checks everything and names the place. Only what JSON cannot say is refused here: a number that is not
finite would become null on its way. NumPy's numbers and texts pass as their Python twins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

Scalar = str | int | float | bool | None
Context = Mapping[str, Scalar]
EntityId = str | int


class Candidate(Struct, frozen=True):
    """An ad that may be shown, with what its owner pays for a click; all candidates have a bid or none has."""

    ad_id: EntityId
    bid: float | UnsetType = UNSET


class Instance(Struct, frozen=True):
    """One user, ad and context whose click probability is wanted; leave out what the model has no features of."""

    user_id: EntityId | UnsetType = UNSET
    ad_id: EntityId | UnsetType = UNSET
    context: Context | UnsetType = UNSET


Candidates = Iterable[EntityId | Candidate] | Mapping[Any, float]
"""Ids, candidates, or a bid by id."""


def rank_body(
    user_id: EntityId | None,
    candidates: Candidates,
    context: Context | None,
    top_k: int | None,
    model: str | None,
    explain: bool,
) -> bytes:
    """The body of `/v1/rank`.

    Raises:
        ValueError: a number is not finite.
        TypeError: a value is none of JSON's.
    """
    listed: list[EntityId | Candidate]
    if isinstance(candidates, str):
        raise TypeError(f"candidates: expected a list of ids, got the text {candidates!r}")
    if isinstance(candidates, Mapping):
        listed = [Candidate(ad_id, bid) for ad_id, bid in candidates.items()]
    else:
        listed = list(candidates)
    for i, candidate in enumerate(listed):
        if isinstance(candidate, Candidate) and candidate.bid is not UNSET:
            _check_finite(candidate.bid, f"candidates[{i}].bid")
    return _body(
        user_id=user_id,
        candidates=listed,
        context=_checked(context, "context"),
        top_k=top_k,
        model=model,
        explain=explain or None,
    )


def predict_body(instances: Iterable[Instance], model: str | None, explain: bool) -> bytes:
    """The body of `/v1/predict`. Raises as `rank_body` does."""
    listed = list(instances)
    for i, instance in enumerate(listed):
        if instance.context is not UNSET:
            _checked(instance.context, f"instances[{i}].context")
    return _body(instances=listed, model=model, explain=explain or None)


def _body(**members: object) -> bytes:
    """Without the members that nobody gave."""
    return _ENCODER.encode({name: value for name, value in members.items() if value is not None})


def _checked(context: Context | None, path: str) -> Context | None:
    for key, value in (context or {}).items():
        _check_finite(value, f"{path}.{key}")
    return context


def _check_finite(value: object, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path}: expected a finite number, got {value}; leave out what is not known")


def _plain(value: object) -> object:
    """NumPy's scalars as Python's own; any other mapping as a dict."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "item"):
        plain = value.item()
        _check_finite(plain, "a number of this request")
        return plain
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be sent: expected text, number, boolean or None")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)
