"""The caller's half of `docs/binary-rank.md`: requests as frames, and what the frame of a ranking says.

Written from that page alone and apart from the service, so that a test which holds the two together tests the page.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

REQUEST_MEDIA = "application/vnd.clickserve.rank.v1"
RANKING_MEDIA = "application/vnd.clickserve.ranking.v1"

_REQUEST = struct.Struct("<4sBBHHHIII")
_RANKING = struct.Struct("<4sBBHIIIIq4H")
_NO_AGE = -(2**63)


@dataclass(frozen=True, slots=True)
class ReceivedRanking:
    """k results, best first."""

    request_id: str
    model: tuple[str, str, str]
    """Name, version, variant."""
    degraded: int
    """Codes as bits."""
    missing: int
    stale: int
    age_ms_max: int | None
    places: npt.NDArray[np.uint32]
    """(k,) places in the list of candidates that was sent."""
    p_click: npt.NDArray[np.float32]
    """(k,) NaN where the deadline came first."""
    scores: npt.NDArray[np.float64] | None
    """(k,) where bids were sent."""
    own_codes: npt.NDArray[np.uint32] | None
    """(k,) codes of single results as bits; None where no result has any."""


def rank_frame(
    candidates: Sequence[str],
    *,
    user_id: str = "",
    context: Mapping[str, object] | None = None,
    bids: Sequence[float] | None = None,
    top_k: int = 0,
    model: str = "",
) -> bytes:
    """A request; what is left out is left to the service."""
    name, user = model.encode(), user_id.encode()
    said = b"" if context is None else json.dumps(context).encode()
    header = _REQUEST.pack(b"CSRQ", 1, bids is not None, len(name), len(user), 0, len(candidates), top_k, len(said))
    numbers = b"" if bids is None else np.asarray(bids, dtype="<f8").tobytes()
    return b"".join((header, numbers, name, user, said, "\n".join(candidates).encode()))


def received_ranking(frame: bytes) -> ReceivedRanking:
    """What an answer says. Raises ValueError for anything but a whole frame of this version."""
    magic, version, flags, _, k, degraded, missing, stale, age_ms, *sizes = _RANKING.unpack_from(frame)
    if (magic, version) != (b"CSRA", 1) or flags & ~3:
        raise ValueError(f"not a ranking of version 1: it begins with {frame[:6]!r}")
    at = _RANKING.size

    def column(dtype: str) -> npt.NDArray[np.generic]:
        nonlocal at
        values = np.frombuffer(frame, dtype, k, at)
        at += values.nbytes
        return values

    scores = column("<f8") if flags & 1 else None
    p_click, places = column("<f4"), column("<u4")
    own_codes = column("<u4") if flags & 2 else None
    texts = []
    for size in sizes:
        texts.append(frame[at : at + size].decode())
        at += size
    if at != len(frame):
        raise ValueError(f"the ranking has {len(frame)} bytes, its header announces {at}")
    request_id, *model = texts
    age_ms_max = None if age_ms == _NO_AGE else age_ms
    return ReceivedRanking(
        request_id, tuple(model), degraded, missing, stale, age_ms_max, places, p_click, scores, own_codes
    )
