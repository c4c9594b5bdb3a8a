"""What every connection to Redis is made with; `redis_address.py` understands the URLs.

RESP2, because nothing here needs push messages and every server speaks it; no `CLIENT SETINFO` and no maintenance
notifications, because each would be one more round trip before the first answer of a new connection; no retries inside
the library, because a request's deadline is shorter than a retry and `redis_store.py` knows better when to try again.
"""

from __future__ import annotations

from typing import Any

import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.sentinel
from redis.maint_notifications import MaintNotificationsConfig

from feature_store.errors import StoreDown
from feature_store.online.redis_address import RedisAddress, shown_url

CONNECTION_SETTINGS: dict[str, Any] = {
    "protocol": 2,
    "driver_info": None,
    "decode_responses": False,
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
}
"""For the asynchronous and the blocking kind alike."""


def understood(url: str) -> RedisAddress:
    """`RedisAddress.parse` for whoever opens a store.

    Raises:
        StoreDown: not a Redis URL.
    """
    try:
        return RedisAddress.parse(url)
    except ValueError as error:
        raise StoreDown(f"not a Redis URL: {shown_url(url)} ({error})") from None


class _MasterPool(redis.asyncio.sentinel.SentinelConnectionPool):
    """Connections to the master that Sentinels name; gives back those to the Sentinels themselves as well."""

    def __init__(self, sentinels: list[redis.asyncio.Redis], service: str, **options: Any) -> None:
        watch = redis.asyncio.sentinel.Sentinel([])  # type: ignore[no-untyped-call]
        watch.sentinels = sentinels
        super().__init__(service, watch, **options)  # type: ignore[no-untyped-call]

    async def aclose(self) -> None:
        await super().aclose()
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.aclose()


def async_pool(url: str, *, connect_timeout_ms: float) -> redis.asyncio.ConnectionPool:
    """A factory of asynchronous connections to one server, or to the master that Sentinels name at that moment.

    Reads have no timeout of their own: `redis_store.py` sets it.

    Raises:
        StoreDown: not a Redis URL.
    """
    address = understood(url)
    timeout_s = connect_timeout_ms / 1000
    try:
        if address.kind != "sentinel":
            return redis.asyncio.ConnectionPool.from_url(
                url, **CONNECTION_SETTINGS, socket_timeout=None, socket_connect_timeout=timeout_s
            )
        sentinels = [
            redis.asyncio.Redis.from_url(
                address.sentinel_url(endpoint),
                **CONNECTION_SETTINGS,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
            )
            for endpoint in address.endpoints
        ]
        options = redis.asyncio.connection.parse_url(address.server_url(address.endpoints[0]))
        return _MasterPool(
            sentinels,
            address.service,
            **sentinel_options(dict(options)),
            **CONNECTION_SETTINGS,
            socket_timeout=None,
            socket_connect_timeout=timeout_s,
        )
    except ValueError as error:
        raise StoreDown(f"not a Redis URL: {shown_url(url)} ({error})") from None


def sentinel_options(options: dict[str, Any]) -> dict[str, Any]:
    """What redis-py made of a plain URL, as its Sentinel pools want it: no host, and TLS as a flag."""
    kind = options.pop("connection_class", None)
    options = {name: value for name, value in options.items() if name not in ("host", "port")}
    return options | ({} if kind is None else {"ssl": True})
