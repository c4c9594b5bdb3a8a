"""Frames: `/v1/rank` as numbers and text at known places, for callers who count microseconds.

`docs/binary-rank.md` specifies every byte, and golden frames hold this file to it. A request's numbers are one array,
its ids one text that is split at line feeds, which no id can hold (100 ids: 2 µs; by lengths, 7). An answer names
places in the request's list instead of ids. Checks, and what is said where they fail, are those of the JSON form; what
a header promises is checked before anything of that size is made.
"""

from __future__ import annotations

import struct

import msgspec
import numpy as np
import numpy.typing as npt

from service import rejection
from service.errors import MalformedBody
from service.knowledge import CODES
from service.rank_form import RankForm, Ranking
from service.request_checks import check_count, checked_bids, checked_ids, distinct_ids
from service.telemetry import Reals
from service.wire import DegradedCode, RankRequest, Scalar

REQUEST_MEDIA = "application/vnd.clickserve.rank.v1"
ANSWER_MEDIA = "application/vnd.clickserve.ranking.v1"

VERSION = 1
REQUEST_MAGIC, ANSWER_MAGIC = b"CSRQ", b"CSRA"
WITH_BIDS = 1
"""Flag of a request."""
WITH_SCORES, WITH_OWN_CODES = 1, 2
"""Flags of an answer."""
NO_AGE = -(2**63)

_REQUEST = struct.Struct("<4sBBHHHIII")
_ANSWER = struct.Struct("<4sBBHIIIIq4H")
_CONTEXT = msgspec.json.Decoder(dict[str, Scalar])
_DEFAULT_MODEL = "default"
_BIT_OF: dict[DegradedCode, int] = {code: 1 << place for place, code in enumerate(CODES)}


def framed_request(body: bytes | bytearray, max_candidates: int) -> RankRequest:
    """A frame of `/v1/rank`, checked.

    Raises:
        MalformedBody: not a frame, or one whose parts do not add up.
        InvalidRequest: a value is not what the route needs; names its path as if it were JSON.
    """
    flags, model_bytes, user_bytes, n, top_k, context_bytes = _header(body)
    check_count("candidates", n, max_candidates)
    model_at = _REQUEST.size + (8 * n if flags & WITH_BIDS else 0)
    user_at = model_at + model_bytes
    context_at = user_at + user_bytes
    ids_at = context_at + context_bytes
    if ids_at > len(body):
        raise MalformedBody(f"the frame ends after {len(body)} bytes, but by its header its ids begin at byte {ids_at}")
    context = _context(body[context_at:ids_at]) if context_bytes else {}
    bids = checked_bids(_bids(body, n)) if flags & WITH_BIDS else None
    user_id = _text(body, user_at, context_at)
    return RankRequest(
        model=_text(body, model_at, user_at) if model_bytes else _DEFAULT_MODEL,
        ad_ids=_ad_ids(body, ids_at, n, ".ad_id" if flags & WITH_BIDS else ""),
        user_id=checked_ids([user_id], lambda _: "user_id")[0] if user_id else None,
        bids=bids,
        context=context,
        top_k=min(top_k or n, n),
    )


def ranking_frame(ranking: Ranking) -> bytes:
    """A ranking as a frame."""
    order, known, n = ranking.order, ranking.knowledge, len(ranking.ad_ids)
    model = ranking.model
    texts = [text.encode() for text in (ranking.request_id, model.name, model.version, model.variant)]
    flags, parts = 0, []
    if ranking.scores is not None:
        flags |= WITH_SCORES
        parts.append(_column(ranking.scores, order, n).astype("<f8").tobytes())
    parts.append(_column(ranking.p_click, order, n).astype("<f4").tobytes())
    parts.append(order.astype("<u4").tobytes())
    if known.own_codes:
        flags |= WITH_OWN_CODES
        own_bits = np.zeros(n, dtype="<u4")
        for place, codes in known.own_codes.items():
            own_bits[place] = _bits(codes)
        parts.append(own_bits[order].tobytes())
    header = _ANSWER.pack(
        ANSWER_MAGIC,
        VERSION,
        flags,
        0,
        len(order),
        _bits(ranking.degraded),
        known.missing,
        known.stale,
        NO_AGE if known.age_ms_max is None else known.age_ms_max,
        *map(len, texts),
    )
    return b"".join((header, *parts, *texts))


FRAME = RankForm(framed_request, ranking_frame, ANSWER_MEDIA.encode())


def _header(body: bytes | bytearray) -> tuple[int, int, int, int, int, int]:
    """flags, model_bytes, user_bytes, n, top_k and context_bytes of a request that this version reads."""
    if len(body) < _REQUEST.size:
        raise MalformedBody(f"the frame has {len(body)} bytes, fewer than the {_REQUEST.size} of its header")
    magic, version, flags, model_bytes, user_bytes, reserved, n, top_k, context_bytes = _REQUEST.unpack_from(body)
    if magic != REQUEST_MAGIC:
        raise MalformedBody(f"the frame begins with {magic!r}, expected {REQUEST_MAGIC!r}")
    if version != VERSION:
        raise MalformedBody(f"the frame has version {version}, read is {VERSION}")
    if flags & ~WITH_BIDS or reserved:
        raise MalformedBody(f"the frame has flags {flags} and reserved {reserved}; expected flags 0 or 1, and 0")
    return flags, model_bytes, user_bytes, n, top_k, context_bytes


def _bids(body: bytes | bytearray, n: int) -> npt.NDArray[np.float64]:
    return np.frombuffer(body, "<f8", n, _REQUEST.size).astype(np.float64, copy=False)


def _ad_ids(body: bytes | bytearray, at: int, n: int, key: str) -> list[str]:
    """The n ids from a byte to the end, checked; `key` ends their paths."""
    ad_ids = _text(body, at, len(body)).split("\n", n)
    if len(ad_ids) != n or "\n" in ad_ids[-1]:
        raise MalformedBody(f"the frame announces {n} candidates, but its ids are not {n} with line feeds between them")
    return distinct_ids(ad_ids, lambda place: f"candidates[{place}]{key}")


def _text(body: bytes | bytearray, start: int, stop: int) -> str:
    try:
        return str(body[start:stop], "utf-8")
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the frame is not UTF-8 at byte {start + error.start}") from None


def _context(text: bytes | bytearray) -> dict[str, Scalar]:
    try:
        return _CONTEXT.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise rejection.explain_context(text, error) from None


def _column(values: Reals, order: npt.NDArray[np.intp], n: int) -> Reals:
    """(k,) of (m,) values, in order; NaN where the deadline came first."""
    if len(values) < n:
        values = np.concatenate([values, np.full(n - len(values), np.nan)])
    return values[order]


def _bits(codes: list[DegradedCode]) -> int:
    """Codes as a set of bits; no code is there twice."""
    return sum(_BIT_OF[code] for code in codes)
