"""Entity ids and hashed categorical values: one rule each, shared by training and serving.

An *entity id* becomes part of a Redis key, so it is short and holds nothing that would move the key's hash tag or break
a line protocol. A *categorical value* becomes a uint32 by XXH3-64 of its canonical text, low 32 bits, with 0 reserved
for "missing"; the model reduces that full hash to its own table size. Two features that hold the same text have the
same hash, which is what the pair operator `equal` compares; learners keep one table per column, so columns never share
weights by accident. Golden values live in `tests/golden/hashes.json`: a change here is a change of every stored row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from feature_store.errors import EntityIdError

try:
    from feature_store import _ids
except ImportError:  # no compiler where it was installed
    COMPILED = False
else:
    COMPILED = True

MAX_ENTITY_ID_BYTES = 64
MISSING_ID = 0
_FORBIDDEN = (
    frozenset("{} \x7f\u0085\u2028\u2029") | frozenset(map(chr, range(0x20))) | frozenset(map(chr, range(0x80, 0xA0)))
)

# Visible ASCII without braces: text of these is an entity id whatever its length, also many of them joined.
_PLAIN = re.compile(r"[!-z|~]*")


def entity_id(value: object) -> str:
    """The text under which an entity is stored: the text itself, or an integer in decimal.

    Raises:
        EntityIdError: not text or integer, empty, longer than 64 bytes of UTF-8, or holding braces, space or control
            characters.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
    elif isinstance(value, str):
        text = value
    else:
        raise EntityIdError(f"expected text of 1 to 64 bytes or an integer, got {_shown(value)}")
    if text.isascii():
        size = len(text)
    else:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise EntityIdError(f"expected valid UTF-8, got {_shown(value)} with a lone surrogate") from None
    if not 1 <= size <= MAX_ENTITY_ID_BYTES:
        raise EntityIdError(f"expected text of 1 to 64 bytes or an integer, got {size} bytes")
    if not _FORBIDDEN.isdisjoint(text):
        raise EntityIdError(f"braces, space and control characters may not be in an id, got {_shown(value)}")
    return text


def are_plain_and_distinct(values: list[Any]) -> bool:
    """Whether all values are ids as `entity_id` would answer them, plain ASCII, and no two are equal.

    "No" means: look closer. It is one look at a whole list for the price of a few entries (100 ids: 1 µs compiled).
    """
    return _ids.plain_and_distinct(values) if COMPILED else _plain_and_distinct(values)


def _plain_and_distinct(values: list[Any]) -> bool:
    """What `_ids.plain_and_distinct` does."""
    if set(map(type, values)) != {str}:
        return not values
    texts: list[str] = values
    return (
        all(texts)
        and max(map(len, texts)) <= MAX_ENTITY_ID_BYTES
        and _PLAIN.fullmatch("".join(texts)) is not None
        and len(set(texts)) == len(texts)
    )


def canonical_text(value: object) -> str | None:
    """The text of a categorical value before hashing; None for missing (None, NaN).

    Booleans are `true` and `false`, whole numbers are decimal without a point (3 and 3.0 are the same category, because
    JSON senders do not agree on which they write), other numbers are their shortest exact decimal.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if math.isnan(number):
            return None
        return str(int(number)) if number.is_integer() else repr(number)
    return str(value)


def hash_id(value: object, seed: int) -> int:
    """The uint32 a categorical value is stored as: 1 to 2**32 - 1, or 0 where the value is missing.

    Source: XXH3 64-bit, https://xxhash.com; low 32 bits, 0 mapped to 1.
    """
    text = canonical_text(value)
    if text is None:
        return MISSING_ID
    return (xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"), seed) & 0xFFFFFFFF) or 1


def hash_ids(values: Iterable[object], seed: int) -> npt.NDArray[np.uint32]:
    """`hash_id` of each value, as a uint32 array. Cost: about 0.5 µs a value, so factorise repeated values first."""
    return np.fromiter((hash_id(value, seed) for value in values), dtype=np.uint32)


def _shown(value: object) -> str:
    """A short, safe picture of a bad value for an error message."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
