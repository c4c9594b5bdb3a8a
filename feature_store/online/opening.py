"""Opens the reading side of a store, whichever kind its URL names."""

from __future__ import annotations

from feature_store.online.cluster_store import ClusterStore
from feature_store.online.redis_store import RedisReadSettings, RedisStore
from feature_store.online.redis_url import understood
from feature_store.online.store import OnlineStore, StoreObserver, ignore_events


def open_store(
    url: str, settings: RedisReadSettings | None = None, observe: StoreObserver = ignore_events
) -> OnlineStore:
    """Checks the URL; the first read connects.

    Raises:
        StoreDown: not a Redis URL.
    """
    kind = ClusterStore if understood(url).kind == "cluster" else RedisStore
    return kind(url, settings, observe)
