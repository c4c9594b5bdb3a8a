"""The wire of the tuned baseline: the requests and answers of `/v1/rank`, decoded and checked as our service does.

Left out is what the workload never sends: bids, `/v1/predict`, several models.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

MAX_CANDIDATES = 1_000
MAX_ID_BYTES = 64
_PLAIN_IDS = re.compile(r"[!-z|~]*")


class RankBody(msgspec.Struct, forbid_unknown_fields=True):
    """A request."""

    user_id: str | int
    candidates: list[str | int]
    context: dict[str, str | int | float | bool | None] = {}
    top_k: int | None = None
    model: str = "default"


class Result(msgspec.Struct, gc=False):
    """One candidate. degraded: only where its own row is missing or stale."""

    ad_id: str
    p_click: float
    degraded: list[str] | UnsetType = UNSET


class Model(msgspec.Struct):
    """Who answered."""

    name: str
    version: str
    variant: str


class Features(msgspec.Struct):
    """How well the entities were known."""

    missing: int
    stale: int
    age_ms_max: int | None


class RankAnswer(msgspec.Struct):
    """The candidates, best first."""

    request_id: str
    model: Model
    results: list[Result]
    degraded: list[str]
    features: Features


class Refused(Exception):
    """A request that cannot be answered, and its HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Request(NamedTuple):
    """A checked request."""

    user_id: str
    ad_ids: list[str]
    context: dict[str, str | int | float | bool | None]
    top_k: int


_DECODER = msgspec.json.Decoder(RankBody)
encode = msgspec.json.Encoder().encode


def decode(body: bytes) -> Request:
    """Bytes to a checked request. Raises Refused."""
    try:
        rank = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise Refused(422, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(400, str(error)) from None
    n = len(rank.candidates)
    if not 1 <= n <= MAX_CANDIDATES:
        raise Refused(422, f"candidates: expected 1 to {MAX_CANDIDATES}, got {n}")
    if rank.model != "default":
        raise Refused(404, f"there is no model {rank.model!r}")
    if rank.top_k is not None and rank.top_k < 1:
        raise Refused(422, f"top_k: expected at least 1, got {rank.top_k}")
    ids = list(map(str, (rank.user_id, *rank.candidates)))
    if not all(ids) or max(map(len, ids)) > MAX_ID_BYTES or not _PLAIN_IDS.fullmatch("".join(ids)):
        raise Refused(422, f"ids: expected 1 to {MAX_ID_BYTES} plain characters each")
    user_id, *ad_ids = ids
    if len(set(ad_ids)) < n:
        raise Refused(422, "candidates: each ad once")
    return Request(user_id, ad_ids, rank.context, n if rank.top_k is None else min(rank.top_k, n))
