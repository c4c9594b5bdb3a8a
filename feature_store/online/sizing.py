"""How much memory a row takes in the server, before it is written.

An entity costs its key, its value, the entries that point to them and its share of two hash tables (all keys, and keys
with an expiry). The server's allocator rounds every piece up, and tables grow by doubling, so the share depends on how
many keys there are. Formulas follow the servers' sources and were checked on running ones (Valkey 9.1.2 with libc's
allocator, Redis 7.0.15 with jemalloc): `tests/integration/test_sizing.py` compares them with `INFO memory`.

    Redis 7    robj 16, key sds, value sds (one piece with its robj up to 44 bytes), 2 x dictEntry 24;
               tables: 2 x 8 bytes x next power of two of n
    Valkey 9   one object of header 8, expiry 8 and key (1 + sds), with the value inside if that stays within 128 bytes
               without the expiry, otherwise a pointer 8 and the value's sds;
               tables: 2 x 64 bytes x next power of two of n/7, plus buckets that overflow (Poisson)
    sds        length + 1 + header: 3 bytes, from 256 bytes on 5
Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from feature_store.online.codec import row_bytes
from feature_store.online.layout import ViewKeys
from feature_store.schema import FeatureView

ServerKind = Literal["redis7", "valkey9"]
Allocator = Literal["jemalloc", "libc"]

_EMBEDDED_OBJECT_BYTES = 128
_EMBEDDED_STRING_BYTES = 44
_BUCKET_BYTES = 64
_BUCKET_ENTRIES = 7


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """What decides how a server lays a row out."""

    kind: ServerKind
    allocator: Allocator


def server_memory(info: Mapping[str, str | int | float]) -> ServerMemory:
    """Recognises a server by its `INFO`; others are treated as the nearest of the two kinds."""
    kind: ServerKind = "valkey9" if str(info.get("server_name", "redis")) == "valkey" else "redis7"
    allocator: Allocator = "jemalloc" if str(info.get("mem_allocator", "jemalloc")).startswith("jemalloc") else "libc"
    return ServerMemory(kind, allocator)


def predict_bytes_per_entity(
    project: str, view: FeatureView, mean_id_bytes: float, n_entities: int, server: ServerMemory
) -> float:
    """Memory that one row of the view takes, with `n_entities` keys that have an expiry on the server altogether."""
    key_bytes = len(ViewKeys(project, view).row("")) + round(mean_id_bytes)
    n = max(1, n_entities)
    if server.kind == "valkey9":
        return _valkey_entry(key_bytes, row_bytes(view), server) + _valkey_tables(n) / n
    return _redis_entry(key_bytes, row_bytes(view), server) + 2 * 8 * _power_of_two(n) / n


def _redis_entry(key_bytes: int, value_bytes: int, server: ServerMemory) -> int:
    allocated = _ALLOCATED[server.allocator]
    if value_bytes <= _EMBEDDED_STRING_BYTES:
        value = allocated(16 + _sds(value_bytes))
    else:
        value = allocated(16) + allocated(_sds(value_bytes))
    return value + allocated(_sds(key_bytes)) + 2 * allocated(24)


def _valkey_entry(key_bytes: int, value_bytes: int, server: ServerMemory) -> int:
    allocated = _ALLOCATED[server.allocator]
    header_and_key = 8 + 1 + _sds(key_bytes)
    expiry = 8
    if header_and_key + _sds(value_bytes) <= _EMBEDDED_OBJECT_BYTES:
        return allocated(header_and_key + _sds(value_bytes) + expiry)
    pointer = 8
    return allocated(header_and_key + pointer + expiry) + allocated(_sds(value_bytes))


def _valkey_tables(n: int) -> float:
    """Bytes of both tables. A full bucket gives one place to the pointer to the next."""
    n_buckets = _power_of_two(math.ceil(n / _BUCKET_ENTRIES))
    overflowing = n_buckets * _poisson_above(n / n_buckets, _BUCKET_ENTRIES)
    return 2 * _BUCKET_BYTES * (n_buckets + overflowing)


def _poisson_above(mean: float, count: int) -> float:
    """Probability of more than `count` events."""
    return 1 - sum(math.exp(-mean) * mean**k / math.factorial(k) for k in range(count + 1))


def _sds(length: int) -> int:
    """A string of the server, with header and final zero."""
    return length + 1 + (3 if length < 256 else 5)


def _power_of_two(n: int) -> int:
    """The smallest power of two that is not below n."""
    return 1 << max(0, n - 1).bit_length()


def _jemalloc(size: int) -> int:
    """jemalloc's size classes: steps of 16 up to 128, then four to a doubling."""
    if size <= 128:
        return max(16, -(-size // 16) * 16)
    step = _power_of_two(size) // 8
    return -(-size // step) * step


def _libc(size: int) -> int:
    """glibc's usable size: chunks are multiples of 16, 8 bytes of each are its own."""
    return max(24, -(-(size + 8) // 16) * 16 - 8)


_ALLOCATED: Mapping[Allocator, Callable[[int], int]] = {"jemalloc": _jemalloc, "libc": _libc}
