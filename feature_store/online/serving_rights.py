"""Which reads of serving a store refuses its user: each is made, on a key that serving reads, and changes nothing.

`ACL DRYRUN` would tell as well, but a user with no more rights than serving needs may not ask it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from redis.exceptions import NoPermissionError

from feature_store.online.blocking_client import BlockingClient, blocking_client
from feature_store.online.layout import ViewKeys, views_key
from feature_store.online.redis_address import shown_url
from feature_store.online.redis_errors import store_errors
from feature_store.schema import FeatureView

_NO_ENTRY = "0-1"
"""Of no stream: versions of a catalogue are times, so asking for it reads nothing, however long the stream is."""
_NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class RefusedRead:
    """A read that the user may not make."""

    command: str
    key: str
    rule: str
    """What `ACL SETUSER` must add: `+COMMAND`, or `~PATTERN` where the command is allowed and the key is not."""


def refused_reads(
    url: str, project: str, views: Sequence[FeatureView], item_views: Sequence[FeatureView], *, timeout_ms: float
) -> list[RefusedRead]:
    """The first refused read for each missing rule.

    Args:
        views: of the model, users and ads.
        item_views: those of them that serving keeps a table of.
    Raises:
        StoreError: the store cannot be asked.
    """
    refused: dict[str, RefusedRead] = {}
    client = blocking_client(url, timeout_ms=timeout_ms)
    try:
        with store_errors(shown_url(url)):
            for command, key, read in _reads(client, project, views, item_views):
                try:
                    read(key)
                except NoPermissionError as error:
                    rule = f"+{command}" if "to run the" in str(error) else f"~cs:{project}:*"
                    refused.setdefault(rule, RefusedRead(command, key.decode(), rule))
    finally:
        client.close()
    return list(refused.values())


def _reads(
    client: BlockingClient, project: str, views: Sequence[FeatureView], item_views: Sequence[FeatureView]
) -> Iterator[tuple[str, bytes, Callable[[bytes], object]]]:
    yield "smembers", views_key(project), client.smembers
    for view in views:
        keys = ViewKeys(project, view)
        yield "hgetall", keys.meta, client.hgetall
        yield "mget", keys.row(_NOBODY), lambda key: client.mget([key])
    for view in item_views:
        keys = ViewKeys(project, view)
        yield "hget", keys.meta, lambda key: client.hget(key, "fingerprint")
        yield "get", keys.catalogue, client.get
        yield "xrange", keys.changes, lambda key: client.xrange(key, min=_NO_ENTRY, max=_NO_ENTRY)
