"""What every connection to Redis is made with, from one URL: `redis://`, `rediss://` or `unix://`.

RESP2, because nothing here needs push messages and every server speaks it; no `CLIENT SETINFO` and no maintenance
notifications, because each would be one more round trip before the first answer of a new connection; no retries inside
the library, because a request's deadline is shorter than a retry and `redis_store.py` knows better when to try again.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import redis.asyncio
from redis.maint_notifications import MaintNotificationsConfig

from feature_store.errors import StoreDown

CONNECTION_SETTINGS: dict[str, Any] = {
    "protocol": 2,
    "driver_info": None,
    "decode_responses": False,
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
}
"""For the asynchronous and the blocking kind alike."""


def async_pool(url: str, *, connect_timeout_ms: float) -> redis.asyncio.ConnectionPool:
    """A factory of asynchronous connections. Their reads have no timeout of their own: `redis_store.py` sets it.

    Raises:
        StoreDown: not one of the three kinds of URL.
    """
    try:
        return redis.asyncio.ConnectionPool.from_url(
            url, **CONNECTION_SETTINGS, socket_timeout=None, socket_connect_timeout=connect_timeout_ms / 1000
        )
    except ValueError as error:
        raise StoreDown(f"not a Redis URL: {shown_url(url)} ({error})") from None


def shown_url(url: str) -> str:
    """The URL without user, password and query, for messages and logs."""
    parts = urlsplit(url)
    place = parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
    return f"{parts.scheme}://{place}"
