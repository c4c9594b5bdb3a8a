"""A batch of rows made ready to be stored: ids checked, doubles and expired rows taken out, values encoded.

The rules that do not depend on what is stored already, so that every store applies the same ones. Pure. Rows are looked
at one by one only where ids are not plain ASCII, an entity comes twice, or a row has expired.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from feature_store.errors import CodecError, SchemaError
from feature_store.ids import MAX_ENTITY_ID_BYTES, entity_id
from feature_store.online.codec import encode_rows
from feature_store.online.store import WriteReport
from feature_store.rows import Floats, Ids, Times
from feature_store.schema import FeatureView

LATEST_TIME_MS = 253_402_300_799_999
"""The end of the year 9999: a later event time is micro- or nanoseconds by mistake."""

_PLAIN = re.compile(r"[!-z|~]*")
"""ASCII without space, braces and control characters: what needs no closer look."""


@dataclass(frozen=True, slots=True)
class Batch:
    """n rows that may be stored, at most one per entity, and what became of the others."""

    entity_ids: list[str]
    event_time_ms: Times
    values: list[bytes]
    older_skipped: int
    expired_skipped: int

    def __len__(self) -> int:
        return len(self.entity_ids)

    def keep(self, newer: Sequence[bool]) -> Batch:
        """The rows marked True; the others count as older."""
        kept = [row for row, is_newer in enumerate(newer) if is_newer]
        if len(kept) == len(self):
            return self
        return Batch(
            [self.entity_ids[row] for row in kept],
            self.event_time_ms[kept],
            [self.values[row] for row in kept],
            self.older_skipped + len(self) - len(kept),
            self.expired_skipped,
        )

    def report(self) -> WriteReport:
        """What became of the rows, given that these were written."""
        return WriteReport(len(self), self.older_skipped, self.expired_skipped)


def prepare_batch(
    view: FeatureView, entity_ids: Sequence[str], event_time_ms: Times, floats: Floats, ids: Ids, now_ms: int
) -> Batch:
    """See the module. Arrays are as in `WriteSession.write`.

    Raises:
        EntityIdError: an id may not become part of a key.
        CodecError: lengths or shapes differ from the view's, a number is infinite, or an event time is not between 1970
            and 9999.
    """
    texts = _checked_ids(entity_ids)
    times = np.asarray(event_time_ms, dtype=np.int64)
    if len(texts) != len(times):
        raise CodecError(f"view {view.name!r}: {len(texts)} entity ids for {len(times)} event times")
    _check_times(view, texts, times)
    values = encode_rows(view, floats, ids, times)
    live = times > now_ms - view.ttl_ms
    n_expired = len(texts) - int(np.count_nonzero(live))
    n_older = 0
    if n_expired or len(set(texts)) < len(texts):
        kept = _newest_rows(texts, times, live)
        n_older = len(texts) - n_expired - len(kept)
        texts, times, values = [texts[row] for row in kept], times[kept], [values[row] for row in kept]
    return Batch(texts, times, values, n_older, n_expired)


def check_time_to_live(view: FeatureView) -> None:
    """Refuses a view whose rows would have expired when they are written.

    Raises:
        SchemaError: the time-to-live is 0 or less.
    """
    if view.ttl_ms <= 0:
        raise SchemaError(
            f"view {view.name!r}: time-to-live is {view.ttl_ms} ms, so no row could ever be read; set ttl above 0"
        )


def _checked_ids(entity_ids: Sequence[str]) -> list[str]:
    """The ids as text, by the rule of `ids.entity_id`; one regular expression passes ordinary ids all at once."""
    texts = list(entity_ids)
    if all(type(text) is str for text in texts) and _PLAIN.fullmatch("".join(texts)):
        lengths = set(map(len, texts))
        if not lengths or (min(lengths) >= 1 and max(lengths) <= MAX_ENTITY_ID_BYTES):
            return texts
    return [entity_id(text) for text in texts]


def _check_times(view: FeatureView, texts: list[str], times: Times) -> None:
    wrong = (times < 0) | (times > LATEST_TIME_MS)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise CodecError(
            f"view {view.name!r}: entity {texts[row]!r} has event time {times[row]}; "
            "expected milliseconds since 1970 UTC, up to the year 9999"
        )


def _newest_rows(texts: list[str], times: Times, live: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[int]:
    """Indices of the newest live row of each entity, the later one at equal times, in order of first appearance."""
    newest: dict[str, int] = {}
    for row, (text, time_ms, is_live) in enumerate(zip(texts, times.tolist(), live.tolist(), strict=True)):
        if is_live and (text not in newest or time_ms >= times[newest[text]]):
            newest[text] = row
    return list(newest.values())
