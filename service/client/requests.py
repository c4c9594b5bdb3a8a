"""What a caller asks, as the bytes of a request.

The service checks everything and names the place. Only what JSON cannot say is refused here, because it would arrive as
something else: a number that is not finite as null, bytes and times as texts that no feature row knows. NumPy's numbers
and texts pass as their Python twins.
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
    if isinstance(candidates, (str, bytes, bytearray, memoryview)):
        kind = "text" if isinstance(candidates, str) else type(candidates).__name__
        raise TypeError(f"candidates: expected a list of ids, got the {kind} {candidates!r}")
    listed: Iterable[EntityId | Candidate] = candidates
    if isinstance(candidates, Mapping):
        listed = [Candidate(ad_id, bid) for ad_id, bid in candidates.items()]
    return _body(
        user_id=_json(user_id, "user_id"),
        candidates=_listed(listed, "candidates"),
        context=_json(context, "context"),
        top_k=top_k,
        model=model,
        explain=explain or None,
    )


def predict_body(instances: Iterable[Instance], model: str | None, explain: bool) -> bytes:
    """The body of `/v1/predict`. Raises as `rank_body` does."""
    return _body(instances=_listed(instances, "instances"), model=model, explain=explain or None)


def _body(**members: object) -> bytes:
    """Without the members that nobody gave."""
    return _ENCODER.encode({name: value for name, value in members.items() if value is not None})


def _listed(values: Iterable[object], path: str) -> list[object]:
    """Ids are most of a request, and need no path unless something is wrong with them."""
    return [
        value if type(value) is str or type(value) is int else _json(value, f"{path}[{i}]")
        for i, value in enumerate(values)
    ]


def _json(value: object, path: str) -> object:
    """The value in the types that JSON has.

    Raises:
        ValueError: a number is not finite.
        TypeError: something else than JSON's types and NumPy's scalars.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{path}: expected a finite number, got {value}; leave out what is not known")
        return float(value)
    if isinstance(value, (Candidate, Instance)):
        given = {name: getattr(value, name) for name in value.__struct_fields__}
        return {name: _json(member, f"{path}.{name}") for name, member in given.items() if member is not UNSET}
    if isinstance(value, Mapping):
        return {_key(key, path): _json(member, f"{path}.{key}") for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(member, f"{path}[{i}]") for i, member in enumerate(value)]
    plain = value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value
    if plain is not value:
        return _json(plain, path)
    raise TypeError(f"{path}: {value!r} ({type(value).__name__}) cannot be sent: {_SENDABLE}")


def _key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{path}: the name {key!r} ({type(key).__name__}) cannot be sent: names are text")
    return str.__str__(key)


_SENDABLE = "expected text, number, boolean or None"
_ENCODER = msgspec.json.Encoder()
