"""A blocking Redis client that speaks bytes: the commands which batch jobs and background threads use, and no others.

redis-py types every answer as bytes or text, depending on a setting; ours is always bytes, and this protocol says so.
One server, the master that Sentinels name, or a Cluster (`cluster_client.py`): the callers need not know which.
`docs/redis.md` lists what an access rule must allow for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol, cast

import redis
import redis.connection
import redis.sentinel
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry

from feature_store.errors import StoreDown
from feature_store.online.cluster_client import ClusterClient
from feature_store.online.redis_address import RedisAddress, shown_url
from feature_store.online.redis_url import CONNECTION_SETTINGS, sentinel_options, understood


class BlockingClient(Protocol):
    """The part of `redis.Redis` that we use, with the types that it answers us."""

    connection_pool: redis.ConnectionPool

    def get(self, name: bytes) -> bytes | None: ...
    def mget(self, keys: Sequence[bytes]) -> list[bytes | None]: ...
    def set(
        self, name: bytes, value: bytes | str, *, px: int | None = None, pxat: int | None = None, nx: bool = False
    ) -> bool | None: ...
    def delete(self, *names: bytes) -> int: ...
    def exists(self, *names: bytes) -> int: ...
    def unlink(self, *names: bytes) -> int: ...
    def pttl(self, name: bytes) -> int: ...
    def eval(self, script: str, numkeys: int, *keys_and_args: bytes | str | int) -> int: ...
    def hget(self, name: bytes, key: str) -> bytes | None: ...
    def hgetall(self, name: bytes) -> dict[bytes, bytes]: ...
    def hset(self, name: bytes, *, mapping: Mapping[str, str | int]) -> int: ...
    def hdel(self, name: bytes, *keys: str) -> int: ...
    def sadd(self, name: bytes, *values: str) -> int: ...
    def srem(self, name: bytes, *values: str) -> int: ...
    def smembers(self, name: bytes) -> Set[bytes]: ...
    def rpush(self, name: bytes, *values: str) -> int: ...
    def lrange(self, name: bytes, start: int, end: int) -> list[bytes]: ...
    def xrange(self, name: bytes, min: str, max: str) -> list[tuple[bytes, dict[bytes, bytes]]]: ...
    def xrevrange(self, name: bytes, max: str, min: str, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]: ...
    def scan_iter(self, match: bytes, count: int) -> Iterator[bytes]: ...
    def info(self, section: str) -> dict[str, str | int | float]: ...
    def ping(self) -> bool: ...
    def config_set(self, name: str, value: str) -> bool: ...
    def pipeline(self, transaction: bool) -> Pipeline: ...
    def execute_command(self, *arguments: str) -> Any: ...
    def client(self) -> AbstractContextManager[BlockingClient]: ...
    def close(self) -> None: ...


def blocking_client(url: str, *, timeout_ms: float = 10_000.0) -> BlockingClient:
    """Connects at the first command; each command may take `timeout_ms`. Safe to share between threads.

    Raises:
        StoreDown: not a Redis URL.
    """
    address = understood(url)
    if address.kind == "cluster":
        return cast(BlockingClient, ClusterClient(address, partial(blocking_client, timeout_ms=timeout_ms)))
    if address.kind == "sentinel":
        return cast(BlockingClient, _client_of_the_master(address, timeout_ms / 1000))
    return cast(BlockingClient, _client_of_one_server(url, timeout_s=timeout_ms / 1000))


def _client_of_one_server(url: str, *, timeout_s: float) -> redis.Redis:
    try:
        pool = redis.ConnectionPool.from_url(url, **_options(timeout_s))
    except ValueError as error:
        raise StoreDown(f"not a Redis URL: {shown_url(url)} ({error})") from None
    return redis.Redis.from_pool(pool)  # closing the client closes its connections


class _MasterPool(redis.sentinel.SentinelConnectionPool):
    """Connections to the master that Sentinels name; gives back those to the Sentinels themselves as well."""

    def __init__(self, sentinels: list[redis.Redis], service: str, **options: Any) -> None:
        watch = redis.sentinel.Sentinel([])  # type: ignore[no-untyped-call]
        watch.sentinels = sentinels
        super().__init__(service, watch, **options)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        super().close()
        self.sentinel_manager.close()


def _client_of_the_master(address: RedisAddress, timeout_s: float) -> redis.Redis:
    sentinels = [
        _client_of_one_server(address.sentinel_url(endpoint), timeout_s=timeout_s) for endpoint in address.endpoints
    ]
    options = sentinel_options(dict(redis.connection.parse_url(address.server_url(address.endpoints[0]))))  # type: ignore[no-untyped-call]
    return redis.Redis.from_pool(_MasterPool(sentinels, address.service, **options, **_options(timeout_s)))


def _options(timeout_s: float) -> dict[str, Any]:
    return CONNECTION_SETTINGS | {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        # Shown by CLIENT LIST. And without a command at connecting, redis-py takes the session tickets that TLS 1.3
        # sends after its handshake for an answer to somebody else, and refuses the connection.
        "client_name": "clickserve",
    }
