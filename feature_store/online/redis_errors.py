"""The one place where redis-py's errors become ours, for all blocking code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_store.errors import StoreDown, StoreTimeout


@contextmanager
def store_errors(shown_url: str) -> Iterator[None]:
    """Inside, a library error leaves as StoreTimeout or StoreDown that names the server."""
    try:
        yield
    except RedisTimeoutError as error:
        raise StoreTimeout(f"{shown_url}: {error}") from None
    except RedisError as error:
        raise StoreDown(f"{shown_url}: {error}") from None
